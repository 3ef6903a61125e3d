"""How long the event loop stands still while 200 callers put 20,000 calls into a file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import perf_counter

from benchmarks import disk
from benchmarks.durable_calls import CALLERS
from benchmarks.durable_subjects import SUBJECTS, SYNCHRONOUS, Durable, opened
from benchmarks.fresh import measure
from benchmarks.pauses import told, watched
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, best_of, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import OURS, pause

NAME = "durable_stall"
CALLS = 20_000
SECONDS, QUICK_SECONDS = 15.0, 0.3  # who has not put them all by then has stalled often enough


async def caller(subject: Durable, numbers: Iterator[int], end: float) -> None:
    """As a request handler: one call, then others have a turn."""
    for number in numbers:
        said = subject.track(user_id(number % 1_000), EVENT, event(number))
        if subject.awaited:
            await said
        else:
            await pause()
        if perf_counter() > end:
            return


async def stalls(subject: str, place: str, url: str, seconds: float) -> Figures:
    """The longest turn of the loop, in ms, at both levels."""
    figures: Figures = {}
    for durability in SYNCHRONOUS:
        durable = await opened(subject, place, durability, url)
        await caller(durable, iter(range(CALLERS)), perf_counter() + seconds)  # connections, threads and imports
        async with watched() as longest:
            started = perf_counter()
            numbers = iter(range(CALLS))
            await asyncio.gather(*(caller(durable, numbers, started + seconds) for _ in range(CALLERS)))
            elapsed = perf_counter() - started
        figures |= {
            **{f"{durability} {name}": figure for name, figure in longest.items()},
            f"{durability} calls": next(numbers, CALLS),
            f"{durability} elapsed": elapsed,
        }
    return figures


def run(quick: bool) -> list[Row]:
    def once(subject: str) -> Figures:
        with disk.directory() as place:
            seconds = QUICK_SECONDS if quick else SECONDS
            return dict(measure(stalls, subject=subject, place=place, url=url, seconds=seconds))

    with running_sink() as url:
        results = interleaved(SUBJECTS, 2 if quick else 3, once)
    return [_row(results, durability) for durability in SYNCHRONOUS]


def _row(results: dict[str, Figures], durability: str) -> Row:
    longest = column(results, f"{durability} stall")
    return Row(
        name=NAME,
        what=f'longest stall of the loop, {CALLERS} callers and {CALLS:,} calls into a file, "{durability}"',
        unit="ms",
        goal="ahead of both peers",
        met=longest[OURS] < best_of(longest),
        figures=longest,
        notes=tuple(
            f"{name}: {told(of)}; {of['calls']:,.0f} calls in {of['elapsed']:.1f} s"
            for name, of in (
                (name, {figure.partition(" ")[2]: value for figure, value in figures.items() if durability in figure})
                for name, figures in results.items()
            )
        ),
    )
