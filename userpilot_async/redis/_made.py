"""The sender's memory of its own requests, for a Redis that comes back with older data and knows less of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

Stretch = tuple[int, int]
"""The first and the last id."""

MOST_CALLS = 100_000  # remembered: almost three hours at 600 a minute, in two megabytes at most


class Made:
    """The calls in requests that were noted under one lease, by the step in which they were."""

    def __init__(self) -> None:
        self.since: int | None = None
        """From this step on all are remembered; ``None`` before the first lease."""
        self._requests: deque[tuple[int, Sequence[Stretch]]] = deque()
        self._calls = 0

    def begin(self, last_step: int) -> None:
        """Forget all, as a lease begins."""
        self.since, self._calls = last_step, 0
        self._requests.clear()

    def add(self, step: int, calls: Sequence[Stretch]) -> None:
        """Requests with these calls were noted in this step."""
        if not calls:
            return
        self._requests.append((step, calls))
        self._calls += _count(calls)
        while self._calls > MOST_CALLS:
            self.since, forgotten = self._requests.popleft()
            self._calls -= _count(forgotten)

    def after(self, step: int) -> list[Stretch]:
        """The calls in requests that were noted after this step, in the order in which they were."""
        return [stretch for noted_in, calls in self._requests if noted_in > step for stretch in calls]


def sliced(stretches: Iterable[Stretch], most: int) -> Iterator[list[Stretch]]:
    """The same in lists of at most so many calls each."""
    slice_: list[Stretch] = []
    room = most
    for first, last in stretches:
        while first <= last:
            end = min(last, first + room - 1)
            slice_.append((first, end))
            room -= end - first + 1
            first = end + 1
            if not room:
                yield slice_
                slice_, room = [], most
    if slice_:
        yield slice_


def _count(calls: Sequence[Stretch]) -> int:
    return sum(last - first + 1 for first, last in calls)
