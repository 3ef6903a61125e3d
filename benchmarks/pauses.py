"""How long the event loop stands still: the longest of its turns, and the longest garbage collection."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter, thread_time
from typing import Any

from benchmarks.results import Figures
from benchmarks.subjects import pause

LONG = 2.0  # ms: what counts as a stall among the turns


class Ticker:
    """Runs once in every turn of the loop, and knows the longest turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.longest_cpu = 0.0
        """The same in CPU time of the loop's thread: without the turns that other processes of the machine took."""
        self.long_turns = 0

    async def run(self) -> None:
        last, last_cpu = perf_counter(), thread_time()
        while True:
            await pause()
            now, cpu = perf_counter(), thread_time()
            self.longest = max(self.longest, now - last)
            self.longest_cpu = max(self.longest_cpu, cpu - last_cpu)
            self.long_turns += now - last > LONG / 1_000
            last, last_cpu = now, cpu


class Collections:
    """The longest pause of the garbage collector."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.longest_cpu = 0.0
        self._started = self._started_cpu = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._started, self._started_cpu = perf_counter(), thread_time()
        else:
            self.longest = max(self.longest, perf_counter() - self._started)
            self.longest_cpu = max(self.longest_cpu, thread_time() - self._started_cpu)

    def end(self) -> None:
        gc.callbacks.remove(self._note)


@asynccontextmanager
async def watched() -> AsyncIterator[Figures]:
    """Figures that are filled in at the end of the block: ``stall``, ``collection`` and the same in CPU, all in ms."""
    gc.collect()
    figures: Figures = {}
    ticker, collections = Ticker(), Collections()
    ticking = asyncio.create_task(ticker.run())
    await pause()
    try:
        yield figures
    finally:
        await pause()
        ticking.cancel()
        collections.end()
        figures |= {
            "stall": ticker.longest * 1_000,
            "cpu": ticker.longest_cpu * 1_000,
            "collection": collections.longest * 1_000,
            "collection cpu": collections.longest_cpu * 1_000,
            "long turns": ticker.long_turns,
        }


def told(figures: Figures) -> str:
    """The figures of a block that was `watched`, in words."""
    return (
        f"longest turn {figures['stall']:.2f} ms ({figures['cpu']:.2f} ms CPU of its thread), longest garbage "
        f"collection {figures['collection']:.2f} ms ({figures['collection cpu']:.2f} ms CPU); "
        f"{figures['long turns']:.0f} turns over {LONG:.0f} ms"
    )
