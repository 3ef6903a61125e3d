"""The tables, read and written: plain functions of a connection. Their caller has the turn."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from .._account.account import Account
from .._calls.outcome import Outcome
from .._calls.pairs import MOST_PAIRS, Pair, pairs_in, sealed_pair, unsealed_pair
from .._calls.payload import Kind
from .._calls.stored import UNREADABLE, Concluded, Stored, has_companion, runs, sealed, unsealed
from .._calls.values import encode_json
from .._outbox.batch import Batch, Put, Settled
from .._outbox.window import Found, Read, Reading
from ._dates import Dates
from ._keys import Keys
from ._schema import check_known
from ._sealed import account_in, checked, owner_in
from ._send_log import SendLog

NEWS = 20_000  # transactions with settled calls that are remembered for the others; at 20 a second, 16 minutes
MAX_LOST, MAX_LOST_BYTES = 100_000, 64 * 1024 * 1024  # dead and dropped calls kept: the newest
DAMAGED = Outcome("dead", "damaged")
ROW = "id, at, kind, key, said, moment, size, crc"
BEHIND = "SELECT id, size FROM calls WHERE id >= ? ORDER BY id"
BYTES = "total(CASE WHEN typeof(size) = 'integer' THEN size ELSE 0 END)"  # what another program wrote may be anything


class Tables:
    """The tables of one connection; ``wall`` is the calendar. What writes does so within the caller's transaction."""

    def __init__(self, db: sqlite3.Connection, wall: Callable[[], float]) -> None:
        self._db = db
        self._wall = wall
        self.send_log = SendLog(db, wall)
        self.dates = Dates()
        """As they were last read."""
        self.keys = Keys(db, lambda call_id, at: self.dates.corrected(call_id, at))
        self.last: tuple[Account, int | None] | None = None
        """What the file held when that was last read or written by this connection, and the oldest call in it."""
        self.uncounted = 0
        """Calls that were put behind the account, when this connection has read or written that last."""
        self.heard_pairs = 0
        """The number of the last pair that was heard by this connection: a repaired file may count anew."""
        self.version = self.had_room = -1
        """SQLite's `data_version` then, and when room was found: while it stays, no other connection has written."""

    # ── whose it is, and the account ──

    def about(self) -> dict[str, Any] | None:
        """The owner of the calls, and by which calendar they were dated; ``None`` if that is not known."""
        for table in ("about", "about_again"):
            with suppress(sqlite3.DatabaseError):
                row = self._db.execute(f"SELECT said FROM {table}").fetchone()
                about = owner_in(row[0]) if row is not None else None
                if about is not None:
                    return about
        return None

    def write_about(self, about: Mapping[str, Any]) -> None:
        """On two pages: without it what is here may not be sent."""
        for table in ("about", "about_again"):
            self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES (1, ?)", (sealed(dict(about)),))

    def account(self) -> Account:
        """The counts, with calls put behind them. Raises `DatabaseError` for damage, `OutboxError` as `check_known`."""
        check_known(self._db)
        row = self._db.execute("SELECT said FROM account").fetchone()
        account = Account() if row is None else account_in(row[0])
        if account is None:
            raise sqlite3.DatabaseError("the account is damaged")
        behind, size = 0, 0
        for call_id, its_size in self._db.execute(BEHIND, (account.next_id,)):
            if call_id != account.next_id + behind:  # another program's
                break
            behind += 1
            size += its_size if type(its_size) is int else 0
        self.uncounted = behind
        return account.with_calls(behind, size) if behind else account

    def write_account(self, account: Account) -> None:
        """Instead of what was there."""
        self._db.execute("INSERT OR REPLACE INTO account VALUES (1, ?)", (sealed(account.as_dict()),))
        self.uncounted = 0

    def read_dates(self) -> Dates:
        """The notes of the calendar; none, if that is damaged: then dates are what they were when written."""
        self.dates = Dates()
        with suppress(TypeError, ValueError, KeyError):
            self.dates = Dates.of((self.about() or {})["dates"])
        return self.dates

    def write_dates(self, step: float) -> None:
        """Note `dates`: the calendar was set by so many seconds since they were noted before."""
        about = self.about()
        if about is not None:  # or it is damaged, and the owner of these calls would be unknown
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
        """News of calls after this number, and the number of the last of it."""
        rows = self._db.execute("SELECT id, said FROM news WHERE id > ? ORDER BY id", (since,)).fetchall()
        heard: list[Concluded] = []
        for _, text in rows:
            with suppress(*UNREADABLE):  # damaged, or another program's: what became of those calls is not known
                heard += [Concluded.read(one) for one in unsealed(text) or ()]
        return heard, rows[-1][0] if rows else since

    def write_news(self, settled: Sequence[Concluded], since: int) -> int:
        """Behind the last of it, which is ``since``; its number."""
        if not settled:
            return since
        number = since + 1
        self._db.execute("INSERT INTO news VALUES (?, ?)", (number, sealed([one.as_list() for one in settled])))
        if not number % 1_000:
            self._db.execute("DELETE FROM news WHERE id <= ?", (number - NEWS,))
        return number

    # ── calls come in, and go ──

    def put(self, puts: Sequence[Put], first: int, offset: float) -> int:
        """Calls, under the ids from ``first`` on; their bytes.

        ``offset`` is from the steady clock, by which they were put, to the calendar.
        """
        rows, total = [], 0
        for call_id, put in enumerate(puts, first):
            stored, at, size = Stored.of(put.kind, put.key, put.payload), put.at + offset, put.size
            crc = stored.checksum(call_id, at, size)
            rows.append((call_id, at, stored.kind, stored.key, stored.body, stored.moment, size, crc))
            total += size
        self._db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", rows)
        return total

    def write_notes(self, batch: Batch, account: Account, *, may_send: bool) -> list[Concluded]:
        """All of a batch that is no call; what it has settled."""
        news = [conclude(account, outcome, [account.next_id + n], []) for n, (outcome, _) in enumerate(batch.refused)]
        account.next_id += len(news)
        account.accepted += len(news)
        for settled in (*batch.delivered.values(), *batch.lost):
            news += self._settle(settled, account)
        if batch.parts:
            parts = [(part[0], sealed(part)) for part in batch.parts]
            self._db.executemany("INSERT OR IGNORE INTO parts VALUES (?, ?)", parts)
        self.send_log.write(batch, account, may_send=may_send)
        return news

    def _settle(self, settled: Settled, account: Account) -> list[Concluded]:
        carriers, merged = settled.carriers, settled.merged
        if not carriers and not merged:
            return []
        missing: set[int] = set()
        for stretch in runs([*carriers, *merged]):
            within = "WHERE id BETWEEN ? AND ?"
            held, size = self._db.execute(f"SELECT count(*), {BYTES} FROM calls {within}", stretch).fetchone()
            if held <= stretch[1] - stretch[0]:  # some were purged
                there = {row[0] for row in self._db.execute(f"SELECT id FROM calls {within}", stretch)}
                missing.update(set(range(stretch[0], stretch[1] + 1)) - there)
            if settled.outcome.keeps_call:
                detail = settled.detail.encode("utf-8", "replace").decode()  # SQLite takes no lone surrogate
                values = (self._wall(), settled.outcome.status, settled.outcome.reason, detail, *stretch)
                self._db.execute(f"INSERT OR REPLACE INTO lost SELECT {ROW}, ?, ?, ?, ? FROM calls {within}", values)
            self._db.execute(f"DELETE FROM calls {within}", stretch)
            self._db.execute(f"DELETE FROM parts {within}", stretch)
            if account.keys:
                self.keys.settle(stretch, settled.outcome)
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

    # ── pairs ──

    def put_pairs(self, puts: Sequence[Put]) -> bool:
        """Keep the keys that these calls name together, and no more of all than may be kept; true if there are any."""
        named = {sealed_pair(pair): None for put in puts for pair in pairs_in(put.key)}
        if named:
            self._db.executemany("INSERT OR IGNORE INTO pairs (said) VALUES (?)", [(one,) for one in named])
            self._db.execute("DELETE FROM pairs WHERE id <= (SELECT max(id) FROM pairs) - ?", (MOST_PAIRS,))
        return bool(named)

    def pairs(self) -> tuple[list[Pair], int]:
        """Keys that calls have named together, but those heard before, in their order; and the number of the last."""
        heard = self.heard_pairs
        rows = self._db.execute("SELECT id, said FROM pairs WHERE id > ? ORDER BY id", (heard,)).fetchall()
        found = [pair for _, text in rows if (pair := unsealed_pair(text)) is not None]
        return found, rows[-1][0] if rows else heard

    def forget_pairs(self) -> None:
        """Keep none of those that were named so far."""
        self._db.execute("UPDATE pairs SET said = NULL")  # not deleted, or others who listen would miss what follows

    # ── calls are read ──

    def read(self, reading: Reading) -> tuple[Read, list[int]]:
        """The calls that are asked for, and ids of rows whose checksum is wrong.

        Raises `sqlite3.DatabaseError` if ids do not rise.
        """
        values: list[object] = [reading.start]
        where = "id >= ?"
        if reading.only is not None:
            where += " AND key = ? AND id < ?"
            values += [encode_json(reading.only), reading.looks_to(reading.start)]
        query = f"SELECT id, at, size, kind, key, said, moment, crc, sent FROM calls WHERE {where} ORDER BY id LIMIT ?"
        rows = self._db.execute(query, (*values, reading.limit)).fetchall()
        more, read_to = len(rows) == reading.limit, rows[-1][0] + 1 if rows else reading.start
        if reading.only is not None and not more:
            read_to = reading.looks_to(reading.start)
            more = read_to < reading.end
        if not rows:
            return Read([], read_to, more), []
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
        return Read(found, read_to, more), damaged

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
        """Ids of rows that no call was given: another program wrote them."""
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


def conclude(account: Account, outcome: Outcome, carriers: Iterable[int], merged: Iterable[int]) -> Concluded:
    """Settle calls in the account; the news of that."""
    carriers, merged = list(carriers), list(merged)
    account.conclude(outcome, len(carriers), len(merged))
    return Concluded.of(outcome, carriers, merged)
