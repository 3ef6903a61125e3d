"""Which waiting call is the oldest, without asking all of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Protocol

from .key_queue import KeyQueue


class Lanes(Protocol):
    """All lanes there are."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[KeyQueue]: ...


class ExpiryHeap:
    """A lazy heap over lanes by the age of their heads; each lane is in it at most once.

    A lane's head only ever gets younger, so an entry is a lower bound: one that is out of date is put back
    with its true time when it comes up.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._heap: list[tuple[float, int, KeyQueue]] = []
        self._tie = count()

    def enter(self, lane: KeyQueue) -> None:
        """Watch a lane that has calls now."""
        if not lane.in_ages:
            lane.in_ages = True
            heapq.heappush(self._heap, (lane.head_time(), next(self._tie), lane))

    def tidy(self, at_most: int) -> bool:
        """Forget lanes in front that are empty, so many at once; true if there may be more."""
        for _ in range(at_most):
            if not self._heap or self._heap[0][2].calls:
                return False
            heapq.heappop(self._heap)[2].in_ages = False
        return True

    def oldest(self) -> KeyQueue | None:
        """The lane with the oldest head."""
        if len(self._heap) > 2 * len(self._lanes) + 1_000:
            self._rebuild()
        while self._heap:
            at, _, lane = self._heap[0]
            if not lane.calls:
                heapq.heappop(self._heap)
                lane.in_ages = False
            elif lane.head_time() > at:
                heapq.heapreplace(self._heap, (lane.head_time(), next(self._tie), lane))
            else:
                return lane
        return None

    def set_aside(self, lane: KeyQueue) -> None:
        """Take the lane that `oldest` gave out; it must `enter` again."""
        heapq.heappop(self._heap)
        lane.in_ages = False

    def _rebuild(self) -> None:
        """Forget lanes that are long empty: without this a day's users would be remembered for a day."""
        for _, _, lane in self._heap:
            lane.in_ages = False
        self._heap = [(lane.head_time(), next(self._tie), lane) for lane in self._lanes if lane.calls]
        heapq.heapify(self._heap)
        for _, _, lane in self._heap:
            lane.in_ages = True
