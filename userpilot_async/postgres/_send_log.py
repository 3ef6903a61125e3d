"""The sender's notes in PostgreSQL: requests under way and just landed, and files whose jobs are not over.

Written for the sender after this one. It takes a request without an outcome for one that may have arrived, and waits
for the tokens that were spent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from .._calls.stored import UNREADABLE, Runs, key_in, runs, stretches_in
from .._calls.values import encode_json
from .._outbox.batch import Batch, Landed
from .._outbox.pages import UnfinishedUpload
from .._schedule.takeover import RequestNote, Takeover, UnfinishedFile
from ._connection import Connection
from ._reading import EPOCH, stored_in
from ._schema import Names
from ._state import State

TOKEN, LOST_TOKEN = 60.0, 90.0  # seconds until a token comes back, as in `rate_limit`; longer without an answer


class SendLog:
    """The notes of one outbox, by one connection, within a transaction of the caller's."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names

    def write(self, state: State, batch: Batch) -> None:
        """A batch's requests, those that landed, and files that are done with."""
        for request in batch.requests:
            self._begin(state, request)
        for landed in batch.landed:
            if landed.request.number is not None:  # or it was never noted
                self._end(state, landed)
        if batch.forgotten:
            self._connection.run(
                self._names.sql("DELETE FROM {files} WHERE filename = ANY(%s)"), (list(batch.forgotten),)
            )
        if batch.landed:
            self._connection.run(
                self._names.sql("DELETE FROM {requests} WHERE landed_at < to_timestamp(%s)"), (state.now - TOKEN,)
            )

    def _begin(self, state: State, request: RequestNote) -> None:
        self._connection.run(
            self._names.sql("INSERT INTO {requests} (id, at, budget, calls) VALUES (%s, to_timestamp(%s), %s, %s)"),
            (request.number, state.now, request.budget, encode_json(runs(request.ids))),
        )
        again = [call_id for call_id in request.ids if call_id < state.sent_below]
        state.account.ambiguous += self._mark_sent(runs(again), once=True)
        if request.last_calls:
            self._connection.run(
                self._names.sql(
                    "INSERT INTO {files} VALUES (%s, %s, %s) "
                    "ON CONFLICT (filename) DO UPDATE SET kind = EXCLUDED.kind, last_calls = EXCLUDED.last_calls"
                ),
                (request.filename, request.kind, encode_json(list(request.last_calls))),
            )

    def _end(self, state: State, landed: Landed) -> None:
        number = landed.request.number
        if landed.answered is False:
            state.account.ambiguous += len(landed.request.ids)
        if landed.answered is not None:
            landed_at = state.now + (0.0 if landed.answered else LOST_TOKEN - TOKEN)
            query = "UPDATE {requests} SET landed_at = to_timestamp(%s) WHERE id = %s"
            self._connection.run(self._names.sql(query), (landed_at, number))
        else:
            self._connection.run(self._names.sql("DELETE FROM {requests} WHERE id = %s"), (number,))
        if landed.lost:
            self._mark_sent(runs(landed.request.ids))

    def _mark_sent(self, stretches: Runs, *, once: bool = False) -> int:
        """The server may have these; how many of them still wait. With ``once``, those that had no mark before."""
        if not stretches:
            return 0
        query = (
            "WITH marked AS (UPDATE {calls} SET sent = true "
            "FROM unnest(%s::bigint[], %s::bigint[]) AS run (first, last) "
            f"WHERE id BETWEEN first AND last {'AND NOT sent ' if once else ''}RETURNING 1) SELECT count(*) FROM marked"
        )
        firsts, lasts = [first for first, _ in stretches], [last for _, last in stretches]
        return int(self._connection.run(self._names.sql(query), (firsts, lasts))[0][0])

    def inherit(self, state: State) -> Takeover:
        """Take over what the sender before has left; its requests under way become such that may have arrived."""
        # From now on, and not from when it was noted: its sender may have been stopped in between.
        query = "UPDATE {requests} SET landed_at = to_timestamp(%s) WHERE landed_at IS NULL RETURNING calls"
        for (calls,) in self._connection.run(self._names.sql(query), (state.now + LOST_TOKEN - TOKEN,)):
            state.account.ambiguous += self._mark_sent(_ids_in(calls))
        spent: dict[str, list[float]] = {}
        query = f"SELECT budget, {EPOCH.format('landed_at')} FROM {{requests}} WHERE landed_at > to_timestamp(%s)"
        rows = self._connection.run(self._names.sql(query), (state.now - TOKEN,))
        for budget, landed_at in rows:
            spent.setdefault(budget, []).append(min(landed_at + TOKEN - state.now, LOST_TOKEN))
        files = [self._unfinished(*row) for row in self._connection.run(self._names.sql("SELECT * FROM {files}"))]
        unknown = max(0.0, min(state.unknown_until - state.now, LOST_TOKEN))
        return Takeover(spent, [file for file in files if file.last_calls], unknown)

    def _unfinished(self, filename: str, kind: str, last_calls: str) -> UnfinishedFile:
        keys: dict[str, int] = {}
        ids = [first for first, _ in _ids_in(last_calls)]
        query = self._names.sql("SELECT id, kind, key, body, moment FROM {calls} WHERE id = ANY(%s) ORDER BY id")
        for call_id, *fields in self._connection.run(query, (ids,)):
            key = key_in(stored_in(fields), kind)
            if key is not None:
                keys[key] = call_id
        if not keys:
            self._connection.run(self._names.sql("DELETE FROM {files} WHERE filename = %s"), (filename,))
        return UnfinishedFile(filename, kind, keys)

    # ── for people ──

    def under_way(self) -> int:
        """Requests of which it is not known whether they have reached the server."""
        return int(self._connection.run(
            self._names.sql("SELECT count(*) FROM {requests} WHERE landed_at IS NULL"))[0][0])  # fmt: skip

    def spent(self, now: float) -> dict[str, int]:
        """Tokens of requests under way, and of those of the last minute, by their budget."""
        where = "landed_at IS NULL OR landed_at > to_timestamp(%s)"
        query = f"SELECT budget, count(*) FROM {{requests}} WHERE {where} GROUP BY budget"
        return dict(self._connection.run(self._names.sql(query), (now - TOKEN,)))

    def uploads(self) -> Sequence[UnfinishedUpload]:
        """Files that the server may have."""
        rows = self._connection.run(self._names.sql("SELECT filename, kind, last_calls FROM {files} ORDER BY filename"))
        known = [(filename, kind, len(_ids_in(calls))) for filename, kind, calls in rows]
        return [UnfinishedUpload(*one) for one in known if one[-1]]


def _ids_in(text: str) -> Runs:
    """Ids; none, if another program has written there."""
    try:
        return stretches_in(json.loads(text))
    except UNREADABLE:
        return []
