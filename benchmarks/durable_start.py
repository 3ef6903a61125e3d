"""A process that starts with a million calls in its file: how soon it sends, and what it takes in memory."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter, time, time_ns
from typing import Any

from benchmarks import disk
from benchmarks.durable_subjects import PEERS, body
from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import OURS, pause
from benchmarks.waiting_memory import resident

NAME = "durable_start"
MANY, QUICK_MANY, FEW = 1_000_000, 250_000, 10_000  # calls; as many as the few are held in memory at once
DIFFERENT = 1_000  # calls, over and over again: to make a million would take longer than to measure them
GOAL = 2.0  # seconds
ALIKE = 1.1  # the memory of one, as part of the other's, where nothing grows with the backlog
STEADY = 0.25  # seconds without growth: it has read what it wants to hold
MEGABYTE = 1024 * 1024


# ── making the backlog ──


async def fill(subject: str, place: str, url: str, calls: int) -> None:
    """The file, as a process that only puts leaves it; the peers' in one transaction, or it would take minutes."""
    if subject == OURS:
        await _fill_ours(place, url, calls)
    elif subject == "persist-queue":
        _fill_persist_queue(place, calls)
    else:
        _fill_litequeue(place, calls)


async def _fill_ours(place: str, url: str, calls: int) -> None:
    from userpilot_async import UserpilotClient
    from userpilot_async.sqlite import SQLiteOutbox

    outbox = SQLiteOutbox(_file_of_ours(place), durability="process", sender=False)
    async with UserpilotClient("benchmark", base_url=url, outbox=outbox) as client:
        different = [(user_id(number), event(number)) for number in range(DIFFERENT)]
        for _ in range(calls // DIFFERENT):
            for user, properties in different:
                client.track_nowait(user, EVENT, properties)
            await pause()
    if client.statistics().pending != calls:
        raise RuntimeError(f"{client.statistics()} with {calls} calls put")


def _fill_persist_queue(place: str, calls: int) -> None:
    from persistqueue import SQLiteAckQueue

    queue = SQLiteAckQueue(place, multithreading=True)
    insert = "INSERT INTO ack_queue_default (data, timestamp, status) VALUES (?, ?, 0)"
    connection: Any = queue._putter  # declared as None
    with connection:
        connection.executemany(insert, ((said.encode(), time()) for said in _said(calls)))


def _fill_litequeue(place: str, calls: int) -> None:
    from litequeue import LiteQueue, uuid7  # type: ignore[import-untyped]

    queue = LiteQueue(_file_of_litequeue(place))
    insert = "INSERT INTO Queue (data, message_id, status, in_time) VALUES (?, ?, 0, ?)"
    with queue.transaction():
        queue.conn.executemany(insert, ((said, uuid7(), time_ns()) for said in _said(calls)))
    queue.close()


def _said(calls: int) -> Iterator[str]:
    different = [json.dumps(body(user_id(number), EVENT, event(number))) for number in range(DIFFERENT)]
    return islice(cycle(different), calls)


def _file_of_ours(place: str) -> str:
    return os.path.join(place, "events.db")


def _file_of_litequeue(place: str) -> str:
    return os.path.join(place, "queue.db")


# ── starting ──


async def started(subject: str, place: str, url: str) -> Figures:
    """Seconds until it is open, and until the first call is on its way (a peer: in hand); bytes of the process."""
    opened, first = await (_start_ours(place, url) if subject == OURS else _start_peer(subject, place))
    now = resident()
    while True:
        before = now
        await asyncio.sleep(STEADY)
        now = resident()
        if now <= before:
            return {"opened": opened, "first": first, "resident": now, "peak": resident_at_most()}


async def _start_ours(place: str, url: str) -> tuple[float, float]:
    import httpx

    from userpilot_async import UserpilotClient
    from userpilot_async.sqlite import SQLiteOutbox

    class Noting(httpx.AsyncHTTPTransport):
        gone = asyncio.Event()

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.gone.set()
            return await super().handle_async_request(request)

    before = perf_counter()
    outbox = SQLiteOutbox(_file_of_ours(place))
    client = UserpilotClient("benchmark", base_url=url, outbox=outbox, transport=Noting())
    await client.__aenter__()
    opened = perf_counter() - before
    await Noting.gone.wait()
    _kept.append(client)
    return opened, perf_counter() - before


async def _start_peer(subject: str, place: str) -> tuple[float, float]:
    from litequeue import LiteQueue
    from persistqueue import SQLiteAckQueue
    from persistqueue.serializers import json as as_json

    before = perf_counter()
    queue: Any
    if subject == "persist-queue":
        queue = SQLiteAckQueue(place, multithreading=True, serializer=as_json)
        opened = perf_counter() - before
        queue.get(block=False)
    else:
        queue = LiteQueue(_file_of_litequeue(place))
        opened = perf_counter() - before
        queue.pop()
    _kept.append(queue)
    return opened, perf_counter() - before


_kept: list[object] = []  # a client that nobody holds would be gone before its memory is looked at


def resident_at_most() -> int:
    """The most bytes that this process has had in memory; 0 where /proc is not."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmHWM")), 0)


# ── the rows ──


def run(quick: bool) -> list[Row]:
    names = (OURS, *PEERS)
    many = QUICK_MANY if quick else MANY  # the file of a million takes longer to make than all the rest
    with disk.directory() as place, running_sink(mute=True) as url:
        places = {(name, calls): os.path.join(place, f"{name}-{calls}") for name in names for calls in (many, FEW)}
        _fill_all(places, url)

        def once(calls: int, cold: bool, name: str) -> Figures:
            if cold:
                disk.forget(Path(places[name, calls]))
            return dict(measure(started, subject=name, place=places[name, calls], url=url))

        rounds = 1 if quick else 3
        cold = interleaved(names, rounds, lambda name: once(many, True, name))
        warm = interleaved(names, rounds, lambda name: once(many, False, name))
        few = interleaved(names, rounds, lambda name: once(FEW, False, name))
        size = {name: sum(one.stat().st_size for one in Path(places[name, many]).iterdir()) for name in names}
    return [_time_row(many, cold, warm, few, size), _memory_row(many, warm, few)]


def _fill_all(places: dict[tuple[str, int], str], url: str) -> None:
    """Ours on one core, the peers' beside it."""

    def make(whose: tuple[str, ...]) -> None:
        for (name, calls), place in places.items():
            if name in whose:
                Path(place).mkdir()
                measure(fill, beside=name != OURS, subject=name, place=place, url=url, calls=calls)

    with ThreadPoolExecutor(2) as pool:
        for made in [pool.submit(make, (OURS,)), pool.submit(make, tuple(PEERS))]:
            made.result()


def _time_row(
    calls: int, cold: dict[str, Figures], warm: dict[str, Figures], few: dict[str, Figures], size: dict[str, int]
) -> Row:
    def told(figures: Figures) -> str:
        return f"{figures['first']:.3f} s (open after {figures['opened']:.3f})"

    figures = column(cold, "first")
    return Row(
        name=NAME,
        what=f"start with {calls:,} calls in the file, until the first is on its way",
        unit="s",
        goal=f"≤ {GOAL:.0f} s",
        met=figures[OURS] <= GOAL,
        figures=figures,
        notes=(
            *(
                f"{name}: first after {told(cold[name])}, the file not in the page cache; in it: {told(warm[name])}; "
                f"with {FEW:,} calls {told(few[name])}; {size[name] / calls:.0f} bytes of disk for a call"
                for name in cold
            ),
            "ours: a request of the sender goes out; the peers, which do not send: the first call is read",
        ),
    )


def _memory_row(calls: int, many: dict[str, Figures], few: dict[str, Figures]) -> Row:
    def told(figures: Figures) -> str:
        return f"{figures['resident'] / MEGABYTE:.1f} MB resident (peak {figures['peak'] / MEGABYTE:.1f})"

    figures = {name: many[name]["peak"] / few[name]["peak"] if few[name]["peak"] else 0.0 for name in many}
    return Row(
        name=NAME,
        what=f"memory of a process started with {calls:,} calls in its file, against {FEW:,}",
        unit="ratio",
        goal=f"≤ {ALIKE}",
        met=figures[OURS] <= ALIKE,
        figures=figures,
        notes=(
            *(f"{name}: {told(many[name])}; with {FEW:,} calls {told(few[name])}" for name in many),
            "ours holds as many calls in memory at once as the small file has; the peers hold one",
        ),
    )
