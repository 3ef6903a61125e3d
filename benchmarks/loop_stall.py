"""How long the event loop stands still while 100,000 calls go in."""

from __future__ import annotations

import asyncio
from time import perf_counter

from benchmarks.fresh import measure
from benchmarks.pauses import told, watched
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import OPENINGS, OURS, POSTHOG, pause

NAME = "loop_stall"
CALLS = 100_000
IN_A_ROW = 10  # calls between two turns of the loop, as in ten request handlers that run side by side
TIGHT = "(userpilot_async, a tight loop)"
GOAL = 2.0  # ms


async def stall(subject: str, url: str) -> Figures:
    """The longest turn of the loop, in ms, and the longest collection."""
    tight = subject == TIGHT
    client = await OPENINGS[OURS if tight else subject](url, 2 * CALLS)
    await asyncio.sleep(0.5)  # connections, threads and imports that come with opening are not what is asked for
    async with watched() as figures:
        started = perf_counter()
        for number in range(CALLS):
            said = client.track(user_id(number % 1_000), EVENT, event(number))
            if client.awaited:
                await said
            if not tight and not number % IN_A_ROW:
                await pause()
        elapsed = perf_counter() - started
    return {**figures, "elapsed": elapsed}


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
            *(f"{name}: {told(figures)}; all calls in {figures['elapsed']:.1f} s" for name, figures in results.items()),
            f"{POSTHOG} and segment drop calls beyond 10,000 by default: their queues were made larger.",
        ),
    )
