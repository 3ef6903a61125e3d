"""How long the event loop stands still while 100,000 calls go in."""

from __future__ import annotations

import asyncio
import gc
from time import perf_counter, thread_time
from typing import Any

from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import OPENINGS, OURS, POSTHOG, pause

NAME = "loop_stall"
CALLS = 100_000
IN_A_ROW = 10  # calls between two turns of the loop, as in ten request handlers that run side by side
TIGHT = "(userpilot_async, a tight loop)"
GOAL = 2.0  # ms
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
        self._started = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._started = perf_counter()
        else:
            self.longest = max(self.longest, perf_counter() - self._started)


async def stall(subject: str, url: str) -> Figures:
    """The longest turn of the loop, in ms, and the longest collection."""
    tight = subject == TIGHT
    client = await OPENINGS[OURS if tight else subject](url, 2 * CALLS)
    await asyncio.sleep(0.5)  # connections, threads and imports that come with opening are not what is asked for
    gc.collect()
    ticker, collections = Ticker(), Collections()
    ticking = asyncio.create_task(ticker.run())
    await pause()
    started = perf_counter()
    for number in range(CALLS):
        said = client.track(user_id(number % 1_000), EVENT, event(number))
        if client.awaited:
            await said
        if not tight and not number % IN_A_ROW:
            await pause()
    elapsed = perf_counter() - started
    ticking.cancel()
    return {
        "stall": ticker.longest * 1_000,
        "cpu": ticker.longest_cpu * 1_000,
        "collection": collections.longest * 1_000,
        "long turns": ticker.long_turns,
        "elapsed": elapsed,
    }


def run(quick: bool) -> Row:
    subjects = [*OPENINGS, TIGHT]
    with running_sink() as url:
        results = interleaved(subjects, 3 if quick else 5, lambda subject: measure(stall, subject=subject, url=url))
    return Row(
        name=NAME,
        what="longest stall of the event loop while 100,000 calls go in",
        unit="ms",
        goal=f"≤ {GOAL:.0f} ms",
        met=results[OURS]["stall"] <= GOAL,
        figures=column(results, "stall"),
        notes=(
            *(
                f"{name}: longest turn {figures['stall']:.2f} ms ({figures['cpu']:.2f} ms CPU of its thread), "
                f"longest garbage collection {figures['collection']:.2f} ms; {figures['long turns']:.0f} turns over "
                f"{LONG:.0f} ms; all calls in {figures['elapsed']:.1f} s"
                for name, figures in results.items()
            ),
            f"{POSTHOG} and segment drop calls beyond 10,000 by default: their queues were made larger.",
        ),
    )
