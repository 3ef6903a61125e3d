"""A pause around aliases, for a server that answers when it has queued a call, and works on ten side by side."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.harness import length
from tests.rules.schedule.parcelvoy_simulation import IDS, ParcelvoySimulation, device, identify, track
from tests.rules.schedule.test_parcelvoy_model import Timed, calls, lived_through
from tests.rules.schedule.test_parcelvoy_persons import FULL
from userpilot_async._schedule.settling import Settling
from userpilot_async._schedule.takeover import Takeover
from userpilot_async.parcelvoy import Alias, ParcelvoySettings

BOTH = {"anonymous_id": "a0", "external_id": "e0"}
PAUSE = 5.0


def pausing(latency: float = 0.0, trouble: float = 0.0, seed: int = 1, **more: Any) -> ParcelvoySimulation:
    chosen = ParcelvoySettings(flush_interval=0.0, settle_pause=PAUSE, **more)
    return ParcelvoySimulation(seed, chosen, trouble, latency)


def sent(run: ParcelvoySimulation) -> list[tuple[float, str]]:
    """When each request came to the server, in seconds, and its route."""
    return [(round(request.at - 1_000.0, 3), request.route) for request in run.server.requests]


def test_an_alias_waits_for_what_went_before_it_and_what_comes_after_waits_for_the_alias() -> None:
    run = pausing()
    run.put(track(0, anonymous_id="a0"), Alias(**BOTH), track(2, external_id="e0"), identify(3, anonymous_id="a0"))
    run.drain()

    assert [(0.0, "events"), (5.0, "alias"), (10.0, "events"), (10.0, "identify")] == sent(run)
    run.check()


def test_the_pause_holds_for_calls_that_are_made_when_nothing_waits_any_more() -> None:
    run = pausing()
    run.put(track(0, anonymous_id="a0"))
    run.run(2.0)
    run.put(Alias(**BOTH))
    run.run(4.0)
    run.put(track(2, external_id="e0"))
    run.run(1.0)
    run.put(track(3, anonymous_id="a0"))
    run.drain()

    assert [(0.0, "events"), (5.0, "alias"), (10.0, "events")] == sent(run)
    assert [0, 2, 3] == run.server.numbers()


def test_others_go_on_meanwhile() -> None:
    run = pausing()
    run.put(track(0, anonymous_id="a0"), Alias(**BOTH), track(2, external_id="e0"))
    run.put(Alias("a1", "e1"))
    for n in range(4, 12):
        run.run(1.0)
        run.put(track(n, external_id=f"e{n}"))
    run.drain()

    assert 10.0 == max(at for at, _ in sent(run))
    assert [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] == [
        at for at, route in sent(run) if route == "events" and at not in (0.0, 10.0)
    ]
    assert (0.0, "alias") in sent(run)  # of somebody of whom nothing went before


def test_what_goes_before_a_call_with_both_ids_has_its_pause_too() -> None:
    run = pausing()
    run.put(track(0, anonymous_id="a0"), device(1, **BOTH))
    run.drain()

    assert [(0.0, "events"), (5.0, "alias"), (10.0, "identify"), (10.0, "devices")] == sent(run)


def test_a_new_sender_waits_as_if_all_had_been_sent_just_before() -> None:
    run = pausing()
    run.schedule.inherit(Takeover(), run.now)
    run.put(Alias(**BOTH))
    run.drain()

    assert [(5.0, "alias")] == sent(run)


def test_there_is_no_pause_by_default() -> None:
    run = ParcelvoySimulation(settings=ParcelvoySettings(flush_interval=0.0), latency=0.0)
    run.put(track(0, anonymous_id="a0"), Alias(**BOTH), track(2, external_id="e0"))
    run.drain()

    assert [0.0, 0.0, 0.0] == [at for at, _ in sent(run)]


def test_an_alias_that_is_refused_costs_no_pause() -> None:
    run = pausing()
    run.server.refuses_repeats = True
    run.put(Alias(**BOTH))
    run.drain()
    run.schedule._dedup._delivered.clear()
    run.put(Alias(**BOTH), track(2, external_id="e0"))
    run.drain()

    assert [(0.0, "alias"), (5.0, "alias"), (5.0, "events")] == sent(run)


LOGIN: Timed = [(track(0, anonymous_id="a0"), 1.0), (Alias(**BOTH), 1.0), (track(2, external_id="e0"), 1.0)]


@settings(max_examples=length.of(200), deadline=None)
@example(made=LOGIN, seed=1, trouble=0.0)
@given(made=calls(), seed=st.integers(0, 2**32), trouble=st.sampled_from([0.0, 0.3]))
def test_whatever_happens_an_alias_and_its_neighbours_are_so_far_apart(made: Timed, seed: int, trouble: float) -> None:
    """From the time at which the server has the one to the time at which it has the other."""
    run = lived_through(pausing(0.3, trouble, seed), made)
    run.check()
    persons: dict[str, str] = {}
    last: dict[str, tuple[float, str]] = {}
    requests = iter([request for request in run.server.requests if request.status == 204])
    for group in run.server.applied_by_request:
        at = next(requests).at
        for done in group:
            ids = [f"{name}:{done.body[name]}" for name in IDS if name in done.body]
            keys = {persons.setdefault(one, one) for one in ids}
            before = [last[key] for key in keys if key in last]
            for time, kind in before:
                if "alias" in (kind, done.kind) and kind != done.kind:
                    assert at - time >= PAUSE
            lead = sorted(keys)[0]
            persons.update({one: lead for one, key in persons.items() if key in keys})
            for key in keys:
                last.pop(key, None)
            last[lead] = (at, done.kind)


# ── what is remembered for it ──


def test_times_are_remembered_for_as_long_as_the_pause_lasts() -> None:
    settling = Settling({"alias": 5.0})
    for n in range(100):
        settling.answered([f"a{n}"], str, float(n))

    assert 5 == len(settling._answered)
    assert 104.0 == settling.due("alias", "a99")
    assert 99.0 == settling.due("device", "a99")


def test_of_keys_that_are_joined_the_later_time_counts() -> None:
    settling = Settling({"alias": 5.0})
    settling.answered(["e", "a"], str, 1.0)
    settling.answered(["e"], str, 2.0)
    settling.joined("a", "e")
    settling.joined("unknown", "e")

    assert (7.0, float("-inf")) == (settling.due("alias", "e"), settling.due("alias", "a"))


@pytest.mark.parametrize("pauses", [{}, {"alias": 0.0}])
def test_without_a_pause_nothing_is_remembered_for_long(pauses: dict[str, float]) -> None:
    settling = Settling(pauses)
    settling.answered(["a"], str, 1.0)
    settling.answered(["b"], str, 2.0)

    assert 1 >= len(settling._answered)


def test_the_pause_holds_although_what_waited_for_it_was_given_up() -> None:
    run = pausing()
    run.put(Alias(**BOTH))
    run.run(1.0)
    run.put(track(1, external_id="e0"))
    run.take_in()
    run.schedule.drop_oldest(FULL)
    run.put(track(2, external_id="e0"))
    run.drain()

    assert [(0.0, "alias"), (5.0, "events")] == sent(run)
    run.run(PAUSE)
    assert 0 == len(run.schedule._queues)
