"""Key queues whose pauses end at the same moment come back some at a time, all of them, in their order."""

from __future__ import annotations

import math

from userpilot_async._schedule.queue_state import QueueState
from userpilot_async._schedule.queues import WOKEN, Queues


def asleep(number: int, until: float) -> Queues:
    queues = Queues(("user",))
    for n in range(number):
        queue = queues.queue("user", f"u{n}")
        queue.add((n, 0.0, b"{}"))
        queues.came_in(queue)
        queues.hold(queue, until)
    return queues


def events(queues: Queues) -> int:
    return sum(queue.place is QueueState.EVENTS for queue in queues)


def test_a_hundred_thousand_queues_would_stop_the_loop_so_some_wake_at_once_and_the_next_are_due_now():
    queues = asleep(2 * WOKEN + 1, until=10.0)

    assert 10.0 == queues.wake(9.0)
    assert 0 == events(queues)
    assert 10.0 == queues.wake(11.0)
    assert WOKEN == events(queues)
    assert 10.0 == queues.wake(11.0)
    assert math.inf == queues.wake(11.0)
    assert 2 * WOKEN + 1 == events(queues)


def test_when_the_last_of_some_has_woken_the_next_one_is_waited_for():
    queues = asleep(WOKEN, until=10.0)
    later = queues.queue("user", "later")
    later.add((WOKEN, 0.0, b"{}"))
    queues.came_in(later)
    queues.hold(later, 20.0)

    assert 20.0 == queues.wake(11.0)
    assert WOKEN == events(queues)
