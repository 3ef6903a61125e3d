"""The file from outside, for the people who run it: what is in it, and what can be done about that.

Each look and each change is one turn of the file's lock, as those of the processes that use it are: they are never
disturbed, and only wait for a moment. A file that nobody uses is left as it was found, with its log written back.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from .._errors import OutboxError
from .._lanes import Key, Kind, Said
from .._shared_ledger import Account
from .._stored import Stored
from ._file import File, Interrupted, _decoded, _why, checked
from ._schema import MIGRATIONS, version_of

PATIENCE = 30.0  # seconds to wait for the lock: the others have it for some milliseconds, a purge for some seconds

Call = tuple[Kind, Key, Said]


@attrs.frozen
class Holder:
    """Who sends, by its own account."""

    pid: int | None = None
    host: str | None = None
    since: float | None = None
    """By the calendar."""

    def __str__(self) -> str:
        name = "another process" if self.pid is None else f"process {self.pid}"
        return name if self.host is None else f"{name} on {self.host}"


@attrs.frozen(kw_only=True)
class Seen:
    """One moment of a file."""

    path: Path
    version: int
    """Of the schema; 0 for an empty file."""
    size: int
    """Bytes on the disk, with the log."""
    destination: str | None
    """To which server its calls go; ``None`` while it belongs to nobody."""
    sender: Holder | None
    """Who holds the lease; ``None`` if nobody sends."""
    account: Account
    oldest: float | None
    """When the first call in line was accepted, by the calendar."""
    under_way: int
    """Requests of which it is not known whether they have reached the server."""
    lost: int
    """Dead and dropped calls that are kept."""
    damaged: int
    """Rows set aside."""
    quarantined: Sequence[str]
    """Names of damaged files that lie beside it."""


@attrs.frozen
class Lost:
    """A dead or dropped call that is kept."""

    id: int
    at: float
    """When it was accepted, by the calendar."""
    kind: str
    key: str
    """Whose it is; of somebody with several ids, all of them."""
    lost_at: float
    status: str
    reason: str
    detail: str
    call: Call | None
    """As it was put; ``None`` if the row is damaged."""


@attrs.frozen
class Retried:
    """Calls that wait again."""

    calls: int
    first_id: int
    """They have this id and the next ones."""
    damaged: int
    """Rows that stay where they are: nobody knows what they were."""
    missing: Sequence[int]
    """Ids that were asked for, and are not kept."""


@attrs.frozen
class Rebound:
    """To whom a file belonged, and how many calls that wait have changed hands."""

    before: str | None
    waiting: int


def look(path: Path) -> Seen:
    """What there is to see. Raises `OutboxError`."""
    with opened(path, as_it_is=True) as file:
        db = file._db
        version = version_of(db, len(MIGRATIONS))
        account, about, oldest, counts = Account(), {}, None, {"requests": 0, "lost": 0, "damaged": 0}
        if version:
            db.execute("BEGIN")
            account, about = file._account(), dict(db.execute("SELECT name, said FROM about").fetchall())
            oldest = db.execute("SELECT at FROM calls ORDER BY id LIMIT 1").fetchone()
            for table in counts:
                under_way = "WHERE landed_at IS NULL" if table == "requests" else ""
                counts[table] = db.execute(f"SELECT count(*) FROM {table} {under_way}").fetchone()[0]
            db.execute("COMMIT")
        return Seen(
            path=path,
            version=version,
            size=sum(one.stat().st_size for one in (path, with_suffix(path, "-wal")) if one.exists()),
            destination=about.get("destination"),
            sender=holder(path),
            account=account,
            oldest=oldest[0] if oldest is not None and isinstance(oldest[0], float) else None,
            under_way=counts["requests"],
            lost=counts["lost"],
            damaged=counts["damaged"],
            quarantined=quarantined(path),
        )


def holder(path: Path) -> Holder | None:
    """Who has the sender's lease. The lock says whether anybody has; what is written there, only who that may be."""
    try:
        descriptor = os.open(with_suffix(path, ".lease"), os.O_RDONLY)
    except FileNotFoundError:
        return None
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
        return Holder(int(said["pid"]), str(said["host"]), float(said["since"]))
    except (ValueError, TypeError, KeyError):  # it has the lease, and is just writing that down
        return Holder()


def quarantined(path: Path) -> list[str]:
    """The damaged files that lie beside it, oldest first."""
    name = re.compile(re.escape(path.name) + r"\.damaged-(\d+)")
    found = [(int(match[1]), one.name) for one in path.parent.iterdir() if (match := name.fullmatch(one.name))]
    return [one for _, one in sorted(found)]


def lost(path: Path, reasons: Sequence[str] = ()) -> tuple[str | None, list[Lost]]:
    """To which server the file's calls go, and those that are kept though they are dead or dropped, oldest first.

    With ``reasons``, only those. Raises `OutboxError`.
    """
    with opened(path, as_it_is=True) as file:
        db = file._db
        if not version_of(db, len(MIGRATIONS)):
            return None, []
        about = dict(db.execute("SELECT name, said FROM about").fetchall())
        fields = "id, at, kind, key, said, moment, crc, lost_at, status, reason, detail"
        rows = db.execute(f"SELECT {fields} FROM lost ORDER BY id").fetchall()
    found = []
    for call_id, at, kind, key, said, moment, crc, lost_at, status, reason, detail in rows:
        if not reasons or reason in reasons:
            call = checked(call_id, at, (kind, key, said, moment), crc, ())
            found.append(Lost(call_id, at, kind, _plain(key), lost_at, status, reason, detail, call))
    return about.get("destination"), found


def _plain(key: str) -> str:
    try:
        known = json.loads(key)
    except ValueError:
        return key
    return ", ".join(map(str, known)) if isinstance(known, list) else str(known)


def retry(path: Path, reasons: Sequence[str] = (), ids: Sequence[int] = ()) -> Retried:
    """Put dead and dropped calls back: at the end of the line, in their order, with the time of their acceptance.

    All of them, or those of these reasons, and of these ids. They are accepted once more, under new ids. Raises
    `OutboxError`.
    """
    with opened(path) as file, file._transaction() as db:
        rows = db.execute("SELECT id, at, kind, key, said, moment, size, crc, reason FROM lost ORDER BY id").fetchall()
        chosen = [row for row in rows if (not reasons or row[8] in reasons) and (not ids or row[0] in ids)]
        account = file._account()
        first_id, back, damaged = account.next_id, [], 0
        for call_id, at, *stored, size, crc, _ in chosen:
            if checked(call_id, at, stored, crc, ()) is None:
                damaged += 1
                continue
            crc = Stored(*stored).checksum(account.next_id, at)
            back.append((account.next_id, at, *stored, size, crc))
            db.execute("DELETE FROM lost WHERE id = ?", (call_id,))
            account.next_id += 1
            account.accepted += 1
            account.bytes += size
        db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", back)
        file._write_account(account)
    return Retried(len(back), first_id, damaged, sorted(set(ids) - {row[0] for row in rows}))


def rebind(path: Path, destination: str, fingerprint: Callable[[bytes], str]) -> Rebound:
    """Give the file to another account, or to the same one with another key. Raises `OutboxError`."""
    with opened(path) as file:
        if not file.lease.try_take():
            raise OutboxError(f"{path} has a sender, which would go on with the old key: end it first")
        try:
            about = dict(file._db.execute("SELECT name, said FROM about").fetchall())
            before, waiting = about.get("destination"), file._account().waiting
            kept = file._db.execute("SELECT count(*) FROM lost").fetchone()[0]
            if before is not None and server_of(before) != server_of(destination) and (waiting or kept):
                kinds = f"{server_of(before)}, which {server_of(destination)} does not understand"
                raise OutboxError(f"{path} has {waiting + kept:,} calls for {kinds}: take a file of its own")
            file._bind(destination, fingerprint, True)
        finally:
            file.lease.release()
    return Rebound(before, waiting)


def server_of(destination: str) -> str:
    """The kind of server, of a destination as files have it."""
    return destination.partition(" at ")[0]


# ── access ──


@contextmanager
def opened(path: Path, *, as_it_is: bool = False) -> Iterator[File]:
    """The file, for as long as it is this process's turn. Raises `OutboxError`.

    ``as_it_is`` is for those who only read: it is not even brought to the newest version.
    """
    if not path.is_file():
        raise OutboxError(f"{path} does not exist, or is no file")
    file = File(path, "power", pause=_patience())
    try:
        with _own_errors(path), file._in_turn():
            _hand_over(path)
            try:
                if as_it_is:
                    file._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5.0)
                    file._connection.isolation_level = None
                    file._connection.text_factory = _decoded
                else:
                    file._connect()
                yield file
            finally:
                file._disconnect()
    finally:
        file.lease.close()
        file.turn.close()


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
    except Interrupted:
        raise OutboxError(f"{path} is locked: another process has had it for {PATIENCE:.0f} s") from None
    except sqlite3.OperationalError as error:
        raise OutboxError(f"{path} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        mended = "a client or `drain` that opens it puts it aside, and saves what can be read"
        raise OutboxError(f"{path} is damaged ({error}): {mended}") from error
    except OSError as error:
        raise OutboxError(f"{path} cannot be used: {_why(error)}") from error
    except OutboxError as error:
        if str(path) in str(error):
            raise
        raise OutboxError(f"{path} {error}") from error


def _hand_over(path: Path) -> None:
    """What root has just made beside the file belongs to whose the file is; or that one could not open it any more."""
    if os.geteuid():
        return
    owner = path.stat()
    for name in (".lock", ".lease"):
        one = with_suffix(path, name)
        if one.exists() and one.stat().st_uid != owner.st_uid:
            os.chown(one, owner.st_uid, owner.st_gid)


def with_suffix(path: Path, suffix: str) -> Path:
    """What lies beside the file."""
    return path.with_name(path.name + suffix)


def row_bytes(value: Any) -> bytes:
    """Whatever a damaged row has in a field, as bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
