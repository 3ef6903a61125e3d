"""The heap of what expires next: the oldest head of all, whatever comes and goes, and no memory of empty queues."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given

from userpilot_async._schedule.expiry import ExpiryHeap
from userpilot_async._schedule.key_queue import KeyQueue

SLICE = 200


def filled(queues: list[KeyQueue], heap: ExpiryHeap, number: int, at: float) -> None:
    queue = KeyQueue("user", f"u{number}")
    queue.add((number, at, b"{}"))
    queues.append(queue)
    heap.watch(queue)


@given(st.lists(st.tuples(st.sampled_from(["come", "go", "tidy"]), st.integers(0, 50)), max_size=60), st.integers(1, 9))
def test_the_oldest_head_is_found_while_empty_queues_are_swept_out(steps, at_once):
    queues: list[KeyQueue] = []
    heap = ExpiryHeap(queues)
    for number in range(1_100):  # so many that are empty, and a sweep begins
        filled(queues, heap, number, float(number))
    for queue in queues[1:-3]:
        queue.pop()
    del queues[1:-3]
    for number, (step, choice) in enumerate(steps, 2_000):
        if step == "come":
            filled(queues, heap, number, float(choice))
        elif step == "go" and queues:
            queues.pop(choice % len(queues)).pop()
        else:
            heap.tidy(at_once)

        expected = min(queues, key=lambda queue: queue.head_time, default=None)
        found = heap.oldest()
        assert (found and found.head_time) == (expected and expected.head_time)


def test_queues_that_are_empty_behind_one_that_waits_are_forgotten_some_at_a_time():
    queues: list[KeyQueue] = []
    heap = ExpiryHeap(queues)
    for number in range(5_000):
        filled(queues, heap, number, float(number))
    gone = queues[1:]
    for queue in gone:
        queue.pop()
    del queues[1:]

    turns, watched = 0, [sum(queue.watched for queue in gone)]
    while heap.tidy(SLICE):
        turns += 1
        watched.append(sum(queue.watched for queue in gone))
    assert 5_000 // SLICE - 1 <= turns
    assert SLICE >= max(before - after for before, after in pairwise(watched))
    assert not any(queue.watched for queue in gone)
    assert heap.oldest() is queues[0]
    assert queues[0].watched


def test_a_queue_that_is_in_the_heap_many_times_is_there_once_after_a_sweep_and_no_sweep_follows_it():
    queues: list[KeyQueue] = []
    heap = ExpiryHeap(queues)
    filled(queues, heap, 0, 0.0)
    for _ in range(1_500):
        queues[0].watch(False)  # as when its head has become older
        heap.watch(queues[0])

    assert any(not heap.tidy(SLICE) for _ in range(100))
    assert heap.oldest() is queues[0]
    queues.pop().pop()
    assert not heap.tidy(SLICE)
    assert heap.oldest() is None
