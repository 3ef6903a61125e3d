"""ParcelvoyClient and a Parcelvoy that does what a real one was seen to do, on a clock that jumps: what arrives."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from tests.harness import judge
from tests.harness.examples.strategies import UserId
from tests.scenes.conftest import MINUTE_BEGINS
from userpilot_async import InvalidCall
from userpilot_async.emulator import Emulator, Fault
from userpilot_async.parcelvoy import Alias, DeadCall, Device, Identify, ParcelvoyClient, ParcelvoySettings, Track

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

REQUIRED = {"os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def new_client(cable):
    """Make a client, not open yet, that talks to the emulator."""

    def new_client(on_dead: Any = None, **settings: Any) -> ParcelvoyClient:
        options = ParcelvoySettings(**settings)
        return ParcelvoyClient("KEY", "https://emulator", transport=cable, settings=options, on_dead=on_dead)

    return new_client


def meet(emulator: Emulator, **ids: str) -> None:
    """The server has met somebody with these ids before the client comes."""
    emulator.store.parcelvoy.identify(ids, 1.0)


def paths(cable: Any) -> list[str]:
    return [request.url.path.rpartition("/")[2] for request in cable.requests]


async def test_a_visitor_becomes_a_user_with_all_they_did(new_client, emulator):
    """The story that the four calls are for, in the order it happens."""
    async with new_client() as client:
        await client.track("page viewed", anonymous_id="a1", data={"path": "/"})
        await client.identify(anonymous_id="a1", locale="de", data={"source": "ad"})
        await client.alias("a1", "u1")
        await client.identify("u1", email="ann@example.com", timezone="Europe/Berlin", data={"plan": {"name": "pro"}})
        await client.register_device("d1", external_id="u1", token="t", **REQUIRED)
        await client.track("signed up", external_id="u1", occurred_at=AT)
        await client.track("page viewed", anonymous_id="a1", data={"path": "/home"})

    store = emulator.store.parcelvoy
    (user,) = store.users.values()
    assert ("u1", ["a1"], ["d1"]) == (user.external_id, user.anonymous_ids, user.devices)
    assert {"locale": "de", "email": "ann@example.com", "timezone": "Europe/Berlin"} == user.fields
    assert {"source": "ad", "plan": {"name": "pro"}} == user.data
    assert [
        ("page viewed", user.number, {"path": "/"}, None),
        ("signed up", user.number, {}, "2026-01-02T03:04:05Z"),
        ("page viewed", user.number, {"path": "/home"}, None),
    ] == [(event.name, event.user, event.data, event.created_at) for event in store.events]
    assert ("t", "iOS") == (store.devices[user.number, "d1"].token, store.devices[user.number, "d1"].os)
    assert {"a1": "u1"} == store.aliases
    assert [] == store.lost


async def test_a_pause_parts_an_alias_from_its_neighbours_and_from_nobody_elses_calls(new_client, emulator):
    async with new_client(settle_pause=3.0, flush_interval=0.0, close_timeout=None) as client:
        await client.track("page viewed", anonymous_id="a1")
        await client.alias("a1", "u1")
        await client.identify("u1", data={"plan": "pro"})
        for _ in range(6):
            await client.track("page viewed", external_id="u2")
            await anyio.sleep(1)

    requests = emulator.store.requests
    ended = [(round(request.stamp - MINUTE_BEGINS), request.path.rpartition("/")[2]) for request in requests]
    assert [(3, "alias"), (6, "identify")] == [one for one in ended if one[1] != "events"]
    assert list(range(6)) == sorted({at for at, path in ended if path == "events"})
    (user, _) = emulator.store.parcelvoy.users.values()
    assert ("u1", ["a1"], {"plan": "pro"}) == (user.external_id, user.anonymous_ids, user.data)


async def test_pending_identifies_of_one_person_go_as_one(new_client, emulator, cable):
    async with new_client() as client:
        for number in range(1_000):
            await client.identify("u1", email=f"{number}@example.com", data={"n": number, f"n{number % 3}": number})
        statistics = (await client.flush()).statistics

    assert (1_000, 1, 999) == (statistics.accepted, statistics.delivered, statistics.merged)
    user = emulator.store.parcelvoy.find("u1")
    assert {"n": 999, "n0": 999, "n1": 997, "n2": 998} == user.data
    assert {"email": "999@example.com"} == user.fields
    assert ["identify"] == paths(cable)


async def test_an_explicit_none_in_data_survives_merging_and_none_elsewhere_says_nothing(new_client, emulator):
    async with new_client() as client:
        await client.identify("u1", email="ann@example.com", data={"plan": "pro", "team": {"a": 1}})
        await client.identify("u1", email=None, data={"plan": None, "team": {"b": 2}})

    user = emulator.store.parcelvoy.find("u1")
    assert ({"email": "ann@example.com"}, {"plan": None, "team": {"b": 2}}) == (user.fields, user.data)


@pytest.mark.parametrize("pause", [False, True], ids=["while it waits", "after it was delivered"])
async def test_the_same_alias_again_is_not_sent_and_shares_the_fate_of_the_first(new_client, emulator, cable, pause):
    meet(emulator, anonymous_id="a1")
    async with new_client() as client:
        receipts = [await client.alias("a1", "u1")]
        if pause:
            await client.flush()
        receipts.append(await client.alias("a1", "u1"))
        receipts.append(client.alias_nowait("a1", "u1"))
        report = await client.flush()

    assert ["alias"] == paths(cable)
    assert {"a1": "u1"} == emulator.store.parcelvoy.aliases
    first, *others = [await receipt.outcome() for receipt in receipts]
    assert "delivered" == first.status
    assert [("merged", "delivered")] * 2 == [(other.status, other.row.status) for other in others]
    assert (1, 2) == (report.statistics.delivered, report.statistics.merged)


async def test_an_alias_that_was_refused_is_sent_again_when_it_is_made_again(new_client, emulator, cable):
    meet(emulator, anonymous_id="a1")
    emulator.faults.add(Fault(family="parcelvoy_alias", status=422))
    async with new_client() as client:
        twice = [await client.alias("a1", "u1"), await client.alias("a1", "u1")]
        await client.flush()
        again = await client.alias("a1", "u1")

    first, second, third = [await receipt.outcome() for receipt in (*twice, again)]
    assert ("dead", "merged", "delivered") == (first.status, second.status, third.status)
    assert "dead" == second.row.status
    assert ["alias", "alias"] == paths(cable)
    assert {"a1": "u1"} == emulator.store.parcelvoy.aliases


async def test_the_oldest_calls_of_all_kinds_make_room_and_their_letters_have_them(new_client, cable):
    letters: list[DeadCall] = []
    cable.refusals = 1_000
    settings = {"max_queue_calls": 4, "when_full": "drop_oldest", "close_timeout": 0.0, "concurrency": 1}
    others = [Identify("u2"), Track("opened", external_id="u3"), Alias("a4", "u4"), Track("opened", external_id="u5")]
    calls = [*REFUSED.values(), *others]
    async with new_client(on_dead=letters.append, **settings) as client:
        for call in calls:
            await client.enqueue(call)
        report = await client.aclose()

    assert {"queue_full": 4, "closed": 4} == report.statistics.lost_by_reason
    assert sorted(map(repr, calls)) == sorted(repr(letter.call) for letter in letters)
    assert 8 == judge.conservation(report.statistics)


@pytest.mark.parametrize("users", [1, 7, 10_000])
async def test_ten_thousand_events_take_twenty_requests(new_client, emulator, cable, users):
    async with new_client(max_events=500) as client:
        for number in range(10_000):
            await client.track("opened", external_id=f"u{number % users}", data={"n": number})
        report = await client.flush()

    sizes = [len(json.loads(request.content)) for request in cable.requests]
    assert 10_000 == report.statistics.delivered == sum(sizes)
    assert [500] * 20 == sizes
    events = emulator.store.parcelvoy.events
    assert {*range(10_000)} == {event.data["n"] for event in events}
    judge.per_user_order((event.external_id, event.data["n"]) for event in events)


async def test_one_users_backlog_does_not_make_the_events_of_others_go_alone(new_client, emulator, cable):
    """10,000 wait, but most of them behind a request on its way: they are no full array for others to join."""
    emulator.faults.add(Fault(family="parcelvoy_events", latency=5.0, times=None))
    async with new_client(flush_interval=1.0, close_timeout=300.0) as client:
        for _ in range(10_000):
            await client.track("imported", external_id="crowd")
        for number in range(50):
            await client.track("opened", external_id=f"u{number}", data={"at": anyio.current_time()})
            await anyio.sleep(0.1)

    of_others = [request for request in cable.requests if b"opened" in request.content]
    stored = [event for event in emulator.store.parcelvoy.events if event.name == "opened"]
    assert 6 >= len(of_others)  # one for each second of five, and one for the rest
    assert 50 == len(stored)
    assert 1.1 > max(event.stamp - MINUTE_BEGINS - event.data["at"] for event in stored)


async def test_events_go_out_when_an_array_has_waited_its_time(new_client, cable):
    async with new_client(flush_interval=2.0) as client:
        receipt = await client.track("opened", external_id="u1")
        for number in range(5):
            await client.track("opened", external_id=f"u{number}")
        outcome = await receipt.outcome(timeout=2.5)

        assert "delivered" == outcome.status
    assert [6] == [len(json.loads(request.content)) for request in cable.requests]


async def test_an_array_holds_no_more_bytes_than_the_setting(new_client, cable):
    async with new_client(max_bytes=1_000) as client:
        for number in range(50):
            await client.track("opened", external_id=f"u{number}", data={"text": "x" * 100})
        await client.track("one that is larger", external_id="u0", data={"text": "x" * 5_000})

    sizes = [len(request.content) for request in cable.requests]
    small = [size for size in sizes if size < 5_000]
    assert 1 == len(sizes) - len(small)
    assert 1_100 > max(small)  # brackets and commas come on top
    assert 51 == sum(len(json.loads(request.content)) for request in cable.requests)


async def test_one_event_that_the_server_refuses_takes_no_other_with_it(new_client, emulator):
    emulator.faults.add(Fault(family="parcelvoy_events", body_contains="poison", status=422, times=None))
    letters: list[DeadCall] = []
    async with new_client(on_dead=letters.append) as client:
        for number in range(100):
            await client.track(
                "poison" if number == 37 else "opened", external_id=f"u{number % 10}", data={"n": number}
            )
        report = await client.flush()

    assert (99, 1) == (report.statistics.delivered, report.statistics.dead)
    assert [Track("poison", external_id="u7", data={"n": 37})] == [letter.call for letter in letters]
    assert {*range(100)} - {37} == {event.data["n"] for event in emulator.store.parcelvoy.events}


async def test_an_event_too_large_for_the_server_dies_alone_and_says_why(new_client, emulator):
    emulator.faults.add(Fault(family="parcelvoy_events", body_over=100_000, status=413, times=None))
    letters: list[DeadCall] = []
    async with new_client(on_dead=letters.append) as client:
        for number in range(20):
            size = 200_000 if number == 7 else 10_000
            await client.track("opened", external_id=f"u{number}", data={"n": number, "text": "x" * size})

    assert [("too_large", 7)] == [(letter.reason, letter.call.data["n"]) for letter in letters]
    assert {*range(20)} - {7} == {event.data["n"] for event in emulator.store.parcelvoy.events}


REFUSED = {
    "parcelvoy_identify": Identify("u1", anonymous_id="a1", email="m@x", data={"x": [1]}),
    "parcelvoy_alias": Alias("a1", "u1"),
    "parcelvoy_devices": Device("d1", external_id="u1", token="t", **REQUIRED),
    "parcelvoy_events": Track("opened", external_id="u1", data={"x": {"y": 1}}, occurred_at=AT),
}


APPLIED = {
    "parcelvoy_identify": ["alias", "identify"],
    "parcelvoy_alias": ["alias"],
    "parcelvoy_devices": ["identify", "device"],
    "parcelvoy_events": ["event"],
}  # what the server has applied when each has arrived: with what it needs before it


def applied(emulator: Emulator) -> list[str]:
    """What the server has applied of the client's, in its order."""
    return [call.kind for call in emulator.store.applied if call.stamp > 1.0]


@pytest.mark.parametrize(("family", "call"), REFUSED.items())
async def test_a_call_answered_400_goes_again_until_it_is_delivered(new_client, emulator, family, call):
    """Any error inside that server becomes a 400: nothing may die of it."""
    meet(emulator, anonymous_id="a1")
    fault = emulator.faults.add(Fault(family=family, status=400, times=3))
    letters: list[DeadCall] = []
    async with new_client(on_dead=letters.append) as client:
        receipt = await client.enqueue(call)
        outcome = await receipt.outcome(timeout=60)

        assert ("delivered", 3) == (outcome.status, client.statistics().retries)
    assert 3 == emulator.faults.fired(fault.name)
    assert APPLIED[family] == applied(emulator)
    assert [] == letters


async def test_an_event_answered_400_in_any_array_keeps_no_other_back_and_dies_of_its_age(new_client, emulator):
    emulator.faults.add(Fault(family="parcelvoy_events", body_contains="poison", status=400, times=None))
    letters: list[DeadCall] = []
    async with new_client(on_dead=letters.append, max_age=3_600.0) as client:
        for number in range(100):
            name = "poison" if number == 37 else "opened"
            await client.track(name, external_id=f"u{number}", data={"n": number})
        await anyio.sleep(300)
        during = client.statistics()
        await anyio.sleep(3_600)

        assert (99, 1, 0) == (during.delivered, during.pending, during.dead)
        assert (99, 0, {"expired": 1}) == (
            client.statistics().delivered, client.statistics().pending, client.statistics().lost_by_reason,
        )  # fmt: skip
    assert [Track("poison", external_id="u37", data={"n": 37})] == [letter.call for letter in letters]
    assert sorted({*range(100)} - {37}) == sorted(event.data["n"] for event in emulator.store.parcelvoy.events)


@pytest.mark.parametrize(("family", "call"), REFUSED.items())
async def test_a_dead_call_may_be_made_again_and_arrives(new_client, emulator, family, call):
    meet(emulator, anonymous_id="a1")
    emulator.faults.add(Fault(family=family, status=422))
    client: ParcelvoyClient
    letters: list[DeadCall] = []

    async def again(letter: DeadCall) -> None:
        letters.append(letter)
        await client.enqueue(letter.call)

    client = new_client(on_dead=again)
    async with client:
        await client.enqueue(call)
        await client.flush()
        await anyio.sleep(5)  # letters are a task of their own

    assert [call] == [letter.call for letter in letters]
    assert (2, 1, 1) == (client.statistics().accepted, client.statistics().dead, client.statistics().delivered)
    assert APPLIED[family] == applied(emulator)


async def test_the_budget_is_kept_by_all_calls_together(new_client, emulator):
    settings = {"requests_per_minute": 60, "burst": 10, "close_timeout": 300.0, "max_events": 1}
    async with new_client(**settings) as client:
        for number in range(60):
            await client.identify(f"u{number}")
            await client.track("opened", external_id=f"u{number}")

    stamps = [call.stamp for call in emulator.store.applied]
    assert 120 == len(stamps)
    assert 60 >= max(sum(start <= stamp < start + 60 for stamp in stamps) for start in stamps)


async def test_a_wrong_key_holds_everything_and_says_which_key_it_wants(new_client, emulator):
    emulator.faults.add(Fault(path="/api/client/*", status=401, times=1))
    async with new_client(close_timeout=120.0) as client:
        await client.track("opened", external_id="u1")
        await client.flush(5)
        held = client.statistics().paused
        report = await client.flush(120)

    assert held.startswith("https://emulator refuses the API key (401 on events); ")
    assert "public key" in held
    assert (1, None) == (report.statistics.delivered, report.statistics.paused)


# ── whose it is ──


async def test_an_id_that_is_an_enum_is_the_person_whose_id_is_its_text(new_client, emulator, cable):
    """Else their calls would be in two lines, and overtake each other."""
    async with new_client() as client:
        await client.track("opened", anonymous_id="a1")
        await client.alias("a1", UserId.FIRST)
        await client.alias("a1", "u1")
        for external_id in (UserId.FIRST, "u1"):
            await client.identify(external_id, data={str(type(external_id)): 1})
        for number, external_id in enumerate([UserId.FIRST, "u1"] * 2):
            await client.track("opened", external_id=external_id, data={"n": number})
        statistics = (await client.flush()).statistics

    store = emulator.store.parcelvoy
    assert ["events", "alias", "identify", "events"] == paths(cable)
    assert (7, 2) == (statistics.delivered, statistics.merged)
    assert [("u1", n) for n in range(4)] == [(event.external_id, event.data["n"]) for event in store.events[1:]]
    assert 1 == len(store.users)
    assert {"a1": "u1"} == store.aliases


@pytest.mark.parametrize("flushed", [False, True], ids=["at once", "slowly"])
@pytest.mark.parametrize("joined_by", ["an alias", "an event with both ids", "an identify with both ids"])
async def test_two_people_whom_the_server_has_met_stay_apart_in_one_browser(new_client, emulator, joined_by, flushed):
    """The server knows the browser as Fay's, and Eve, who signs in on it. How fast she does must not change whose is
    whose.
    """
    store = emulator.store.parcelvoy
    meet(emulator, anonymous_id="browser", external_id="fay")
    meet(emulator, external_id="eve")
    async with new_client() as client:
        if joined_by == "an alias":
            await client.alias("browser", "eve")
        await client.identify("eve", data={"said of": "eve"})
        if joined_by == "an event with both ids":
            await client.track("signed in", external_id="eve", anonymous_id="browser")
        if flushed:
            await client.flush()
        both = "eve" if joined_by == "an identify with both ids" else None
        await client.identify(both, anonymous_id="browser", data={"theme": "dark"})

    assert 2 == len(store.users)
    assert "said of" not in store.find("fay").data
    assert "eve" == store.find("eve").data["said of"]
    assert ["alias"] == [lost.kind for lost in store.lost]


# ── what the server needs before a call ──

BOTH: dict[str, Callable[[ParcelvoyClient, int], Awaitable[Any]]] = {
    "identify": lambda client, n: client.identify(f"u{n}", anonymous_id=f"a{n}", data={"plan": "pro"}),
    "track": lambda client, n: client.track("signed in", external_id=f"u{n}", anonymous_id=f"a{n}"),
    "device": lambda client, n: client.register_device(
        f"d{n}", external_id=f"u{n}", anonymous_id=f"a{n}", token=f"t{n}", **REQUIRED
    ),
}  # calls with both ids
MET: dict[str, Callable[[int], list[dict[str, str]]]] = {
    "neither": lambda n: [],
    "the anonymous one": lambda n: [{"anonymous_id": f"a{n}"}],
    "the external one": lambda n: [{"external_id": f"u{n}"}],
    "both, as one": lambda n: [{"anonymous_id": f"a{n}", "external_id": f"u{n}"}],
}


@pytest.mark.parametrize("whose", ["external_id", "anonymous_id"])
async def test_the_device_of_people_whose_first_call_it_is_is_stored(new_client, emulator, cable, whose):
    """The server drops the devices of strangers without a word. It hears of each person once."""
    async with new_client() as client:
        for n in range(20):
            await client.register_device(f"d{n}", **{whose: f"p{n}"}, token=f"t{n}", **REQUIRED)
            await client.register_device(f"d{n}, too", **{whose: f"p{n}"}, **REQUIRED)
        report = await client.flush()

    store = emulator.store.parcelvoy
    assert {f"p{n}": [f"d{n}", f"d{n}, too"] for n in range(20)} == {
        getattr(user, whose, None) or user.anonymous_ids[0]: user.devices for user in store.users.values()
    }
    assert [] == store.lost
    assert (40, 40) == (report.statistics.accepted, report.statistics.delivered)  # what goes before is nobody's call
    assert 20 == paths(cable).count("identify")


@pytest.mark.parametrize("call", BOTH)
@pytest.mark.parametrize("met", MET)
async def test_a_call_with_both_ids_makes_one_person_of_them_whomever_the_server_has_met(
    new_client, emulator, met, call
):
    """Without an alias before it, an anonymous person stays one, and the next call by the external id makes another."""
    for n in range(20):
        for ids in MET[met](n):
            meet(emulator, **ids)
    async with new_client() as client:
        for n in range(20):
            await BOTH[call](client, n)
            await client.track("opened", external_id=f"u{n}")

    users = emulator.store.parcelvoy.users.values()
    assert sorted(f"u{n}" for n in range(20)) == sorted(user.external_id or "" for user in users)
    assert ["alias"] * 20 * (met in ("neither", "the external one")) == [
        lost.kind for lost in emulator.store.parcelvoy.lost
    ]


async def test_an_anonymous_person_whom_only_the_client_has_met_gets_the_external_id(new_client, emulator, cable):
    """What waits under the anonymous id goes first, then one alias, whatever is said under both ids later."""
    async with new_client() as client:
        for n in range(20):
            await client.track("page viewed", anonymous_id=f"a{n}")
            for call in BOTH.values():
                await call(client, n)

    store = emulator.store.parcelvoy
    assert {f"u{n}": ([f"a{n}"], [f"d{n}"]) for n in range(20)} == {
        user.external_id: (user.anonymous_ids, user.devices) for user in store.users.values()
    }
    assert 20 == paths(cable).count("alias")
    assert [] == store.lost


async def test_two_people_whom_the_server_has_met_are_not_joined_by_a_call_with_both_ids(new_client, emulator):
    """Nothing joins people there. What is said under both ids goes to the one with the external id."""
    meet(emulator, anonymous_id="a1")
    meet(emulator, external_id="u1")
    async with new_client() as client:
        for call in BOTH.values():
            await call(client, 1)

    store = emulator.store.parcelvoy
    assert [(None, ["a1"], {}, []), ("u1", [], {"plan": "pro"}, ["d1"])] == [
        (user.external_id, user.anonymous_ids, user.data, user.devices) for user in store.users.values()
    ]
    assert [store.find("u1").number] == [event.user for event in store.events]


@pytest.mark.parametrize("call", BOTH)
async def test_an_alias_that_goes_before_a_call_is_the_one_that_is_made_meanwhile(new_client, emulator, cable, call):
    """It is not sent twice, and the receipt of the one that is made has its outcome."""
    meet(emulator, anonymous_id="a1")
    async with new_client() as client:
        await BOTH[call](client, 1)
        receipt = await client.alias("a1", "u1")
        report = await client.flush()

    assert "delivered" == receipt.status
    assert 1 == paths(cable).count("alias")
    assert 2 == judge.conservation(report.statistics) == report.statistics.delivered


@pytest.mark.parametrize("family", ["parcelvoy_alias", "parcelvoy_identify"])
async def test_what_goes_before_a_call_may_be_refused_and_takes_no_call_with_it(new_client, emulator, family):
    """The server says of itself why it drops the device then; the call was made, and is sent."""
    emulator.faults.add(Fault(family=family, status=422))
    letters: list[DeadCall] = []
    async with new_client(on_dead=letters.append) as client:
        await BOTH["device"](client, 1)
        first = await client.flush()
        await BOTH["device"](client, 1)

    assert (1, 0, {}) == (first.statistics.delivered, first.statistics.dead, first.statistics.lost_by_reason)
    assert [] == letters
    assert ["d1"] == emulator.store.parcelvoy.find("u1").devices  # what was refused is sent again with the next call
    assert 2 == judge.conservation(client.statistics())


@pytest.mark.parametrize("ids", [{"external_id": "u1"}, {"external_id": "u1", "anonymous_id": "a1"}], ids=len)
async def test_what_goes_before_a_call_does_not_die_with_an_older_call_that_needed_it(new_client, emulator, ids):
    """The first device is too old when the server is back; the second one must not come as a stranger's."""
    meet(emulator, anonymous_id="a1")
    outage = emulator.faults.add(Fault(path="/api/client/*", status=503, times=None))
    letters: list[DeadCall] = []
    async with new_client(on_dead=letters.append, max_age=600.0) as client:
        await client.register_device("old", **ids, **REQUIRED)
        await anyio.sleep(400)
        await client.register_device("new", **ids, **REQUIRED)
        await anyio.sleep(400)
        emulator.faults.remove(outage.name)
        await client.flush(120)

    assert [("expired", "old")] == [(letter.reason, letter.call.device_id) for letter in letters]
    user = emulator.store.parcelvoy.find("u1")
    assert (["a1"] * ("anonymous_id" in ids), ["new"]) == (user.anonymous_ids, user.devices)
    assert [] == emulator.store.parcelvoy.lost


@pytest.mark.parametrize("letter", [True, False], ids=["told of", "silent"])
async def test_the_oldest_call_makes_room_and_not_what_goes_before_a_later_one(new_client, emulator, cable, letter):
    """With a full queue, what goes before a call frees nothing."""
    cable.refusals = 1_000
    letters: list[DeadCall] = []
    settings = {"max_queue_calls": 2, "when_full": "drop_oldest", "concurrency": 1}
    async with new_client(on_dead=letters.append if letter else None, **settings) as client:
        for n in range(5):
            await client.register_device(f"d{n}", external_id="u1", **REQUIRED)
            await anyio.sleep(0.1)
        cable.refusals = 0
        report = await client.flush(120)

    assert {"queue_full": 3} == report.statistics.lost_by_reason
    assert ["d0", "d1", "d2"] * letter == [letter.call.device_id for letter in letters]
    assert ["d3", "d4"] == emulator.store.parcelvoy.find("u1").devices
    assert [] == emulator.store.parcelvoy.lost


# ── a second person in the same browser ──

SECOND = {
    **BOTH,
    "alias": lambda client, n: client.alias(f"a{n}", f"u{n}"),
    "enqueue": lambda client, n: client.enqueue(Track("signed in", external_id=f"u{n}", anonymous_id=f"a{n}")),
}


def in_the_same_browser(call: str, client: ParcelvoyClient) -> Awaitable[Any]:
    """Make this call of the second person, with the first one's anonymous id."""
    return {
        "identify": lambda: client.identify("second", anonymous_id="a1", data={"plan": "free"}),
        "track": lambda: client.track("signed in", external_id="second", anonymous_id="a1"),
        "device": lambda: client.register_device("d2", external_id="second", anonymous_id="a1", **REQUIRED),
        "alias": lambda: client.alias("a1", "second"),
        "enqueue": lambda: client.enqueue(Alias("a1", "second")),
    }[call]()


@pytest.mark.parametrize("first", SECOND)
@pytest.mark.parametrize("second", SECOND)
async def test_a_second_person_in_the_same_browser_is_refused_at_the_call(new_client, emulator, first, second):
    """The server would rename the first one to the second."""
    meet(emulator, anonymous_id="a1")
    async with new_client() as client:
        await SECOND[first](client, 1)
        with pytest.raises(InvalidCall, match="anonymous_id belongs to another external_id already") as refused:
            await in_the_same_browser(second, client)
        await SECOND[first](client, 1)  # the first one is who they were
        report = await client.flush()

    assert "anonymous_id" == refused.value.field
    assert "second" not in str(refused.value)
    assert 2 == judge.conservation(report.statistics)
    assert ["u1"] == [user.external_id for user in emulator.store.parcelvoy.users.values()]


@pytest.mark.parametrize("second", SECOND)
async def test_a_second_person_in_the_same_browser_reaches_on_dead_in_production(new_client, emulator, second):
    meet(emulator, anonymous_id="a1")
    letters: list[DeadCall] = []
    async with new_client(on_dead=letters.append, on_invalid="dead") as client:
        await client.alias("a1", "u1")
        receipt = await in_the_same_browser(second, client)
        await anyio.sleep(1)

        assert ("dead", "invalid") == (receipt.status, receipt.reason)
    (letter,) = letters
    assert ("invalid", "anonymous_id") == (letter.reason, getattr(letter.error, "field", None))
    assert ["u1"] == [user.external_id for user in emulator.store.parcelvoy.users.values()]


@pytest.mark.parametrize("added", ["pear", object()], ids=["a text", "what JSON cannot carry"])
async def test_a_call_that_is_changed_after_it_was_enqueued_is_sent_as_it_was(new_client, emulator, added):
    call = Identify("u1", data={"cart": ["apple"]})
    async with new_client() as client:
        await client.enqueue(call)
        call.data["cart"].append(added)

    assert {"cart": ["apple"]} == emulator.store.parcelvoy.find("u1").data
