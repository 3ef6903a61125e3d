"""What another destination costs, and what it gets for that: order, merging, budgets, retries, and the account."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from tests.harness import judge
from tests.scenes.client import webhook
from tests.scenes.client.webhook import Happened, WebhookClient
from userpilot_async import ClientClosed, ClientNotOpen, InvalidCall
from userpilot_async._schedule.destination import LostCall

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]


@attrs.define
class Hook:
    """The far side: refuses arrays with a ``poison`` event, and is unwell as long as ``answers`` last."""

    now: Any
    answers: list[int] = attrs.field(factory=list)
    events: list[dict[str, Any]] = attrs.field(factory=list)
    users: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    stamps: list[float] = attrs.field(factory=list)
    signatures: set[str] = attrs.field(factory=set)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.stamps.append(self.now())
        self.signatures.add(request.headers["x-signature"])
        said = json.loads(await request.aread())
        if self.answers:
            return httpx.Response(self.answers.pop(0))
        if request.method == "PUT":
            self.users.setdefault(said["user"], {}).update(said["properties"])
        elif any(event["event"] == "poison" for event in said):
            return httpx.Response(422)
        else:
            self.events += said
        return httpx.Response(200)


@pytest.fixture
def hook() -> Hook:
    import anyio

    return Hook(anyio.current_time)


def client_of(hook: Hook, **rest: Any) -> WebhookClient:
    return WebhookClient("s3cret", "https://hook.test/in", transport=httpx.MockTransport(hook), **rest)


async def test_it_costs_less_than_150_lines() -> None:
    lines = Path(webhook.__file__).read_text().splitlines()

    assert len(lines) < 150


async def test_everything_arrives_in_order_and_within_the_budget(hook: Hook) -> None:
    hook.answers = [503, 429, 500]
    async with client_of(hook) as client:
        for n in range(5_000):
            await client.track("exported", f"u{n % 7}", {"n": n, "rows": [{"id": n}]})
        for n in range(300):
            await client.identify(f"u{n % 7}", {"plan": n, "tags": {"a": [n]}})
        report = await client.flush()

    statistics = report.statistics
    assert 5_300 == statistics.accepted == statistics.delivered + statistics.merged
    assert 5_000 == len(hook.events)
    latest = {f"u{n % 7}": {"plan": n, "tags": {"a": [n]}} for n in range(300)}
    assert latest == hook.users
    judge.per_user_order([(event["user"], event["properties"]["n"]) for event in hook.events])
    judge.requests_in_any_minute(hook.stamps, 120)
    assert 80 > len(hook.stamps)


async def test_one_poison_event_is_found_and_the_others_are_delivered(hook: Hook) -> None:
    letters: list[LostCall] = []
    async with client_of(hook, on_dead=letters.append) as client:
        for n in range(64):
            await client.track("poison" if n == 21 else "exported", f"u{n}", {"n": n})
        report = await client.flush()

    assert (63, {"invalid": 1}) == (report.statistics.delivered, report.statistics.lost_by_reason)
    assert [Happened("poison", "u21", {"n": 21})] == [letter.call for letter in letters]


async def test_a_bad_call_is_refused_at_the_call_and_a_closed_client_takes_none(hook: Hook) -> None:
    client = client_of(hook)
    with pytest.raises(ClientNotOpen):
        await client.track("exported", "u1")
    async with client:
        with pytest.raises(InvalidCall, match="properties"):
            await client.track("exported", "u1", {"n": float("nan")})
        with pytest.raises(InvalidCall, match="user"):
            await client.identify("", {})
    with pytest.raises(ClientClosed):
        await client.track("exported", "u1")

    assert 0 == client.statistics().accepted


async def test_the_secret_does_not_travel(hook: Hook) -> None:
    async with client_of(hook) as client:
        await client.track("exported", "u1")

    assert 1 == len(hook.signatures)
    assert "s3cret" not in str(hook.signatures) + repr(client)
