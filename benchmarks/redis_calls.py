"""Accepted calls per second when Redis has each of them before its caller goes on; of one process, and of eight."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

from benchmarks.callers import CALLERS, Callers
from benchmarks.fresh import measure
from benchmarks.redis_server import missing, running_redis, used
from benchmarks.redis_subjects import EACH, PIPELINED, SUBJECTS, opened
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.subjects import FLOOR, OURS

NAME = "redis_calls"
PROCESSES = 8
CASES = ((1, 1), (1, CALLERS), (PROCESSES, CALLERS))  # processes, and callers in each
SECONDS, QUICK_SECONDS = 2.0, 1.0
GOAL = 0.7


async def accepted(subject: str, url: str, processes: int, callers: int, seconds: float) -> Figures:
    """Calls a second of this process, beside the others of its kind, and how long one takes."""
    from redis.asyncio import Redis

    redis: Any = Redis.from_url(url)
    queue = await opened(subject, url)
    tasks = Callers(queue, 1 if subject in PIPELINED else callers)
    await tasks.warm_up()
    await _together(redis, processes)
    there, used_there = await redis.xlen(queue.stream), await used(redis)
    figures = await tasks.measure(seconds)
    there, used_there = await redis.xlen(queue.stream) - there, await used(redis) - used_there
    if processes == 1 and there != tasks.calls:
        raise RuntimeError(f"{subject} has {there} of {tasks.calls} calls in Redis")
    return {**figures, "cpu of Redis": used_there / there * 1_000_000}


async def _together(redis: Any, processes: int) -> None:
    """Wait until all of them have come this far."""
    if await redis.incr("ready") == processes:
        await redis.rpush("go", *range(processes))
    await redis.blpop("go")


def measured(subject: str, processes: int, callers: int, seconds: float) -> Figures:
    """Of all processes together: their rates added up, the median of all else."""
    with running_redis() as url, ThreadPoolExecutor(processes) as pool:
        once = partial(
            measure, accepted, subject=subject, url=url, processes=processes, callers=callers, seconds=seconds
        )
        several = [future.result() for future in [pool.submit(once) for _ in range(processes)]]
    figures = {name: median(one[name] for one in several) for name in several[0]}
    return figures | {"rate": sum(one["rate"] for one in several)}


def run(quick: bool) -> list[Row]:
    reason = missing()
    if reason is not None:
        print(f"{NAME} is left out: {reason}", file=sys.stderr)
        return []
    return [_row(processes, callers, quick) for processes, callers in CASES]


def _row(processes: int, callers: int, quick: bool) -> Row:
    subjects = SUBJECTS if callers > 1 else (OURS, EACH)
    seconds = QUICK_SECONDS if quick else SECONDS
    results = interleaved(subjects, 3 if quick else 7, lambda subject: measured(subject, processes, callers, seconds))
    rates = column(results, "rate")
    limits = [rates[name] for name in PIPELINED if name in rates]
    share = rates[OURS] / max(limits) if limits else 0.0
    used_here = column(results, "cpu")
    ratios = [
        f"{rates[OURS] / rate:.2f} of {name.strip('()')} (CPU {used_here[OURS] / used_here[name]:.2f} ×)"
        for name, rate in rates.items()
        if name != OURS
    ]
    return Row(
        name=NAME,
        what=f"calls a second into Redis, {_several(callers, 'caller')}"
        + (f" in each of {processes} processes" if processes > 1 else ""),
        unit="calls/s",
        goal=f"≥ {GOAL} of the faster pipeline" if limits else "–",
        met=share >= GOAL if limits else None,
        figures={**rates, FLOOR: max(limits)} if limits else rates,
        more_is_better=True,
        notes=(
            f"ours is {'; '.join(ratios)}",
            *(_told(name, figures) for name, figures in results.items()),
            *((f"{FLOOR}: the faster pipeline, of one task that has all of its calls beforehand",) if limits else ()),
        ),
    )


def _several(number: int, what: str) -> str:
    return f"{number} {what}s" if number > 1 else f"{number} {what}"


def _told(name: str, figures: Figures) -> str:
    what = "a whole pipeline" if name in PIPELINED else "one call"
    return (
        f"{name}: {figures['rate']:,.0f} a second; {what} p50 {figures['p50']:,.0f}, p99 {figures['p99']:,.0f} µs; "
        f"CPU a call {figures['cpu']:.1f} µs, of Redis {figures['cpu of Redis']:.1f} µs"
    )
