"""A backlog in a file, put there by SQL through our own codec: by `track` ten million would take half an hour."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from time import monotonic, time

from benchmarks import disk
from benchmarks.answers import Answers
from benchmarks.fresh import measure
from benchmarks.payloads import EVENT
from benchmarks.results import Figures
from benchmarks.scale import durable
from benchmarks.scale.series import Series

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000, 10_000_000), (10_000, 100_000, 1_000_000)
AT_ONCE = 10_000  # calls of one transaction
MOST = 2_000_000  # calls of one process that fills: it must end within the time that a measurement has


async def created(path: str) -> int:
    """An empty file that belongs to the client of these measurements."""
    from userpilot_async.sqlite import SQLiteOutbox

    async with durable.opened(SQLiteOutbox(path, durability="process", sender=False), Answers()) as client:
        return int(client.statistics().accepted)


def filled(path: str, size: int) -> int:
    """Put calls until so many wait, as a process does that only puts."""
    from userpilot_async._account.pages import Pages
    from userpilot_async._outbox.batch import Put
    from userpilot_async._outbox.receipt import Receipt
    from userpilot_async._userpilot.calls import track_body
    from userpilot_async.sqlite._tables import Tables

    receipt = Receipt(Pages())
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        tables = Tables(db, time)
        account = tables.account()
        offset = time() - monotonic()
        different = []
        for user, properties in durable.calls(0, durable.DIFFERENT):
            body = track_body(user, EVENT, properties)
            different.append(Put("track", user, body, len(body), 0.0, monotonic(), receipt, awaited=False))
        while account.waiting < size:
            number = min(AT_ONCE, size - account.waiting)
            puts = (different * (number // len(different) + 1))[:number]
            db.execute("BEGIN IMMEDIATE")
            account = account.with_calls(number, tables.put(puts, account.next_id, offset))
            tables.write_account(account)
            db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return account.waiting


async def started(path: str) -> Figures:
    from userpilot_async.sqlite import SQLiteOutbox

    return await durable.started(SQLiteOutbox(path, durability="process", max_bytes=10**12))


async def put(path: str) -> Figures:
    from userpilot_async.sqlite import SQLiteOutbox

    return await durable.put(SQLiteOutbox(path, durability="process", sender=False, max_bytes=10**12))


def run(quick: bool) -> list[Series]:
    figures: dict[int, Figures] = {}
    with disk.directory() as place:
        path = os.path.join(place, "events.db")
        measure(created, path=path)
        there = 0
        for size in QUICK_SIZES if quick else SIZES:
            while there < size:
                there = measure(filled, path=path, size=min(size, there + MOST))
            figures[size] = {**measure(started, path=path), **measure(put, path=path)}
    return [
        Series(
            name="SQLite", of="calls in the file", figures=figures, measured=durable.MEASURED,
            notes=('durability "process"; the file is in the page cache as far as it fits',),
        )
    ]  # fmt: skip
