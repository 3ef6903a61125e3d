"""The inbox: calls that transactions of the application's have put, and that are accepted when they are admitted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import attrs

from .._calls.dedupe import DIGEST
from .._calls.pairs import Pair, pairs_in
from .._calls.stored import UNREADABLE
from .._calls.values import encode_json
from .._outbox.store import Admitted
from ._connection import Connection
from ._keys import WEEK
from ._schema import Names
from ._state import State, StateRow
from ._tables import AT_ONCE, CALL, Tables
from ._unseen import Unseen

MOST_BYTES = 16 * 1024 * 1024  # of calls that are accepted at once: a statement has its time, whatever is in the rows

# When the transaction was committed that has put a row; asked each time, as the server may have been restarted since.
_COMMITTED = "CASE WHEN current_setting('track_commit_timestamp')::bool THEN pg_xact_commit_timestamp(xmin) END"
# Anybody's SQL may have put any digest there, and an index takes no long one.
_ARRIVALS = """
SELECT seq, octet_length(key) + octet_length(body), CASE WHEN octet_length(dedupe) = %s THEN dedupe END,
       CASE WHEN dedupe_for >= 0 AND dedupe_for <= 'Infinity' THEN dedupe_for ELSE %s END, ticket
FROM {inbox} WHERE {rows} LIMIT %s FOR UPDATE SKIP LOCKED"""


@attrs.frozen
class _Arrival:
    """A row of the inbox: its number, the key of its fact and for how many seconds that counts, and its ticket."""

    seq: int
    digest: bytes | None
    seconds: float
    ticket: int | None


class Inbox:
    """The inbox of one outbox, by one connection. What is in it counts for nothing yet: no account has it."""

    def __init__(self, connection: Connection, names: Names, row: StateRow, tables: Tables, unseen: Unseen) -> None:
        self._connection = connection
        self._names = names
        self._row = row
        self._tables = tables
        self._unseen = unseen

    def admit(self, state: State) -> tuple[bool, Sequence[Admitted]]:
        """Accept the next calls, and announce those with tickets, which are given; true if there may be more of them.

        Its transaction has the state's row locked.
        """
        if not state.has_inbox:
            return False, ()
        arrivals, more = self._arrivals()
        if more:
            self._unseen.forget()  # nothing that went lies before so many
        admitted = self._accept(state, arrivals)
        self._tables.announce(state, admitted)
        return more, admitted

    def _arrivals(self) -> tuple[list[_Arrival], bool]:
        """The next rows of the inbox, by their numbers, and whether there may be more.

        Numbers become visible in any order: no place is read on from. What another program has locked is left for
        later, as it is not known how long that takes; and nobody can delete a row that was read here.
        """
        rows = self._connection.run(self._names.sql(_ARRIVALS, rows=self._unseen.rows()), (DIGEST, WEEK, AT_ONCE))
        arrivals: list[_Arrival] = []
        room = MOST_BYTES
        for seq, size, digest, seconds, ticket in rows:
            room -= size
            if room < 0 and arrivals:
                break
            arrivals.append(_Arrival(seq, None if digest is None else bytes(digest), seconds, ticket))
        return arrivals, len(arrivals) < len(rows) or len(rows) >= AT_ONCE

    def _accept(self, state: State, arrivals: Sequence[_Arrival]) -> list[Admitted]:
        """Accept calls, but none whose fact an earlier one tells; those with tickets are given."""
        keyed = [one for one in arrivals if one.digest is not None]
        keys = self._tables.keys
        known = keys.known(state, [one.digest for one in keyed if one.digest is not None]) if keyed else {}
        firsts: dict[bytes, _Arrival] = {}
        for one in keyed:
            if one.digest is not None and one.digest not in known:
                firsts.setdefault(one.digest, one)
        repeating = [one for one in keyed if one.digest in known or firsts[one.digest or b""] is not one]
        taken_out = {one.seq for one in repeating}
        ids = self._number(state, [one.seq for one in arrivals if one.seq not in taken_out])
        keys.add(state, [(ids[one.seq], digest, one.seconds) for digest, one in firsts.items()])
        admitted = [Admitted(one.ticket, ids[one.seq]) for one in arrivals if one.ticket is not None and one.seq in ids]
        if repeating:
            query = "DELETE FROM {inbox} WHERE seq = ANY(%s::bigint[])"
            self._connection.run(self._names.sql(query), (sorted(taken_out),))
            known |= {digest: ids[one.seq] for digest, one in firsts.items()}
            repeats = {one.seq: known[one.digest or b""] for one in repeating}
            outcomes = keys.refuse(state, repeats, state.account.next_id)
            admitted += [
                Admitted(one.ticket, repeats[one.seq], repeats=True, outcome=outcomes[one.seq])
                for one in repeating
                if one.ticket is not None
            ]
        return admitted

    def _number(self, state: State, seqs: Sequence[int]) -> dict[int, int]:
        """Accept these calls under the next ids; the ids of those that have a key or a ticket, by their numbers here.

        They are in the order of their commits, where the server notes those, else of their numbers.
        """
        rows = self._connection.run(
            self._names.sql(
                "WITH taken AS (DELETE FROM {inbox} WHERE seq = ANY(%s::bigint[]) "
                f"RETURNING seq, at, kind, key, body, moment, size, dedupe, ticket, {_COMMITTED} AS committed), "
                "numbered AS (SELECT %s + row_number() OVER (ORDER BY committed NULLS FIRST, seq) AS id, * FROM taken"
                "), "
                f"put AS (INSERT INTO {{calls}} (id, at, {CALL}) "
                "SELECT id, at, kind, key, body, moment, greatest(size, 0), dedupe, false FROM numbered) "
                "SELECT count(*), coalesce(sum(greatest(size, 0)), 0)::bigint, "
                "array_agg(key ORDER BY id) FILTER (WHERE key LIKE '[%%'), "
                "array_agg(seq ORDER BY id) FILTER (WHERE num_nonnulls(dedupe, ticket) > 0), "
                "array_agg(id ORDER BY id) FILTER (WHERE num_nonnulls(dedupe, ticket) > 0) FROM numbered",
            ),
            (list(seqs), state.account.next_id - 1),
        )
        calls, size, keys, numbers, ids = rows[0]
        self._tables.accepted(state, calls, size)
        self._tables.put_pairs(state, [pair for key in keys or () for pair in _pairs_of(key)])
        return dict(zip(numbers or (), ids or (), strict=True))

    def admit_for(self, token: str, check: Callable[[State], object]) -> tuple[bool, bool]:
        """Accept the next calls in a transaction of its own, for the holder of the lease of this token.

        The first is true if there were any, the second if there may be more.
        """
        with self._row.locked() as state:
            check(state)
            account = state.account
            before = account.next_id, account.duplicates
            more = state.lease == token and self.admit(state)[0]
            any_there = before != (account.next_id, account.duplicates)
            if any_there:
                self._row.write(state)
        return any_there, more

    def count(self) -> tuple[int, int]:
        """How many calls are there, and their bytes."""
        query = self._names.sql("SELECT count(*), coalesce(sum(greatest(size, 0)), 0)::bigint FROM {inbox}")
        calls, size = self._connection.run(query)[0]
        return calls, size


def _pairs_of(key: str) -> list[Pair]:
    try:
        known = json.loads(key)
        encode_json(known).encode()  # half a character is none that could be kept
        return pairs_in(tuple(known)) if all(isinstance(one, str) for one in known) else []
    except UNREADABLE:  # another program's: the call is set aside when it is read
        return []
