"""A file as a `Store`: every transaction of an outbox in it, and what happens when disk or file fail."""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import attrs

from .._account.account import Account
from .._calls.pairs import Pair
from .._calls.payload import ticket_accepted_at
from .._calls.stored import Concluded
from .._errors.tree import OutboxError
from .._outbox.batch import Batch
from .._outbox.owner import Claim
from .._outbox.store import Committed, Lead, NotNow
from .._outbox.window import Read, Reading
from .._runtime.private_files import UnsafeFile, make_folders
from .._schedule.calendar import EARLIEST
from .._schedule.takeover import Takeover
from . import _quarantine
from ._append import append
from ._binding import About, bind
from ._failures import FAILURES, is_full, why
from ._file import File
from ._keys import MOST_KEYS, NOTHING_PUT
from ._repair import Repair
from ._salvage import GivenIds
from ._schema import NewerVersion
from ._transactions import data_version

T = TypeVar("T")

PATIENCE = 30.0  # seconds that opening waits for its turn, before it fails


class SQLiteStore:
    """A file, from which this process sends if it ``may_send``, and no other process does. ``learn`` hears of pairs."""

    def __init__(
        self, file: File, *, may_send: bool = True, learn: Callable[[Sequence[Pair]], object] = lambda pairs: None
    ) -> None:
        self.file = file
        self._learn = learn
        self.leads = False
        self._may_send = may_send
        self._heard = 0
        self._next_id = 0
        self._about: About | None = None
        self._is_outdated = False  # a newer version of this library has changed the file
        self._repair = Repair(file)

    # ── opening and closing ──

    def open(self, claim: Claim) -> Committed:
        """Create, migrate or repair the file as need be. Raises `OutboxError`."""
        path = str(self.file.path)
        try:
            self.file.find()
            make_folders(self.file.path.parent)
        except OSError as error:
            raise OutboxError(f"{path} cannot be opened: {why(error)}") from error
        try:
            now = self._mending("opened", lambda: self._open(claim))
        except NotNow:
            raise OutboxError(f"{path}: another process has kept it locked for {PATIENCE:.0f} s") from None
        self._next_id = now.account.next_id
        return now

    def _open(self, claim: Claim) -> Committed:
        file = self.file
        try:
            _quarantine.resume(file.path)
            _quarantine.make_kept_private(file.path)
            file.create()
            file.connect()
        except (OSError, sqlite3.OperationalError) as error:
            file.disconnect()
            if not is_full(error) or not file.ballast.give_up():
                raise
            file.connect()
        self._about = bind(file, claim)
        file.has_ballast()
        with file.transaction():  # a file that cannot be written is no outbox
            pass
        self._begin_dates()
        self._heard = file.tables.newest_news()
        return self._read_account()

    def close(self) -> None:
        """Let go of everything. The last one to do so leaves one file behind, without a log beside it."""
        self._count()
        self.file.close()

    def _count(self) -> None:
        """Have the account hold what this process has appended, so that a file at rest can be compared with it."""
        if not (self.file.is_connected and self.file.tables.uncounted):
            return
        with suppress(*FAILURES, OutboxError, NotNow), self.file.in_turn(), self._changing():
            pass

    def ready(self) -> bool:
        """A file is there whenever it is this process's turn."""
        return True

    def _mending(self, what: str, do: Callable[[], T]) -> T:
        """Do something when it is this process's turn; and again, once repaired, if the file proves to be damaged.

        Raises `OutboxError`, saying that the file cannot be opened, read, or written (``what``).
        """
        try:
            with self.file.in_turn(PATIENCE if what == "opened" else math.inf):
                try:
                    try:
                        return do()
                    except sqlite3.DatabaseError as error:
                        if self._repair.helps(error, is_outbox=self._about is not None):
                            self._repair.do(error, GivenIds(self._next_id, self._heard), self._about)
                        elif what == "read" and is_full(error):  # the next sender has to note that
                            self.file.ballast.give_up()
                            self.file.shorten_log()
                        else:
                            raise
                        return do()
                except (*FAILURES, OutboxError):
                    self.file.disconnect()
                    raise
        except FAILURES as error:
            raise OutboxError(f"{self.file.path} cannot be {what}: {why(error)}") from error
        except OutboxError as error:
            self._is_outdated = self._is_outdated or isinstance(error, NewerVersion)
            words, path = str(error), str(self.file.path)
            raise OutboxError(words if words.startswith(path) else f"{path} {words}") from error.__cause__

    # ── the calendar ──

    def _begin_dates(self) -> None:
        """Note where the calendar is now, and whether it was set since that was noted last."""
        file = self.file
        try:
            with file.transaction():
                tables = file.tables
                step = tables.read_dates().opened(file.boot(), file.offset, tables.account().next_id)
                if step is not None:
                    tables.write_dates(step)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            file.shorten_log()  # what is written next sees by the new connection that there is something to note

    def _notice(self, next_id: int, *, known: bool = False) -> float:
        """Note, before anything else is dated or compared, that the calendar was set, if that was not noted yet.

        The caller has a transaction, and dates calls by the offset that this gives. ``known``: no other process has
        written since the dates were read.
        """
        file = self.file
        offset = file.offset
        dates = file.tables.dates if known else file.tables.read_dates()
        if dates.moved(offset):
            file.tables.write_dates(dates.stepped(file.boot(), offset, next_id))
        return offset

    def _keep_dates(self, version: int) -> float:
        """Note the calendar outside of a transaction, when the file's version is this; the offset."""
        tables, offset = self.file.tables, self.file.offset
        dates = tables.dates if version == tables.version else tables.read_dates()
        if dates.moved(offset):
            with self._changing() as account:
                self._notice(account.next_id)
        return offset

    # ── writing ──

    def commit(self, take: Callable[[], Batch]) -> Committed:
        """Write the batch that ``take`` gives, once it is this process's turn. `OutboxError`: nothing is written.

        On a full disk new calls fail, and what became of others is written all the same.
        """
        return self._mending("written", lambda: self._commit(take()))

    def _commit(self, batch: Batch) -> Committed:
        appended = self._append(batch) if batch.only_puts() else None
        if appended is not None:
            return appended
        try:
            return self._write_or_fail(batch)
        except BaseException:
            for request in batch.requests:
                request.number = None  # of a transaction that came to nothing
            raise

    def _write_or_fail(self, batch: Batch) -> Committed:
        failed = self._why_no_calls() if batch.puts else None
        if failed is not None and not batch.has_notes():
            raise failed
        try:
            return self._write(batch, failed)
        except sqlite3.IntegrityError:
            self._set_strangers_aside()
        except (OSError, sqlite3.OperationalError):
            self.file.shorten_log()
        try:
            return self._write(batch, failed)
        except (OSError, sqlite3.OperationalError) as error:
            if not batch.has_notes() or not is_full(error):
                raise
            self.file.ballast.give_up()
            self.file.shorten_log()
            failed = OutboxError(f"{self.file.path} cannot be written: {why(error)}")
            return self._write(batch, failed if batch.puts else None)

    def _append(self, batch: Batch) -> Committed | None:
        try:
            appended = append(self.file, batch, self._next_id)
        except (OSError, sqlite3.IntegrityError, sqlite3.OperationalError):
            return None  # what is wrong will be met again, where something is done about it
        if appended is not None:
            self._next_id = appended.account.next_id
        return appended

    def _write(self, batch: Batch, puts_failed: OutboxError | None = None) -> Committed:
        forgotten = 0
        with self.file.transaction() as db:
            tables, version = self.file.tables, data_version(db)
            known = tables.last is not None and version == tables.version  # no other process has written since
            if tables.last is not None and known:
                account, oldest = tables.last
                account, heard, heard_to = account.copy(), list[Concluded](), self._heard
            else:
                account, (heard, heard_to), oldest = tables.account(), tables.news(self._heard), tables.oldest()
            if account.next_id < self._next_id:
                raise OutboxError(f"{self.file.path} was replaced by an older file")
            offset = self._notice(account.next_id, known=known)
            first_put = account.next_id
            names_pairs, chosen = False, NOTHING_PUT
            if batch.puts and puts_failed is None:
                chosen = tables.keys.choose(batch.puts, account, self.file.wall())
                account = account.with_calls(len(chosen.puts), tables.put(chosen.puts, first_put, offset))
                names_pairs = tables.put_pairs(chosen.puts)
                oldest = first_put if oldest is None and chosen.puts else oldest
            settled: list[Concluded] = []
            if batch.has_notes():
                # Under the turn: who has a lease of their own meanwhile has not begun, or sees what is noted here.
                settled = tables.write_notes(batch, account, may_send=self.file.lease.still_held())
                forgotten = tables.forget(account) if batch.lost else 0
                heard_to = tables.write_news(settled, heard_to)
                oldest = tables.oldest()
            tables.write_account(account)
            pairs = tables.pairs() if names_pairs or not known else None
        self._heard, self._next_id = heard_to, account.next_id
        self._hear(pairs)
        tables.last, tables.version = (account, oldest), version
        if batch.puts and puts_failed is None:
            tables.had_room = version
        if chosen.forgotten:
            self.file.warn(f"{self.file.path} keeps no more keys of dedupe= than {MOST_KEYS:,}, and forgets the oldest")
        if forgotten:
            remedy = "take them out by `userpilot-async outbox dead` or `retry`"
            self.file.warn(f"{self.file.path} keeps no more lost calls than this, and forgets the oldest; {remedy}")
        return Committed(
            account, oldest, heard, settled, first_put, puts_failed, ids=chosen.ids, duplicates=chosen.duplicates,
            first_refused=first_put + len(chosen.puts),
        )  # fmt: skip

    def _why_no_calls(self) -> OutboxError | None:
        """The reason that keeps new calls from being written; ``None`` if nothing does."""
        try:
            if self.file.has_room():
                return None
        except UnsafeFile as error:
            return OutboxError(f"{self.file.path} takes no calls: {error.strerror}")
        return OutboxError(f"{self.file.path} takes no calls: the disk is full")

    def _set_strangers_aside(self) -> None:
        """Set aside rows of another program, under ids that no call has yet: they are in the way of our calls."""
        with self._changing() as account:
            strangers = self.file.tables.strangers(account)
            self.file.tables.set_aside(strangers, account)
        self.file.warn(f"{len(strangers)} rows of {self.file.path} that are no calls of ours were set aside")

    # ── reading ──

    def poll(self) -> Committed | None:
        """All that others have done, if they have done anything. Raises `OutboxError`."""
        return self._mending("read", self._poll)

    def _poll(self) -> Committed | None:
        version = data_version(self.file.connected())
        self._keep_dates(version)
        if version == self.file.tables.version:
            return None
        self.file.tables.version = version
        return self._read_account()

    def _read_account(self) -> Committed:
        db, tables = self.file.connected(), self.file.tables
        db.execute("BEGIN")
        try:
            account, (heard, self._heard) = tables.account(), tables.news(self._heard)
            oldest, pairs = tables.oldest(), tables.pairs()
        finally:
            db.execute("COMMIT")
        self._hear(pairs)
        tables.last = (account, oldest)
        return Committed(account, oldest, heard)

    def _hear(self, found: tuple[Sequence[Pair], int] | None) -> None:
        if found is not None:
            pairs, self.file.tables.heard_pairs = found
            self._learn(pairs)

    def read(self, reading: Reading) -> Read:
        """The calls that are asked for. Rows whose checksum is wrong are set aside. Raises `OutboxError`."""
        return self._mending("read", lambda: self._read(reading))

    def _read(self, reading: Reading) -> Read:
        offset, tables = self._keep_dates(data_version(self.file.connected())), self.file.tables
        read, damaged = tables.read(reading)
        if any(ticket_accepted_at(one.ticket) < EARLIEST for one in read.found) and self.file.wall() >= EARLIEST:
            with self._changing() as account:
                tables.read_dates().first_seen(self.file.wall(), account.next_id)
                tables.write_dates(0.0)
            read, damaged = tables.read(reading)
        if damaged:
            with self._changing() as account:
                tables.write_news(tables.set_aside(damaged, account), tables.newest_news())
            self.file.warn(f"damaged rows of {self.file.path} were set aside", len(damaged))
        return attrs.evolve(read, offset=offset)

    def reconcile(self, read_to: int) -> int | None:
        """Does the file hold what the account says? For a sender that has read so far, and has nothing in hand.

        A damaged tree may lead to fewer rows than there were, and look whole: those are lost. Or to rows out of order:
        this is the first one that is to be read again. Raises `OutboxError`.
        """
        return self._mending("read", lambda: self._reconcile(read_to))

    def _reconcile(self, read_to: int) -> int | None:
        with self._changing() as account:
            missing, overlooked = self.file.tables.reconcile(account, read_to)
        if missing:
            self.file.warn(f"{self.file.path} does not have them any more: it is damaged", missing)
        return overlooked

    @contextmanager
    def _changing(self) -> Iterator[Account]:
        """The account, to be changed by other things than a batch; this process, too, hears of it by polling."""
        with self.file.transaction():
            tables = self.file.tables
            account = tables.account()
            yield account
            tables.write_account(account)
        tables.version, tables.last = -1, None

    # ── the lease ──

    def lead(self) -> Lead | None:
        """Take the lease, and over from its holder; never again once its file was deleted. Raises `OutboxError`."""
        lease = self.file.lease
        try:
            if self.leads and self._is_outdated:  # or nobody would send until this process ends
                self.leads = self._may_send = False
                lease.release()
            elif self.leads and not lease.still_held():
                self.leads = self._may_send = False
                self.file.warn(f"{lease.path} was deleted: this process sends no more; start it anew")
            if self.leads or not self._may_send or not lease.try_take():
                return None
        except OSError as error:
            raise OutboxError(f"{self.file.path}: {why(error)}") from error
        lease.note(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        try:
            lead = Lead(*self.inherit())
        except (OutboxError, NotNow):
            lease.release()
            raise
        self.leads = True
        return lead

    def inherit(self) -> tuple[Takeover, Committed]:
        """Take over what the sender before has left, for the holder of the lease now. Raises `OutboxError`."""
        return self._mending("read", self._inherit)

    def _inherit(self) -> tuple[Takeover, Committed]:
        with self._changing() as account:
            self._notice(account.next_id)
            inheritance = self.file.tables.send_log.inherit(account)
            self.file.tables.keys.forget(account, self.file.wall())
        return inheritance, self._read_account()
