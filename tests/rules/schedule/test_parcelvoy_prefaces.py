"""What goes before a call of Parcelvoy, because the server needs it: an alias of both ids, a device's person."""

from __future__ import annotations

import pytest

from tests.rules.schedule.parcelvoy_simulation import POISON, ParcelvoySimulation, device, identify, track
from tests.rules.schedule.test_parcelvoy_persons import answered, given_out, hasty, order
from userpilot_async._protocol.verdict import of_answer
from userpilot_async.parcelvoy import Alias, Call

BOTH = {"anonymous_id": "a0", "external_id": "e0"}


def routes(run: ParcelvoySimulation) -> list[str]:
    """What was asked of the server, in order."""
    return [request.route for request in run.server.requests]


def is_balanced(run: ParcelvoySimulation) -> bool:
    """Nothing is left of any call, nor of what went before it."""
    left = (run.outbox.ledger.pending, run.outbox.waiting_calls, run.outbox.waiting_bytes, len(run.schedule._queues))
    return left == (0, 0, 0, 0)


def test_an_alias_goes_once_before_calls_with_both_ids() -> None:
    run = hasty()
    run.put(track(0, **BOTH), identify(1, **BOTH), track(2, **BOTH))
    run.drain()

    assert 1 == routes(run).count("alias")
    assert "alias" == routes(run)[0]
    run.check()


def test_an_identify_goes_once_before_the_devices_of_a_person() -> None:
    run = hasty()
    run.put(device(0, external_id="e0"), device(1, external_id="e0"))
    run.drain()

    assert ["identify", "devices", "devices"] == routes(run)
    run.check()


def test_a_device_behind_an_identify_of_its_person_waits_for_that_and_for_one_with_the_ids_alone() -> None:
    """The first may be refused, and then the server would not know whose the device is."""
    run = hasty()
    run.put(identify(0, {"p": 1}, **BOTH), device(1, **BOTH), identify(2, {"p": 2}, **BOTH))
    run.drain()

    assert ["alias", "identify", "identify", "devices", "identify"] == routes(run)
    assert [0, 1, 2] == order(run)
    run.check()


@pytest.mark.parametrize("status", [422, 413])
@pytest.mark.parametrize(("call", "needed"), [(track(0, **BOTH), 1), (device(0, **BOTH), 2)], ids=["track", "device"])
def test_a_refusal_of_what_goes_before_a_call_costs_no_call(call: Call, needed: int, status: int) -> None:
    run = hasty()
    run.put(call)
    for _ in range(needed):
        run.schedule.done(given_out(run), of_answer(status, {}, b""), run.now)
        run.carry_on()
    before = (run.outbox.ledger.dead.total(), run.outbox.waiting_calls, run.outbox.waiting_bytes > 0)
    run.drain()

    assert (0, 1, True) == before
    assert (1, ["delivered"]) == (run.outbox.ledger.delivered, [receipt.status for receipt in run.receipts])
    assert is_balanced(run)


def test_what_was_refused_before_one_call_goes_before_the_next() -> None:
    run = hasty()
    run.put(track(0, **BOTH))
    run.schedule.done(given_out(run), of_answer(422, {}, b""), run.now)
    run.put(track(1, **BOTH))
    run.drain()

    assert 1 == run.server.aliases["a0", "e0"]
    assert 2 == run.outbox.ledger.delivered
    assert is_balanced(run)


@pytest.mark.parametrize("in_flight", [False, True])
def test_ones_own_alias_takes_the_place_of_one_that_waits_before_a_call(in_flight: bool) -> None:
    run = hasty()
    run.put(track(0, **BOTH))
    work = given_out(run) if in_flight else None
    run.put(Alias(**BOTH), Alias(**BOTH))
    run.take_in()
    if work is not None:
        answered(run, work)
    run.drain()

    assert ["alias", "events"] == routes(run)
    assert ["delivered", "delivered", "merged"] == [receipt.status for receipt in run.receipts]
    assert is_balanced(run)
    run.check()


def test_a_refusal_of_an_alias_that_took_such_a_place_is_that_of_the_call() -> None:
    run = hasty()
    run.put(track(0, **BOTH), Alias(**BOTH))
    run.schedule.done(given_out(run), of_answer(422, {}, b""), run.now)
    run.drain()

    fates = [(receipt.status, receipt.reason) for receipt in run.receipts]
    assert [("delivered", None), ("dead", "invalid")] == fates
    assert is_balanced(run)


def test_ones_own_alias_after_one_was_delivered_before_a_call_is_not_sent() -> None:
    run = hasty()
    run.put(track(0, **BOTH))
    run.drain()
    run.put(Alias(**BOTH))
    run.drain()

    assert ["alias", "events"] == routes(run)
    assert (1, 1) == (run.outbox.ledger.delivered, run.outbox.ledger.merged)
    assert is_balanced(run)


def test_no_alias_goes_before_a_call_after_ones_own() -> None:
    run = hasty()
    run.put(Alias(**BOTH), track(1, **BOTH))
    run.drain()
    run.put(device(2, **BOTH))
    run.drain()

    assert ["alias", "events", "identify", "devices"] == routes(run)
    run.check()


def test_what_goes_before_a_call_dies_of_age_with_it_and_is_not_counted() -> None:
    run = hasty(max_age=100.0)
    run.server.trouble = 1.0
    run.server.chance.choice = lambda kinds: 500  # type: ignore[method-assign]
    run.put(device(0, **BOTH))
    run.run(300.0)

    assert ({"expired": 1}, 1) == (run.outbox.ledger.dead, run.outbox.ledger.accepted)
    assert is_balanced(run)


def test_what_died_of_age_before_one_call_goes_before_the_next() -> None:
    run = hasty(max_age=100.0)
    run.server.trouble = 1.0
    run.server.chance.choice = lambda kinds: 500  # type: ignore[method-assign]
    run.put(device(0, **BOTH))
    run.run(300.0)
    run.put(device(1, **BOTH))
    run.drain()

    assert ["alias", "identify", "device"] == [done.kind for done in run.server.applied]
    assert [1] == order(run)
    assert is_balanced(run)


# ── an alias of somebody whom the server has not met does nothing ──


ALONE = {"anonymous_id": "a0"}


def aliases(run: ParcelvoySimulation) -> int:
    """How often the alias of the two ids was sent."""
    return run.server.aliases["a0", "e0"]


@pytest.mark.parametrize("drained", [True, False], ids=["delivered", "waiting"])
@pytest.mark.parametrize("needs_it", [track(2, **BOTH), identify(2, **BOTH), device(2, **BOTH), Alias(**BOTH)], ids=str)
def test_an_alias_that_came_too_early_is_said_again_before_what_needs_it(needs_it: Call, drained: bool) -> None:
    run = hasty()
    run.put(Alias(**BOTH))
    if drained:
        run.drain()
    run.put(track(1, **ALONE))
    if drained:
        run.drain()
    run.put(needs_it)
    run.drain()

    assert ["alias", "events", "alias"] == routes(run)[:3]
    assert 2 == aliases(run)
    assert is_balanced(run)


def test_an_alias_after_a_call_that_was_delivered_is_not_said_again_whatever_comes_later() -> None:
    run = hasty()
    run.put(track(0, **ALONE))
    run.drain()
    run.put(Alias(**BOTH))
    for n in range(1, 9, 2):
        run.put(track(n, **ALONE), track(n + 1, **BOTH), Alias(**BOTH))
        run.run(20.0)

    assert 1 == aliases(run)


def test_an_alias_is_said_again_once_and_not_before_each_call() -> None:
    run = hasty()
    run.put(Alias(**BOTH))
    for n in range(0, 8, 2):
        run.put(track(n, **ALONE), track(n + 1, **BOTH), Alias(**BOTH))
        run.drain()

    assert 2 == aliases(run)


def test_an_alias_after_a_call_that_was_refused_came_too_early() -> None:
    run = hasty()
    run.put(track(0, POISON, **ALONE), Alias(**BOTH))
    run.drain()
    run.put(track(2, **ALONE), track(3, **BOTH))
    run.drain()

    assert 2 == aliases(run)
    assert [2, 3] == order(run)


def test_a_call_with_both_ids_makes_the_server_meet_both() -> None:
    run = hasty()
    run.put(track(0, **BOTH))
    run.drain()
    run.put(track(1, **ALONE), track(2, **BOTH))
    run.drain()

    assert 1 == aliases(run)


def test_an_external_id_alone_says_nothing_of_the_other_one() -> None:
    run = hasty()
    run.put(Alias(**BOTH), track(1, external_id="e0"), track(2, **BOTH))
    run.drain()

    assert 1 == aliases(run)
