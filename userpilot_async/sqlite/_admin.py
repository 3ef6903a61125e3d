"""The file from outside, for the people who run it: what is in it, and what can be done about that."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._account.shared_ledger import Account
from .._calls.stored import UNREADABLE, Stored, runs
from .._errors.tree import OutboxError
from .._outbox.admin import DeadLetter, Holder, Inspection, Rebound, Retried, check_kinds, keys_in
from .._runtime.private_files import open_own
from .._schedule.calendar import age
from ._dates import Dates
from ._schema import MIGRATIONS, version_of
from ._tables import checked
from ._visit import about_of, opened, with_suffix


def look(path: Path) -> Inspection:
    """What there is to see. Raises `OutboxError`."""
    with opened(path, as_it_is=True) as file:
        db = file._db
        version = version_of(db, len(MIGRATIONS))
        account, oldest, dates, counts = Account(), None, Dates(), {"requests": 0, "lost": 0, "damaged": 0}
        about: Mapping[str, str] = {}
        if version:
            db.execute("BEGIN")
            account, about = file.tables.account(), about_of(file)
            oldest = db.execute("SELECT id, at FROM calls ORDER BY id LIMIT 1").fetchone()
            dates = file.tables.read_dates()
            for table in counts:
                under_way = "WHERE landed_at IS NULL" if table == "requests" else ""
                counts[table] = db.execute(f"SELECT count(*) FROM {table} {under_way}").fetchone()[0]
            db.execute("COMMIT")
        return Inspection(
            place=str(path),
            version=version,
            bytes_on_disk=sum(one.stat().st_size for one in (path, with_suffix(path, "-wal")) if one.exists()),
            destination=about.get("destination"),
            sender=holder(path),
            account=account,
            oldest=dates.corrected(*oldest) if oldest is not None and isinstance(oldest[1], float) else None,
            now=time.time(),
            under_way=counts["requests"],
            lost=counts["lost"],
            damaged=counts["damaged"],
            quarantined=quarantined(path),
        )


def holder(path: Path) -> Holder | None:
    """Who has the sender's lease. The lock says whether anybody has; what is written there, only who that may be.

    Raises `OutboxError`.
    """
    try:
        descriptor = open_own(with_suffix(path, ".lease"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutboxError(f"who sends from {path} cannot be read: {error.strerror}") from error
    try:
        # Shared: two who look are not in each other's way. Who tries to take it meanwhile tries again in a moment.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _noted(os.pread(descriptor, 4096, 0))
    finally:
        os.close(descriptor)
    return None


def _noted(text: bytes) -> Holder:
    try:
        said = json.loads(text)
        since = float(said["since"])
        # Shown to people, and used for nothing: it is off by as much as the calendar was set since.
        return Holder(int(said["pid"]), str(said["host"]), since, age(since, time.time()))
    except (*UNREADABLE, OverflowError):  # it has the lease, and is just writing that down
        return Holder()


def quarantined(path: Path) -> list[str]:
    """The damaged files that lie beside it, oldest first."""
    path = with_suffix(path, "")
    name = re.compile(re.escape(path.name) + r"\.damaged-(\d+)")
    found = [(int(match[1]), one.name) for one in path.parent.iterdir() if (match := name.fullmatch(one.name))]
    return [one for _, one in sorted(found)]


def lost(path: Path, reasons: Sequence[str] = ()) -> tuple[str | None, list[DeadLetter]]:
    """To which server the file's calls go, and those that are kept though they are dead or dropped, oldest first.

    With ``reasons``, only those. Raises `OutboxError`.
    """
    with opened(path, as_it_is=True) as file:
        db = file._db
        if not version_of(db, len(MIGRATIONS)):
            return None, []
        about, dates = about_of(file), file.tables.read_dates()
        fields = "id, at, size, kind, key, said, moment, crc, lost_at, status, reason, detail"
        rows = db.execute(f"SELECT {fields} FROM lost ORDER BY id").fetchall()
    found = []
    for call_id, at, size, *stored, crc, lost_at, status, reason, detail in rows:
        if not reasons or reason in reasons:
            call = checked(call_id, at, size, stored, crc, ())
            at = dates.corrected(call_id, at) if call is not None else at
            whose = str(stored[0]), _plain(stored[1])
            why = str(status), str(reason), str(detail)
            found.append(DeadLetter(call_id, _moment(at), *whose, _moment(lost_at), *why, call))
    return about.get("destination"), found


def _plain(key: Any) -> str:
    try:
        return ", ".join(keys_in(key))
    except UNREADABLE:
        return str(key)


def _moment(at: Any) -> float:
    """`Any`: of a damaged row, or another program's. It was never, then."""
    return float(at) if isinstance(at, (int, float)) else 0.0


def retry(path: Path, reasons: Sequence[str] = (), ids: Sequence[int] = ()) -> Retried:
    """Put dead and dropped calls back: at the end of the line, in their order, with the time of their acceptance.

    All of them, or those of these reasons, and of these ids. They are accepted once more, under new ids. Raises
    `OutboxError`.
    """
    with opened(path) as file, file._transaction() as db:
        rows = db.execute("SELECT id, at, size, kind, key, said, moment, crc, reason FROM lost ORDER BY id").fetchall()
        chosen = [row for row in rows if (not reasons or row[-1] in reasons) and (not ids or row[0] in ids)]
        account, dates = file.tables.account(), file.tables.read_dates()
        back, damaged = [], 0
        for call_id, at, size, *stored, crc, _ in chosen:
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
    return Retried(runs(row[0] for row in back), damaged, sorted(set(ids) - {row[0] for row in rows}))


def rebind(path: Path, destination: str, fingerprint: Callable[[bytes], str]) -> Rebound:
    """Give the file to another account, or to the same one with another key. Raises `OutboxError`."""
    with opened(path) as file:
        if not file.lease.try_take():
            raise OutboxError(f"{path} has a sender, which would go on with the old key: end it first")
        try:
            about = about_of(file)
            before, waiting = about.get("destination"), file.tables.account().waiting
            kept = file._db.execute("SELECT count(*) FROM lost").fetchone()[0]
            check_kinds(str(path), before, destination, waiting + kept)
            file._bind(destination, fingerprint, fingerprint, True)
        finally:
            file.lease.release()
    return Rebound(before, waiting)
