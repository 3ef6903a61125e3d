"""A file from outside, for the people who run it: what is in it, and what can be done about that.

Each visit is one turn of the file's lock, as those of the processes that use it are: they are never disturbed, and only
wait for a moment. A file that is not in use is left as it was found, with its log written back.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import attrs

from .._account.account import Account
from .._calls.stored import Stored, runs
from .._errors.tree import OutboxError
from .._outbox.admin import (
    EVERY_ONE,
    DeadLetter,
    DeadLetters,
    Holder,
    Inspection,
    PurgeReport,
    Rebound,
    Retried,
    Selection,
    Subject,
    check_rebinding,
)
from .._outbox.owner import Claim
from .._outbox.pages import Page, UnfinishedUpload, WaitingCall
from .._outbox.store import NotNow
from .._runtime.private_files import open_own
from ._binding import bind
from ._dates import Dates
from ._failures import FAILURES, why
from ._file import File
from ._own import Found
from ._pages import CALLS, LOST, dead_letter, lost_page, waiting_page
from ._purge import Search, sweep
from ._schema import MIGRATIONS, version_of
from ._sealed import checked

PATIENCE = 30.0  # seconds to wait for the lock: the others have it for some milliseconds, a purge for some seconds


class SQLiteAdmin:
    """The file at ``path``, which is also its name in messages."""

    kind: Literal["sqlite"] = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place: str = str(path)

    def inspect(self) -> Inspection:
        """All that there is to see, at one moment. Raises `OutboxError`."""
        with opened(self._path, as_it_is=True) as file:
            version = version_of(file.db, len(MIGRATIONS))
            account, oldest, dates, counts = Account(), None, Dates(), {"requests": 0, "lost": 0, "damaged": 0}
            about: Mapping[str, str] = {}
            spent: Mapping[str, int] = {}
            uploads: Sequence[UnfinishedUpload] = ()
            if version:
                file.db.execute("BEGIN")
                account, about = file.tables.account(), file.tables.about() or {}
                oldest = file.db.execute("SELECT id, at FROM calls ORDER BY id LIMIT 1").fetchone()
                dates = file.tables.read_dates()
                for table in counts:
                    under_way = "WHERE landed_at IS NULL" if table == "requests" else ""
                    counts[table] = file.db.execute(f"SELECT count(*) FROM {table} {under_way}").fetchone()[0]
                spent, uploads = file.tables.send_log.spent(), file.tables.send_log.uploads()
                file.db.execute("COMMIT")
            parts = (self._path, _beside(self._path, "-wal"))
            return Inspection(
                place=self.place,
                version=version,
                bytes_on_disk=sum(one.stat().st_size for one in parts if one.exists()),
                destination=about.get("destination"),
                sender=self.holder(),
                account=account,
                oldest=dates.corrected(*oldest) if oldest is not None and isinstance(oldest[1], float) else None,
                now=time.time(),
                under_way=counts["requests"],
                lost=counts["lost"],
                damaged=counts["damaged"],
                quarantined=self._quarantined(),
                spent=spent,
                uploads=uploads,
            )

    def holder(self) -> Holder | None:
        """The holder of the sender's lease. The lock says whether there is one; its note, only who that may be.

        Raises `OutboxError`.
        """
        try:
            descriptor = open_own(_beside(self._path, ".lease"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutboxError(f"who sends from {self.place} cannot be read: {error.strerror}") from error
        try:
            # Shared: two visits do not exclude each other. Who tries to take it meanwhile tries again in a moment.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Holder.of(os.pread(descriptor, 4096, 0), time.time())
        finally:
            os.close(descriptor)
        return None

    def _quarantined(self) -> list[str]:
        """The damaged files that lie beside it, oldest first."""
        path = _beside(self._path, "")
        name = re.compile(re.escape(path.name) + r"\.damaged-(\d+)")
        found = [(int(match[1]), one.name) for one in path.parent.iterdir() if (match := name.fullmatch(one.name))]
        return [one for _, one in sorted(found)]

    def waiting(self, after: str, limit: int, ids: Collection[str] = ()) -> Page[WaitingCall]:
        """The next calls that wait, in one short turn. Raises `OutboxError`, and `ValueError` for a wrong place."""
        with opened(self._path, as_it_is=True) as file:
            known = version_of(file.db, len(MIGRATIONS))
            return waiting_page(file, after, limit, ids) if known else Page([], None)

    def lost(self, after: str, limit: int, reason: str | None = None) -> Page[DeadLetter]:
        """The next lost calls that are kept, by their ids. Raises as `waiting`."""
        with opened(self._path, as_it_is=True) as file:
            known = version_of(file.db, len(MIGRATIONS))
            return lost_page(file, after, limit, reason) if known else Page([], None)

    def dead_letters(self, chosen: Selection = EVERY_ONE) -> DeadLetters:
        """The chosen dead and dropped calls that are kept. Raises `OutboxError`."""
        with opened(self._path, as_it_is=True) as file:
            if not version_of(file.db, len(MIGRATIONS)):
                return DeadLetters(None, [])
            about, dates = file.tables.about() or {}, file.tables.read_dates()
            rows = file.db.execute(f"SELECT {LOST} FROM lost ORDER BY id").fetchall()
        return DeadLetters(
            about.get("destination"), [dead_letter(row, dates) for row in rows if chosen.takes(row[0], row[-2])]
        )

    def retry(self, chosen: Selection = EVERY_ONE) -> Retried:
        """Put the chosen dead letters back at the end of the line, in one transaction. Raises `OutboxError`."""
        with opened(self._path) as file, file.transaction() as db:
            rows = db.execute(f"SELECT {CALLS}, reason FROM lost ORDER BY id").fetchall()
            account, dates = file.tables.account(), file.tables.read_dates()
            back, damaged = [], 0
            for call_id, at, size, *stored, crc, _ in [row for row in rows if chosen.takes(row[0], row[-1])]:
                if checked(call_id, at, size, stored, crc, ()) is None:
                    damaged += 1
                    continue
                at = dates.corrected(call_id, at)
                crc = Stored(*stored).checksum(account.next_id, at, size)
                back.append((account.next_id, at, *stored, size, crc))
                db.execute("DELETE FROM lost WHERE id = ?", (call_id,))
                account.next_id += 1
                account.accepted += 1
                account.bytes += size
            db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", back)
            file.tables.write_account(account)
        return Retried(runs(row[0] for row in back), damaged, chosen.missing(row[0] for row in rows))

    def rebind(self, claim: Claim) -> Rebound:
        """Give the file to another account, or to the same one with another key. Raises `OutboxError`."""
        with opened(self._path) as file:
            has_sender = not file.lease.try_take()
            try:
                before, waiting = (file.tables.about() or {}).get("destination"), file.tables.account().waiting
                kept = file.db.execute("SELECT count(*) FROM lost").fetchone()[0]
                check_rebinding(self.place, before, claim.destination, waiting + kept, has_sender=has_sender)
                bind(file, attrs.evolve(claim, rebind=True))
            finally:
                file.lease.release()
        return Rebound(before, waiting)

    def purge(self, whose: Subject, *, really: bool = True) -> PurgeReport:
        """Erase a person or a company; not ``really``, only count how much that would be. Raises `OutboxError`.

        Quarantined files are not touched.
        """
        with opened(self._path) as file:
            search = Search(file, whose, whose.keys((file.tables.about() or {}).get("destination", "")))
            report = search.run()
            if really:
                # Deleted rows are written over at once; and what is left of rows that went before, by making all anew.
                file.db.execute("PRAGMA secure_delete = ON")
                with file.transaction():
                    search.erase()
                sweep(file)
                report.done = report.swept = True
        report.quarantined = self._quarantined()
        return report


# ── the file for a moment ──


@contextmanager
def opened(path: Path, *, as_it_is: bool = False) -> Iterator[File]:
    """The file, for as long as it is this process's turn. Raises `OutboxError`.

    ``as_it_is`` is for those who only read: it is not even brought to the newest version.
    """
    file = File(path, "power", pause=_patience())
    with _own_errors(path):
        found = file.find()
    if found is Found.NOTHING:
        raise OutboxError(f"{path} does not exist")
    if found is Found.EMPTY:
        if not as_it_is:
            raise OutboxError(f"{path} is empty: no client has made it an outbox yet")
        with file.visited(":memory:"):  # it may have no owner: no lock is made beside it
            yield file
        return
    try:
        with _own_errors(path), file.in_turn():
            held = file.hold()
            with file.visited(f"{file.path.as_uri()}?mode=rw"):
                version_of(file.db, len(MIGRATIONS))  # what is refused stays untouched
                held.confirm()
                if not as_it_is:
                    file.connect()
                yield file
    finally:
        file.disconnect()
        file.let_go_of_locks()


def _patience() -> Callable[[float], bool]:
    deadline = time.monotonic() + PATIENCE

    def pause(seconds: float) -> bool:
        time.sleep(seconds)
        return time.monotonic() > deadline

    return pause


@contextmanager
def _own_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except NotNow:
        raise OutboxError(f"{path} is locked: another process has had it for {PATIENCE:.0f} s") from None
    except sqlite3.OperationalError as error:
        raise OutboxError(f"{path} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        mended = "a client or `drain` that opens it puts it aside, and saves what can be read"
        raise OutboxError(f"{path} is damaged ({error}): {mended}") from error
    except FAILURES as error:
        raise OutboxError(f"{path} cannot be used: {why(error)}") from error
    except OutboxError as error:
        if str(path) in str(error):
            raise
        raise OutboxError(f"{path} {error}") from error


def _beside(path: Path, suffix: str) -> Path:
    """The path beside the file: beside itself, where ``path`` is a link to it."""
    return Path(os.path.realpath(path) + suffix)
