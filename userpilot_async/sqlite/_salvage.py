"""A damaged file: put aside, and read as far as it can be."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from .._ledger import Outcome
from .._shared_ledger import Account
from .._stored import Stored, sealed, unsealed
from ._schema import prepare

PAGE = 4096  # bytes; SQLite's own choice
HEADER = 100  # bytes at the beginning of the file; sqlite.org/fileformat.html, read 2026-11
MARGIN = 100_000  # ids left out after a loss, that other processes may have given to calls which cannot be read


@attrs.define
class Kept:
    """What could be read."""

    tables: dict[str, dict[Any, tuple[Any, ...]]] = attrs.field(factory=dict)
    """Rows, by their first column."""
    known_next_id: int = 0
    known_news: int = 0


def replace(path: Path, next_id: int, news: int, damaged: Outcome) -> tuple[int, Path]:
    """Put a new file in its place, with what can be read of it; how many calls are lost, and how the old one is called.

    ``next_id`` and ``news`` are what this process knows of the ids that were given out. The caller holds the turn.
    """
    number = 1
    while (quarantine := beside(path, f".damaged-{number}")).exists():
        number += 1
    kept = _read(path, Kept(known_next_id=next_id, known_news=news))
    new = beside(path, ".new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    db = sqlite3.connect(new, isolation_level=None)
    try:
        prepare(db)
        db.execute("BEGIN")
        lost = _restore(db, kept, damaged)
        db.execute("COMMIT")
    finally:
        db.close()
    log = beside(path, "-wal")
    if log.exists():  # or it would be applied to the new file
        log.rename(beside(quarantine, "-wal"))
    beside(path, "-shm").unlink(missing_ok=True)
    try:
        os.link(path, quarantine)
    except OSError:  # a file system without
        shutil.copyfile(path, quarantine)
    new.replace(path)
    return lost, quarantine


def beside(path: Path, suffix: str) -> Path:
    """A file next to this one."""
    return path.with_name(path.name + suffix)


def _read(path: Path, kept: Kept) -> Kept:
    """What can be read, from a copy: mending must not make worse what people may want to look at."""
    copy = beside(path, ".mending")
    shutil.copyfile(path, copy)
    if beside(path, "-wal").exists():
        shutil.copyfile(beside(path, "-wal"), beside(copy, "-wal"))
    try:
        _mend_header(copy)
        with suppress(sqlite3.Error):
            db = sqlite3.connect(copy, isolation_level=None)
            db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            try:
                _read_tables(db, kept)
            finally:
                db.close()
    finally:
        for suffix in ("", "-wal", "-shm"):
            beside(copy, suffix).unlink(missing_ok=True)
    return kept


def _read_tables(db: sqlite3.Connection, kept: Kept) -> None:
    for table in ("about", "account", "calls", "parts", "lost", "requests", "files"):
        kept.tables[table] = {}
        with suppress(sqlite3.Error):
            rows = _by_id(db, table) if table in ("calls", "lost") else db.execute(f"SELECT * FROM {table}")
            for row in rows:
                kept.tables[table][row[:2] if table == "parts" else row[0]] = row


def _restore(db: sqlite3.Connection, kept: Kept, damaged: Outcome) -> int:
    """Write what could be read; how many calls are lost."""
    calls = {call_id: row for call_id, row in kept.tables.get("calls", {}).items() if _is_whole(row)}
    account = _account(kept)
    known = account is not None
    if account is None:
        account = Account(accepted=len(calls))
    lost = max(0, account.waiting - len(calls)) if known else 0
    account.conclude(damaged, lost, 0)
    account.bytes = sum(row[6] for row in calls.values())
    highest = max([account.next_id, kept.known_next_id, *(one + 1 for one in calls)])
    account.next_id = highest if known else highest + MARGIN
    kept.tables["calls"] = calls
    kept.tables["account"] = {1: (1, sealed(account.as_dict()))}
    # All who listen hear of what comes after this.
    kept.tables["news"] = {1: (kept.known_news + MARGIN, sealed([]))}
    for table, rows in kept.tables.items():
        for row in rows.values():
            with suppress(sqlite3.Error):
                db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    return lost


def _account(kept: Kept) -> Account | None:
    row = kept.tables.get("account", {}).get(1)
    try:
        said = unsealed(row[1]) if row is not None else None
        return Account.of(said) if said is not None else None
    except (TypeError, AttributeError):
        return None


def _is_whole(row: tuple[Any, ...]) -> bool:
    call_id, at, *stored, size, crc, _ = row
    try:
        return isinstance(size, int) and Stored(*stored).checksum(call_id, at, size) == crc
    except (TypeError, ValueError, AttributeError):
        return False


def _by_id(db: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """All rows that can be reached: over each broken page in longer and longer jumps, and back to its far edge."""
    reached, jump = -1, 1
    while jump < 2**62:
        try:
            for row in db.execute(f"SELECT * FROM {table} WHERE id > ? ORDER BY id", (reached + jump - 1,)):
                if jump > 1:
                    yield from _backwards(db, table, row[0], reached)
                reached, jump = row[0], 1
                yield row
            return
        except sqlite3.DatabaseError:
            jump *= 2


def _backwards(db: sqlite3.Connection, table: str, before: int, after: int) -> Iterator[tuple[Any, ...]]:
    with suppress(sqlite3.DatabaseError):
        yield from db.execute(f"SELECT * FROM {table} WHERE id < ? AND id > ? ORDER BY id DESC", (before, after))


def _mend_header(path: Path) -> None:
    """A header that says how long the file really is; a new one, if there is none."""
    blank = beside(path, ".blank")
    blank.unlink(missing_ok=True)
    with path.open("r+b") as file:
        header = bytearray(file.read(HEADER).ljust(HEADER, b"\0"))
        if not header.startswith(b"SQLite format 3\0"):
            db = sqlite3.connect(blank, isolation_level=None)
            prepare(db)
            db.close()
            header = bytearray(blank.read_bytes()[:HEADER])
            header[18:20] = b"\2\2"  # there may be a log
            blank.unlink()
        size = path.stat().st_size
        pages = size // PAGE
        if int.from_bytes(header[28:32], "big") > pages or not header[28:32].strip(b"\0"):
            header[28:32] = pages.to_bytes(4, "big")
            header[92:96] = header[24:28]
        file.seek(0)
        file.write(header)
