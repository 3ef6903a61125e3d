"""Rows 6, 16, 22, 35 and 36 where Parcelvoy's arrays, aliases and devices make a difference. On a clock that jumps.

What is the same for both sides is in `test_network_answers.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from tests.harness.stage.calls import Side, person
from tests.harness.stage.parcelvoy import ALIASES, DEVICE, EVENTS, PARCELVOY, alias, both, register, visitor
from tests.harness.stage.scenes import LIVE_WITHIN, Rehearsal, rehearsal
from userpilot_async import InvalidCall, Receipt, Settings
from userpilot_async.emulator import Fault
from userpilot_async.parcelvoy import Alias, DeadCall, Identify, ParcelvoyClient, ParcelvoySettings, Track

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

MINUTE, HOUR = 60.0, 3_600.0
EXPIRING = {"userpilot": Settings(max_age=MINUTE), "parcelvoy": ParcelvoySettings(max_age=MINUTE)}
LONG = "e" * 250  # a name, to make events of 400 bytes


@asynccontextmanager
async def far_away(settings: ParcelvoySettings | None = None) -> AsyncIterator[Rehearsal]:
    """A rehearsal with 0.1 s between request and answer: whoever asks again and again at once sees time pass."""
    async with rehearsal(settings, to=PARCELVOY) as scene:
        scene.network.there = scene.network.back = lambda: 0.05
        yield scene


async def tracked(scene: Rehearsal, people: int, first: int = 0) -> None:
    """An event of each of so many people."""
    for n in range(first, first + people):
        await scene.track(person(n), LONG)


async def arrived(scene: Rehearsal, within: float = MINUTE) -> None:
    """All calls have an outcome, and `on_dead` has heard of those that are lost, which takes a moment longer."""
    await scene.drained(within)
    await anyio.sleep(1)


async def poison(scene: Rehearsal, number: int, data: dict[str, Any] | None = None) -> Track:
    """Track what the server will not have; returns the call."""
    call = Track("poison", external_id=person(number), data={"mail": person(number), **(data or {})})
    await scene.client.enqueue(call)
    return call


def of_arrays(scene: Rehearsal, status: int | None = None) -> list[Any]:
    return scene.requests(path=EVENTS, status=status)


# ── 6: aliases whose answer is lost ──

LOSSES: dict[str, dict[str, Any]] = {
    "cut": {"cut": "after"},
    "502": {"status": 502, "apply": True},
    "504": {"status": 504, "apply": True},
}


@pytest.mark.parametrize("how", LOSSES)
async def test_row_06_an_alias_that_was_applied_counts_as_delivered_when_it_is_refused_the_second_time(
    how: str,
) -> None:
    """A server may have no other way of saying that it was done; the later calls wait for it, and go on."""
    async with far_away() as scene:
        scene.goes_wrong("lost", path=ALIASES, times=1, **LOSSES[how])
        scene.goes_wrong("has been done", path=ALIASES, times=1, status=422)
        await scene.track(visitor(1))
        receipts = [await alias(scene, 1), await alias(scene, 1)]
        await scene.track(person(1))
        await scene.drained(MINUTE)

        assert ["delivered", "merged"] == [receipt.status for receipt in receipts]
        assert [None if how == "cut" else int(how), 422] == [r.status for r in scene.requests(path=ALIASES)]
        assert ["event", "alias", "event"] == [a.kind for a in scene.emulator.store.applied]
        assert 0 == scene.statistics.possible_duplicates


async def test_row_06_an_alias_that_is_refused_the_first_time_is_dead_and_holds_nobody_up() -> None:
    """Somebody else's visitor: no answer was lost, so the refusal is one."""
    async with far_away() as scene:
        scene.losses = {"invalid": 1}
        scene.goes_wrong("not this one", path=ALIASES, times=1, status=422)
        receipt: Receipt = await scene.client.alias(visitor(1), person(1))
        await scene.track(person(1))
        await arrived(scene)

        assert "dead" == receipt.status
        assert [Alias(visitor(1), person(1))] == [letter.call for letter in scene.letters]


@pytest.mark.parametrize("how", [*LOSSES, "500"])
async def test_row_16_every_other_call_failing_keeps_each_visitors_calls_on_their_side_of_the_alias(how: str) -> None:
    """Half of the answers are lost, or half of the calls refused: what came before goes before, and nothing twice."""
    async with far_away() as scene:
        scene.goes_wrong("sick half", probability=0.5, **LOSSES.get(how, {"status": 500}))
        for n in range(30):
            await scene.track(visitor(n))
            await scene.identify(visitor(n), {"plan": "pro", "email": person(n)})
            await register(scene, visitor(n), f"phone {n}")
            await alias(scene, n)
            await scene.track(visitor(n), "after")
            await scene.track(person(n), "after")
        await scene.drained(10 * MINUTE)

        store = scene.emulator.store
        for n in range(30):
            applied = [a for a in store.applied if a.id in (visitor(n), person(n))]
            order = list(dict.fromkeys((a.kind, a.id, a.payload.get("name")) for a in applied))
            before, after = order[:-3], order[-3:]
            assert ("event", visitor(n), "report opened") == before[0]
            assert {("identify", visitor(n), None), ("device", visitor(n), None)} == {*before[1:]}
            assert [("alias", person(n), None), ("event", visitor(n), "after"), ("event", person(n), "after")] == after
        assert 30 == len(store.parcelvoy.users)  # an event of a person's before the alias would have made another
        assert [] == store.parcelvoy.lost
        # Nobody can tell whether an identify, a device or an alias came twice; events can be counted.
        assert (how != "500") == (scene.statistics.possible_duplicates > 0)


async def test_row_16_five_minutes_of_400_are_an_outage_of_that_server_and_cost_no_event() -> None:
    async with far_away() as scene:
        scene.goes_wrong("sick", status=400)
        await tracked(scene, 1_000)
        await scene.identify_all(person(n) for n in range(20))
        await anyio.sleep(5 * MINUTE)
        during, asked = scene.statistics, len(of_arrays(scene))
        scene.recovers()
        await scene.drained(LIVE_WITHIN)

        assert (0, 1_020) == (during.delivered, during.pending)
        assert 50 >= asked


@pytest.mark.parametrize("key", ["pk_of_the_project", "SK_of_the_project", "of_something_else"])
async def test_row_16_a_key_of_the_server_to_which_it_answers_401_is_not_to_blame(key: str) -> None:
    """It cannot look the key up while its database is away: a few seconds, after which it takes the calls."""
    statuses = iter([401] * 3)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(next(statuses, 204))

    client = ParcelvoyClient(key, "https://parcelvoy.invalid", transport=httpx.MockTransport(answer))
    async with client as parcelvoy:
        await parcelvoy.track("opened", external_id="u1")
        await anyio.sleep(5)
        is_its_own = key.lower().startswith(("pk_", "sk_"))
        assert is_its_own == (parcelvoy.statistics().paused is None)
        await anyio.sleep(5 * MINUTE)
        assert 1 == parcelvoy.statistics().delivered


async def test_row_07_an_array_that_takes_the_server_longer_than_is_waited_for_is_doubled_once() -> None:
    """The server goes on with what has timed out, so that each try of the same array would store it all again."""
    async with far_away() as scene:
        scene.goes_wrong("slow", path=EVENTS, body_over=80_000, latency=20.0)
        await tracked(scene, 400)
        await scene.drained(5 * MINUTE)

        sizes = [request.rows for request in of_arrays(scene)]
        assert (400, 800) == (sizes[0], sum(sizes))
        assert 400 == scene.statistics.possible_duplicates


# ── 22: 429 ──


async def test_row_22_events_that_are_refused_with_429_hold_up_no_identify() -> None:
    async with far_away() as scene:
        scene.goes_wrong("full", path=EVENTS, status=429)
        await tracked(scene, 1_000)
        await scene.identify_all(person(n) for n in range(2_000, 2_020))
        await anyio.sleep(10 * MINUTE)
        during, asked = scene.statistics, len(of_arrays(scene, 429))
        scene.recovers()
        await scene.drained(LIVE_WITHIN)

        assert (20, 1_000, 0) == (during.delivered, during.pending, during.retries)
        # 1, 2, 4, … 60 s apart, and as many arrays at once as are waiting.
        assert 2 * (6 + 10) >= asked == during.rate_limited
        assert 2 == len(of_arrays(scene, 204))


async def test_row_22_leaving_during_429_keeps_its_bound_and_says_what_is_left() -> None:
    async with far_away() as scene:
        scene.losses = {"closed": 1_000}
        scene.goes_wrong("full", status=429)
        await tracked(scene, 1_000)
        await anyio.sleep(MINUTE)
        report = await scene.leaves(5.0)

        assert {"closed": 1_000} == report.statistics.lost_by_reason
        assert {Track} == {type(letter.call) for letter in scene.letters}
        scene.model.events.clear()


@both
async def test_row_22_a_call_that_expires_under_429_reaches_on_dead_at_once(to: Side) -> None:
    """Nothing is left to do after that, so that the sender sleeps until the next call, or for ever."""
    async with rehearsal(EXPIRING[to.name], to=to) as scene:
        scene.losses = {"expired": 1}
        scene.goes_wrong("full", status=429)
        await scene.track(person(1))
        scene.model.events.clear()
        await anyio.sleep(HOUR)

        assert {"expired": 1} == scene.statistics.lost_by_reason
        assert ["expired"] == [letter.reason for letter in scene.letters]


async def test_row_22_a_limit_of_ones_own_holds_through_every_retry() -> None:
    """Servers behind a gateway that counts: requests_per_minute is for them, and counts all endpoints together."""
    async with far_away(ParcelvoySettings(requests_per_minute=60, burst=10, max_events=1)) as scene:
        scene.goes_wrong("sick half", status=503, probability=0.5)
        await scene.identify_all(person(n) for n in range(60))
        await scene.track_all(person(n) for n in range(60))
        await scene.drained(HOUR)

        assert scene.statistics.retries


# ── 35: events that the server refuses ──


async def test_row_35_one_poison_event_in_1_000_of_as_many_people_dies_alone() -> None:
    async with far_away() as scene:
        scene.losses = {"invalid": 1}
        scene.goes_wrong("poison", body_contains="poison", status=422)
        await tracked(scene, 700)
        call = await poison(scene, 70_000)
        await tracked(scene, 299, first=700)
        await arrived(scene)

        (letter,) = scene.letters
        assert (DeadCall, "dead", "invalid", call) == (type(letter), letter.status, letter.reason, letter.call)
        # An array of 500 is halved eight or nine times until the culprit is alone.
        assert 10 >= len(of_arrays(scene, 422))
        assert 25 >= len(of_arrays(scene))


async def test_row_35_an_event_answered_400_for_ever_is_alone_in_the_end_and_dies_of_age() -> None:
    """The server answers 400 for troubles of its own, too: no call dies of it, and no other is held up."""
    async with far_away(ParcelvoySettings(max_age=HOUR)) as scene:
        scene.losses = {"expired": 1}
        scene.goes_wrong("poison", body_contains="poison", status=400)
        await tracked(scene, 100)
        call = await poison(scene, 70_000)
        await tracked(scene, 99, first=100)
        await anyio.sleep(10 * MINUTE)
        during = scene.statistics
        # Up to half a minute for a knock, and the same again for each time that the poison knocks first.
        fresh = await (await scene.track(person(5_000))).outcome(5 * MINUTE)
        await scene.drained(HOUR)

        assert (199, 1, "delivered") == (during.delivered, during.pending, fresh.status)
    assert [("expired", call)] == [(letter.reason, letter.call) for letter in scene.letters]


@pytest.mark.parametrize("place", [0, 10, 499, 999])
async def test_row_35_one_poison_event_in_1_000_of_one_person_costs_little_and_no_order(place: int) -> None:
    """Behind it the arrays grow again: one bad event must not cost the next 989 a request each."""
    async with far_away() as scene:
        scene.losses = {"invalid": 1}
        scene.goes_wrong("poison", body_contains="poison", status=422)
        await scene.track_all([person(1)] * place)
        call = await poison(scene, 1)
        await scene.track_all([person(1)] * (999 - place))
        await arrived(scene)

        assert [call] == [letter.call for letter in scene.letters]
        assert 50 >= len(of_arrays(scene))


@pytest.mark.parametrize("lossy", [False, True], ids=["all answers", "answers lost"])
@pytest.mark.parametrize("poisoned", [5, 64], ids=["five in 64", "all"])
async def test_row_35_poison_events_die_and_the_others_arrive(poisoned: int, lossy: bool) -> None:
    async with far_away() as scene:
        scene.losses = {"invalid": poisoned}
        scene.goes_wrong("poison", body_contains="poison", status=422)
        if lossy and poisoned < 64:
            scene.goes_wrong("lost", path=EVENTS, cut="after", times=5)
        calls = []
        for n in range(64):
            if poisoned == 64 or n % 13 == 0:  # 0, 13, 26, 39, 52
                calls.append(await poison(scene, n))
            else:
                await scene.track(person(n))
        await arrived(scene, 10 * MINUTE)

        assert 64 - poisoned == scene.statistics.delivered
        assert sorted(map(repr, calls)) == sorted(repr(letter.call) for letter in scene.letters)
        assert {("dead", "invalid")} == {(letter.status, letter.reason) for letter in scene.letters}
        assert 2 * 64 >= len(of_arrays(scene, 422))


async def test_row_35_a_poison_identify_or_device_dies_alone_and_its_persons_events_arrive() -> None:
    async with far_away() as scene:
        scene.losses = {"invalid": 2}
        scene.goes_wrong("poison", body_contains="poison", status=422)
        await scene.client.identify(person(1), data={"note": "poison"})
        await scene.client.register_device("poison", external_id=person(1), **DEVICE)
        await scene.track(person(1))
        await scene.identify(person(2))
        await arrived(scene)

        assert {"Identify", "Device"} == {type(letter.call).__name__ for letter in scene.letters}


# ── 36: 413 at an undocumented size ──


async def test_row_36_arrays_get_smaller_until_they_fit_and_the_size_is_remembered() -> None:
    async with far_away() as scene:
        scene.goes_wrong("too large", path=EVENTS, body_over=20_000, status=413)
        await tracked(scene, 500)
        await scene.drained(MINUTE)
        learning = len(of_arrays(scene, 413))
        scene.recovers()
        forgotten = scene.emulator.faults.add(Fault(path=EVENTS, body_over=60_000, times=None, status=413))
        scene.goes_wrong("too large", path=EVENTS, body_over=20_000, status=413)
        await tracked(scene, 500, first=500)
        await scene.drained(MINUTE)

        # 200 kB are refused as one, two, four and eight arrays, side by side; then there are tries of larger ones.
        assert 1 + 2 + 4 + 8 + 8 >= learning
        assert 0 == scene.emulator.faults.fired(forgotten.name)


async def test_row_36_a_larger_size_is_tried_by_one_array_in_nine() -> None:
    """What was too large once may have been one event's fault; but every try in vain uploads its events for nothing."""
    async with far_away() as scene:
        scene.goes_wrong("too large", path=EVENTS, body_over=20_000, status=413)
        await tracked(scene, 500)
        await scene.drained(MINUTE)
        learning, asked = len(of_arrays(scene, 413)), len(of_arrays(scene))
        await tracked(scene, 5_000, first=500)
        await scene.drained(MINUTE)

        assert (len(of_arrays(scene)) - asked) / 8 >= len(of_arrays(scene, 413)) - learning


async def test_row_36_one_persons_arrays_get_smaller_and_keep_their_order() -> None:
    async with far_away() as scene:
        scene.goes_wrong("too large", path=EVENTS, body_over=20_000, status=413)
        for _ in range(500):
            await scene.track(person(1), LONG)
        await arrived(scene)

        assert 50 >= len(of_arrays(scene))


async def test_row_36_an_event_or_identify_that_is_too_large_alone_is_dead_and_says_so() -> None:
    async with far_away() as scene:
        scene.losses = {"too_large": 2}
        scene.goes_wrong("too large", body_over=20_000, status=413)
        await tracked(scene, 100)
        call = await poison(scene, 1, {"story": "s" * 30_000})
        identify = Identify(person(70_000), data={"story": "s" * 30_000})
        await scene.client.enqueue(identify)
        await tracked(scene, 100, first=100)
        await arrived(scene)

        assert ["too_large"] * 2 == [letter.reason for letter in scene.letters]
        assert sorted([repr(call), repr(identify)]) == sorted(repr(letter.call) for letter in scene.letters)


async def test_row_36_merged_identifies_share_one_fate_and_one_letter_that_holds_all_they_said() -> None:
    """The identifies are one row by then. Alone each would have fitted: who knows the limit can make them again."""
    async with far_away() as scene:
        scene.losses = {"too_large": 1}
        scene.goes_wrong("too large", path=PARCELVOY.identifies, body_over=20_000, status=413)
        for n in range(30):
            await scene.client.enqueue(Identify(person(1), data={f"story {n}": "s" * 1_000}))
        await scene.drained(MINUTE)

        assert 29 == scene.statistics.merged_lost
    assert [(29, 30)] == [(letter.merged, len(letter.call.data)) for letter in scene.letters]


async def test_row_36_a_limit_that_is_lifted_is_noticed() -> None:
    """A gateway's limit is raised: arrays grow back, step by step."""
    async with far_away() as scene:
        scene.goes_wrong("too large", path=EVENTS, body_over=20_000, status=413)
        await tracked(scene, 500)
        await arrived(scene)
        before = of_arrays(scene, 204)
        scene.recovers()
        await tracked(scene, 5_000, first=500)
        await arrived(scene)

        learned, grown = (max(request.rows for request in arrays) for arrays in (before, of_arrays(scene, 204)))
        assert grown >= 5 * learned


# ── what is said of calls that are refused, and of a client that is forgotten ──


async def test_a_call_that_is_refused_at_once_shows_nothing_of_the_person_in_its_error() -> None:
    async with far_away() as scene:
        refused = [
            scene.client.track(person(1) * 20, external_id=person(1)),
            scene.client.track("x", external_id=person(1) * 20),
            scene.client.track("x", external_id=person(1), data={"mail": {person(1)}}),
            scene.client.identify(person(1), timezone=person(1)),
            scene.client.identify(data={"mail": person(1)}),
            scene.client.alias("", person(1)),
        ]
        errors = [await scene.refused(call, InvalidCall) for call in refused]

        assert ["name", "external_id", "data['mail']", "timezone", "external_id", "anonymous_id"] == [
            error.field for error in errors
        ]


async def test_row_50_a_client_that_was_not_closed_is_called_by_its_name() -> None:
    async with far_away() as scene:
        await scene.track(person(1))
        with pytest.warns(ResourceWarning, match="not closed") as said:
            scene.client.__del__()

    assert "ParcelvoyClient" in str(said[0].message)
