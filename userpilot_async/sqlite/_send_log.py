"""The sender's notes in a file: requests under way and just landed, and files whose jobs are not over.

Written for the sender after this one. It takes a request without an outcome for one that may have arrived, and waits
for the tokens that were spent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .._account.account import Account
from .._calls.stored import Stored, key_in, runs, sealed
from .._outbox.batch import Batch, Landed
from .._outbox.pages import UnfinishedUpload
from .._schedule.takeover import RequestNote, Takeover, UnfinishedFile
from ._sealed import ids_in

TOKEN, LOST_TOKEN = 60.0, 90.0  # seconds until a token comes back, as in `_bucket`; longer without an answer
TYPED = "typeof(budget) = 'text' AND typeof(landed_at)"  # or it is damaged


class SendLog:
    """The notes of one connection; ``wall`` is the calendar. What writes does so within the caller's transaction."""

    def __init__(self, db: sqlite3.Connection, wall: Callable[[], float]) -> None:
        self._db = db
        self._wall = wall

    def write(self, batch: Batch, account: Account, *, may_send: bool) -> None:
        """A batch's requests, if this process ``may_send`` them, those that landed, and files that are done with."""
        for request in batch.requests if may_send else ():
            self._begin(request)
        for landed in batch.landed:
            self._end(landed, account)
        self._db.executemany("DELETE FROM files WHERE filename = ?", ((filename,) for filename in batch.forgotten))
        if batch.landed:
            self._db.execute("DELETE FROM requests WHERE landed_at < ?", (self._wall() - TOKEN,))

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

    def inherit(self, account: Account) -> Takeover:
        """Take over what the sender before has left; its requests under way become such that may have arrived."""
        now = self._wall()
        under_way = self._db.execute("SELECT id, calls FROM requests WHERE landed_at IS NULL").fetchall()
        for number, calls in under_way:
            account.ambiguous += self._mark_sent(ids_in(calls))
            # From now on, and not from when it was noted: its sender may have been stopped in between.
            landed_at = now + LOST_TOKEN - TOKEN
            self._db.execute("UPDATE requests SET landed_at = ? WHERE id = ?", (landed_at, number))
        spent: dict[str, list[float]] = {}
        for budget, landed_at in self._db.execute(f"SELECT budget, landed_at FROM requests WHERE {TYPED} = 'real'"):
            if landed_at + TOKEN > now:
                spent.setdefault(budget, []).append(min(landed_at + TOKEN - now, LOST_TOKEN))
        rows = self._db.execute("SELECT filename, kind, last_calls FROM files").fetchall()
        files = [self._unfinished(*row) for row in rows]
        return Takeover(spent, [file for file in files if file.last_calls])

    def _unfinished(self, filename: Any, kind: Any, last_calls: Any) -> UnfinishedFile:
        """`Any`: what is damaged, or another program's, may be anything. It is forgotten."""
        keys: dict[str, int] = {}
        readable = isinstance(filename, str) and isinstance(kind, str)
        for call_id, _ in ids_in(last_calls) if readable else ():
            row = self._db.execute("SELECT kind, key, said, moment FROM calls WHERE id = ?", (call_id,)).fetchone()
            key = key_in(Stored(*row), kind) if row is not None else None
            if key is not None:
                keys[key] = call_id
        if not keys:
            self._db.execute("DELETE FROM files WHERE filename = ?", (filename,))
        return UnfinishedFile(filename, kind, keys)

    # ── for people ──

    def spent(self) -> dict[str, int]:
        """Tokens of requests under way, and of those of the last minute, by their budget."""
        where = f"{TYPED} = 'null' OR {TYPED} = 'real' AND landed_at > ?"
        query = f"SELECT budget, count(*) FROM requests WHERE {where} GROUP BY budget"
        return dict(self._db.execute(query, (self._wall() - TOKEN,)).fetchall())

    def uploads(self) -> list[UnfinishedUpload]:
        """Files that the server may have; such as cannot be read are left out."""
        rows = self._db.execute("SELECT filename, kind, last_calls FROM files ORDER BY filename").fetchall()
        known = [(str(filename), str(kind), len(ids_in(calls))) for filename, kind, calls in rows]
        return [UnfinishedUpload(*one) for one in known if one[-1]]
