"""Tasks that put one call after the other into a queue, until their time is over; and how long each of them takes."""

from __future__ import annotations

import asyncio
import sys
from array import array
from itertools import count
from statistics import median
from time import perf_counter, perf_counter_ns, process_time
from typing import Any

from benchmarks.results import Figures

CALLERS = 200
WARM_UP = 5  # puts of each caller


class Callers:
    """So many tasks at one ``queue``, which has ``put`` and says by ``at_once`` how many calls each put is."""

    def __init__(self, queue: Any, callers: int) -> None:
        self._queue = queue
        self._callers = callers
        self._numbers = count(0, queue.at_once)
        self._taken = array("Q")
        self.warmed_up = 0
        """How many calls were put before anything was measured."""

    async def warm_up(self) -> None:
        """Have connections made, threads started and modules imported, and forget how long that took."""
        await self._put(perf_counter() + 60, WARM_UP)
        self.warmed_up = len(self._taken) * self._queue.at_once
        del self._taken[:]

    async def measure(self, seconds: float) -> Figures:
        """Calls a second, how long one put takes, and the CPU of a call, in µs."""
        used, started = process_time(), perf_counter()
        await self._put(started + seconds, sys.maxsize)
        elapsed, used = perf_counter() - started, process_time() - used
        ordered = sorted(self._taken)
        return {
            "rate": self.calls / elapsed,
            "p50": median(ordered) / 1_000,
            "p99": ordered[int(len(ordered) * 0.99)] / 1_000,
            "cpu": used / self.calls * 1_000_000,
        }

    @property
    def calls(self) -> int:
        """How many calls were put while it was measured."""
        return len(self._taken) * self._queue.at_once

    async def _put(self, end: float, most: int) -> None:
        await asyncio.gather(*(self._one(end, most) for _ in range(self._callers)))

    async def _one(self, end: float, most: int) -> None:
        while perf_counter() < end and most:
            most -= 1
            before = perf_counter_ns()
            await self._queue.put(next(self._numbers))
            self._taken.append(perf_counter_ns() - before)
