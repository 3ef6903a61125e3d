"""The memory of an event while it waits: 100,000 of 1,000 users, and a server that never answers."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from pathlib import Path

from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import OPENINGS, OURS

NAME = "waiting_memory"
CALLS = 100_000
GOAL = 400  # bytes
CANNOT_WAIT = "mixpanel"  # its 50th event is sent before the call returns


def resident() -> int:
    """Bytes of this process in memory; 0 where /proc is not."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4_096 if statm.exists() else 0


async def waiting(subject: str, url: str, traced: bool) -> Figures:
    """Bytes for each event: as Python counts them, or, without its counting, as the system does."""
    client = await OPENINGS[subject](url, 2 * CALLS)
    for number in range(200):
        said = client.track(user_id(number), EVENT, event(number))
        if client.awaited:
            await said
    await asyncio.sleep(0.5)
    gc.collect()
    if traced:
        tracemalloc.start()
    before = resident()
    for number in range(CALLS):
        said = client.track(user_id(number % 1_000), EVENT, event(number))
        if client.awaited:
            await said
        if not number % 100:
            await asyncio.sleep(0)
    await asyncio.sleep(0.5)  # until the sender has put everything where it waits
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] if traced else resident() - before
    return {"bytes": taken / CALLS}


def run(quick: bool) -> Row:
    subjects = [name for name in OPENINGS if name != CANNOT_WAIT]
    with running_sink(mute=True) as url:
        # Counted bytes hardly differ from round to round.
        counted = interleaved(subjects, 1, lambda name: measure(waiting, subject=name, url=url, traced=True))
        rounds = 1 if quick else 3
        resident_ = interleaved(subjects, rounds, lambda name: measure(waiting, subject=name, url=url, traced=False))
    figures = column(counted, "bytes")
    return Row(
        name=NAME,
        what="memory of a waiting event",
        unit="bytes",
        goal=f"≤ {GOAL} bytes",
        met=figures[OURS] <= GOAL,
        figures=figures,
        notes=(
            *(
                f"{name}: {figures[name]:.0f} bytes by tracemalloc, {resident_[name]['bytes']:.0f} of resident memory"
                for name in subjects
            ),
            f"{CANNOT_WAIT} is left out: its buffer holds 50 events.",
        ),
    )
