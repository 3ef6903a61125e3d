"""What is in the tables, read and written: plain functions of a connection. Whoever calls them has the turn."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from .._account.shared_ledger import Account
from .._calls.outcome import Outcome
from .._calls.payload import Kind
from .._calls.stored import (
    UNREADABLE,
    Concluded,
    Runs,
    Stored,
    has_companion,
    key_in,
    runs,
    sealed,
    stretches_in,
    unsealed,
)
from .._calls.values import encode_json
from .._outbox.batch import Batch, Landed, Put, Settled
from .._outbox.window import Found, Read, Reading
from .._schedule.takeover import RequestNote, Takeover, UnfinishedFile
from ._dates import Dates

NEWS = 20_000  # transactions with settled calls that are remembered for the others; at 20 a second, 16 minutes
MAX_LOST, MAX_LOST_BYTES = 100_000, 64 * 1024 * 1024  # dead and dropped calls kept: the newest
TOKEN, LOST_TOKEN = 60.0, 90.0  # seconds until a token comes back, as in `_bucket`; longer without an answer
DAMAGED = Outcome("dead", "damaged")
ROW = "id, at, kind, key, said, moment, size, crc"
BYTES = "total(CASE WHEN typeof(size) = 'integer' THEN size ELSE 0 END)"  # what another program wrote may be anything
OWNER = ("destination", "salt", "fingerprint")


class Tables:
    """One connection's; ``wall`` is the calendar. What writes does so within the caller's transaction."""

    def __init__(self, db: sqlite3.Connection, wall: Callable[[], float]) -> None:
        self._db = db
        self._wall = wall
        self.dates = Dates()
        """As they were last read."""
        self.last: tuple[Account, int | None] | None = None
        """What the file held when that was last read or written by this connection, and the oldest call in it."""
        self.version = -1
        """SQLite's `data_version` then: while it stays, no other connection has written."""

    # ── whose it is, and the account ──

    def about(self) -> dict[str, Any] | None:
        """Whose calls these are, and by which calendar they were dated; ``None`` if that is not known."""
        for table in ("about", "about_again"):
            with suppress(sqlite3.DatabaseError):
                row = self._db.execute(f"SELECT said FROM {table}").fetchone()
                about = _owner_in(row[0]) if row is not None else None
                if about is not None:
                    return about
        return None

    def write_about(self, about: Mapping[str, Any]) -> None:
        """On two pages: without it nobody may send what is here."""
        for table in ("about", "about_again"):
            self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES (1, ?)", (sealed(dict(about)),))

    def account(self) -> Account:
        """The counts. Raises `sqlite3.DatabaseError` if they are damaged."""
        row = self._db.execute("SELECT said FROM account").fetchone()
        if row is None:
            return Account()
        account = account_in(row[0])
        if account is None:
            raise sqlite3.DatabaseError("the account is damaged")
        return account

    def write_account(self, account: Account) -> None:
        """Instead of what was there."""
        self._db.execute("INSERT OR REPLACE INTO account VALUES (1, ?)", (sealed(account.as_dict()),))

    def read_dates(self) -> Dates:
        """What is noted of the calendar; nothing, if that is damaged: then dates are what they were when written."""
        self.dates = Dates()
        with suppress(TypeError, ValueError, KeyError):
            self.dates = Dates.of((self.about() or {})["dates"])
        return self.dates

    def write_dates(self, step: float) -> None:
        """Note `dates`: the calendar was set by so many seconds since they were noted before."""
        about = self.about()
        if about is not None:  # or it is damaged, and nobody would know whose calls these are
            self.write_about({**about, "dates": self.dates.as_dict()})
        if step:  # or tokens would come back too early, or too late
            self._db.execute("UPDATE requests SET at = at + ?, landed_at = landed_at + ?", (step, step))

    def oldest(self) -> int | None:
        """The lowest id that is held."""
        oldest: int | None = self._db.execute("SELECT min(id) FROM calls").fetchone()[0]
        return oldest

    def total_size(self) -> int:
        """Of all calls, counted anew."""
        return int(self._db.execute(f"SELECT {BYTES} FROM calls").fetchone()[0])

    def newest_news(self) -> int:
        """The number of the last that was written."""
        return self._db.execute("SELECT max(id) FROM news").fetchone()[0] or 0

    def news(self, since: int) -> tuple[list[Concluded], int]:
        """What became of calls after this number, and the number of the last of it."""
        rows = self._db.execute("SELECT id, said FROM news WHERE id > ? ORDER BY id", (since,)).fetchall()
        heard: list[Concluded] = []
        for _, said in rows:
            with suppress(*UNREADABLE):  # damaged, or another program's: what became of those calls is not known
                heard += [Concluded.read(one) for one in unsealed(said) or ()]
        return heard, rows[-1][0] if rows else since

    def write_news(self, said: Sequence[Concluded], since: int) -> int:
        """Behind the last of it, which is ``since``; its number."""
        if not said:
            return since
        number = since + 1
        self._db.execute("INSERT INTO news VALUES (?, ?)", (number, sealed([one.as_list() for one in said])))
        if not number % 1_000:
            self._db.execute("DELETE FROM news WHERE id <= ?", (number - NEWS,))
        return number

    # ── calls come in, and go ──

    def put(self, puts: Sequence[Put], account: Account, offset: float) -> None:
        """Calls, under the next ids. ``offset`` is from the steady clock, by which they were put, to the calendar."""
        rows = []
        for call_id, put in enumerate(puts, account.next_id):
            stored, at = Stored.of(put.kind, put.key, put.said), put.at + offset
            crc = stored.checksum(call_id, at, put.size)
            rows.append((call_id, at, stored.kind, stored.key, stored.said, stored.moment, put.size, crc))
            account.bytes += put.size
        self._db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", rows)
        account.next_id += len(rows)
        account.accepted += len(rows)

    def write_notes(self, batch: Batch, account: Account, *, may_send: bool) -> list[Concluded]:
        """All of a batch that is no call; what it has settled."""
        said = [conclude(account, outcome, [account.next_id + n], []) for n, (outcome, _) in enumerate(batch.refused)]
        account.next_id += len(said)
        account.accepted += len(said)
        for settled in (*batch.delivered.values(), *batch.lost):
            said += self._settle(settled, account)
        if batch.parts:
            parts = [(part[0], sealed(part)) for part in batch.parts]
            self._db.executemany("INSERT OR IGNORE INTO parts VALUES (?, ?)", parts)
        for request in batch.requests if may_send else ():
            self._begin(request)
        for landed in batch.landed:
            self._end(landed, account)
        self._db.executemany("DELETE FROM files WHERE filename = ?", ((filename,) for filename in batch.forgotten))
        if batch.landed:
            self._db.execute("DELETE FROM requests WHERE landed_at < ?", (self._wall() - TOKEN,))
        return said

    def _settle(self, settled: Settled, account: Account) -> list[Concluded]:
        carriers, merged = settled.carriers, settled.merged
        if not carriers and not merged:
            return []
        missing: set[int] = set()
        for stretch in runs([*carriers, *merged]):
            within = "WHERE id BETWEEN ? AND ?"
            held, size = self._db.execute(f"SELECT count(*), {BYTES} FROM calls {within}", stretch).fetchone()
            if held <= stretch[1] - stretch[0]:  # somebody has purged some
                there = {row[0] for row in self._db.execute(f"SELECT id FROM calls {within}", stretch)}
                missing.update(set(range(stretch[0], stretch[1] + 1)) - there)
            if not settled.outcome.is_delivered:
                detail = settled.detail.encode("utf-8", "replace").decode()  # SQLite takes no lone surrogate
                values = (self._wall(), settled.outcome.status, settled.outcome.reason, detail, *stretch)
                self._db.execute(f"INSERT OR REPLACE INTO lost SELECT {ROW}, ?, ?, ?, ? FROM calls {within}", values)
            self._db.execute(f"DELETE FROM calls {within}", stretch)
            self._db.execute(f"DELETE FROM parts {within}", stretch)
            account.bytes -= int(size)
        if missing:
            carriers, merged = ([one for one in ids if one not in missing] for ids in (carriers, merged))
        return [conclude(account, settled.outcome, carriers, merged)]

    def forget(self, account: Account) -> int:
        """Keep no more lost calls than may be kept; how many of the oldest had to go."""
        forgotten = 0
        while True:
            held, size = self._db.execute(f"SELECT count(*), {BYTES} FROM lost").fetchone()
            if held <= MAX_LOST and size <= MAX_LOST_BYTES:
                break
            oldest = f"SELECT id FROM lost ORDER BY id LIMIT {max(1, held // 20)}"
            forgotten += self._db.execute(f"DELETE FROM lost WHERE id IN ({oldest})").rowcount
        account.forgotten += forgotten
        return forgotten

    def _begin(self, request: RequestNote) -> None:
        values = (self._wall(), request.budget, sealed(runs(request.ids)))
        query = "INSERT INTO requests (at, budget, calls) VALUES (?, ?, ?)"
        request.number = self._db.execute(query, values).lastrowid
        if request.last_calls:
            row = (request.filename, request.kind, sealed(list(request.last_calls)))
            self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", row)

    def _end(self, landed: Landed, account: Account) -> None:
        number = landed.request.number
        if landed.answered is False:
            account.ambiguous += len(landed.request.ids)
        if landed.answered is not None:
            landed_at = self._wall() + (0.0 if landed.answered else LOST_TOKEN - TOKEN)
            self._db.execute("UPDATE requests SET landed_at = ? WHERE id = ?", (landed_at, number))
        else:
            self._db.execute("DELETE FROM requests WHERE id = ?", (number,))
        if landed.lost:
            self._mark_sent(runs(landed.request.ids))

    def _mark_sent(self, stretches: Iterable[Sequence[int]]) -> int:
        """The server may have these; how many of them still wait."""
        changed = self._db.executemany("UPDATE calls SET sent = 1 WHERE id BETWEEN ? AND ?", stretches).rowcount
        return max(changed, 0)  # -1 where there was nothing to do

    # ── calls are read ──

    def read(self, reading: Reading) -> tuple[Read, list[int]]:
        """The calls that are asked for, and ids of rows whose checksum is wrong.

        Raises `sqlite3.DatabaseError` if ids do not rise.
        """
        values: list[object] = [reading.start]
        where = "id >= ?"
        if reading.only is not None:
            where += " AND key = ? AND id < ?"
            values += [encode_json(reading.only), reading.end]
        query = f"SELECT id, at, size, kind, key, said, moment, crc, sent FROM calls WHERE {where} ORDER BY id LIMIT ?"
        rows = self._db.execute(query, (*values, reading.limit)).fetchall()
        if not rows:
            return Read([], reading.start, full=False), []
        if any(after <= before for before, after in pairwise([reading.start - 1, *(row[0] for row in rows)])):
            raise sqlite3.DatabaseError("calls are out of order")
        without = {encode_json(key) for key in reading.without}
        parts = self._parts(rows[0][0], rows[-1][0])
        found, damaged = [], []
        for call_id, at, size, *stored, crc, sent in rows:
            if stored[1] in without and not has_companion(stored[2]):
                continue
            call = checked(call_id, at, size, stored, crc, parts.get(call_id, ()))
            if call is None:
                damaged.append(call_id)
            else:
                found.append(Found((call_id, self.dates.corrected(call_id, at), *call), bool(sent)))
        return Read(found, rows[-1][0] + 1, len(rows) == reading.limit), damaged

    def _parts(self, first: int, last: int) -> dict[int, list[tuple[Kind, str]]]:
        parts: dict[int, list[tuple[Kind, str]]] = {}
        for call_id, key in self._db.execute("SELECT id, key FROM parts WHERE id BETWEEN ? AND ?", (first, last)):
            with suppress(*UNREADABLE):
                its_id, kind, whose = unsealed(key)
                if its_id == call_id:
                    parts.setdefault(call_id, []).append((kind, whose))
        return parts

    def set_aside(self, ids: Sequence[int], account: Account) -> list[Concluded]:
        """Rows that cannot be sent; what became of those that had been given these ids.

        Rows that another program has added count as accepted, or our calls beside them would be accounted for as gone.
        """
        ours = [call_id for call_id in ids if 0 <= call_id < account.next_id]
        there = self._db.execute("SELECT count(*) FROM calls").fetchone()[0] - (len(ids) - len(ours))
        account.accepted += max(0, min(len(ours), there - account.waiting))
        for call_id in ids:
            self._db.execute(f"INSERT OR REPLACE INTO damaged SELECT {ROW} FROM calls WHERE id = ?", (call_id,))
            self._db.execute("DELETE FROM calls WHERE id = ?", (call_id,))
        account.bytes = self.total_size()  # theirs may be wrong
        return [conclude(account, DAMAGED, ours, [])] if ours else []

    def strangers(self, account: Account) -> list[int]:
        """Ids of rows that nobody was given: another program wrote them."""
        query = "SELECT id FROM calls WHERE id < 0 OR id >= ? ORDER BY id"
        return [row[0] for row in self._db.execute(query, (account.next_id,))]

    def reconcile(self, account: Account, read_to: int) -> tuple[int, int | None]:
        """How many calls of the account are not there; and the first one, if any, that lies before ``read_to``."""
        behind = "SELECT min(+id) FROM calls WHERE +id < ?"  # `+`: not by the order that may be wrong
        overlooked: int | None = self._db.execute(behind, (read_to,)).fetchone()[0]
        missing = max(0, account.waiting - self._db.execute("SELECT count(*) FROM calls").fetchone()[0])
        account.conclude(DAMAGED, missing, 0)
        account.bytes = self.total_size()
        return missing, overlooked

    # ── taking over ──

    def inherit(self, account: Account) -> Takeover:
        """What the sender before has left; its requests under way become such that may have arrived."""
        now = self._wall()
        under_way = self._db.execute("SELECT id, calls FROM requests WHERE landed_at IS NULL").fetchall()
        for number, calls in under_way:
            account.ambiguous += self._mark_sent(_stretches_in(calls))
            # From now on, and not from when it was noted: its sender may have been stopped in between.
            landed_at = now + LOST_TOKEN - TOKEN
            self._db.execute("UPDATE requests SET landed_at = ? WHERE id = ?", (landed_at, number))
        spent: dict[str, list[float]] = {}
        typed = "typeof(budget) = 'text' AND typeof(landed_at) = 'real'"  # or it is damaged
        for budget, landed_at in self._db.execute(f"SELECT budget, landed_at FROM requests WHERE {typed}"):
            if landed_at + TOKEN > now:
                spent.setdefault(budget, []).append(min(landed_at + TOKEN - now, LOST_TOKEN))
        rows = self._db.execute("SELECT filename, kind, last_calls FROM files").fetchall()
        files = [self._unfinished(*row) for row in rows]
        return Takeover(spent, [file for file in files if file.last_calls])

    def _unfinished(self, filename: Any, kind: Any, last_calls: Any) -> UnfinishedFile:
        """`Any`: what is damaged, or another program's, may be anything. It is forgotten."""
        keys: dict[str, int] = {}
        readable = isinstance(filename, str) and isinstance(kind, str)
        for call_id, _ in _stretches_in(last_calls) if readable else ():
            row = self._db.execute("SELECT kind, key, said, moment FROM calls WHERE id = ?", (call_id,)).fetchone()
            key = key_in(Stored(*row), kind) if row is not None else None
            if key is not None:
                keys[key] = call_id
        if not keys:
            self._db.execute("DELETE FROM files WHERE filename = ?", (filename,))
        return UnfinishedFile(filename, kind, keys)


def checked(
    call_id: int, at: Any, size: Any, stored: Sequence[Any], crc: Any, parts: Iterable[tuple[Kind, str]]
) -> Any:
    """The call as it was put, or ``None`` if the row is damaged: `Any`, because a damaged row may hold anything."""
    try:
        call = Stored(*stored)
        return call.call(parts) if call.checksum(call_id, at, size) == crc else None
    except UNREADABLE:
        return None


def account_in(sealed_text: Any) -> Account | None:
    """The counts as they are kept; ``None`` if they are damaged."""
    said = unsealed(sealed_text)
    if not isinstance(said, dict):
        return None
    account = Account.of(said)
    counts = [count for count in account.as_dict().values() if not isinstance(count, dict)]
    for labelled in (account.by, account.dead, account.dropped):
        if not isinstance(labelled, dict):
            return None
        counts += labelled.values()
    return account if all(type(count) is int for count in counts) else None


def _owner_in(sealed_text: Any) -> dict[str, str] | None:
    """Whose calls these are; ``None`` if that is damaged."""
    try:
        said = unsealed(sealed_text)
        bytes.fromhex(said["salt"])
        return dict(said) if all(isinstance(said[name], str) for name in OWNER) else None
    except UNREADABLE:
        return None


def _stretches_in(sealed_text: Any) -> Runs:
    """Ids; none, if what is kept of them is damaged."""
    try:
        return stretches_in(unsealed(sealed_text) or ())
    except UNREADABLE:
        return []


def conclude(account: Account, outcome: Outcome, carriers: Iterable[int], merged: Iterable[int]) -> Concluded:
    """Calls have met their fate: in the account, and as news."""
    carriers, merged = list(carriers), list(merged)
    account.conclude(outcome, len(carriers), len(merged))
    return Concluded.of(outcome, carriers, merged)
