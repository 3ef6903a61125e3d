"""People with several ids: lanes that become one, whatever they are doing, and calls that leave them unsent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rules.schedule.parcelvoy_simulation import POISON, ParcelvoySimulation, device, identify, track
from userpilot_async._calls.outcome import Outcome
from userpilot_async._protocol.verdict import of_answer, of_failure
from userpilot_async._schedule.routes.route import Request
from userpilot_async.parcelvoy import Alias, Call, ParcelvoySettings

FULL = Outcome("dropped", "queue_full")
CLOSED = Outcome("dropped", "closed")

JOINING: list[Callable[[int], Call]] = [
    lambda n: Alias("a0", "e0"),
    lambda n: identify(n, external_id="e0", anonymous_id="a0"),
    lambda n: device(n, external_id="e0", anonymous_id="a0"),
    lambda n: track(n, external_id="e0", anonymous_id="a0"),
]


def hasty(*, keeps_pairs: bool = True, **settings: int | float) -> ParcelvoySimulation:
    """A server that answers in no time, and nobody lingers."""
    chosen = ParcelvoySettings(flush_interval=0.0, **settings)  # type: ignore[arg-type]
    return ParcelvoySimulation(settings=chosen, latency=0.0, keeps_pairs=keeps_pairs)


def given_out(run: ParcelvoySimulation) -> Request:
    """The request that is to be made now; the test answers it."""
    run.take_in()
    work = run.schedule.next(run.now)
    assert isinstance(work, Request)
    return work


def answered(run: ParcelvoySimulation, work: Request) -> None:
    """The server has done it."""
    run.schedule.done(work, run.server.handle(work, run.now), run.now)
    run.carry_on()


def order(run: ParcelvoySimulation) -> list[int]:
    """Calls by their numbers as the server first applied them; aliases have none."""
    return list(dict.fromkeys(number for done in run.server.applied for number in done.numbers))


# ── a lane is joined while its head … ──


@pytest.mark.parametrize("joining", JOINING, ids=["alias", "identify", "device", "track"])
def test_what_waits_under_either_id_goes_before_a_call_with_both_and_what_comes_later_goes_after(
    joining: Callable[[int], Call],
) -> None:
    run = hasty(max_events=1)
    run.put(track(0, anonymous_id="a0"), track(1, external_id="e0"), track(2, anonymous_id="a0"))
    run.put(joining(3))
    run.put(track(4, anonymous_id="a0"), track(5, external_id="e0"))
    run.drain()

    run.check()
    assert [4, 5] == order(run)[-2:]


@pytest.mark.parametrize("joining", JOINING, ids=["alias", "identify", "device", "track"])
def test_a_lane_joined_while_its_head_is_in_flight(joining: Callable[[int], Call]) -> None:
    run = hasty()
    run.put(track(0, anonymous_id="a0"))
    in_flight = given_out(run)
    run.put(joining(1), track(2, anonymous_id="a0"), track(3, external_id="e0"))
    run.take_in()
    meanwhile = run.schedule.next(run.now)
    answered(run, in_flight)
    run.drain()

    assert not isinstance(meanwhile, Request)
    run.check()


@pytest.mark.parametrize("joining", JOINING, ids=["alias", "identify", "device", "track"])
@pytest.mark.parametrize("sleeps", ["anonymous_id", "external_id"])
def test_a_lane_joined_while_its_head_is_asleep(joining: Callable[[int], Call], sleeps: str) -> None:
    run = hasty()
    run.chance.random = lambda: 0.5  # type: ignore[method-assign]  # a pause that can be told from none
    run.put(track(0, **{sleeps: sleeps[0] + "0"}))
    run.schedule.done(given_out(run), of_answer(500, {}, b""), run.now)
    run.put(joining(1), track(2, anonymous_id="a0"), track(3, external_id="e0"))
    run.take_in()
    meanwhile = run.schedule.next(run.now)
    run.drain()

    assert not isinstance(meanwhile, Request)
    run.check()


def test_a_lane_joined_while_its_head_waits_for_others_to_merge_with() -> None:
    run = ParcelvoySimulation(latency=0.0)
    run.put(identify(0, {"p": 1}, anonymous_id="a0"), identify(1, {"p": 2}, external_id="e0"))
    run.run(0.5)
    run.put(Alias("a0", "e0"), identify(3, {"p": 3}, anonymous_id="a0"))
    run.drain()

    run.check()
    assert [3] == order(run)[-1:]


def test_a_lane_joined_three_times_waits_for_all_three() -> None:
    run = hasty(max_events=1)
    browsers = ["a0", "a1", "a2"]
    for n, browser in enumerate(browsers):
        run.put(track(n, anonymous_id=browser))
    for browser in browsers:
        run.put(Alias(browser, "e0"))
    for n, browser in enumerate(browsers, 6):
        run.put(track(n, anonymous_id=browser))
    run.drain()

    run.check()
    assert [6, 7, 8] == order(run)[-3:]


def test_a_lane_that_others_wait_for_may_itself_wait_for_one() -> None:
    """Where a key may be given to a second person, as no destination of ours does."""
    run = hasty(max_events=1, keeps_pairs=False)
    run.put(track(0, anonymous_id="a0"))
    in_flight = given_out(run)
    run.put(track(1, external_id="e0", anonymous_id="a0"), track(2, external_id="e1", anonymous_id="a0"))
    run.put(track(3, anonymous_id="a0"), track(4, external_id="e0"), track(5, external_id="e1"))
    run.take_in()
    meanwhile = run.schedule.next(run.now)
    answered(run, in_flight)
    run.drain()

    assert not isinstance(meanwhile, Request)
    assert [0, 1, 2, 3, 4, 5] == order(run)
    assert 6 == run.outbox.ledger.delivered


def test_a_lane_waiting_for_poison_to_die_goes_on_after_it() -> None:
    run = hasty()
    run.put(track(0, POISON, anonymous_id="a0"), Alias("a0", "e0"), track(2, external_id="e0"))
    run.drain()

    run.check()


def test_no_lane_is_left_where_nothing_waits() -> None:
    run = hasty()
    for n in range(0, 300, 3):
        run.put(track(n, anonymous_id=f"a{n}"), Alias(f"a{n}", f"e{n}"), track(n + 2, anonymous_id=f"a{n}"))
        run.run(1.0)
        assert 0 == len(run.schedule._queues)


# ── what is said of a person ──


def test_an_identify_with_both_ids_does_not_overtake_what_waits_under_either() -> None:
    """As its docstring says; until then the server knows the event's person under one id only."""
    run = ParcelvoySimulation(latency=0.0)
    run.put(identify(0, external_id="e0"), track(1, external_id="e0"))
    run.put(identify(2, external_id="e0", anonymous_id="a0"))
    run.drain()

    assert [0, 1, 2] == order(run)


def test_identifies_that_name_different_ids_are_sent_as_they_were_said() -> None:
    """Together they would say that the two ids are one person's, which neither does."""
    run = ParcelvoySimulation(latency=0.0)
    run.put(track(0, external_id="e0", anonymous_id="a0"))
    run.put(identify(1, external_id="e0"), identify(2, anonymous_id="a0"))
    run.drain()

    assert [(1,), (2,)] == [done.numbers for done in run.server.applied if done.kind == "identify"]


def test_an_identify_does_not_overtake_a_device() -> None:
    run = ParcelvoySimulation(latency=0.0)
    run.put(identify(0, external_id="e0"), device(1, external_id="e0"), identify(2, external_id="e0"))
    run.drain()

    assert [0, 1, 2] == order(run)


def test_identifies_do_not_merge_beyond_what_one_request_holds() -> None:
    run = ParcelvoySimulation(settings=ParcelvoySettings(max_bytes=2_000))
    for n in range(10):
        run.put(identify(n, {f"p{n}": "x" * 300}, external_id="e0"))
    run.drain()

    assert 2 < run.outbox.ledger.delivered < 10
    assert (0, 0) == (run.outbox.waiting_calls, run.outbox.waiting_bytes)


# ── an alias, once ──


def test_an_alias_said_again_while_it_waits_shares_its_fate() -> None:
    run = hasty()
    run.put(Alias("a0", "e0"), Alias("a0", "e0"), Alias("a0", "e0"))
    run.drain()

    assert ["delivered", "merged", "merged"] == [receipt.status for receipt in run.receipts]
    run.check()


def test_an_alias_said_again_in_flight_or_after_it_was_delivered_is_not_sent() -> None:
    run = hasty()
    run.put(Alias("a0", "e0"))
    in_flight = given_out(run)
    run.put(Alias("a0", "e0"))
    run.take_in()
    answered(run, in_flight)
    run.put(Alias("a0", "e0"))
    run.drain()

    assert 1 == len(run.server.requests)
    run.check()


def test_an_alias_refused_after_an_answer_to_it_was_lost_is_delivered() -> None:
    """A server that does it once, as documented, says by the refusal that it has been done."""
    run = hasty()
    run.server.refuses_repeats = True
    run.put(Alias("a0", "e0"))
    work = given_out(run)
    run.server.handle(work, run.now)
    run.schedule.done(work, of_failure("ReadError", sent=True), run.now)
    run.drain()

    assert [204, 422] == [request.status for request in run.server.requests]
    assert "delivered" == run.receipts[0].status


def test_an_alias_that_was_refused_may_be_said_again() -> None:
    run = hasty()
    run.put(Alias("a0", "e0"))
    run.schedule.done(given_out(run), of_answer(422, {}, b""), run.now)
    run.carry_on()
    run.put(Alias("a0", "e0"))
    run.drain()

    assert [("dead", "invalid"), ("delivered", None)] == [(one.status, one.reason) for one in run.receipts]


def test_only_what_is_done_once_is_remembered() -> None:
    run = hasty()
    run.put(device(0, external_id="e0"))
    answered(run, given_out(run))  # the identify in front of it
    sent = given_out(run)
    answered(run, sent)

    assert not run.schedule._dedup.was_delivered(sent.body)


# ── calls leave unsent ──


def held(run: ParcelvoySimulation) -> ParcelvoySimulation:
    """Three lanes of one person, each behind the last, with all kinds of calls; a server that only answers 500."""
    run.server.trouble = 1.0
    run.server.chance.choice = lambda kinds: 500  # type: ignore[method-assign]
    run.put(track(0, anonymous_id="a0"), device(1, anonymous_id="a1"), identify(2, external_id="e0"))
    run.put(Alias("a0", "e0"), Alias("a1", "e0"), Alias("a0", "e0"), identify(6, anonymous_id="a0"))
    run.put(track(7, external_id="e0"), device(8, external_id="e0"))
    return run


def test_all_of_joined_lanes_dies_of_age() -> None:
    run = held(hasty(max_age=100.0))
    run.run(300.0)

    assert {"expired": 8} == run.outbox.ledger.dead
    assert 1 == run.outbox.ledger.merged == run.outbox.ledger.merged_lost
    assert (0, 0) == (run.outbox.waiting_calls, run.outbox.waiting_bytes)
    assert 0 == len(run.schedule._queues)


def test_what_was_accepted_behind_joined_lanes_that_died_of_age_still_goes() -> None:
    run = held(hasty(max_age=100.0))
    run.run(95.0)
    run.put(track(9, anonymous_id="a1"), Alias("a0", "e0"))
    run.run(20.0)
    run.drain()

    assert 8 == run.outbox.ledger.dead["expired"]
    assert [9] == order(run)
    assert ["delivered", "delivered"] == [receipt.status for receipt in run.receipts[-2:]]


def test_an_alias_that_is_said_again_is_as_old_as_the_last_time_it_was_said() -> None:
    run = hasty(max_age=100.0)
    run.server.trouble = 1.0
    run.server.chance.choice = lambda kinds: 500  # type: ignore[method-assign]
    run.put(Alias("a0", "e0"))
    run.run(95.0)
    run.put(Alias("a0", "e0"))
    run.run(20.0)
    run.drain()

    assert ["delivered", "merged"] == [receipt.status for receipt in run.receipts]


def test_room_is_made_by_giving_up_the_oldest_call_of_joined_lanes_first() -> None:
    run = held(hasty())
    run.take_in()
    given_up: list[list[int]] = []
    while run.schedule.drop_oldest(FULL):
        run.carry_on()
        given_up.append([receipt.id for receipt in run.receipts if receipt.status == "dropped"])

    # The identify before the first device goes last, and costs no call: another queue waits that might have needed it.
    assert [0, 1, 2, 3, 4, 5, 6, 7, 8] == sorted({0, *map(len, given_up)})
    assert 9 == len(given_up)
    assert [0] == given_up[0]
    assert (0, 0, 0) == (run.outbox.ledger.pending, run.outbox.waiting_calls, run.outbox.waiting_bytes)
    assert 0 == len(run.schedule._queues)


def test_dropping_the_lane_that_others_wait_for_lets_them_go() -> None:
    run = hasty()
    run.put(track(0, anonymous_id="a0"), Alias("a0", "e0"), track(2, anonymous_id="a0"))
    run.take_in()
    run.schedule.drop_oldest(FULL)
    run.drain()

    assert (1, 2) == (run.outbox.ledger.dropped["queue_full"], run.outbox.ledger.delivered)


def test_a_call_in_flight_is_not_given_up() -> None:
    run = hasty()
    run.put(Alias("a0", "e0"))
    in_flight = given_out(run)
    dropped = run.schedule.drop_oldest(FULL)
    answered(run, in_flight)

    assert not dropped
    assert "delivered" == run.receipts[0].status


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_at_the_end_nothing_of_joined_lanes_is_left_behind(seconds: float) -> None:
    run = held(hasty())
    run.run(seconds)
    list(run.schedule.abandon(CLOSED))
    run.carry_on()

    assert {"closed": 8} == run.outbox.ledger.dropped
    assert 1 == run.outbox.ledger.merged
    assert (0, 0, 0) == (run.outbox.ledger.pending, run.outbox.waiting_calls, run.outbox.waiting_bytes)
    assert 0 == len(run.schedule._queues)
