"""A damaged file: kept aside, and replaced by a new one with all of it that can be read."""

from __future__ import annotations

import mmap
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from .._account.account import Account
from .._calls.outcome import Outcome
from .._calls.pairs import unsealed_pair
from .._calls.stored import UNREADABLE, Stored, sealed
from .._runtime.database_files import MAGIC
from .._runtime.private_files import create_private, open_private
from ._keys import is_key
from ._quarantine import beside, clear, copy_private, free_name, keep, sync_folder
from ._schema import MOST_UNCOUNTED, prepare
from ._sealed import account_in

# Where things are in a file: sqlite.org/fileformat.html, read 2026-11.
PAGE = 4096  # bytes; SQLite's own choice
HEADER = 100  # bytes at the beginning of the first page
LEAF, INNER = 13, 5  # the first byte of a table's page, by what it is
CHILDREN = 400  # of an inner page that is made here; some 450 would fit

MARGIN = 100_000  # ids left out after a loss, that other processes may have given to calls which cannot be read


@attrs.define
class GivenIds:
    """The next id of a call and the last of news, as far as the repairing process knows them."""

    next_id: int
    news: int


def replace(path: Path, given: GivenIds, damaged: Outcome) -> tuple[int | None, Path]:
    """Put a new file in its place; how many calls are lost, and under which name the old one is kept.

    ``None`` lost: unknown, since the account cannot be read.

    The caller holds the turn. If this is interrupted, `_quarantine.resume` must be called before the file is opened
    again.
    """
    quarantine = free_name(path)
    copy, new = beside(path, ".mending"), beside(path, ".new")
    clear(path)
    try:
        copy_private(path, copy)
        if beside(path, "-wal").exists():
            copy_private(beside(path, "-wal"), beside(copy, "-wal"))
        _mend_header(copy)
        os.close(create_private(new))
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            prepare(db)
            db.execute("BEGIN")
            lost = _Restoring(db, given, damaged).all_of(copy)
            db.execute("COMMIT")
        keep(path, quarantine)
        beside(path, "-wal").unlink(missing_ok=True)  # or it would be applied to the new file
        beside(path, "-shm").unlink(missing_ok=True)
        new.replace(path)
        sync_folder(path)
    finally:
        clear(path)
    return lost, quarantine


# ── the old file ──


def _mend_header(path: Path) -> None:
    """A first page that says how long the file really is, and where tables are that can be read.

    What is lost of it is that of an empty file. Tables are where they are in that: one transaction made them.
    """
    blank = beside(path, ".blank")
    os.close(create_private(blank))
    with closing(sqlite3.connect(blank, isolation_level=None)) as db:
        prepare(db)
    empty = blank.read_bytes()[:PAGE]
    blank.unlink()
    with _writable(path) as file:
        page = bytearray(file.read(PAGE).ljust(PAGE, b"\0"))
        if page[HEADER] not in (LEAF, INNER):
            page[:] = bytes(PAGE)
            page[HEADER:] = empty[HEADER:]
        if not page.startswith(MAGIC):
            page[:HEADER] = empty[:HEADER]
            page[18:20] = b"\2\2"  # there may be a log
            page[28:32] = bytes(4)
        pages = path.stat().st_size // PAGE
        if not 0 < int.from_bytes(page[28:32], "big") <= pages:
            page[28:32] = pages.to_bytes(4, "big")
            page[92:96] = page[24:28]
        file.seek(0)
        file.write(page)
        file.flush()
        if not _has_tables(path):
            file.seek(HEADER)
            file.write(empty[HEADER:])


def _has_tables(path: Path) -> bool:
    """True if the tables can be read: a single statement that cannot hides them all."""
    with _opened(path) as db:
        try:
            db.execute("SELECT id FROM calls LIMIT 0")
        except sqlite3.DatabaseError:
            return False
    return True


def _writable(path: Path) -> BinaryIO:
    return open(open_private(path, os.O_RDWR), "r+b")


def _opened(path: Path) -> closing[sqlite3.Connection]:
    db = sqlite3.connect(path, isolation_level=None)
    db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    return closing(db)


def _by_id(db: sqlite3.Connection, table: str, broken: list[Exception] | None = None) -> Iterator[tuple[Any, ...]]:
    """All rows that the tree leads to: over each broken page in longer and longer jumps, and back to its far edge.

    What was met there is added to ``broken``: then nothing says how many calls lie behind the account.
    """
    reached, jump = -1, 1
    while jump < 2**62:
        try:
            for row in db.execute(f"SELECT * FROM {table} WHERE id > ? ORDER BY id", (reached + jump - 1,)):
                if row[0] <= reached:
                    raise sqlite3.DatabaseError("rows are out of order")
                if jump > 1:
                    yield from _backwards(db, table, row[0], reached)
                reached, jump = row[0], 1
                yield row
            return
        except sqlite3.DatabaseError as error:
            jump *= 2
            if broken is not None:
                broken.append(error)


def _pairs_in(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Pairs that are whole. A header that was made here may lead to another table's rows."""
    with suppress(sqlite3.Error):
        for number, text in db.execute("SELECT id, said FROM pairs ORDER BY id"):
            if unsealed_pair(text) is not None:
                yield number, text


def _keys_in(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Keys of ``dedupe=`` that are whole, as `_pairs_in`."""
    with suppress(sqlite3.Error):
        for row in db.execute("SELECT * FROM accepted_keys ORDER BY id"):
            if is_key(row):
                yield row


def _backwards(db: sqlite3.Connection, table: str, before: int, after: int) -> Iterator[tuple[Any, ...]]:
    with suppress(sqlite3.DatabaseError):
        yield from db.execute(f"SELECT * FROM {table} WHERE id < ? AND id > ? ORDER BY id DESC", (before, after))


def _by_leaves(copy: Path) -> Iterator[tuple[Any, ...]]:
    """Rows of all pages that look like leaves, of whichever table: for where a broken page has hidden whole ones.

    The table gets a root made here, under which some hundred leaves at a time are hung. What was deleted is not among
    them: it is overwritten (`PRAGMA secure_delete`).
    """
    with _opened(copy) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        table = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'calls'").fetchone()
        if table is None:
            return
        root = table[0]
    with open(open_private(copy), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        leaves = [at // PAGE + 1 for at in range(PAGE, len(pages) - PAGE + 1, PAGE) if pages[at] == LEAF]
    leaves = [number for number in leaves if number != root]
    bundles = [leaves[at : at + CHILDREN] for at in range(0, len(leaves), CHILDREN)]
    while bundles:
        bundle = bundles.pop()
        with _writable(copy) as writable:
            writable.seek((root - 1) * PAGE)
            writable.write(_inner_page(bundle))
        with _opened(copy) as db:
            try:
                yield from db.execute("SELECT * FROM calls").fetchall()
            except sqlite3.DatabaseError:
                if len(bundle) > 1:
                    bundles += [bundle[: len(bundle) // 2], bundle[len(bundle) // 2 :]]


def _inner_page(children: list[int]) -> bytes:
    """A page that leads to these. The ids between them are made up: a walk over all rows does not read them."""
    page, end = bytearray(PAGE), PAGE
    for n, child in enumerate(children[:-1]):
        cell = child.to_bytes(4, "big") + (bytes([n]) if n < 128 else bytes([0x80 | n >> 7, n & 127]))
        end -= len(cell)
        page[end : end + len(cell)] = cell
        page[12 + 2 * n : 14 + 2 * n] = end.to_bytes(2, "big")
    page[0] = INNER
    page[3:5] = (len(children) - 1).to_bytes(2, "big")
    page[5:7] = end.to_bytes(2, "big")
    page[8:12] = children[-1].to_bytes(4, "big")
    return bytes(page)


# ── the new one ──


@attrs.define
class _Restoring:
    """Writes what can be read into ``db``, row by row: a file may be larger than the memory."""

    db: sqlite3.Connection
    given: GivenIds
    damaged: Outcome
    calls: int = 0
    bytes: int = 0
    highest: int = -1

    def all_of(self, copy: Path) -> int | None:
        """How many calls are lost, if that can be known."""
        account, broken = None, list[Exception]()
        with suppress(sqlite3.Error, TypeError, ValueError), _opened(copy) as old:
            account = self._account(old)
            with suppress(sqlite3.Error):
                self.given.news = max(self.given.news, old.execute("SELECT max(id) FROM news").fetchone()[0] or 0)
            for table in ("about", "about_again", "parts", "requests", "files", "damaged"):
                with suppress(sqlite3.Error):
                    for row in old.execute(f"SELECT * FROM {table}"):
                        self._insert(table, row)
            for row in _pairs_in(old):
                self._insert("pairs", row)
            for row in _keys_in(old):
                self._insert("accepted_keys", row)
            for row in _by_id(old, "lost"):
                self._insert("lost", row)
            for row in _by_id(old, "calls", broken):
                self._call(row)
        if account is None or broken or self.calls < self._with_those_behind(account).waiting:
            with suppress(sqlite3.Error, TypeError, ValueError, OverflowError):  # what is damaged may be anything
                for row in _by_leaves(copy):
                    self._call(row)
        return self._settle(None if account is None else self._with_those_behind(account))

    def _with_those_behind(self, account: Account) -> Account:
        """The counts, with calls that were put behind the account, as far as any is known."""
        behind = max(self.given.next_id, self.highest + 1) - account.next_id
        return account.with_calls(behind, 0) if 0 < behind <= MOST_UNCOUNTED else account

    def _account(self, old: sqlite3.Connection) -> Account | None:
        with suppress(sqlite3.Error, TypeError, AttributeError):
            row = old.execute("SELECT said FROM account").fetchone()
            return account_in(row[0]) if row is not None else None
        return None

    def _insert(self, table: str, row: tuple[Any, ...]) -> bool:
        with suppress(sqlite3.Error, ValueError):  # it is not worse than that: text that is none
            query = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})"
            return self.db.execute(query, row).rowcount == 1
        return False

    def _call(self, row: tuple[Any, ...]) -> None:
        if _is_whole(row) and self._insert("calls", row):
            self.calls += 1
            self.bytes += row[6]
            self.highest = max(self.highest, row[0])

    def _settle(self, account: Account | None) -> int | None:
        known = account is not None
        lost = 0 if account is None else max(0, account.waiting - self.calls)
        account = account or Account(accepted=self.calls)
        account.conclude(self.damaged, lost, 0)
        account.accepted += max(0, self.calls - account.waiting)  # of an account that was older than the calls
        account.bytes = self.bytes
        account.keys = self.db.execute("SELECT count(*) FROM accepted_keys").fetchone()[0]
        account.next_id = max(account.next_id, self.given.next_id, self.highest + 1) + MARGIN
        self.db.execute("INSERT OR REPLACE INTO account VALUES (1, ?)", (sealed(account.as_dict()),))
        # All who listen hear of what comes after this.
        self.db.execute("INSERT INTO news VALUES (?, ?)", (self.given.news + MARGIN, sealed([])))
        return lost if known else None


def _is_whole(row: tuple[Any, ...]) -> bool:
    """A call with its checksum, and none of those that are lost, which have something else in the last field."""
    try:
        call_id, at, *stored, size, crc, sent = row
        return sent in (0, 1) and type(sent) is int and Stored(*stored).checksum(call_id, at, size) == crc
    except UNREADABLE:
        return False
