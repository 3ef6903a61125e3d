"""Accepted calls per second when each of them is in a file before its caller goes on."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator
from itertools import count
from statistics import median
from time import perf_counter, perf_counter_ns

from benchmarks import disk
from benchmarks.durable_subjects import FLOORS, NOTHING, SUBJECTS, SYNCHRONOUS, WITH_SENDER, Durable, opened
from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, best_of, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import FLOOR, OURS, pause

NAME = "durable_calls"
CALLERS = 200
LEAST = {"power": 0.9, "process": 0.95}  # of the better peer: for one caller, who shares the file with other processes
WARM_UP = 50
SECONDS, QUICK_SECONDS = 1.0, 0.15  # of one caller, and as long again of many, at each durability


async def calls(subject: Durable, numbers: Iterator[int], taken: array[int], seconds: float) -> None:
    """The work of one caller: call after call, each timed by itself, in nanoseconds."""
    end = perf_counter() + seconds
    while perf_counter() < end:
        number = next(numbers)
        user, properties = user_id(number % 1_000), event(number)
        before = perf_counter_ns()
        if subject.awaited:
            await subject.track(user, EVENT, properties)
        else:
            subject.track(user, EVENT, properties)
        taken.append(perf_counter_ns() - before)
        if not subject.awaited:
            await pause()


async def accepted(subject: str, place: str, url: str, seconds: float) -> Figures:
    """Calls a second, and how long one takes, at both levels, of one caller and of many."""
    figures: Figures = {}
    for durability in SYNCHRONOUS:
        durable = await opened(subject, place, durability, url)
        numbers = count()
        for number in range(WARM_UP):
            said = durable.track(user_id(number), EVENT, event(next(numbers)))
            if durable.awaited:
                await said
        for callers in (1, CALLERS):
            taken = array("Q")
            started = perf_counter()
            await asyncio.gather(*(calls(durable, numbers, taken, seconds) for _ in range(callers)))
            elapsed = perf_counter() - started
            ordered = sorted(taken)
            figures |= {
                f"{durability} {callers} rate": len(ordered) / elapsed,
                f"{durability} {callers} p50": median(ordered) / 1_000,
                f"{durability} {callers} p99": ordered[int(len(ordered) * 0.99)] / 1_000,
            }
        put = next(numbers)
        if subject not in (WITH_SENDER, NOTHING) and durable.held() != put:  # delivered ones are not there any more
            raise RuntimeError(f"{subject} has {durable.held()} of {put} calls in its file")
    return figures


def run(quick: bool) -> list[Row]:
    def once(subject: str) -> Figures:
        with disk.directory() as place:
            seconds = QUICK_SECONDS if quick else SECONDS
            return dict(measure(accepted, subject=subject, place=place, url=url, seconds=seconds))

    with running_sink() as url:
        results = interleaved((*SUBJECTS, *FLOORS), 3 if quick else 7, once)
    return [_row(results, durability, callers) for durability in SYNCHRONOUS for callers in (1, CALLERS)]


def _row(results: dict[str, Figures], durability: str, callers: int) -> Row:
    case, least = f"{durability} {callers}", LEAST[durability] if callers == 1 else 1.0
    rates = column(results, f"{case} rate")
    middles = column(results, f"{case} p50")
    ratios = [
        f"{rates[OURS] / rate:.2f} of {name.strip('()')} (p50 {middles[OURS] / middles[name]:.2f} ×)"
        for name, rate in rates.items()
        if name != OURS
    ]
    return Row(
        name=NAME,
        what=f'calls a second into a file, "{durability}", {callers} caller{"s" if callers > 1 else ""}',
        unit="calls/s",
        goal=f"≥ {least} of the better peer" if callers == 1 else "ahead of both peers",
        met=rates[OURS] > least * best_of(rates, more_is_better=True),
        figures=rates,
        more_is_better=True,
        notes=(
            f"ours is {'; '.join(ratios)}",
            *(
                f"{name}: {figures[f'{case} rate']:,.0f} a second; one call p50 {figures[f'{case} p50']:,.0f}, "
                f"p99 {figures[f'{case} p99']:,.0f} µs"
                for name, figures in results.items()
            ),
            f"all with a write-ahead log and synchronous={SYNCHRONOUS[durability][0]}; by default persist-queue has "
            "FULL, litequeue NORMAL. The peers are called through asyncio.to_thread. On the loop they stop it, and are "
            f"no peers (durable_stall says for how long). {FLOOR}: a bare INSERT and COMMIT, on the loop.",
        ),
    )
