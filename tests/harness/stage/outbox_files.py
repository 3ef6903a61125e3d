"""Clients with a file in the test's own process, a server beside them, and looks into the file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from tests.harness import judge
from tests.harness.stage.loops import KEY, InProcess
from userpilot_async import Receipt, Report, Settings, UserpilotClient
from userpilot_async._runtime.database_files import DatabaseFile
from userpilot_async.emulator import Emulator
from userpilot_async.sqlite import SQLiteOutbox

LIMIT = 600_000  # requests a minute, on both sides: no test here is about the limit


def an_emulator(**options: Any) -> Emulator:
    """In this loop, by the real clock."""
    return Emulator(rate_limit=LIMIT, seed=1, **options)


@asynccontextmanager
async def with_file(
    file: Path,
    emulator: Emulator | None = None,
    *,
    key: str = KEY,
    base_url: str | None = None,
    outbox: SQLiteOutbox | None = None,
    **more: Any,
) -> AsyncIterator[UserpilotClient]:
    """A client, open. Without an emulator it only puts. ``more`` are settings, or options of the outbox."""
    options = {name: more.pop(name) for name in ("durability", "max_bytes", "rebind", "sender") if name in more}
    settings = {"track_per_minute": LIMIT, "identify_per_minute": LIMIT, "burst": 1_000, "flush_interval": 0.01, **more}
    outbox = outbox or SQLiteOutbox(file, **{"durability": "process", "sender": emulator is not None, **options})
    client = UserpilotClient(
        key,
        transport=InProcess(emulator or an_emulator()),
        outbox=outbox,
        settings=Settings(**settings),
        base_url=base_url,
    )
    async with client:
        yield client


async def put(userpilot: UserpilotClient, marks: Iterable[Any], users: int = 10) -> list[Receipt]:
    """Track an event with each of these marks."""
    return [await userpilot.track(f"u{number % users}", "clicked", {"mark": mark}) for number, mark in enumerate(marks)]


def marks_at(emulator: Emulator) -> list[Any]:
    """The marks of the events it has, in its order."""
    return [event.metadata["mark"] for event in emulator.store.events]


async def sent(userpilot: UserpilotClient, within: float = 30.0) -> Report:
    """Until everything has an outcome."""
    report = await userpilot.flush(within)
    assert report.complete, report
    judge.conservation(report.statistics)
    return report


@contextmanager
def private_connection(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database, whose files are made private, and confirmed, as the library does it."""
    with closing(DatabaseFile(path)) as held, closing(sqlite3.connect(path, isolation_level=None)) as db:
        held.make_private()
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # SQLite opens its files only now
        held.confirm()
        yield db


def look_into(file: Path, query: str) -> list[Any]:
    """What a question to the file answers, asked by a program that changes nothing."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()
