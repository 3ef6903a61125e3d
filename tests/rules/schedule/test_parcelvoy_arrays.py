"""Events in arrays: when they go, how poison is found, and what is learned from 413."""

from __future__ import annotations

import math

import pytest

from tests.rules.schedule.parcelvoy_simulation import POISON, ParcelvoySimulation, device, identify, track
from userpilot_async._schedule.routes.route import Request
from userpilot_async.parcelvoy import ParcelvoySettings

EVENT = len('{"name":"event","external_id":"u100","data":{"n":100}}')  # bytes


def at_once(**settings: int | float) -> ParcelvoySimulation:
    """A server that answers in no time."""
    return ParcelvoySimulation(settings=ParcelvoySettings(**settings), latency=0.0)  # type: ignore[arg-type]


def sizes(run: ParcelvoySimulation) -> list[int]:
    """Events in each array, in the order in which the server saw them."""
    return [sent.events for sent in run.server.events_sent()]


# ── poison ──

TWO_A_HALVING = 2 * math.ceil(math.log2(1_000))


def found_within(run: ParcelvoySimulation) -> int:
    """Requests that it took to be rid of all events; that the right ones died is checked."""
    run.drain()
    run.check()
    return len(run.server.events_sent())


@pytest.mark.parametrize("poison", [0, 1, 249, 250, 333, 499, 500, 999])
def test_one_poison_event_among_those_of_1_000_persons_is_found_in_two_requests_a_halving(poison: int) -> None:
    run = ParcelvoySimulation(poison)
    run.track(1_000, poison=[poison])

    assert 4 + TWO_A_HALVING >= found_within(run)  # two arrays, and the odd event of 125 and of 63


def test_poison_is_found_by_one_request_after_the_other_too() -> None:
    run = ParcelvoySimulation(settings=ParcelvoySettings(concurrency=1))
    run.track(1_000, poison=[777])

    assert 4 + TWO_A_HALVING >= found_within(run)


def test_five_poison_events_in_64_are_found() -> None:
    run = ParcelvoySimulation(settings=ParcelvoySettings(max_events=64))
    run.track(64, poison=[3, 17, 18, 40, 63])

    assert 1 + 5 * 2 * 6 >= found_within(run)


def test_64_poison_events_of_64_take_no_more_requests_than_a_tree_has_nodes() -> None:
    run = ParcelvoySimulation(settings=ParcelvoySettings(max_events=64))
    run.track(64, poison=range(64))

    assert 127 >= found_within(run)


@pytest.mark.parametrize("poison", [0, 499, 500, 749, 999])
def test_poison_among_a_hot_persons_1_000_events_costs_a_few_dozen_requests(poison: int) -> None:
    """Halves cannot go side by side: the second one grows again from the size at which the first one went."""
    run = ParcelvoySimulation()
    run.track(1_000, persons=1, poison=[poison])

    assert 2 * TWO_A_HALVING >= found_within(run)


def test_poison_is_found_though_the_server_fails_between_the_halves() -> None:
    run = ParcelvoySimulation(7, ParcelvoySettings(max_events=64), trouble=0.4)
    run.track(64, poison=[11, 50])
    run.run(300.0)

    found_within(run)
    assert {None, 422, 204} == {sent.status for sent in run.server.events_sent()}


def test_arrays_are_full_again_once_the_poison_is_out() -> None:
    run = at_once(max_events=100)
    run.track(1_000, persons=10, poison=[5])
    run.drain()
    found = len(sizes(run))

    run.track(1_000, persons=10)
    run.drain()

    assert [100] * 10 == sizes(run)[found:]


def test_a_single_event_that_is_refused_costs_one_request() -> None:
    run = ParcelvoySimulation()
    run.put(track(0, POISON, external_id="u0"))

    assert 1 == found_within(run)


# ── too large ──


def test_a_413_halves_the_array_and_not_an_event_is_lost() -> None:
    run = at_once()
    run.server.most_bytes = 100 * EVENT
    run.track(500)
    run.drain()

    run.check_account()
    largest = max(sent.size for sent in run.server.events_sent() if sent.status == 204)
    assert 50 * EVENT <= largest <= 100 * EVENT


def test_after_a_413_the_size_grows_again_when_the_server_has_taken_several() -> None:
    run = at_once()
    run.server.most_bytes = 100 * EVENT
    run.track(500)
    run.drain()
    run.server.most_bytes = None
    for _ in range(10):
        run.track(500)
        run.drain()

    assert 500 == sizes(run)[-1]
    run.check_account()


def test_an_event_that_is_too_large_even_alone_dies_of_that_and_spares_its_neighbours() -> None:
    run = at_once()
    run.server.most_bytes = 100 * EVENT
    run.track(20)
    run.put(track(20, "x" * 250, external_id="y" * 250))
    run.server.most_bytes = 2 * EVENT
    run.drain()

    assert {"too_large": 1} == run.outbox.ledger.dead
    assert ["dead"] == [receipt.status for receipt in run.receipts if receipt.status != "delivered"]


def test_an_event_larger_than_an_array_may_be_goes_alone() -> None:
    run = at_once(max_bytes=EVENT // 2)
    run.track(20)
    run.drain()

    run.check()
    assert [1] * 20 == sizes(run)


# ── lingering ──


def test_events_wait_for_others_up_to_the_flush_interval() -> None:
    run = at_once(flush_interval=2.0)
    run.track(3)
    run.run(1.9)
    before = sizes(run)
    run.track(4)
    run.run(0.2)

    assert ([], [7]) == (before, sizes(run))


def test_a_full_array_goes_at_once_and_the_rest_lingers() -> None:
    run = at_once(max_events=5)
    run.track(12)
    run.run(0.0)
    before = sizes(run)
    run.run(1.0)

    assert ([5, 5], [5, 5, 2]) == (before, sizes(run))


def test_events_that_cannot_go_do_not_make_others_hurry() -> None:
    """Or one person's backlog would send everybody else's events one by one."""
    run = at_once(max_events=5)
    run.put(device(0, external_id="hot"), *(track(n, external_id="hot") for n in range(1, 11)))
    run.take_in()
    in_flight = run.schedule.next(run.now)
    run.put(track(11, external_id="cold"))
    run.take_in()

    assert isinstance(in_flight, Request)
    assert run.now + 1.0 == run.schedule.next(run.now)


def test_events_do_not_linger_while_somebody_waits_for_a_flush() -> None:
    run = at_once(flush_interval=60.0)
    run.schedule.expedited += 1
    run.track(3)
    run.put(identify(3, external_id="u9"))
    run.run(0.0)

    assert 0 == run.outbox.ledger.pending


def test_without_a_limit_nothing_is_spaced() -> None:
    run = at_once(flush_interval=0.0)
    for n in range(2_000):
        run.put(identify(n, external_id=f"u{n}"))
    run.run(0.0)

    assert 2_000 == len(run.server.requests)
    assert {1_000.0} == {request.at for request in run.server.requests}


def test_a_limit_counts_requests_of_all_kinds_together() -> None:
    run = ParcelvoySimulation(settings=ParcelvoySettings(requests_per_minute=30, max_events=2, burst=30))
    for n in range(0, 200, 2):
        run.put(identify(n, external_id=f"u{n}"), track(n + 1, external_id=f"u{n}"))
    run.drain()

    run.check()
    assert {"identify", "events"} == {request.route for request in run.server.requests[:30]}


def test_one_person_with_100_000_events_does_not_starve_the_others() -> None:
    run = ParcelvoySimulation()
    run.track(100_000, persons=1)
    run.run(5.0)
    hot = len(run.server.numbers())
    run.put(track(100_000, external_id="cold"))
    run.run(3.0)

    assert 0 < hot < 100_000
    assert 100_000 in run.server.numbers()


def test_with_one_request_at_a_time_a_hot_person_does_not_starve_the_others_either() -> None:
    run = ParcelvoySimulation(settings=ParcelvoySettings(concurrency=1, max_events=10))
    run.track(1_000, persons=1)
    run.take_in()
    run.put(track(1_000, external_id="cold"))
    run.run(5.0)

    assert 1_000 in run.server.numbers()


def test_nor_does_one_with_1_000_devices() -> None:
    run = ParcelvoySimulation(settings=ParcelvoySettings(concurrency=1))
    run.put(*(device(n, external_id="hot") for n in range(1_000)))
    run.take_in()
    run.put(device(1_000, external_id="cold"))
    run.run(5.0)

    assert "delivered" == run.receipts[1_000].status
