"""How long a backlog of 100,000 events is on its way, and how it is dated: with the route for late ones, and without.

In virtual time, against the emulator, whose import jobs take 1,800 rows a minute, as the vendor's do.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx

from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row
from benchmarks.subjects import OURS
from tests.harness.clock import VirtualTimeLoop

NAME = "backlog"
LOOP = VirtualTimeLoop
EPOCH = 1_780_000_020.0  # a clock minute begins here
LATENCY = 0.1
CALLS, USERS = 100_000, 5_000
QUICK_CALLS, QUICK_USERS = 12_000, 600
LATE_AFTER = 300.0  # the default of `Settings.late_after`
LOST = 0.05  # of all answers
GOAL = 300.0  # seconds
WITHOUT = "(without the route)"


class Wire(httpx.AsyncBaseTransport):
    """The way to an emulator in the same process, on which answers may get lost."""

    def __init__(self, emulator: Any) -> None:
        self._inner = httpx.ASGITransport(app=emulator)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        from userpilot_async.emulator import ConnectionCut

        try:
            return await self._inner.handle_async_request(request)
        except ConnectionCut:
            raise httpx.ReadError("the answer got lost") from None


async def drained(calls: int, users: int, route: bool, lossy: bool) -> Figures:
    """Seconds of virtual time, and counts as the server has them."""
    from userpilot_async import Settings, UserpilotClient
    from userpilot_async.emulator import Emulator, Fault

    now = asyncio.get_running_loop().time
    emulator = Emulator(clock=lambda: EPOCH + now(), latency=LATENCY, seed=1)
    if lossy:
        # A backlog is one or two uploads: chance alone would hit none of them.
        emulator.faults.add(Fault(name="upload", path="/v1/imports", cut="after", times=1))
        emulator.faults.add(Fault(name="answer", cut="after", times=None, probability=LOST))
    settings = Settings(
        imports="when_late" if route else None, late_after=LATE_AFTER, max_queue_calls=2 * calls, max_age=7 * 86_400.0
    )
    wall = time.time() - now()  # by which the client dates what it imports; the emulator's calendar is its own
    async with UserpilotClient("benchmark", transport=Wire(emulator), settings=settings) as client:
        accepted, receipts = [], []
        for number in range(calls):
            receipts.append(await client.track(user_id(number % users), EVENT, event(number)))
            accepted.append(now())
        for receipt in receipts:  # not `flush`, which would not linger: a web application has none
            await receipt.outcome()
        statistics = client.statistics()
        emulator.advance()
        return {
            **stored(emulator.store, accepted, wall),
            "delivered": statistics.delivered,
            "possible duplicates": statistics.possible_duplicates,
            "requests": len(emulator.store.requests),
            "429": sum(request.status == 429 for request in emulator.store.requests),
            "uploads": sum(request.path == "/v1/imports" for request in emulator.store.requests),
            "uploads lost": sum(
                request.path == "/v1/imports" and request.status is None for request in emulator.store.requests
            ),
            "answers lost": sum(request.status is None for request in emulator.store.requests),
            "jobs": len(emulator.store.jobs),
        }


def stored(store: Any, accepted: list[float], wall: float) -> Figures:
    """When the events arrived and took effect, how far off they are dated, and how many are there twice, and why.

    An event has arrived once the server has accepted it, alone or in a job; of two that are the same, the first counts.
    One that is in two jobs is an upload's double. Any other comes of a request of its own whose answer got lost.
    """
    submitted_at = {job.job_id: job.submitted_at for job in store.jobs}
    arrived: dict[int, float] = {}
    effective: dict[int, float] = {}
    off: dict[int, float] = {}
    requested: Counter[int] = Counter()
    imported: Counter[int] = Counter()
    for entry, one in zip((e for e in store.applied if e.kind == "track"), store.events, strict=True):
        number = int(one.metadata["report_id"].removeprefix("rpt_"))
        arrival = entry.stamp if entry.job_id is None else submitted_at[entry.job_id]
        arrived[number] = min(arrival, arrived.get(number, arrival))
        (imported if one.via == "import" else requested)[number] += 1
        if number in effective:
            continue
        effective[number] = entry.stamp
        true = accepted[number] + (wall if one.via == "import" else EPOCH)
        off[number] = abs(one.occurred_at - true)
    return {
        "there": len(arrived),
        "arrived": max(arrived.values()) - EPOCH,
        "worked off": max(effective.values()) - EPOCH,
        "within late_after": sum(seconds <= LATE_AFTER for seconds in off.values()) / len(accepted),
        "within 1 s": sum(seconds <= 1.0 for seconds in off.values()) / len(accepted),
        "twice by upload": imported.total() - len(imported),
        "twice by request": requested.total() - len(requested) + len(requested.keys() & imported.keys()),
    }


def run(quick: bool) -> Row:
    calls, users = (QUICK_CALLS, QUICK_USERS) if quick else (CALLS, USERS)
    results = {
        (route, lossy): measure(drained, calls=calls, users=users, route=route, lossy=lossy)
        for lossy in (False, True)
        for route in (True, False)
    }
    whole, lossy = results[True, False], results[True, True]
    right = (
        whole["arrived"] <= GOAL
        and all(figures["there"] == calls == figures["delivered"] for figures in results.values())
        and not any(figures["429"] for figures in results.values())
        and not whole["twice by upload"] + whole["twice by request"]
        and lossy["uploads lost"] > 0
        and not lossy["twice by upload"]
    )
    return Row(
        name=NAME,
        what=f"until {calls:,} waiting events of {users:,} users are at the server, late ones as an import",
        unit="s of virtual time",
        goal=f"≤ {GOAL:g} s, no 429, no file twice",
        met=right,
        figures={OURS: whole["arrived"], WITHOUT: results[False, False]["arrived"]},
        notes=tuple(_told(route, lossy, figures) for (route, lossy), figures in results.items()),
    )


def _told(route: bool, lossy: bool, figures: Figures) -> str:
    case = "with the route" if route else "without it"
    if lossy:
        case += f", {LOST:.0%} of the answers lost (these were {figures['answers lost']:,.0f}; of "
        case += f"{figures['uploads']:.0f} uploads {figures['uploads lost']:.0f})"
    return (
        f"{case}: at the server after {_length(figures['arrived'])}, worked off after "
        f"{_length(figures['worked off'])}; {figures['requests']:,.0f} requests, {figures['429']:.0f} × 429, "
        f"{figures['jobs']:.0f} jobs; dated within {LATE_AFTER:.0f} s of the truth {figures['within late_after']:.1%}, "
        f"within 1 s {figures['within 1 s']:.1%}; twice there: {figures['twice by upload']:.0f} by uploads, "
        f"{figures['twice by request']:,.0f} by requests"
    )


def _length(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
