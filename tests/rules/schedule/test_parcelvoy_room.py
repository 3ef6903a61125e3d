"""Calls that are given up for room or of age, and the posts before them, which others may need: none goes without."""

from __future__ import annotations

import pytest

from tests.rules.schedule.parcelvoy_simulation import ParcelvoySimulation, device, identify, track
from tests.rules.schedule.test_parcelvoy_persons import FULL, given_out, hasty, order
from tests.rules.schedule.test_parcelvoy_prefaces import BOTH, is_balanced, routes
from userpilot_async._protocol.verdict import of_answer, of_failure
from userpilot_async.parcelvoy import Alias


def drop(run: ParcelvoySimulation, calls: int = 1) -> None:
    """Make room: so many calls are given up."""
    run.take_in()
    lost = run.outbox.ledger.dropped.total() + calls
    while run.outbox.ledger.dropped.total() < lost:
        assert run.schedule.drop_oldest(FULL)
        run.carry_on()


def fates(run: ParcelvoySimulation) -> list[str]:
    return [receipt.status for receipt in run.receipts]


def test_a_device_whose_person_was_to_be_said_before_another_device_of_an_id_that_was_joined_since() -> None:
    """The identify waits in the queue of the anonymous id, the second device in that of the person."""
    run = hasty()
    run.put(device(0, anonymous_id="a0"), Alias(**BOTH), device(2, anonymous_id="a0"))
    drop(run)
    run.drain()

    assert ["dropped", "delivered", "delivered"] == fates(run)
    assert ["identify", "alias", "devices"] == routes(run)
    assert is_balanced(run)


def test_an_alias_of_ones_own_that_is_given_up_still_goes_before_the_call_that_needs_it() -> None:
    run = hasty()
    run.put(Alias(**BOTH), track(1, **BOTH))
    drop(run)
    run.drain()

    assert ["dropped", "delivered"] == fates(run)
    assert ["alias", "events"] == routes(run)
    assert is_balanced(run)


def test_so_does_one_that_took_the_place_of_what_waited_before_the_call() -> None:
    run = hasty()
    run.put(track(0, **BOTH), Alias(**BOTH), Alias(**BOTH), device(3, **BOTH))
    drop(run)
    run.drain()

    assert ["delivered", "dropped", "merged", "delivered"] == fates(run)
    assert ["alias", "events", "identify", "devices"] == routes(run)
    assert is_balanced(run)


def test_an_alias_that_no_call_needs_is_given_up_whole() -> None:
    run = hasty()
    run.put(Alias(**BOTH), track(1, external_id="e0"))
    drop(run)
    run.drain()

    assert ["dropped", "delivered"] == fates(run)
    assert ["events"] == routes(run)


def test_an_alias_is_given_up_whole_with_the_last_call_that_needs_it() -> None:
    run = hasty()
    run.put(Alias(**BOTH), track(1, **BOTH))
    drop(run, calls=2)
    run.drain()

    assert [] == routes(run)
    assert is_balanced(run)


def test_so_is_what_waits_for_a_call_behind_another_queue() -> None:
    run = hasty()
    run.put(device(0, anonymous_id="a0"), Alias(**BOTH), device(2, anonymous_id="a0"))
    drop(run, calls=3)
    while run.schedule.drop_oldest(FULL):
        run.carry_on()
    run.carry_on()
    run.drain()

    assert [] == routes(run)
    assert is_balanced(run)


@pytest.mark.parametrize("calls", range(1, 6))
def test_whatever_is_given_up_the_rest_arrives_in_order_with_what_it_needs(calls: int) -> None:
    run = hasty()
    run.put(device(0, anonymous_id="a0"), identify(1, anonymous_id="a0"), Alias(**BOTH), device(3, anonymous_id="a0"))
    run.put(track(4, **BOTH), device(5, external_id="e0"))
    drop(run, calls=calls)
    run.drain()
    applied = [(done.kind, done.body) for done in run.server.applied]

    assert fates(run) == ["dropped"] * calls + ["delivered"] * (6 - calls)
    assert [n for n in (0, 1, 3, 4, 5) if n >= calls] == order(run)
    for position, (kind, body) in enumerate(applied):
        ids = {name: body[name] for name in BOTH if name in body}
        before = applied[:position]
        assert kind != "device" or ("identify", {**ids, "data": {}}) in before
        assert kind == "alias" or len(ids) == 1 or ("alias", ids) in before
    assert is_balanced(run)


def test_an_alias_that_is_too_old_still_goes_before_the_younger_call_that_needs_it() -> None:
    run = hasty(max_age=100.0)
    run.server.trouble = 1.0
    run.server.chance.choice = lambda kinds: 500  # type: ignore[method-assign]
    run.put(Alias(**BOTH))
    run.run(60.0)
    run.put(track(1, **BOTH))
    run.run(60.0)
    run.drain()

    assert ["dead", "delivered"] == fates(run)
    assert ["alias", "events"] == [done.kind.replace("track", "events") for done in run.server.applied]
    assert is_balanced(run)


# ── an alias whose answer was lost, and another call that stands for it now ──


def refused_alias(run: ParcelvoySimulation) -> str:
    """The server does it once, and has done it: what becomes of ones own alias, which was put last."""
    run.schedule.done(given_out(run), of_answer(422, {}, b""), run.now)
    run.drain()
    return run.receipts[-1].status


@pytest.mark.parametrize("first", [track(0, **BOTH), Alias(**BOTH)], ids=["put before a call", "ones own"])
def test_an_alias_that_an_earlier_sender_may_have_sent_is_done_when_it_is_refused(first: Alias) -> None:
    run = hasty()
    run.put(first)
    run.take_in()
    run.put(Alias(**BOTH))
    for ticket in run.outbox.take(100):
        run.schedule.add(ticket, was_sent=True)
    run.carry_on()

    assert refused_alias(run) in ("delivered", "merged")
    assert {"delivered", "merged"} >= set(fates(run))


def test_so_is_one_whose_answer_was_lost_before_the_call_that_stands_for_it_now() -> None:
    run = hasty()
    run.put(track(0, **BOTH))
    run.schedule.done(given_out(run), of_failure("ReadError", sent=True), run.now)
    run.put(Alias(**BOTH))
    run.take_in()
    run.now += 60.0

    assert "delivered" == refused_alias(run)
