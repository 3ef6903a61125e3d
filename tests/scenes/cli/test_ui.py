"""The console over HTTP, in this process: who gets in, what is hidden, and what becomes of a failure."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.inline import Client, InlineOutbox, at_once, open_now
from userpilot_async import OutboxError
from userpilot_async._calls.ndjson import object_on
from userpilot_async._calls.outcome import DELIVERED, Outcome
from userpilot_async._calls.payload import Key
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async._userpilot.calls import from_dict, track_body
from userpilot_async.cli.ui import _app, _visits
from userpilot_async.cli.ui._app import Console
from userpilot_async.sqlite._admin import SQLiteAdmin

# uvicorn runs on asyncio, and so does the console.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]

TOKEN = "the-token"
MARKED = "MARKED"
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\u202e\x00\x1b[31m", "</script>", "🛰 \u2028"]
READS = ("/api/state", "/api/waiting", "/api/people", "/api/dead", "/api/export?what=dead", "/api/export?what=waiting")
CHANGES = ("/api/retry", "/api/purge")
EVERYTHING = (*READS, *CHANGES, "/api/nothing")


class Outbox(InlineOutbox):
    """An outbox of Userpilot's calls, in a file, that these tests fill."""

    def call(self, user: Key, **properties: Any) -> int:
        body = track_body(user if isinstance(user, str) else user[0], "Opened", properties)
        return self.put("track", user, body, len(body), 0.0).id  # of a person with two ids, too

    def lose(self, user: str, outcome: Outcome, detail: str = "", **properties: Any) -> int:
        call_id = self.call(user, **properties)
        self.take(1)
        self.settle(Settlement([call_id], (), outcome, 2, None, detail))
        return call_id


@pytest.fixture
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outbox]:
    """An open outbox, of Userpilot's calls or of another server's."""
    server = getattr(request, "param", "userpilot")
    outbox = Outbox(tmp_path / "host" / "events.db", durability="process")
    open_now(outbox, Client(destination=f"{server} at https://{server}.example").opening())
    yield outbox
    at_once(outbox.aclose())


@asynccontextmanager
async def browser(
    place: Outbox | SQLiteAdmin, *, token: str | None = TOKEN, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the console of this outbox, who has the token."""
    admin = SQLiteAdmin(place.path) if isinstance(place, Outbox) else place
    app = Console(admin, TOKEN, **options).app
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)  # none may get so far
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8090", headers=headers) as client:
        yield client


async def all_calls(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """All that the pages at this path have, one after the other."""
    found: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = (await client.get(path, params={"after": after})).raise_for_status().json()
        assert len(page["calls"]) <= _app.PAGE
        found += page["calls"]
        after = page["reached"]
    return found


# ── who gets in ──


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_without_the_token_nothing_is_read_and_nothing_changes(outbox: Outbox, token: str | None) -> None:
    outbox.lose("u1", Outcome("dead", "invalid"))
    async with browser(outbox, token=token) as stranger:
        stranger.cookies.set("token", TOKEN)
        read = [await stranger.get(path, params={"token": TOKEN}) for path in EVERYTHING]
        changed = [await stranger.post(path, json={"id": "u1", "really": True, "token": TOKEN}) for path in CHANGES]

    assert {403} == {answer.status_code for answer in (*read, *changed)}
    assert ["error"] == list({name for answer in (*read, *changed) for name in answer.json()})
    assert 1 == outbox.admin().inspect().lost


async def test_a_name_of_somebody_elses_that_leads_here_gets_nothing(outbox: Outbox) -> None:
    async with browser(outbox) as client:
        answers = [await client.get(path, headers={"host": "evil.example:8090"}) for path in ("/", *EVERYTHING)]

    assert {403} == {answer.status_code for answer in answers}


async def test_a_page_of_another_origin_changes_nothing_and_is_let_in_by_no_header(outbox: Outbox) -> None:
    outbox.lose("u1", Outcome("dead", "invalid"))
    foreign = {"origin": "http://evil.example"}
    async with browser(outbox) as client:
        asked = await client.options("/api/retry", headers={**foreign, "access-control-request-method": "POST"})
        changed = await client.post("/api/retry", json={}, headers=foreign)
        form = await client.post("/api/retry", data={"reasons": "invalid"})

    assert (403, 403, 415) == (asked.status_code, changed.status_code, form.status_code)
    answers = (asked, changed, form)
    assert [] == [name for answer in answers for name in answer.headers if name.startswith("access-control")]
    assert 1 == outbox.admin().inspect().lost


async def test_the_page_is_for_everybody_and_its_own_script_runs_alone(outbox: Outbox) -> None:
    outbox.call(MARKED)
    async with browser(outbox, token=None) as client:
        answer = await client.get("/")

    policy = answer.headers["content-security-policy"]
    script, style = (re.search(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL) for tag in ("script", "style"))
    for tag, found in (("script", script), ("style", style)):
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert ("no-store", "nosniff") == tuple(
        answer.headers[name] for name in ("cache-control", "x-content-type-options")
    )
    assert MARKED not in answer.text


# ── what is hidden ──


async def _all_answers(client: httpx.AsyncClient) -> list[httpx.Response]:
    """An answer of every kind, in which an id or a value could be; the changes come last."""
    alias = (await client.get("/api/waiting")).json()["calls"][0]["alias"]
    queries = ["/", *EVERYTHING, f"/api/waiting?alias={alias}", "/api/waiting?alias=nothing", "/api/waiting?after=x",
               "/api/dead?reason=invalid", "/api/dead?after=MARK"]  # fmt: skip
    whose = {"kind": "user", "id": f"{MARKED}-1"}
    posts: list[tuple[str, dict[str, Any]]] = [
        ("/api/purge", {**whose, "really": False}), ("/api/retry", {"ids": [99]}), ("/api/retry", {"reasons": []}),
        ("/api/purge", {**whose, "really": True}), ("/api/purge", {"id": 3}), ("/api/retry", {"ids": ["x"]}),
    ]  # fmt: skip
    return [await client.get(one) for one in queries] + [await client.post(path, json=body) for path, body in posts]


def _fill_with_marks(outbox: Outbox) -> None:
    outbox.call((f"{MARKED}-1", f"{MARKED}-2"), plan=f"{MARKED}-value")
    outbox.call(f"{MARKED}-3", **{f"{MARKED}-name": 1})
    outbox.call(f"{MARKED}-4")
    outbox.lose(f"{MARKED}-5", Outcome("dead", "invalid"), f"{MARKED}-words are no plan", plan=MARKED)
    with sqlite3.connect(outbox.path) as db:  # damaged rows hold ids, too
        db.execute("UPDATE calls SET crc = 0 WHERE id = 2")
    db.close()


async def test_without_show_data_no_id_and_no_value_is_in_any_answer(outbox: Outbox) -> None:
    _fill_with_marks(outbox)
    async with browser(outbox) as client:
        answers = await _all_answers(client)

    statuses = [answer.status_code for answer in answers]
    assert {200, 400, 403, 404} <= set(statuses)
    assert 500 not in statuses
    assert [] == [str(one.url) for one in answers if MARKED in one.text or MARKED in str(one.headers)]


@pytest.mark.parametrize("outbox", ["parcelvoy"], indirect=True)
async def test_other_ids_of_a_person_are_counted_and_named_only_with_show_data(outbox: Outbox) -> None:
    outbox.put("post", (f"e:{MARKED}-1", f"a:{MARKED}-2"), b"{}", 2, 0.0)
    whose = {"kind": "user", "id": f"{MARKED}-1"}
    async with browser(outbox) as client, browser(outbox, shows_data=True) as seeing:
        hidden, shown = [(await one.post("/api/purge", json=whose)).json()["text"][-1] for one in (client, seeing)]

    assert "1 other id (hidden)" in hidden
    assert MARKED not in hidden
    assert f"{MARKED}-2" in shown


async def test_with_show_data_it_is_all_there(outbox: Outbox) -> None:
    """Or the test above would prove nothing."""
    _fill_with_marks(outbox)
    async with browser(outbox, shows_data=True) as client:
        waiting, dead = (await client.get("/api/waiting")).text, (await client.get("/api/dead")).text

    for part in ("-1", "-2", "-3", "-value"):
        assert f"{MARKED}{part}" in waiting
    assert f"{MARKED}-words are no plan" in dead


async def test_an_alias_stands_for_the_same_person_wherever_it_is(outbox: Outbox) -> None:
    outbox.lose("u1", Outcome("dead", "invalid"))
    for user in ("u1", "u2", "u1"):
        outbox.call(user)
    async with browser(outbox) as client:
        first, other, again = await all_calls(client, "/api/waiting")
        (lost,) = await all_calls(client, "/api/dead")
        theirs = (await client.get("/api/waiting", params={"alias": first["alias"]})).json()["calls"]

    assert first["alias"] == again["alias"] == lost["alias"] != other["alias"]
    assert [first["id"], again["id"]] == [one["id"] for one in theirs]


# ── what is shown ──


async def test_calls_have_the_names_by_which_they_are_made(outbox: Outbox) -> None:
    for kind in ("user", "company"):
        outbox.put(kind, "x", ({"plan": "pro"}, None, 20, None), 20, 0.0)
    outbox.call("u1")
    async with browser(outbox) as client:
        named = [one["kind"] for one in await all_calls(client, "/api/waiting")]

    assert ["identify", "identify_company", "track"] == named


async def test_all_that_waits_is_shown_in_pages_once_and_in_order(outbox: Outbox) -> None:
    ids = [outbox.call(f"u{n % 7}") for n in range(2 * _app.PAGE + 3)]
    async with browser(outbox) as client:
        found = await all_calls(client, "/api/waiting")
        typed = (await client.get("/api/waiting", params={"id": "u3"})).json()["calls"]

    assert ids == [one["id"] for one in found]
    assert ids[3::7] == [one["id"] for one in typed]


async def test_people_are_shown_by_their_first_calls(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_app, "WINDOW", 4)
    for user in ("u1", "u2", "u1", "u3", "u1"):
        outbox.call(user)
    async with browser(outbox, shows_data=True) as client:
        first = (await client.get("/api/people")).json()
        second = (await client.get("/api/people", params={"after": first["reached"]})).json()

    assert [("u1", 2), ("u2", 1), ("u3", 1)] == [(one["whose"], one["calls"]) for one in first["calls"]]
    assert (4, [("u1", 1)]) == (first["looked_at"], [(one["whose"], one["calls"]) for one in second["calls"]])


async def test_the_numbers_are_the_outboxs_own(outbox: Outbox) -> None:
    ids = [outbox.call("u1") for _ in range(3)]
    outbox.lose("u1", Outcome("dead", "invalid"))
    assert at_once(
        outbox.send_log.sending(RequestNote("track", ids[:1], filename="f", kind="user", last_calls=ids[:2]))
    )
    async with browser(outbox) as client:
        state = (await client.get("/api/state")).json()

    assert (3, 1, 1) == (state["waiting"]["calls"], state["lost_kept"], state["requests_under_way"])
    assert [{"filename": "f", "kind": "user", "rows": 2}] == state["uploads"]
    assert {"name": "track", "spent": 1, "limit": 600, "left": 599} in state["budgets"]
    assert "process" in state["sender"]["name"]


@pytest.mark.parametrize("outbox", ["parcelvoy"], indirect=True)
async def test_of_a_server_without_a_known_limit_no_budget_is_claimed(outbox: Outbox) -> None:
    assert at_once(outbox.send_log.sending(RequestNote("requests", [outbox.call("e:1")])))
    async with browser(outbox) as client:
        state = (await client.get("/api/state")).json()

    assert [{"name": "requests", "spent": 1, "limit": None, "left": None}] == state["budgets"]


async def test_the_chart_has_what_came_and_went_while_the_page_was_open(outbox: Outbox) -> None:
    now = [100.0]
    async with browser(outbox, steady=lambda: now[0]) as client:
        first = (await client.get("/api/state")).json()["traffic"]
        ids = [outbox.call("u1") for _ in range(4)]
        outbox.take(4)
        outbox.settle(Settlement(ids[:1], (), DELIVERED, 2, None))
        now[0] += 6.0
        then = (await client.get("/api/state")).json()["traffic"]

    assert ([], [{"ago": 0.0, "seconds": 6.0, "in": 40.0, "out": 10.0}]) == (first, then)


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_whatever_an_id_is_it_arrives_as_it_is_and_as_no_html(outbox: Outbox, hostile: str) -> None:
    outbox.call(hostile, value=hostile)
    outbox.lose(hostile, Outcome("dead", "invalid"), hostile)
    async with browser(outbox, shows_data=True) as client:
        waiting, dead = await client.get("/api/waiting"), await client.get("/api/dead")

    assert (hostile, hostile) == (waiting.json()["calls"][0]["whose"], dead.json()["calls"][0]["detail"])
    assert {"application/json"} == {answer.headers["content-type"] for answer in (waiting, dead)}


async def test_rows_that_hold_anything_are_shown_as_damaged(outbox: Outbox) -> None:
    for user in ("u1", "u2", "u3"):
        outbox.call(user)
    with sqlite3.connect(outbox.path) as db:
        db.execute("UPDATE calls SET at = 9e999, key = CAST(x'ff22' AS TEXT) WHERE id = 0")
        db.execute("UPDATE calls SET at = 'x', kind = x'00ff', size = 'y' WHERE id = 1")
    db.close()
    async with browser(outbox, shows_data=True) as client:
        found = await all_calls(client, "/api/waiting")
        state = await client.get("/api/state")

    assert [True, True, False] == [one["is_damaged"] for one in found]
    assert 200 == state.status_code


# ── what is done ──


async def test_dead_letters_of_one_reason_or_with_one_id_wait_again(outbox: Outbox) -> None:
    invalid, expired = Outcome("dead", "invalid"), Outcome("dead", "expired")
    for outcome in (invalid, expired, invalid):
        outbox.lose("u1", outcome)
    async with browser(outbox) as client:
        shown = (await client.get("/api/dead", params={"reason": "invalid"})).json()["calls"]
        by_reason = (await client.post("/api/retry", json={"reasons": ["invalid"]})).json()
        by_id = (await client.post("/api/retry", json={"ids": [1, 77]})).json()

    assert [0, 2] == [one["id"] for one in shown]
    assert {"retried": 2, "damaged": 0, "missing": 0} == by_reason
    assert {"retried": 1, "damaged": 0, "missing": 1} == by_id
    assert (3, 0) == (outbox.admin().inspect().account.waiting, outbox.admin().inspect().lost)


async def test_a_person_is_counted_before_they_are_erased(outbox: Outbox) -> None:
    outbox.call("u1")
    outbox.call("u2")
    whose = {"kind": "user", "id": "u1"}
    async with browser(outbox) as client:
        counted = (await client.post("/api/purge", json=whose)).json()
        still = outbox.admin().inspect().account.waiting
        erased = (await client.post("/api/purge", json={**whose, "really": True})).json()

    assert (False, 1, 2) == (counted["done"], counted["calls"], still)
    assert "to be erased: 1 call that waits, 0 lost, 0 damaged" in counted["text"]
    assert erased["done"]
    assert "may still be sent" in erased["text"][-1]  # for this process sends
    assert 1 == outbox.admin().inspect().account.waiting


async def test_the_export_is_what_send_reads(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_visits, "AT_ONCE", 2)
    monkeypatch.setattr(_app, "AT_ONCE", 2)
    for n in range(5):
        outbox.call(f"u{n}", serial=n)
    outbox.lose("lost", Outcome("dead", "invalid"))
    async with browser(outbox, shows_data=True) as client:
        waiting = await client.get("/api/export", params={"what": "waiting"})
        dead = await client.get("/api/export", params={"what": "dead", "reason": "invalid"})
        none = await client.get("/api/export", params={"what": "dead", "reason": "expired"})

    calls = [from_dict(object_on(line)) for line in waiting.text.splitlines()]
    assert [(f"u{n}", {"serial": n}) for n in range(5)] == [(one.user_id, dict(one.metadata)) for one in calls]
    assert (["lost"], "") == ([json.loads(line)["user_id"] for line in dead.text.splitlines()], none.text)
    assert "application/x-ndjson" in waiting.headers["content-type"]


# ── what fails ──


class Broken(SQLiteAdmin):
    """An outbox that does not answer, for as long as there is an error to raise."""

    error: Exception | None = None

    def inspect(self) -> Any:
        if self.error is not None:
            raise self.error
        return super().inspect()


async def test_an_outage_is_a_sentence_and_passes(outbox: Outbox) -> None:
    admin = Broken(outbox.path)
    async with browser(admin) as client:
        admin.error = OutboxError("redis://host does not answer (no answer in time)")
        away = await client.get("/api/state")
        admin.error = RuntimeError(MARKED)
        bug = await client.get("/api/state")
        admin.error = None
        back = await client.get("/api/state")

    assert (503, {"error": "redis://host does not answer (no answer in time)"}) == (away.status_code, away.json())
    assert (500, {"error": "a bug of this console (RuntimeError)"}) == (bug.status_code, bug.json())
    assert 200 == back.status_code


async def test_an_outbox_that_goes_away_amid_an_export_breaks_it_off(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_app, "AT_ONCE", 1)
    for n in range(3):
        outbox.call(f"u{n}")
    pages: Callable[..., Any] = SQLiteAdmin.waiting

    def waiting(admin: SQLiteAdmin, after: str, *rest: Any) -> Any:
        if after:
            raise OutboxError("gone")
        return pages(admin, after, *rest)

    monkeypatch.setattr(SQLiteAdmin, "waiting", waiting)
    async with browser(outbox, shows_data=True) as client:
        with pytest.raises(RuntimeError, match="already started"):  # uvicorn closes the connection before its end
            await client.get("/api/export", params={"what": "waiting"})


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/retry", b"{", 400), ("/api/retry", b"[]", 400), ("/api/retry", b'{"ids": "1"}', 400),
        ("/api/retry", b'{"ids": [true]}', 400), ("/api/retry", b'{"reasons": [1]}', 400), ("/api/purge", b"{}", 400),
        ("/api/purge", b'{"id": ""}', 400), ("/api/purge", b'{"id": "u1", "really": 1}', 400),
        ("/api/retry", b" " * 70_000, 413), ("/api/retry", b"[" * 60_000, 400),
    ],
)  # fmt: skip
async def test_what_no_page_of_ours_asks_is_refused_and_changes_nothing(
    outbox: Outbox, path: str, body: bytes, status: int
) -> None:
    outbox.call("u1")
    outbox.lose("u1", Outcome("dead", "invalid"))
    before = outbox.admin().inspect().account
    async with browser(outbox) as client:
        answer = await client.post(path, content=body, headers={"content-type": "application/json"})

    assert (status, ["error"]) == (answer.status_code, list(answer.json()))
    assert before == outbox.admin().inspect().account
