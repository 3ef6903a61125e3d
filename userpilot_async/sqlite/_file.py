"""The file: its locks, its connection, its transactions, and room on the disk. One thread uses one of these.

Journal: a write-ahead log, so that a commit is one sync, and readers and the writer are not in each other's way.
SQLite up to 3.51.2 can lose committed rows then, if one connection writes while another one checkpoints
(sqlite.org/wal.html#walresetbug, read 2026-11). Both happen only under `Lock` here, which all processes take in turn:
two at once cannot be. Considered: a rollback journal up to that version (three syncs a commit instead of one, and
writers that sleep in SQLite's busy handler), and a file for each process (no order between them).
"""

from __future__ import annotations

import math
import os
import resource
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from .._errors.tree import OutboxError
from .._outbox.store import NotNow
from .._runtime import clocks
from .._runtime.database_files import DatabaseFile, inode_of
from .._runtime.private_files import create_private
from . import _quarantine
from ._ballast import BALLAST, Ballast
from ._failures import FAILURES
from ._locks import InTurn, Lock
from ._own import Found, find, open_database
from ._salvage import PAGE
from ._schema import check_version, prepare
from ._tables import Tables
from ._transactions import atomic

Durability = Literal["power", "process"]
SYNCHRONOUS = {"power": "FULL", "process": "NORMAL"}

LOG = 1_000  # pages of the log at which SQLite writes it back into the file; its own default
SHORT_LOG = 64  # the same without ballast: a quarter of it, for the file itself must have room to grow, too
WORRY = 2.0  # seconds after which waiting for a turn is worth a line in the log


class File:
    """A file at ``path``, in which nothing is connected yet.

    ``pause`` waits for so many seconds, and is true when there is no more waiting. ``wall`` is the calendar, ``steady``
    the clock that is never set, ``boot`` says in which run of the machine this is.
    """

    def __init__(
        self,
        path: Path,
        durability: Durability,
        *,
        pause: Callable[[float], bool],
        wall: Callable[[], float] = clocks.wall,
        steady: Callable[[], float] = clocks.steady,
        boot: Callable[[], clocks.Boot | None] = clocks.boot_here,
        warn: Callable[..., object] = lambda message, lost=0: None,
    ) -> None:
        self._given = path
        self.path = path = Path(os.path.realpath(path))  # or a link to it would have locks of its own
        self.turn = Lock(path.with_name(path.name + ".lock"))
        self.lease = Lock(path.with_name(path.name + ".lease"))
        self.ballast = Ballast(path.with_name(path.name + ".ballast"), steady)
        self.wall, self.steady, self.boot = wall, steady, boot
        self.warn = warn
        self._name = str(path)
        self._durability = durability
        self._pause = pause
        self._connection: sqlite3.Connection | None = None
        self._held: DatabaseFile | None = None
        self._log = LOG
        self._busy = threading.Lock()
        _files.add(self)

    @property
    def offset(self) -> float:
        """From the steady clock to the calendar of now, in seconds."""
        return clocks.offset(self.wall, self.steady)

    def find(self) -> Found:
        """Find out what is there. A file that was named by mistake stays as it is, and nothing is made beside it.

        Raises `OutboxError` for such a one, and `OSError`.
        """
        return find(self._given, self.path)

    def create(self) -> None:
        """Make an empty file, if none is there. Raises `OSError`."""
        with suppress(FileExistsError):
            os.close(create_private(self.path))
            _quarantine.sync_folder(self.path)  # a power cut must not take away the name of what is synced

    # ── the connection ──

    @property
    def is_connected(self) -> bool:
        """The file is open, and SQLite has it."""
        return self._connection is not None

    @property
    def db(self) -> sqlite3.Connection:
        """The connection that is there. Raises `RuntimeError` where none is."""
        if self._connection is None:
            raise RuntimeError(f"{self._name} is not connected")
        return self._connection

    def connected(self) -> sqlite3.Connection:
        """The connection; a new one, if the file is not the one that was opened. The caller holds the turn."""
        there = os.lstat(self._name)  # raises where it was removed: a new one would be empty
        if self._connection is not None and self._held is not None and inode_of(there) == self._held.inode:
            return self._connection
        self.connect()
        return self.db

    def connect(self) -> None:
        """Open the file anew, and bring it to the newest version. Raises `OutboxError`, and one of `FAILURES`."""
        self.disconnect()  # a repair has opened it already
        held = self.hold()
        check_version(self.path)
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5.0)
        self._log = LOG
        self._use(connection)
        if not held.size:
            prepare(connection)  # before there is a log: the version must be in the file itself, for `check_version`
        journal = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if journal != "wal":
            raise OutboxError(f"is on a file system without shared memory, which a write-ahead log needs ({journal})")
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[self._durability]}")
        # What was delivered must not be found among what is salvaged.
        connection.execute("PRAGMA secure_delete = ON")
        self._limit(connection, LOG if self.ballast.is_there() else SHORT_LOG)
        prepare(connection)
        held.confirm()

    @contextmanager
    def visited(self, database: str) -> Iterator[None]:
        """A connection to this database (a path or URI of SQLite's) for a while, which changes nothing by itself."""
        try:
            self._use(sqlite3.connect(database, uri=True, timeout=5.0, isolation_level=None))
            yield
        finally:
            self.disconnect()

    def _use(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = _decoded
        self._connection, self.tables = connection, Tables(connection, self.wall)

    def hold(self) -> DatabaseFile:
        """The file and what lies beside it, private from now on, until `disconnect`; before SQLite opens them."""
        self._held = open_database(self.path)
        self._held.make_private()
        return self._held

    def disconnect(self) -> None:
        """Let go of the connection and of the files, if there are any."""
        connection, self._connection = self._connection, None
        held, self._held = self._held, None
        if connection is not None:
            with suppress(*FAILURES):
                connection.close()
        if held is not None:
            held.close()

    def close(self) -> None:
        """Let go of everything. The last one to do so leaves one file behind, without a log beside it."""
        if self._connection is not None:  # or there were a lock beside what was refused
            with suppress(*FAILURES, NotNow), self.in_turn():
                self.disconnect()
        with self._busy:
            self.disconnect()
        self.let_go_of_locks()

    def let_go_of_locks(self) -> None:
        """Let others have their turn, and the lease."""
        self.lease.close()
        self.turn.close()

    # ── turns and transactions ──

    def in_turn(self, patience: float = math.inf) -> InTurn:
        """Wait for this process's turn, and have it. Raises `NotNow` after ``patience`` seconds."""
        return InTurn(self.turn, self._busy, lambda: self._wait_for_turn(patience))

    def _wait_for_turn(self, patience: float) -> None:
        began = time.monotonic()

        def pause(seconds: float) -> bool:
            waited = time.monotonic() - began
            if waited > WORRY:
                self.warn(f"{self.path} is locked: another process has had it for seconds; see which one that is")
            return self._pause(seconds) or waited > patience

        if not self.turn.take(pause):
            raise NotNow

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done with the connection meanwhile, or nothing of it. The caller holds the turn."""
        db = self.connected()
        with atomic(db):
            yield db

    # ── room on the disk ──

    def has_room(self) -> bool:
        """New calls leave enough room for notes: ballast, or pages that calls have left in the file itself.

        Raises `UnsafeFile` if something else is in the ballast's place.
        """
        free_pages = "PRAGMA freelist_count"
        return self.has_ballast() or int(self.connected().execute(free_pages).fetchone()[0]) * PAGE > BALLAST

    def has_ballast(self) -> bool:
        """There is room for notes beside the calls; where there was none, that is checked again once in a while.

        Raises `UnsafeFile` if something else is in its place.
        """
        if self.ballast.is_there():
            return True
        made = self.ballast.make()
        if made and self._connection is not None:
            with suppress(*FAILURES):  # then the log stays short
                self._limit(self._connection, LOG)
        return made

    def _limit(self, connection: sqlite3.Connection, log: int) -> None:
        """Have the log written back when it has so many pages, or before there is no room for it in the file."""
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if most != resource.RLIM_INFINITY:
            # What a file may grow to: the log has to fit into it, too, before it is checkpointed, and then into the
            # file. One that is full this way says so cleanly, and notes can still be written over what has gone.
            connection.execute(f"PRAGMA max_page_count = {max(1, most * 3 // 4 // PAGE)}")
            log = max(1, min(log, most // 4 // PAGE))
        if log != self._log:
            connection.execute(f"PRAGMA wal_autocheckpoint = {log}")
            self._log = log

    def shorten_log(self) -> None:
        """Begin the log anew, if it cannot grow; on a new connection, in case that is what is at fault."""
        self.disconnect()
        with suppress(*FAILURES):
            self.connected().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")  # of a damaged row


_files: weakref.WeakSet[File] = weakref.WeakSet()
_held: list[File] = []
_forking = threading.Lock()  # two threads may fork at once


def _before_fork() -> None:
    """No connection goes across a fork, nor a lock that is held within SQLite.

    Its list of its POSIX locks would: a child that opens the file itself would take none, for it believes to have them
    already, and the log could be deleted under it. The parent opens a new connection when it next needs one.
    """
    _forking.acquire()
    for file in list(_files):
        file._busy.acquire()
        file.disconnect()
        _held.append(file)


def _after_fork() -> None:
    while _held:
        _held.pop()._busy.release()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
