"""What the page reads: lists from the newest, searches, histories, the comparison behind its stream, its policy."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from itertools import pairwise

import httpx
import pytest

from userpilot_async.emulator import Emulator, Fault
from userpilot_async.emulator.__main__ import arguments, made, main
from userpilot_async.emulator._accounts import fingerprint
from userpilot_async.emulator._changes import changed, look, message
from userpilot_async.emulator._page import document, policy
from userpilot_async.emulator._stream import ALIVE, INTERVAL, SILENCE, STUCK, Stream

pytestmark = pytest.mark.anyio

ROUTE = "/__emulator__"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def control(emulator):
    return httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator")


@pytest.fixture
def track(client):
    async def track(*users: str, **rest: object) -> list[int]:
        calls = [{"user_id": user, "event_name": "opened", **rest} for user in users]
        return [(await client.post("/v1/track", json=call)).status_code for call in calls]

    return track


@pytest.fixture
def seen(emulator, clock):
    return lambda: look(emulator.store, emulator.faults, emulator.traffic, clock.now)


# ── the document ──


@pytest.mark.parametrize("path", ["/", ROUTE])
async def test_a_browser_at_the_root_is_sent_to_the_page_and_a_program_is_not(control, emulator, path):
    answer = await control.get(path, headers=BROWSER)

    assert (307, f"{ROUTE}/") == (answer.status_code, answer.headers["location"])
    assert [] == emulator.store.requests
    assert [401, 401] == [
        (await control.get(path)).status_code,
        (await control.post(path, headers=BROWSER)).status_code,
    ]


async def test_the_page_asks_for_nothing_from_elsewhere_and_runs_no_script_but_its_own(control):
    answer = await control.get(f"{ROUTE}/", headers=BROWSER)
    (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    hashed = b64encode(sha256(script.encode()).digest()).decode()

    assert "text/html; charset=utf-8" == answer.headers["content-type"]
    assert f"script-src 'sha256-{hashed}';" in answer.headers["content-security-policy"]
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy()
    assert "'unsafe" not in policy()
    assert [] == re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", answer.text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", document())


async def test_only_the_page_has_a_policy_that_lets_a_script_run(control):
    answer = await control.get(f"{ROUTE}/users", headers=BROWSER)

    assert "default-src 'none'; frame-ancestors 'none'; sandbox" == answer.headers["content-security-policy"]


async def test_a_page_of_another_origin_gets_no_header_that_lets_it_read(control):
    headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    answer = await control.get(f"{ROUTE}/users", headers=headers)

    assert [] == [name for name in answer.headers if name.startswith("access-control-")]
    assert "same-origin" == answer.headers["cross-origin-resource-policy"]
    assert 403 == (await control.post(f"{ROUTE}/faults", json={"status": 500}, headers=headers)).status_code


# ── lists ──


async def test_a_list_may_begin_with_the_newest(control, track):
    await track("u1", "u2", "u3")
    newest = (await control.get(f"{ROUTE}/events?newest=1&limit=2")).json()
    rest = (await control.get(f"{ROUTE}/events?newest=1&limit=2&offset=2")).json()

    assert (3, ["u3", "u2"]) == (newest["total"], [event["user_id"] for event in newest["items"]])
    assert ["u1"] == [event["user_id"] for event in rest["items"]]


@pytest.mark.parametrize(
    ("text", "found"), [("ANA", ["ana", "Anabel"]), ("opened", ["ana", "Bo", "Anabel"]), ("x", [])]
)
async def test_a_search_finds_users_and_events_in_any_case(control, track, text, found):
    await track("Anabel", "Bo", "ana")
    answer = (await control.get(f"{ROUTE}/events", params={"search": text})).json()

    assert (3, found) == (answer["total"], [event["user_id"] for event in answer["items"]])


async def test_a_search_of_many_events_gives_the_page_that_was_asked_for(control, emulator, clock):
    for number in range(5_000):
        emulator.store.track(
            {"user_id": f"u{number % 10}", "event_name": "opened", "metadata": {"n": number}}, clock.now
        )
    answer = (await control.get(f"{ROUTE}/events?search=u3&limit=2&offset=499")).json()

    assert [3] == [event["metadata"]["n"] for event in answer["items"]]


@pytest.mark.parametrize(
    "listing",
    ["users", "companies", "events", "page_views", "applied", "requests", "jobs", "exchanges", "parcelvoy/users",
     "parcelvoy/events", "parcelvoy/devices", "parcelvoy/lost"],
)  # fmt: skip
async def test_every_list_can_be_turned_round_and_searched(control, client, parcelvoy, listing):
    await client.post("/v1/identify", json={"user_id": "u1", "company": {"id": "c1"}})
    await client.post("/v1/track", json={"user_id": "u1", "event_name": "opened"})
    await client.post("/v1/users/bulk_identify", json={"users": [{"user_id": "u2"}]})
    await parcelvoy.post("/events", json=[{"external_id": "p1", "name": "opened"}])
    device = {"device_id": "d1", "external_id": "p1", "os": "o", "model": "m", "app_build": "1", "app_version": "1"}
    await parcelvoy.post("/devices", json=device)
    await parcelvoy.post("/alias", json={"anonymous_id": "nobody", "external_id": "x"})
    whole, turned, nothing = [
        (await control.get(f"{ROUTE}/{listing}?{query}")).json() for query in ("", "newest=1", "search=%00")
    ]

    assert whole["items"] == turned["items"][::-1]
    assert listing == "page_views" or whole["items"]
    assert (whole["total"], []) == (nothing["total"], nothing["items"])


async def test_a_history_has_the_writes_of_one_user_in_order_and_the_profile(control, client, track):
    await client.post("/v1/identify", json={"user_id": "a/../b", "metadata": {"plan": "free"}})
    await track("a/../b", "other")
    await client.post("/v1/identify", json={"user_id": "a/../b", "metadata": {"plan": "pro"}})
    await client.post("/v1/companies/identify", json={"company_id": "a/../b"})
    history = (await control.get(f"{ROUTE}/history/user", params={"id": "a/../b"})).json()
    newest = (await control.get(f"{ROUTE}/history/user", params={"id": "a/../b", "newest": 1, "limit": 1})).json()

    assert ["identify", "track", "identify"] == [entry["kind"] for entry in history["items"]]
    assert ({"plan": "pro"}, 3) == (history["profile"]["properties"], history["total"])
    assert [{"plan": "pro"}] == [entry["payload"]["metadata"] for entry in newest["items"]]
    company = (await control.get(f"{ROUTE}/history/company", params={"id": "a/../b"})).json()
    assert (["company"], "a/../b") == ([entry["kind"] for entry in company["items"]], company["profile"]["company_id"])


async def test_the_history_of_a_stranger_is_that_of_nobody(control, track):
    await track("stranger")
    stranger, nobody = [
        (await control.get(f"{ROUTE}/history/user", params={"id": id})).json() for id in ("stranger", "nobody")
    ]

    assert (1, None) == (stranger["total"], stranger["profile"])
    assert (0, None) == (nobody["total"], nobody["profile"])
    assert 404 == (await control.get(f"{ROUTE}/history/planet", params={"id": "x"})).status_code


async def test_a_history_at_parcelvoy_goes_by_all_ids_of_the_user(control, parcelvoy):
    await parcelvoy.post("/events", json=[{"anonymous_id": "A", "name": "viewed"}])
    await parcelvoy.post("/alias", json={"anonymous_id": "A", "external_id": "E"})
    await parcelvoy.post("/events", json=[{"external_id": "E", "name": "bought"}])
    history = (await control.get(f"{ROUTE}/history/parcelvoy", params={"id": "A"})).json()

    assert ["event", "alias", "event"] == [entry["kind"] for entry in history["items"]]
    assert "E" == history["profile"]["external_id"]


async def test_a_request_is_shown_with_both_bodies_and_the_reason_and_without_its_key(control, connect, emulator):
    await connect(emulator, key="SECRET").post("/v1/track", json={"user_id": "u1"})
    (line,) = (await control.get(f"{ROUTE}/exchanges")).json()["items"]
    whole = await control.get(f"{ROUTE}/exchanges/{line['number']}")

    assert ("u1", 400, "refused") == (line["who"], line["status"], line["outcome"])
    assert "event_name" in line["why"]
    assert ({"user_id": "u1"}, "Bad Request") == (
        json.loads(whole.json()["body"]), json.loads(whole.json()["answer"])["errors"][0]["error"],
    )  # fmt: skip
    assert "SECRET" not in whole.text
    assert 404 == (await control.get(f"{ROUTE}/exchanges/2")).status_code


async def test_windows_are_shown_as_far_as_they_were_spent(control, track, clock):
    await track("u1", "u2")
    (window,) = (await control.get(f"{ROUTE}/windows")).json()["items"]

    assert ("track", 600, 598, clock.now + 60) == tuple(
        window[name] for name in ("family", "limit", "remaining", "ends_at")
    )


# ── the stream ──


async def test_what_changed_is_named_however_much_came_in_between(seen, track, client, emulator, clock):
    before = seen()
    await track(*["u1"] * 50)
    after = seen()

    assert [] == changed(before, before)
    assert {"events", "users", "requests", "windows"} <= set(changed(before, after))
    assert {"jobs", "faults", "parcelvoy/events", "parcelvoy/lost"}.isdisjoint(changed(before, after))


async def test_each_list_is_named_when_it_changes(seen, client, parcelvoy, emulator, clock, file_of):
    steps = {
        "companies": lambda: client.post("/v1/companies/identify", json={"company_id": "c1"}),
        "users": lambda: client.post("/v1/identify", json={"user_id": "u1", "metadata": {"plan": "pro"}}),
        "jobs": lambda: client.post("/v1/users/bulk_identify", json={"users": [{"user_id": "u2"}]}),
        "parcelvoy/users": lambda: parcelvoy.post("/identify", json={"external_id": "p1"}),
        "parcelvoy/events": lambda: parcelvoy.post("/events", json=[{"external_id": "p1", "name": "x"}]),
        "parcelvoy/lost": lambda: parcelvoy.post("/alias", json={"anonymous_id": "A", "external_id": "x"}),
    }
    for name, step in steps.items():
        before = seen()
        await step()
        assert name in changed(before, seen()), name


async def test_a_job_that_goes_on_is_a_change_and_one_that_is_over_is_none(seen, client, emulator, clock):
    await client.post("/v1/users/bulk_identify", json={"users": [{"user_id": f"u{number}"} for number in range(60)]})
    looks = []
    for _ in range(12):
        emulator.advance()
        looks.append(seen())
        clock.now += 1
    names = [changed(before, after) for before, after in pairwise(looks)]

    assert {"jobs", "users"} <= set(names[2])
    assert [] == names[-1]


async def test_a_fault_that_is_set_meets_a_call_or_is_taken_back_is_a_change(seen, track, emulator):
    looks = [seen()]
    emulator.faults.add(Fault(name="f", status=503))
    looks.append(seen())
    assert [503] == await track("u1")
    looks.append(seen())
    emulator.faults.remove("f")
    looks.append(seen())

    assert [True] * 3 == ["faults" in changed(one, next) for one, next in pairwise(looks)]


async def test_a_reset_changes_everything(seen, track, emulator):
    await track("u1")
    before = seen()
    emulator.reset()

    assert set(before) - {"account"} == set(changed(before, seen()))


def test_a_message_is_one_line_whatever_is_in_it():
    text = message({"a": "\n\ndata: \r\u2028\ud800"})

    assert text.startswith("data: {")
    assert text.endswith("}\n\n")
    assert [""] == text.splitlines()[1:]


class Browser:
    """The other end of a stream: reads at once, or never, and leaves when it is told to."""

    def __init__(self, anyio, reads: bool = True) -> None:
        self.sent: list[str] = []
        self.reads = reads
        self._anyio = anyio
        self.left = anyio.Event()

    async def send(self, sent):
        if sent["type"] == "http.response.body":
            self.sent.append(sent["body"].decode())
            if not self.reads:
                await self._anyio.sleep_forever()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}


@pytest.mark.virtual
async def test_a_browser_that_does_not_read_has_one_message_waiting_and_is_left():
    import anyio

    asked, ended, browser = [], [], Browser(anyio, reads=False)
    begun = anyio.current_time()
    await Stream(lambda: asked.append(1) or "data: {}\n\n", lambda: ended.append(1))({}, browser.receive, browser.send)

    assert (1, 1, [1]) == (len(asked), len(browser.sent), ended)
    assert STUCK == pytest.approx(anyio.current_time() - begun)


@pytest.mark.virtual
async def test_a_stream_tells_each_interval_at_most_once_says_that_it_is_alive_and_ends_with_the_browser():
    import anyio

    left, ended, browser = iter(["a", "b", *[""] * 1_000]), [], Browser(anyio)
    async with anyio.create_task_group() as group:
        group.start_soon(Stream(lambda: next(left), lambda: ended.append(1)), {}, browser.receive, browser.send)
        await anyio.sleep(INTERVAL * 1.5)
        assert ["a", "b"] == browser.sent
        await anyio.sleep(2 * SILENCE + INTERVAL)
        assert ["a", "b", ALIVE, ALIVE] == browser.sent
        browser.left.set()

    assert [1] == ended


# ── accounts ──


async def test_each_key_has_an_account_unless_all_are_to_share_one(connect, clock):
    for per_key in (True, False):
        emulator = Emulator(clock=clock) if per_key else Emulator(clock=clock, account_per_key=False)
        control = httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator")
        for key in ("A", "B"):
            answer = await connect(emulator, key=key).post("/v1/identify", json={"user_id": f"of {key}"})
            assert 202 == answer.status_code
        first, of_b = [
            (await control.get(f"{ROUTE}/users", params=query)).json()["items"] for query in ({}, {"key": "B"})
        ]

        assert (["of A"] if per_key else ["of A", "of B"]) == [user["user_id"] for user in first]
        assert (["of B"] if per_key else ["of A", "of B"]) == [user["user_id"] for user in of_b]
        assert 404 == (await control.get(f"{ROUTE}/users", params={"key": "never seen"})).status_code
        choices = (await control.get(f"{ROUTE}/state")).json()["accounts"]
        a, b = fingerprint("A"), fingerprint("B")
        assert ([[a], [b]] if per_key else [[a, b]]) == choices


@pytest.mark.parametrize(
    ("words", "per_key"), [([], True), (["--one-account"], False), (["--account-per-key"], True)], ids=str
)
def test_the_command_takes_both_choices_by_name(words, per_key):
    options = arguments(words)

    assert per_key == options.account_per_key == made(options).accounts.per_key


def test_wrong_usage_of_the_program_is_one_line(capsys):
    assert 2 == main(["--port", "x"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: Invalid value for '--port'")
    assert line.endswith(". See: python -m userpilot_async.emulator --help")


async def test_the_store_is_that_of_the_only_key_and_of_several_each_is_asked_for(connect, clock):
    emulator = Emulator(clock=clock)
    await connect(emulator, key="A").post("/v1/identify", json={"user_id": "of A"})
    only = emulator.store
    await connect(emulator, key="B").post("/v1/identify", json={"user_id": "of B"})

    assert [["of A"], ["of B"]] == [list(emulator.store_of(key).users) for key in ("A", "B")]
    assert only is emulator.store_of("A")
    with pytest.raises(LookupError, match=r"2 keys have 2 accounts: take `store_of\(key\)`, or"):
        _ = emulator.store
    with pytest.raises(LookupError, match="no call with this key was accepted"):
        emulator.store_of("C")
    emulator.reset()
    assert {} == emulator.store.users


async def test_the_first_key_of_each_kind_finds_the_first_account(connect, connect_parcelvoy, clock):
    """An application has a key of either API, and of Parcelvoy's a secret one besides."""
    emulator = Emulator(clock=clock)
    await connect(emulator, key="A").post("/v1/track", json={"user_id": "u1", "event_name": "opened"})
    for key in ("pk_A", "sk_A"):
        answer = await connect_parcelvoy(emulator, key=key).post("/events", json=[{"external_id": key, "name": "x"}])
        assert 204 == answer.status_code
    assert (1, 2) == (len(emulator.store.events), len(emulator.store.parcelvoy.events))
    await connect_parcelvoy(emulator, key="pk_B").post("/events", json=[{"external_id": "of B", "name": "x"}])

    assert 2 == len(emulator.accounts.stores())
    assert ["of B"] == [event.external_id for event in emulator.store_of("pk_B").parcelvoy.events]


async def test_jobs_and_ids_of_an_account_are_unknown_to_another(connect, clock):
    emulator = Emulator(clock=clock)
    a, b = connect(emulator, key="A"), connect(emulator, key="B")
    job = (await a.post("/v1/users/bulk_identify", json={"users": [{"user_id": "u1"}]})).json()
    await b.post("/v1/track", json={"user_id": "u1", "event_name": "opened"})
    clock.now += 60
    emulator.advance()

    assert [200, 404] == [(await client.get(job["links"])).status_code for client in (a, b)]
    assert [] == (await b.get("/v1/background_jobs")).json()
    assert ["u1"] == list(emulator.store_of("A").users)
    (event,) = emulator.store_of("B").events
    assert not event.user_known


async def test_a_key_that_is_refused_gets_no_account(connect, clock):
    emulator = Emulator(clock=clock, api_keys=["A"])
    assert 401 == (await connect(emulator, key="B").post("/v1/track", json={})).status_code

    assert [] == list(emulator.accounts)
    assert 1 == len(emulator.store.requests)
