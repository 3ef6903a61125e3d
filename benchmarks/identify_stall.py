"""How long the event loop stands still while 100,000 identifies of as many users go in, are filed and settled."""

from __future__ import annotations

import asyncio

from benchmarks import stall_cases
from benchmarks.bulk_cpu import PATIENCE, SPEED
from benchmarks.fast_loop import FastLoop
from benchmarks.fresh import measure
from benchmarks.pauses import told, watched
from benchmarks.payloads import profile, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import OPENINGS, OURS, POSTHOG, pause

NAME = "identify_stall"
CALLS = 100_000
IN_A_ROW = 10  # calls between two turns of the loop, as in ten request handlers that run side by side
GOAL = 10.0  # ms
LOOP = FastLoop


async def stall(subject: str, url: str) -> Figures:
    """The longest turn of the loop, in ms, and the longest collection, until all is delivered."""
    settings = {"request_timeout": PATIENCE, "upload_timeout": PATIENCE} if subject == OURS else {}
    client = await OPENINGS[subject](url, CALLS + 1, **settings)
    assert client.identify is not None
    await asyncio.sleep(0.5)  # connections, threads and imports that come with opening are not what is asked for
    async with watched() as going_in:
        for number in range(CALLS):
            said = client.identify(user_id(number), profile(number))
            if client.awaited:
                await said
            if not number % IN_A_ROW:
                await pause()
    async with watched() as settled:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FastLoop)
        if subject == OURS:
            loop.speed_up(SPEED)
        await client.drain()
    return {
        **{f"in {name}": figure for name, figure in going_in.items()},
        **settled,
        "longest": max(going_in["stall"], settled["stall"]),
    }


def _going_in(figures: Figures) -> Figures:
    return {name.removeprefix("in "): figure for name, figure in figures.items() if name.startswith("in ")}


def run(quick: bool) -> Row:
    with running_sink() as url:
        results = interleaved([OURS, POSTHOG], 2 if quick else 5, lambda name: measure(stall, subject=name, url=url))
    longest = column(results, "longest")
    return Row(
        name=NAME,
        what=f"longest stall of the event loop while {CALLS:,} identifies of as many users go in and are delivered",
        unit="ms",
        goal=f"≤ {GOAL:.0f} ms",
        met=longest[OURS] <= GOAL,
        figures=longest,
        notes=(
            *(f"{name}: while they go in, {told(_going_in(figures))}" for name, figures in results.items()),
            *(f"{name}: until they are delivered, {told(figures)}" for name, figures in results.items()),
            *stall_cases.notes(2 if quick else 5),
        ),
    )
