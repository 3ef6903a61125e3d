"""A client without a key on a laptop or in CI: switched off, it checks and counts calls, and touches nothing."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from userpilot_async import ConfigurationError, InvalidCall, Settings, Unavailable, UserpilotAPI, UserpilotClient
from userpilot_async.imports import import_rows
from userpilot_async.parcelvoy import ParcelvoyClient

pytestmark = pytest.mark.anyio

VARIABLES = [
    "USERPILOT_API_KEY", "USERPILOT_BASE_URL", "USERPILOT_REGION", "USERPILOT_OUTBOX", "USERPILOT_DISABLED",
    "PARCELVOY_API_KEY", "PARCELVOY_BASE_URL", "PARCELVOY_OUTBOX", "PARCELVOY_DISABLED",
]  # fmt: skip
CLIENTS = [(UserpilotClient, "USERPILOT_DISABLED"), (ParcelvoyClient, "PARCELVOY_DISABLED")]
both = pytest.mark.parametrize(("client", "variable"), CLIENTS, ids=["userpilot", "parcelvoy"])


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def unreachable(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"a request was made: {request.url.path}")


async def some_calls(client: Any) -> list[Any]:
    if isinstance(client, ParcelvoyClient):
        return [await client.track("clicked", external_id="u1"), await client.identify("u1", data={"plan": "pro"})]
    return [await client.track("u1", "clicked"), await client.identify("u1", {"plan": "pro"}, company={"id": "c"})]


@both
async def test_a_client_that_is_switched_off_counts_what_it_drops(client: Any, variable: str) -> None:
    letters: list[Any] = []
    transport = httpx.MockTransport(unreachable)
    threads = threading.active_count()
    async with client(disabled=True, on_dead=letters.append, transport=transport) as switched_off:
        receipts = await some_calls(switched_off)
        nowait = switched_off.identify_nowait("u2")
        outcome = await receipts[0].outcome(timeout=0)
        flushed = await switched_off.flush()
        assert threads == threading.active_count()

    statistics = switched_off.statistics()
    assert [("dropped", "disabled")] * 3 == [(receipt.status, receipt.reason) for receipt in [*receipts, nowait]]
    assert ("dropped", "disabled") == (outcome.status, outcome.reason)
    assert (3, 3, 0, {"disabled": 3}, {}) == (
        statistics.accepted, statistics.dropped, statistics.pending, statistics.lost_by_reason, statistics.requests,
    )  # fmt: skip
    assert flushed.complete
    assert [] == letters


@both
async def test_it_takes_more_calls_than_any_queue_holds(client: Any, variable: str) -> None:
    settings = type(client(disabled=True).settings)(max_queue_calls=1, max_queue_bytes=1)
    async with client(disabled=True, settings=settings) as switched_off:
        for _ in range(500):
            await some_calls(switched_off)

    assert {"disabled": 1_000} == switched_off.statistics().lost_by_reason


@both
async def test_it_says_once_that_it_is_off_and_nothing_of_what_it_drops(
    client: Any, variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, "Yes")
    with caplog.at_level(logging.INFO, logger="userpilot_async"):
        async with client() as switched_off:
            await some_calls(switched_off)

    (record,) = [record for record in caplog.records if record.name == "userpilot_async"]
    assert logging.INFO == record.levelno
    assert f"userpilot: the client is switched off ({variable}=Yes)" in record.getMessage()
    assert f"unset {variable}" in record.getMessage()


@both
async def test_a_bad_call_raises_as_ever(client: Any, variable: str) -> None:
    async with client(disabled=True) as switched_off:
        with pytest.raises(InvalidCall):
            await (switched_off.track("") if client is ParcelvoyClient else switched_off.track("", "clicked"))

    assert 0 == switched_off.statistics().accepted


@both
@pytest.mark.parametrize("text", ["true", "1", "yes", "on", "TRUE", "On"])
async def test_the_environment_switches_it_off(
    client: Any, variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)

    async with client() as switched_off:
        assert "disabled" == (await some_calls(switched_off))[0].reason


@both
@pytest.mark.parametrize("text", ["", "false", "0", "no", "off", "No"])
def test_the_environment_leaves_it_on(client: Any, variable: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, text)

    with pytest.raises(ConfigurationError, match="missing"):
        client(base_url="https://example.com")


@both
@pytest.mark.parametrize("text", ["maybe", "2", "disabled", "nope"])
def test_another_word_in_the_environment_is_an_error_that_names_the_variable(
    client: Any, variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)

    with pytest.raises(ConfigurationError, match=variable):
        client("KEY", base_url="https://example.com")


@both
async def test_the_argument_wins_over_the_environment(
    client: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    asked: list[str] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(202)

    transport = httpx.MockTransport(answers)
    async with client("KEY", base_url="https://example.com", transport=transport, disabled=False) as switched_on:
        await some_calls(switched_on)
        await switched_on.flush(10)
        if client is UserpilotClient:
            await switched_on.api.identify("u1")

    assert 2 == switched_on.statistics().delivered
    assert asked


@pytest.mark.parametrize("given", ["yes", 1, 0])
@both
def test_disabled_must_be_a_bool(client: Any, variable: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match="disabled must be a bool"):
        client("KEY", base_url="https://example.com", disabled=given)


@pytest.mark.parametrize(
    ("client", "names"),
    [
        (UserpilotClient, "set USERPILOT_API_KEY, or switch the client off with disabled=True or USERPILOT_DISABLED=1"),
        (ParcelvoyClient, "set PARCELVOY_API_KEY, or switch the client off with disabled=True or PARCELVOY_DISABLED=1"),
    ],
    ids=["userpilot", "parcelvoy"],
)
def test_the_error_about_a_missing_key_names_this_way_too(client: Any, names: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        client(base_url="https://example.com")

    assert f"api_key is missing: pass it, {names}" == str(raised.value)


async def test_no_outbox_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERPILOT_OUTBOX", f"sqlite:///{tmp_path}/from-the-environment.db")
    for outbox in (None, f"sqlite:///{tmp_path}/given.db", "redis://127.0.0.1:1/0"):
        async with UserpilotClient(disabled=True, outbox=outbox) as switched_off:
            await some_calls(switched_off)

    assert [] == list(tmp_path.iterdir())


API_CALLS = {
    "identify": lambda api: api.identify("u1"),
    "identify_company": lambda api: api.identify_company("c"),
    "track": lambda api: api.track("u1", "clicked"),
    "bulk_identify_users": lambda api: api.bulk_identify_users([{"user_id": "u1"}]),
    "bulk_identify_companies": lambda api: api.bulk_identify_companies([{"company_id": "c"}]),
    "import_rows": lambda api: api.import_rows([{"event_type": "track"}]),
    "jobs": lambda api: api.jobs(),
    "job": lambda api: api.job("j"),
    "wait_for_job": lambda api: api.wait_for_job("j"),
    "delete_users": lambda api: api.delete_users(["u1"]),
    "delete_companies": lambda api: api.delete_companies(["c"]),
}


@pytest.mark.parametrize("ask", API_CALLS.values(), ids=API_CALLS)
async def test_the_api_of_a_client_that_is_off_makes_no_request(ask: Any) -> None:
    async with UserpilotClient(disabled=True, transport=httpx.MockTransport(unreachable)) as switched_off:
        with pytest.raises(Unavailable, match=r"switched off \(disabled=True\)"):
            await ask(switched_off.api)


async def test_the_api_alone_is_switched_off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERPILOT_DISABLED", "1")
    async with UserpilotAPI() as api:
        with pytest.raises(Unavailable, match=r"USERPILOT_DISABLED=1"):
            await api.jobs()


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.track("", "clicked"),
        lambda api: api.delete_users("u1"),
        lambda api: api.bulk_identify_users([]),
        lambda api: api.bulk_identify_users([{"user_id": 7}]),
    ],
)
async def test_its_methods_check_their_arguments_all_the_same(ask: Any) -> None:
    async with UserpilotClient(disabled=True) as switched_off:
        with pytest.raises(InvalidCall):
            await ask(switched_off.api)


async def test_an_import_ends_at_once_and_leaves_no_journal(tmp_path: Path) -> None:
    """An import waits out an outage; with a client that is switched off it would wait for ever."""
    file = tmp_path / "history.ndjson"
    file.write_text(
        '{"event_type": "track", "user_id": "u", "event_name": "e", "inserted_at": "2024-12-01T08:55:43Z"}\n'
    )
    async with UserpilotClient(disabled=True) as switched_off:
        with anyio.fail_after(5):
            with pytest.raises(Unavailable, match="switched off"):
                await switched_off.import_file(file)
            with pytest.raises(Unavailable, match="switched off"):
                await switched_off.import_rows([])
            with pytest.raises(Unavailable, match="switched off"):
                await import_rows(switched_off.api, [], journal=tmp_path / "journal")
            with pytest.raises(ValueError, match="max_rows"):
                await switched_off.import_rows([], max_rows=0)

    assert [file] == list(tmp_path.iterdir())


async def test_on_invalid_dead_gives_a_bad_call_to_on_dead_as_ever() -> None:
    letters: list[Any] = []
    client = UserpilotClient(disabled=True, on_dead=letters.append, settings=Settings(on_invalid="dead"))
    async with client as switched_off:
        await switched_off.track("", "clicked")

    assert ["invalid"] == [letter.reason for letter in letters]
    assert {"invalid": 1} == switched_off.statistics().lost_by_reason
