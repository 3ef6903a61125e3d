"""The oldest waiting call, found without asking all of them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import count
from typing import Protocol

from .key_queue import KeyQueue


class AllQueues(Protocol):
    """All key queues there are."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[KeyQueue]: ...


class ExpiryHeap:
    """A lazy heap over key queues by the age of their heads; each queue is in it at most once.

    A queue's head only ever gets younger, so an entry is a lower bound: one that is out of date is put back
    with its true time when it comes up.
    """

    def __init__(self, queues: AllQueues) -> None:
        self._queues = queues
        self._heap: list[tuple[float, int, KeyQueue]] = []
        self._tie = count()

    def watch(self, queue: KeyQueue) -> None:
        """Watch a queue that has calls now."""
        if not queue.watched:
            queue.watch(True)
            heapq.heappush(self._heap, (queue.head_time, next(self._tie), queue))

    def tidy(self, at_most: int) -> bool:
        """Forget queues in front that are empty, so many at once; true if there may be more."""
        for _ in range(at_most):
            queue = self._first()
            if queue is None or queue.calls:
                return False
            self.set_aside(queue)
        return True

    @property
    def not_before(self) -> float:
        """No head is older than this; ``inf`` if no call waits. `oldest` knows better, and may have to look for it."""
        for known, _, _ in self._heap[:1]:
            return known
        return math.inf

    def oldest(self) -> KeyQueue | None:
        """The queue with the oldest head; ``None`` if no call waits."""
        if len(self._heap) > 2 * len(self._queues) + 1_000:
            self._rebuild()
        while self._heap:
            known, _, queue = self._heap[0]
            if not queue.calls:
                self.set_aside(queue)
            elif queue.head_time > known:
                heapq.heapreplace(self._heap, (queue.head_time, next(self._tie), queue))
            else:
                return queue
        return None

    def set_aside(self, queue: KeyQueue) -> None:
        """Take out the first queue, which `oldest` has given out; to be watched again it must come in again."""
        heapq.heappop(self._heap)
        queue.watch(False)

    def _first(self) -> KeyQueue | None:
        for _, _, queue in self._heap[:1]:
            return queue
        return None

    def _rebuild(self) -> None:
        """Forget queues that are long empty: without this a day's users would be remembered for a day."""
        for _, _, queue in self._heap:
            queue.watch(False)
        self._heap = [(queue.head_time, next(self._tie), queue) for queue in self._queues if queue.calls]
        heapq.heapify(self._heap)
        for _, _, queue in self._heap:
            queue.watch(True)
