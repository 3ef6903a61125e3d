"""The memory of a call that waits for a server which never answers: events of 1,000 users, identifies of as many."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from functools import partial
from pathlib import Path

from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import FLOOR, OPENINGS, OURS

NAME = "waiting_memory"
CALLS = 100_000
GOAL = 400  # bytes
CANNOT_WAIT = "mixpanel"  # its 50th call is sent before the call returns
WITHOUT_IDENTIFY = ("snowplow", FLOOR)


def resident() -> int:
    """Bytes of this process in memory; 0 where /proc is not."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4_096 if statm.exists() else 0


async def waiting(subject: str, url: str, traced: bool, identifies: bool = False) -> Figures:
    """Bytes for each call: as Python counts them, or, without its counting, as the system does."""
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
        if identifies:
            said = client.identify(user_id(number), event(number))
        else:
            said = client.track(user_id(number % 1_000), EVENT, event(number))
        if client.awaited:
            await said
        if not number % 100:
            await asyncio.sleep(0)
    await asyncio.sleep(0.5)  # until the sender has put everything where it waits
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] if traced else resident() - before
    return {"bytes": taken / CALLS}


def run(quick: bool) -> list[Row]:
    with running_sink(mute=True) as url:
        return [_row(quick, url, identifies) for identifies in (False, True)]


def _row(quick: bool, url: str, identifies: bool) -> Row:
    without = WITHOUT_IDENTIFY if identifies else ()
    subjects = [name for name in OPENINGS if name != CANNOT_WAIT and name not in without]

    def once(traced: bool, name: str) -> Figures:
        return dict(measure(waiting, subject=name, url=url, traced=traced, identifies=identifies))

    # Counted bytes hardly differ from round to round.
    counted = interleaved(subjects, 1, partial(once, True))
    resident_ = interleaved(subjects, 1 if quick else 3, partial(once, False))
    figures = column(counted, "bytes")
    return Row(
        name=NAME,
        what=f"memory of a waiting {'identify, each of another user' if identifies else 'event'}",
        unit="bytes",
        goal="–" if identifies else f"≤ {GOAL} bytes",
        met=None if identifies else figures[OURS] <= GOAL,
        figures=figures,
        notes=(
            *(
                f"{name}: {figures[name]:.0f} bytes by tracemalloc, {resident_[name]['bytes']:.0f} of resident memory"
                for name in subjects
            ),
            f"{CANNOT_WAIT} is left out: its buffer holds 50 calls.",
        ),
    )
