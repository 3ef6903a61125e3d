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


Entry = tuple[float, int, KeyQueue]
"""A queue, behind the age of its head as it was then, and a number that no other has."""


class ExpiryHeap:
    """A lazy heap over key queues by the age of their heads; each queue is in it at most once.

    A queue's head only ever gets younger, so an entry is a lower bound: one that is out of date is put back
    with its true time when it comes up.
    """

    def __init__(self, queues: AllQueues) -> None:
        self._queues = queues
        self._heap: list[Entry] = []
        self._swept: list[Entry] = []
        """The heap as it was when too many queues in it were empty: what is not goes over, a little at a time."""
        self._kept: set[int] = set()
        """Queues that have gone over, by `id`: one whose head has become older is in the heap twice."""
        self._tie = count()

    def watch(self, queue: KeyQueue) -> None:
        """Watch a queue that has calls now."""
        if not queue.watched:
            queue.watch(True)
            heapq.heappush(self._heap, (queue.head_time, next(self._tie), queue))

    def tidy(self, at_most: int) -> bool:
        """Forget queues that are empty, so many at once; true if there may be more."""
        if self._sweep(at_most):
            return True
        for _ in range(at_most):
            queue = self._first()
            if queue is None or queue.calls:
                return False
            self.set_aside(queue)
        return True

    @property
    def not_before(self) -> float:
        """No head is older than this; ``inf`` if no call waits. `oldest` knows better, and may have to look for it."""
        for known, _, _ in self._front()[:1]:
            return known
        return math.inf

    def oldest(self) -> KeyQueue | None:
        """The queue with the oldest head; ``None`` if no call waits."""
        while heap := self._front():
            known, _, queue = heap[0]
            if not queue.calls:
                self.set_aside(queue)
            elif queue.head_time > known:
                heapq.heapreplace(heap, (queue.head_time, next(self._tie), queue))
            else:
                return queue
        return None

    def set_aside(self, queue: KeyQueue) -> None:
        """Take out the first queue, which `oldest` has given out; to be watched again it must come in again."""
        heapq.heappop(self._front())
        queue.watch(False)

    def _first(self) -> KeyQueue | None:
        for _, _, queue in self._front()[:1]:
            return queue
        return None

    def _front(self) -> list[Entry]:
        """The heap whose first entry is the lower one; empty, if both are."""
        if not self._swept or (self._heap and self._heap[0][:2] < self._swept[0][:2]):
            return self._heap
        return self._swept

    def _sweep(self, at_most: int) -> bool:
        """Forget queues that are long empty: without this a day's users would be remembered for a day.

        They may lie behind a queue that goes on waiting. True if there are more. All at once, 100,000 of them would
        stop the event loop for 30 ms.
        """
        if not self._swept and len(self._heap) > 2 * len(self._queues) + 1_000:
            self._swept, self._heap = self._heap, []
        for _ in range(min(at_most, len(self._swept))):
            _, _, queue = self._swept.pop()  # without its last entry a heap is one still
            if not queue.calls:
                queue.watch(False)
            elif id(queue) not in self._kept:
                self._kept.add(id(queue))
                heapq.heappush(self._heap, (queue.head_time, next(self._tie), queue))
        if not self._swept:
            self._kept.clear()
        return bool(self._swept)
