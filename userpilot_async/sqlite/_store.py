"""The file: every transaction in it, and what happens when disk or file fail. One thread uses one of these.

Journal: a write-ahead log, so that a commit is one sync, and readers and the writer are not in each other's way.
SQLite up to 3.51.2 can lose committed rows then, if one connection writes while another one checkpoints
(sqlite.org/wal.html#walresetbug, read 2026-11). Both happen only under `Lock` here, which all processes take in turn:
two at once cannot be. Considered: a rollback journal up to that version (three syncs a commit instead of one, and
writers that sleep in SQLite's busy handler), and a file for each process (no order between them).
"""

from __future__ import annotations

import errno
import math
import os
import resource
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs

from .._account.shared_ledger import Account
from .._calls.payload import ticket_accepted_at
from .._calls.stored import Concluded
from .._errors.tree import OutboxError
from .._outbox.batch import Batch, Committed
from .._outbox.window import Read, Reading
from .._runtime import clocks
from .._runtime.database_files import DatabaseFile, inode_of
from .._runtime.private_files import UnsafeFile, create_private, is_there, make_folders
from .._schedule.calendar import EARLIEST
from .._schedule.takeover import Takeover
from . import _salvage
from ._locks import Lock
from ._own import Found, find, open_database
from ._salvage import PAGE
from ._schema import look, prepare
from ._tables import DAMAGED, Tables

T = TypeVar("T")
Durability = Literal["power", "process"]
Fingerprint = Callable[[bytes], str]
SYNCHRONOUS = {"power": "FULL", "process": "NORMAL"}

BALLAST = 1024 * 1024  # bytes kept beside the file, given up when the disk is full: more than 50 transactions
LOG = 1_000  # pages of the log at which SQLite writes it back into the file; its own default
SHORT_LOG = 64  # the same without ballast: a quarter of it, for the file itself must have room to grow, too
BALLAST_PAUSE = 1.0  # seconds between two tries to have it again; without it the file takes no calls
PATIENCE = 30.0  # seconds that opening waits for its turn, before it fails
WORRY = 2.0  # seconds after which waiting for a turn is worth a line in the log
REPAIR_PAUSE = 60.0  # seconds: a repair that did not help will not help again at once, and each keeps a copy
FAILURES = (OSError, sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError)
"""What disk, file and SQLite raise, whatever is wrong with them. What is not among these is a bug of this library."""
REBIND = "say so: `userpilot-async outbox rebind`, or SQLiteOutbox(..., rebind=True)"


class Interrupted(Exception):
    """There is no more time to wait for the file's lock."""


class File:
    """``pause`` waits for so many seconds, and is true when there is no more waiting.

    ``wall`` is the calendar, ``steady`` the clock that is never set, ``boot`` says in which run of the machine this is.
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
        self._name = str(path)
        self._ballast = path.with_name(path.name + ".ballast")
        self._durability = durability
        self._pause = pause
        self._wall = wall
        self._steady = steady
        self._boot = boot
        self._warn = warn
        self._connection: sqlite3.Connection | None = None
        self._held: DatabaseFile | None = None
        self._log = LOG
        self._heard = 0
        self._next_id = 0
        self._version = -1
        self._last: tuple[Account, int | None] | None = None  # what the file held then, and the oldest call in it
        self._ballast_tried_at = -math.inf
        self._about: Mapping[str, Any] | None = None
        self._repair_after = 0.0
        self._busy = threading.Lock()
        _files.add(self)

    # ── opening and closing ──

    def open(
        self,
        destination: str,
        fingerprint: Fingerprint,
        old_fingerprint: Fingerprint = lambda salt: "",
        *,
        rebind: bool = False,
    ) -> Committed:
        """Create, migrate or repair it as need be; the fingerprints are as in `Opening`. Raises `OutboxError`."""
        try:
            self.find()
            make_folders(self.path.parent)
        except OSError as error:
            raise OutboxError(f"{self.path} cannot be opened: {_why(error)}") from error
        try:
            now = self._mending("opened", lambda: self._open(destination, fingerprint, old_fingerprint, rebind))
        except OutboxError as error:
            words = str(error)
            raise OutboxError(words if words.startswith(self._name) else f"{self._name} {words}") from error.__cause__
        self._next_id = now.account.next_id
        return now

    def find(self) -> Found:
        """What is there. A file that was named by mistake stays as it is, and nothing is made beside it.

        Raises `OutboxError` for such a one, and `OSError`.
        """
        return find(self._given, self.path)

    def _open(
        self, destination: str, fingerprint: Fingerprint, old_fingerprint: Fingerprint, rebind: bool
    ) -> Committed:
        try:
            _salvage.resume(self.path)
            _salvage.make_kept_private(self.path)
            self._create()
            self._connect()
        except (OSError, sqlite3.OperationalError) as error:
            self._disconnect()
            if not _is_full(error) or not self._give_up_ballast():
                raise
            self._connect()
        self._bind(destination, fingerprint, old_fingerprint, rebind)
        self._has_ballast()
        with self._transaction():  # a file that cannot be written is no outbox
            pass
        self._begin_dates()
        self._heard = self.tables.newest_news()
        return self._read_account()

    def close(self) -> None:
        """Let go of everything. The last one to do so leaves one file behind, without a log beside it."""
        if self._connection is not None:  # or there were a lock beside what was refused
            with suppress(*FAILURES, Interrupted), self._in_turn():
                self._disconnect()
        with self._busy:
            self._disconnect()
        self.lease.close()
        self.turn.close()

    def _create(self) -> None:
        with suppress(FileExistsError):
            os.close(create_private(self.path))
            _salvage.sync_folder(self.path)  # a power cut must not take away the name of what is synced

    def _connect(self) -> None:
        self._disconnect()  # a repair has opened it already
        held = self.hold()
        look(self.path)
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5.0)
        self._connection, self._version, self._last, self._log = connection, -1, None, LOG
        self.tables = Tables(connection, self._wall)
        connection.text_factory = _decoded
        if not held.size:
            prepare(connection)  # before there is a log: the version must be in the file itself, for `look`
        journal = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if journal != "wal":
            raise OutboxError(f"is on a file system without shared memory, which a write-ahead log needs ({journal})")
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[self._durability]}")
        # What was delivered is nobody's business any more, and must not be found among what is salvaged.
        connection.execute("PRAGMA secure_delete = ON")
        self._limit(connection, LOG if is_there(self._ballast) else SHORT_LOG)
        prepare(connection)
        held.confirm()

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

    def hold(self) -> DatabaseFile:
        """The file and what lies beside it, private from now on, until `_disconnect`; before SQLite opens them."""
        self._held = open_database(self.path)
        self._held.make_private()
        return self._held

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        held, self._held = self._held, None
        if connection is not None:
            with suppress(*FAILURES):
                connection.close()
        if held is not None:
            held.close()

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        """The connection; a new one, if the file is not the one that was opened. The caller holds the turn."""
        there = os.lstat(self._name)  # raises where it was removed: a new one would be empty
        if self._connection is not None and self._held is not None and inode_of(there) == self._held.inode:
            return self._connection
        self._disconnect()
        self._connect()
        return self._db

    def _bind(self, destination: str, fingerprint: Fingerprint, old_fingerprint: Fingerprint, rebind: bool) -> None:
        about = self.tables.about()
        if about is None and self.tables.account().waiting and not rebind:
            raise OutboxError(f"does not say any more whose calls it has, for that is damaged; {REBIND}")
        if about is None or rebind:
            dates = self.tables.read_dates()
            if dates.offset is None:
                dates.opened(self._boot(), self._offset(), 0)
            about = {"destination": destination, **_salted(fingerprint), "dates": dates.as_dict()}
            with self._transaction():
                self.tables.write_about(about)
        elif about["destination"] != destination:
            raise OutboxError(f"has calls for {about['destination']}, not for {destination}")
        elif about["fingerprint"] == old_fingerprint(bytes.fromhex(about["salt"])):
            about = {**about, **_salted(fingerprint)}
            try:
                with self._transaction():
                    self.tables.write_about(about)
            except sqlite3.OperationalError as error:
                if not _is_full(error):
                    raise  # else it is written when it is opened again, and calls can be delivered before
        elif about["fingerprint"] != fingerprint(bytes.fromhex(about["salt"])):
            raise OutboxError(
                f"has calls for the account of another API key. If it is the same one, with a new key, {REBIND}"
            )
        self._about = about

    # ── transactions ──

    @contextmanager
    def _in_turn(self, patience: float = math.inf) -> Iterator[None]:
        began = time.monotonic()

        def pause(seconds: float) -> bool:
            waited = time.monotonic() - began
            if waited > WORRY:
                self._warn(f"{self.path} is locked: another process has had it for seconds; see which one that is")
            return self._pause(seconds) or waited > patience

        if not self.turn.take(pause):
            raise Interrupted
        try:
            with self._busy:
                yield
        finally:
            self.turn.release()

    def _mending(self, what: str, do: Callable[[], T]) -> T:
        """Do something when it is this process's turn; and again, once repaired, if the file proves to be damaged.

        Raises `OutboxError`, saying that the file cannot be opened, read, or written.
        """
        try:
            with self._in_turn(PATIENCE if what == "opened" else math.inf):
                try:
                    try:
                        return do()
                    except sqlite3.DatabaseError as error:
                        if self._is_damage(error):
                            self._repair(error)
                        elif what == "read" and _is_full(error):  # whoever takes over has to note that
                            self._give_up_ballast()
                            self._shorten_log()
                        else:
                            raise
                        return do()
                except (*FAILURES, OutboxError):
                    self._disconnect()
                    raise
        except FAILURES as error:
            raise OutboxError(f"{self.path} cannot be {what}: {_why(error)}") from error

    # ── the calendar ──

    def _offset(self) -> float:
        return clocks.offset(self._wall, self._steady)

    def _begin_dates(self) -> None:
        """Note where the calendar is now, and whether it was set since that was noted last."""
        try:
            with self._transaction():
                step = self.tables.read_dates().opened(self._boot(), self._offset(), self.tables.account().next_id)
                if step is not None:
                    self.tables.write_dates(step)
        except sqlite3.OperationalError as error:
            if not _is_full(error):
                raise
            self._shorten_log()  # what is written next sees by the new connection that there is something to note

    def _notice(self, next_id: int, *, known: bool = False) -> float:
        """Note, before anything else is dated or compared, that the calendar was set, if nobody has yet.

        The caller has a transaction, and dates calls by the offset that this gives. ``known``: nobody else has written
        since the dates were read.
        """
        offset = self._offset()
        dates = self.tables.dates if known else self.tables.read_dates()
        if dates.moved(offset):
            self.tables.write_dates(dates.stepped(self._boot(), offset, next_id))
        return offset

    def _keep_dates(self, version: int) -> float:
        """The same, outside of a transaction, when the file's version is this."""
        offset = self._offset()
        dates = self.tables.dates if version == self._version else self.tables.read_dates()
        if dates.moved(offset):
            with self._changing() as account:
                self._notice(account.next_id)
        return offset

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connected()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            with suppress(*FAILURES):
                if db.in_transaction:
                    db.execute("ROLLBACK")
            raise

    def commit(self, take: Callable[[], Batch]) -> Committed:
        """Write the batch that ``take`` gives, once it is this process's turn. `OutboxError`: nothing is written.

        On a full disk new calls fail, and what became of others is written all the same.
        """
        taken: list[Batch] = []

        def write() -> Committed:
            if not taken:
                taken.append(take())
            try:
                return self._commit(taken[0])
            except BaseException:
                for request in taken[0].requests:
                    request.number = None  # of a transaction that came to nothing
                raise

        return self._mending("written", write)

    def _commit(self, batch: Batch) -> Committed:
        failed = self._why_no_calls() if batch.puts else None
        if failed is not None and not batch.has_notes():
            raise failed
        try:
            return self._write(batch, failed)
        except sqlite3.IntegrityError:
            self._set_strangers_aside()
        except (OSError, sqlite3.OperationalError):
            self._shorten_log()
        try:
            return self._write(batch, failed)
        except (OSError, sqlite3.OperationalError) as error:
            if not batch.has_notes() or not _is_full(error):
                raise
            self._give_up_ballast()
            self._shorten_log()
            failed = OutboxError(f"{self.path} cannot be written: {_why(error)}")
            return self._write(batch, failed if batch.puts else None)

    def _write(self, batch: Batch, puts_failed: OutboxError | None = None) -> Committed:
        forgotten = 0
        with self._transaction() as db:
            tables, version = self.tables, db.execute("PRAGMA data_version").fetchone()[0]
            known = self._last is not None and version == self._version  # nobody else has written since
            if self._last is not None and known:
                account, oldest = self._last
                account, heard, heard_to = account.copy(), list[Concluded](), self._heard
            else:
                account, (heard, heard_to), oldest = tables.account(), tables.news(self._heard), tables.oldest()
            if account.next_id < self._next_id:
                raise OutboxError(f"{self.path} was replaced by an older file")
            offset = self._notice(account.next_id, known=known)
            first_put = account.next_id
            if batch.puts and puts_failed is None:
                tables.put(batch.puts, account, offset)
                oldest = first_put if oldest is None else oldest
            said: list[Concluded] = []
            if batch.has_notes():
                # Under the turn: who has a lease of their own meanwhile has not begun, or sees what is noted here.
                said = tables.write_notes(batch, account, may_send=self.lease.still_held())
                forgotten = tables.forget(account) if batch.lost else 0
                heard_to = tables.write_news(said, heard_to)
                oldest = tables.oldest()
            tables.write_account(account)
        self._heard, self._next_id = heard_to, account.next_id
        self._last, self._version = (account, oldest), version
        if forgotten:
            remedy = "take them out by `userpilot-async outbox dead` or `retry`"
            self._warn(f"{self.path} keeps no more lost calls than this, and forgets the oldest; {remedy}")
        return Committed(account, oldest, heard, said, first_put, puts_failed)

    def _set_strangers_aside(self) -> None:
        """Another program has written rows under ids that nobody was given yet: they are in the way of our calls."""
        with self._changing() as account:
            strangers = self.tables.strangers(account)
            self.tables.set_aside(strangers, account)
        self._warn(f"{len(strangers)} rows of {self.path} that are no calls of ours were set aside")

    # ── reading ──

    def look(self) -> Committed | None:
        """What others have done, if they have done anything. Raises `OutboxError`."""
        return self._mending("read", self._look)

    def _look(self) -> Committed | None:
        version = self._connected().execute("PRAGMA data_version").fetchone()[0]
        self._keep_dates(version)
        if version == self._version:
            return None
        self._version = version
        return self._read_account()

    def _read_account(self) -> Committed:
        db = self._connected()
        db.execute("BEGIN")
        try:
            account, (heard, self._heard) = self.tables.account(), self.tables.news(self._heard)
            oldest = self.tables.oldest()
        finally:
            db.execute("COMMIT")
        self._last = (account, oldest)
        return Committed(account, oldest, heard)

    def read(self, reading: Reading) -> Read:
        """The calls that are asked for. Rows whose checksum is wrong are set aside. Raises `OutboxError`."""
        return self._mending("read", lambda: self._read(reading))

    def _read(self, reading: Reading) -> Read:
        offset = self._keep_dates(self._connected().execute("PRAGMA data_version").fetchone()[0])
        read, damaged = self.tables.read(reading)
        if any(ticket_accepted_at(one.ticket) < EARLIEST for one in read.found) and self._wall() >= EARLIEST:
            with self._changing() as account:
                self.tables.read_dates().first_seen(self._wall(), account.next_id)
                self.tables.write_dates(0.0)
            read, damaged = self.tables.read(reading)
        if damaged:
            with self._changing() as account:
                self.tables.write_news(self.tables.set_aside(damaged, account), self.tables.newest_news())
            self._warn(f"damaged rows of {self.path} were set aside", len(damaged))
        return attrs.evolve(read, offset=offset)

    def reconcile(self, read_to: int) -> int | None:
        """Does the file hold what the account says? For a sender that has read so far, and has nothing in hand.

        A damaged tree may lead to fewer rows than there were, and look whole: those are lost. Or to rows out of order:
        this is the first one that is to be read again. Raises `OutboxError`.
        """
        return self._mending("read", lambda: self._reconcile(read_to))

    def _reconcile(self, read_to: int) -> int | None:
        with self._changing() as account:
            missing, overlooked = self.tables.reconcile(account, read_to)
        if missing:
            self._warn(f"{self.path} does not have them any more: it is damaged", missing)
        return overlooked

    @contextmanager
    def _changing(self) -> Iterator[Account]:
        """The account, to be changed by other things than a batch; this process, too, hears of it by looking."""
        with self._transaction():
            account = self.tables.account()
            yield account
            self.tables.write_account(account)
        self._version, self._last = -1, None

    def inherit(self) -> tuple[Takeover, Committed]:
        """What the sender before has left, for whoever has the lease now. Raises `OutboxError`."""
        return self._mending("read", self._inherit)

    def _inherit(self) -> tuple[Takeover, Committed]:
        with self._changing() as account:
            self._notice(account.next_id)
            inheritance = self.tables.inherit(account)
        return inheritance, self._read_account()

    # ── when disk or file fail ──

    def _is_damage(self, error: sqlite3.DatabaseError) -> bool:
        """It is the file's fault, and nobody has just repaired it; and it was an outbox before, and no file that
        somebody named by mistake.
        """
        if type(error) is not sqlite3.DatabaseError or time.monotonic() < self._repair_after:
            return False
        return self._about is not None or self._ballast.exists() or self.lease.path.exists()

    def _repair(self, error: sqlite3.DatabaseError) -> None:
        """Put the file aside, and go on with what can be read of it. The caller holds the turn."""
        self._repair_after = time.monotonic() + REPAIR_PAUSE
        self._disconnect()
        _salvage.resume(self.path)
        folder, size = os.statvfs(self.path.parent), _salvage.size_of(self.path)
        if folder.f_bavail * folder.f_frsize < 2 * size:
            raise OutboxError(f"{self.path} is damaged ({_why(error)}), and to save it {2 * size:,} bytes must be free")
        lost, quarantine = _salvage.replace(self.path, _salvage.Known(self._next_id, self._heard), DAMAGED)
        self._connect()
        if self._about is not None:
            with self._transaction():
                self.tables.write_about(self.tables.about() or self._about)
        found = f"{self.path} is damaged ({_why(error)}), and is kept as {quarantine.name}"
        if lost is None:
            self._warn(f"{found}; its account cannot be read, so how many calls are lost is not known")
        else:
            self._warn(found if lost else f"{found}; no call is lost", lost)

    def _why_no_calls(self) -> OutboxError | None:
        """What keeps new calls from being written; ``None`` if nothing does."""
        try:
            if self._has_ballast() or self._has_free_pages():
                return None
        except UnsafeFile as error:
            return OutboxError(f"{self.path} takes no calls: {error.strerror}")
        return OutboxError(f"{self.path} takes no calls: the disk is full")

    def _has_ballast(self) -> bool:
        """There is room for notes beside the calls; where there was none, look again once in a while.

        Raises `UnsafeFile` if something else is in its place.
        """
        if is_there(self._ballast):
            return True
        if self._steady() - self._ballast_tried_at < BALLAST_PAUSE:
            return False
        self._ballast_tried_at = self._steady()
        with suppress(OSError):
            folder = os.statvfs(self.path.parent)
            if folder.f_bavail * folder.f_frsize > 2 * BALLAST:
                descriptor = create_private(self._ballast)
                try:
                    written = os.write(descriptor, bytes(BALLAST))
                finally:
                    os.close(descriptor)
                if written == BALLAST:
                    if self._connection is not None:
                        with suppress(*FAILURES):  # then the log stays short
                            self._limit(self._connection, LOG)
                    return True
                self._ballast.unlink()
        return False

    def _has_free_pages(self) -> bool:
        """Calls that have gone have left room in the file itself."""
        return int(self._connected().execute("PRAGMA freelist_count").fetchone()[0]) * PAGE > BALLAST

    def _give_up_ballast(self) -> bool:
        """The disk is full: make room for notes; false if that has been done before."""
        self._ballast_tried_at = self._steady()
        try:
            self._ballast.unlink()
        except OSError:
            return False
        return True

    def _shorten_log(self) -> None:
        """Begin it anew, if it cannot grow; on a new connection, in case it is the connection that is at fault."""
        self._disconnect()
        with suppress(*FAILURES):
            self._connected().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")  # of a damaged row


def _salted(fingerprint: Fingerprint) -> dict[str, str]:
    """Of the key, with a salt that no other has."""
    salt = os.urandom(16)
    return {"salt": salt.hex(), "fingerprint": fingerprint(salt)}


def _is_full(error: Exception) -> bool:
    """It wants room: of the disk, a quota, or a limit."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "full" in str(error) or "disk I/O" in str(error)


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"{error} (is the disk full?)" if str(error) == "disk I/O error" else str(error) or type(error).__name__


_files: weakref.WeakSet[File] = weakref.WeakSet()
_held: list[File] = []
_forking = threading.Lock()  # two threads may fork at once


def _before_fork() -> None:
    """No connection goes across a fork, nor a lock that is held within SQLite.

    Its list of its POSIX locks would: a child that opens the file itself would take none, for it believes to have them
    already, and be in the way of nobody who deletes the log. The parent opens a new connection when it next needs one.
    """
    _forking.acquire()
    for file in list(_files):
        file._busy.acquire()
        file._disconnect()
        _held.append(file)


def _after_fork() -> None:
    while _held:
        _held.pop()._busy.release()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
