"""The inbox: calls that transactions of the application's have put, and that are accepted when they are admitted."""

from __future__ import annotations

import json
from collections.abc import Callable

from psycopg import sql

from .._calls.pairs import Pair, pairs_in
from .._calls.stored import UNREADABLE
from ._connection import Connection
from ._keys import WEEK
from ._schema import Names
from ._state import State, StateRow
from ._tables import AT_ONCE, CALL, Tables

_COMMITTED = "pg_xact_commit_timestamp(xmin)"  # of the transaction that has put a row, where the server notes that


class Inbox:
    """The inbox of one outbox, by one connection. What is in it counts for nothing yet: no account has it."""

    def __init__(self, connection: Connection, names: Names, row: StateRow, tables: Tables) -> None:
        self._connection = connection
        self._names = names
        self._row = row
        self._tables = tables
        self._by_commit: bool | None = None

    def admit(self, state: State) -> bool:
        """Accept the next calls; true if there may be more of them. Its transaction has the state's row locked."""
        if not state.has_inbox:
            return False
        by_commit = self._by_commit
        if by_commit is None:
            by_commit = self._by_commit = self._connection.run(b"SHOW track_commit_timestamp")[0][0] == "on"
        return self._accept(state, by_commit=by_commit) >= AT_ONCE

    def _accept(self, state: State, *, by_commit: bool) -> int:
        """Accept the next calls that transactions of the application's have put; how many.

        Their numbers in the inbox become visible in any order, so it is emptied, and not read on from a place. Each
        time's calls are in the order of their commits (``by_commit``), where the server notes those, else of numbers.
        """
        seqs, keyed = self._next_of_inbox(state)
        rows = self._connection.run(
            self._names.sql(
                "WITH taken AS (DELETE FROM {inbox} WHERE seq = ANY(%s::bigint[]) "
                "RETURNING seq, at, kind, key, body, moment, size, dedupe, {committed} AS committed), "
                "numbered AS (SELECT %s + row_number() OVER (ORDER BY committed NULLS FIRST, seq) AS id, * FROM taken"
                "), "
                f"put AS (INSERT INTO {{calls}} (id, at, {CALL}) "
                "SELECT id, at, kind, key, body, moment, greatest(size, 0), dedupe, false FROM numbered) "
                "SELECT count(*), coalesce(sum(greatest(size, 0)), 0)::bigint, "
                "array_agg(key ORDER BY id) FILTER (WHERE key LIKE '[%%') FROM numbered",
                committed=sql.SQL(_COMMITTED if by_commit else "NULL::timestamptz"),
            ),
            (seqs, state.account.next_id - 1),
        )
        calls, size, keys = rows[0]
        self._tables.accepted(state, calls, size)
        self._tables.put_pairs(state, [pair for key in keys or () for pair in _pairs_of(key)])
        if keyed:
            query = "SELECT id, dedupe FROM {calls} WHERE id >= %s AND dedupe = ANY(%s::bytea[])"
            new = self._connection.run(self._names.sql(query), (state.account.next_id - calls, keyed))
            self._tables.keys.add(state, [(call_id, bytes(digest), WEEK) for call_id, digest in new])
        return int(calls)

    def _next_of_inbox(self, state: State) -> tuple[list[int], list[bytes]]:
        """The numbers of the next calls of the inbox, and the keys of those; such as repeat others are taken out."""
        query = "SELECT seq, dedupe FROM {inbox} ORDER BY seq LIMIT %s"
        rows = self._connection.run(self._names.sql(query), (AT_ONCE,))
        digests = [bytes(digest) for _, digest in rows if digest is not None]
        known = self._tables.keys.known(state, digests) if digests else {}
        seqs, repeated, new = list[int](), dict[int, int](), dict[bytes, int]()
        for seq, digest in rows:
            if digest is not None and bytes(digest) in known:
                repeated[seq] = known[bytes(digest)]
            elif digest is not None and bytes(digest) in new:
                repeated[seq] = -1  # of a call that is about to be accepted
            else:
                seqs.append(seq)
                if digest is not None:
                    new[bytes(digest)] = seq
        if repeated:
            query = "DELETE FROM {inbox} WHERE seq = ANY(%s::bigint[])"
            self._connection.run(self._names.sql(query), (list(repeated),))
            self._tables.keys.refuse(state, repeated, state.account.next_id)
        return seqs, list(new)

    def admit_for(self, token: str, check: Callable[[State], object]) -> tuple[bool, bool]:
        """Accept the next calls in a transaction of its own, for the holder of the lease of this token.

        The first is true if there were any, the second if there may be more.
        """
        with self._row.locked() as state:
            check(state)
            before = state.account.next_id
            more = state.lease == token and self.admit(state)
            admitted = state.account.next_id > before
            if admitted:
                self._row.write(state)
        return admitted, more

    def count(self) -> tuple[int, int]:
        """How many calls are there, and their bytes."""
        query = self._names.sql("SELECT count(*), coalesce(sum(greatest(size, 0)), 0)::bigint FROM {inbox}")
        calls, size = self._connection.run(query)[0]
        return calls, size


def _pairs_of(key: str) -> list[Pair]:
    try:
        known = json.loads(key)
        return pairs_in(tuple(known)) if all(isinstance(one, str) for one in known) else []
    except UNREADABLE:  # another program's: the call is set aside when it is read
        return []
