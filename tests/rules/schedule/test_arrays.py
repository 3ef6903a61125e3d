"""Filling one array: from which queues, up to how many events and bytes, and what is remembered of the answer."""

from __future__ import annotations

import itertools
import json

from userpilot_async._schedule.destination import Endpoint, Events, as_array
from userpilot_async._schedule.queue_state import QueueState
from userpilot_async._schedule.queues import Queues
from userpilot_async._schedule.routes.events import TRY_LARGER, EventArrays

EVENT = b'{"n":10}'


def arrays_of(most: int = 5, max_bytes: int = 1_000) -> EventArrays:
    return EventArrays(
        Events(endpoint=Endpoint("events", "/events", "requests"), most=most, max_bytes=max_bytes, pack=as_array)
    )


def queues_of(*counts: int) -> Queues:
    """Key queues with so many events each."""
    queues, ids = Queues(["user"]), itertools.count()
    for number, count in enumerate(counts):
        queue = queues.queue("user", f"u{number}")
        for _ in range(count):
            queue.add((next(ids), 0.0, EVENT))
        queues.came_in(queue)
    queues.waiting_events += sum(counts)
    return queues


def test_queues_share_an_array_and_the_last_one_gives_what_fits() -> None:
    arrays = arrays_of(most=5)
    queues = queues_of(2, 1, 4)
    load, body = arrays.load(queues)

    assert [("u0", 2), ("u1", 1), ("u2", 2)] == [(queue.key, count) for queue, count in load.parts]
    assert (5, 5 * len(EVENT), 2) == (load.calls, load.size, queues.waiting_events)
    assert 5 * [{"n": 10}] == json.loads(body)
    assert {QueueState.SENDING} == {queue.place for queue, _ in load.parts}


def test_a_queue_from_which_nothing_fits_stays_in_line() -> None:
    arrays = arrays_of(max_bytes=2 * len(EVENT))
    queues = queues_of(2, 1)
    load, _ = arrays.load(queues)

    assert [("u0", 2)] == [(queue.key, count) for queue, count in load.parts]
    assert "u1" == queues.events.first().key  # type: ignore[union-attr]  # that is the claim


def test_the_first_event_goes_however_large_it_is() -> None:
    arrays = arrays_of(max_bytes=1)

    assert 1 == arrays.load(queues_of(3))[0].calls


def test_a_refused_array_goes_in_halves_until_each_has_one_event() -> None:
    arrays = arrays_of(most=5)
    queues = queues_of(1, 1, 1, 1, 1)
    sizes = []
    for _ in range(3):
        load, _ = arrays.load(queues)
        sizes.append(load.calls)
        arrays.refused(load)
        queues.waiting_events += load.calls
        for queue, _ in reversed(load.parts):
            queues.come_back(queue, first=True)

    assert [5, 2, 1] == sizes


def test_each_taken_array_doubles_what_its_queues_may_travel_in_until_any_will_do() -> None:
    arrays = arrays_of(most=10)
    queues = queues_of(1)
    load, _ = arrays.load(queues)
    queue = load.parts[0][0]
    queue.refused(2)
    grown = []
    for _ in range(3):
        arrays.taken(load)
        grown.append(queue.largest_array)

    assert [4, 8, 0] == grown


def test_a_413_halves_what_an_array_holds_and_several_answers_later_one_tries_twice_that() -> None:
    arrays = arrays_of(most=50, max_bytes=40 * len(EVENT))
    queues = queues_of(*[1] * 400)
    arrays.too_large(arrays.load(queues)[0])
    learned = [arrays.load(queues)[0] for _ in range(TRY_LARGER)]
    for load in learned:
        arrays.taken(load)
    larger, *others = [arrays.load(queues)[0] for _ in range(3)]
    arrays.too_large(larger)
    after_a_refusal = arrays.load(queues)[0]
    arrays.taken(larger)

    assert {20} == {load.calls for load in (*learned, *others, after_a_refusal)}
    assert 40 == larger.calls
    assert larger.size == arrays.max_bytes


def test_what_an_array_holds_never_grows_beyond_the_setting() -> None:
    arrays = arrays_of(max_bytes=1_000)
    load, _ = arrays.load(queues_of(5))
    for _ in range(10 * TRY_LARGER):
        arrays.taken(load)

    assert 1_000 == arrays.max_bytes


def test_two_413s_of_arrays_of_one_size_halve_it_once() -> None:
    arrays = arrays_of()
    queues = queues_of(5, 5)
    first, second = arrays.load(queues)[0], arrays.load(queues)[0]
    arrays.too_large(first)
    arrays.too_large(second)

    assert first.size // 2 == arrays.max_bytes
