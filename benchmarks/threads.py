"""The cost of one call to a thread that is not the loop's, and what the loop feels of 64 such threads."""

from __future__ import annotations

import asyncio
import gc
from array import array
from collections.abc import Callable
from statistics import median
from threading import Barrier, Thread
from time import perf_counter_ns
from typing import Any

from benchmarks.fresh import measure
from benchmarks.pauses import Ticker
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import FLOOR, OPENINGS, OURS, pause

NAME = "threads"
THREADS = 64
CALLS = 500  # of each thread: 32,000 together, a third of what our queue holds
GOAL = 10.0  # µs
GOAL_STALL = 2.0  # ms of CPU of the loop's thread: the switches between 65 threads are the interpreter's
PEERS = ("segment", "snowplow", FLOOR)  # AsyncPosthog and mixpanel's buffer are for one thread


async def opened(subject: str, url: str) -> Callable[..., Any]:
    """The function that a thread calls to track an event."""
    if subject != OURS:
        client = await OPENINGS[subject](url, 2 * THREADS * CALLS)
        track: Callable[..., Any] = client.track
        return track
    from userpilot_async import UserpilotClient

    userpilot = UserpilotClient("benchmark", base_url=url)
    await userpilot.__aenter__()
    return userpilot.track_nowait


def put(track: Callable[..., Any], number: int, together: Barrier, taken: array[int]) -> None:
    """Each call timed by itself, its arguments made outside of the time."""
    user = user_id(number)
    together.wait()
    for n in range(CALLS):
        properties = event(n)
        before = perf_counter_ns()
        track(user, EVENT, properties)
        taken.append(perf_counter_ns() - before)


async def calls(subject: str, url: str) -> Figures:
    """The calls' times in µs, and the longest turn of the loop meanwhile in ms."""
    track = await opened(subject, url)
    await asyncio.sleep(0.5)  # connections, threads and imports that come with opening are not what is asked for
    gc.collect()
    together, taken = Barrier(THREADS), [array("Q") for _ in range(THREADS)]
    threads = [Thread(target=put, args=(track, number, together, taken[number])) for number in range(THREADS)]

    def run_all() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    ticker = Ticker()
    ticking = asyncio.create_task(ticker.run())
    await pause()
    await asyncio.to_thread(run_all)
    ticking.cancel()
    ordered = sorted(time for ofs in taken for time in ofs)
    return {
        "median": median(ordered) / 1_000,
        "p90": ordered[int(len(ordered) * 0.9)] / 1_000,
        "stall": ticker.longest * 1_000,
        "cpu": ticker.longest_cpu * 1_000,
    }


def run(quick: bool) -> Row:
    with running_sink() as url:
        results = interleaved(
            (OURS, *PEERS), 3 if quick else 7, lambda subject: measure(calls, subject=subject, url=url)
        )
    ours = results[OURS]
    return Row(
        name=NAME,
        what="track_nowait() from 64 threads at once: median",
        unit="µs",
        goal=f"≤ {GOAL:.0f} µs; the loop works for ≤ {GOAL_STALL:.0f} ms in one turn",
        met=ours["median"] <= GOAL and ours["cpu"] <= GOAL_STALL,
        figures=column(results, "median"),
        notes=(
            *(
                f"{name}: median {figures['median']:.1f} µs, p90 {figures['p90']:.1f}; longest turn of the loop "
                f"meanwhile {figures['cpu']:.2f} ms CPU of its thread, {figures['stall']:.0f} ms by the clock"
                for name, figures in results.items()
            ),
            f"{FLOOR}: a copy of the dict into a deque. 64 threads that are never idle leave the loop's thread one "
            "turn in 65, 5 ms each, whatever they do: so it is the CPU that is judged.",
        ),
    )
