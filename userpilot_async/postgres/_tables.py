"""The tables, read and written: statements of one connection, within a transaction of the caller's.

What writes has the state's row locked, and is handed the state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from psycopg import sql

from .._account.account import Account
from .._calls.outcome import Outcome
from .._calls.pairs import MOST_PAIRS, Pair, pairs_in, sealed_pair, unsealed_pair
from .._calls.payload import Kind
from .._calls.stored import UNREADABLE, Concluded, Runs, Stored, runs
from .._calls.values import encode_json
from .._outbox.batch import Put, Settled
from .._outbox.store import Admitted
from ._arrays import numbers, texts
from ._connection import Connection
from ._keys import Keys, outcome_in, text_of
from ._schema import Names
from ._state import State

NEWS = 20_000  # transactions with settled calls that are remembered for the others; at 20 a second, 16 minutes
MAX_LOST = 100_000  # dead and dropped calls kept: the newest
AT_ONCE = 5_000  # calls settled, or admitted, by one statement: some hundredths of a second
ADMITTED = "admitted"  # of news: calls that were put with tickets, and their ids
DAMAGED = Outcome("dead", "damaged")
CALL = "kind, key, body, moment, size, dedupe, checked"


class Tables:
    """The tables of one outbox, by one connection."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self.keys = Keys(connection, names)

    # ── calls come in ──

    def put(self, state: State, puts: Sequence[Put], ages: Sequence[float]) -> sql.Composed:
        """Calls, under the next ids, each made so many seconds ago; they are there when the given statement was run."""
        stored = [Stored.of(put.kind, put.key, put.payload) for put in puts]
        statement = self._names.sql(
            "INSERT INTO {calls} (id, at, kind, key, body, moment, size, checked) "
            "SELECT {before} + row, to_timestamp({now} - age), kind, key, body, moment, size, true FROM "
            "unnest({ages}::float8[], {kinds}::text[], {keys_}::text[], {bodies}::text[], {moments}::text[], "
            "{sizes}::int[]) WITH ORDINALITY AS put (age, kind, key, body, moment, size, row)",
            before=sql.Literal(state.account.next_id - 1),
            now=sql.Literal(state.now),
            ages=sql.Literal(numbers(ages)),
            kinds=sql.Literal(texts(one.kind for one in stored)),
            keys_=sql.Literal(texts(one.key for one in stored)),
            bodies=sql.Literal(texts(one.body.decode() for one in stored)),
            moments=sql.Literal(texts(one.moment for one in stored)),
            sizes=sql.Literal(numbers(put.size for put in puts)),
        )
        self.accepted(state, len(puts), sum(put.size for put in puts))
        self.put_pairs(state, [pair for put in puts for pair in pairs_in(put.key)])
        return statement

    def accepted(self, state: State, calls: int, size: int) -> None:
        """Account for so many calls under the next ids, and their bytes."""
        if state.oldest_held is None:
            state.oldest = state.account.next_id
        account = state.account
        account.next_id += calls
        account.accepted += calls
        account.bytes += size

    # ── calls go ──

    def refuse(self, state: State, outcomes: Sequence[Outcome]) -> list[Concluded]:
        """Account for calls that found no room, under the next ids; the news of that."""
        first = state.account.next_id
        news = [conclude(state.account, outcome, [first + n], []) for n, outcome in enumerate(outcomes)]
        state.account.next_id += len(news)
        state.account.accepted += len(news)
        return news

    def settle(self, state: State, settled: Settled) -> list[Concluded]:
        """Take calls out that have their outcome; the news of those that were there."""
        carriers, merged = settled.carriers, settled.merged
        there: set[int] = set()
        for stretches in _slices(runs([*carriers, *merged])):
            there.update(self._take_out(state, stretches, settled))
        if len(there) < len(carriers) + len(merged):  # some were purged
            carriers, merged = ([one for one in ids if one in there] for ids in (carriers, merged))
        return [conclude(state.account, settled.outcome, carriers, merged)] if carriers or merged else []

    def _take_out(self, state: State, stretches: Runs, settled: Settled) -> list[int]:
        outcome = settled.outcome
        kept: sql.Composable = sql.SQL("")
        noted = text_of(outcome)
        values = [[first for first, _ in stretches], [last for _, last in stretches]]
        whys: list[object] = []
        if outcome.keeps_call:
            kept = self._names.sql(
                f", kept AS (INSERT INTO {{lost}} (id, at, {CALL}, lost_at, status, reason, detail) "
                f"SELECT id, at, {CALL}, to_timestamp(%s), %s, %s, %s FROM gone ON CONFLICT DO NOTHING)"
            )
            detail = settled.detail.encode("utf-8", "replace").decode().replace("\0", "?")  # a server takes no others
            whys = [state.now, outcome.status, outcome.reason or "unknown", detail]
        rows = self._connection.run(
            self._names.sql(
                "WITH gone AS (DELETE FROM {calls} USING unnest(%s::bigint[], %s::bigint[]) AS run (first, last) "
                "WHERE id BETWEEN first AND last RETURNING {calls}.*), "
                "said AS (DELETE FROM {parts} USING unnest(%s::bigint[], %s::bigint[]) AS run (first, last) "
                "WHERE call_id BETWEEN first AND last), "
                "noted AS (UPDATE {keys} SET outcome = %s FROM unnest(%s::bigint[], %s::bigint[]) AS run (first, last) "
                "WHERE id BETWEEN first AND last AND outcome IS NULL) {kept} "
                "SELECT array_agg(id), coalesce(sum(size), 0)::bigint FROM gone",
                kept=kept,
            ),
            (*values, *values, noted, *values, *whys),
        )
        ids, size = rows[0]
        state.account.bytes -= size
        return ids or []

    def put_parts(self, parts: Sequence[tuple[int, Kind, str]]) -> None:
        """Note what the server has already of what calls say."""
        if parts:
            ids, kinds, keys = (list(column) for column in zip(*parts, strict=True))
            self._connection.run(
                self._names.sql("INSERT INTO {parts} SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[])"),
                (ids, kinds, [encode_json(key) for key in keys]),  # PostgreSQL's text holds no NUL, and an id may
            )

    def take_back(self, state: State, ids: Sequence[int]) -> None:
        """Take calls out as if they had never been put: their callers do not wait for them any more."""
        back = self.keys.may_be_taken_back(ids)
        if back:
            rows = self._connection.run(
                self._names.sql("DELETE FROM {calls} WHERE id = ANY(%s) RETURNING id, size"), (back,)
            )
            state.account.accepted -= len(rows)
            state.account.bytes -= sum(size for _, size in rows)
            # What was delivered meanwhile was accepted, and has its key.
            self.keys.take_back(state, [call_id for call_id, _ in rows])

    def set_aside(self, state: State, ids: Sequence[int]) -> list[Concluded]:
        """Keep calls that cannot be read as lost ones; the news of that."""
        return self.settle(state, Settled(DAMAGED, list(ids), []))

    def forget_lost(self, state: State, before: float) -> int:
        """Keep no lost calls from before this moment, and no more than may be kept; how many had to go for that."""
        rows = self._connection.run(
            self._names.sql(
                "WITH gone AS (DELETE FROM {lost} WHERE id IN (SELECT id FROM {lost} WHERE lost_at < to_timestamp(%s) "
                "UNION ALL (SELECT id FROM {lost} ORDER BY id DESC OFFSET %s) LIMIT %s) RETURNING 1) "
                "SELECT count(*) FROM gone"
            ),
            (before, MAX_LOST, AT_ONCE),
        )
        state.account.forgotten += rows[0][0]
        return int(rows[0][0])

    def find_oldest(self, state: State) -> None:
        """See which id is the lowest that is held: not lower than before, which spares a walk over what was deleted."""
        query = self._names.sql("SELECT min(id) FROM {calls} WHERE id >= %s")
        found = self._connection.run(query, (state.oldest,))[0][0]
        state.oldest = state.account.next_id if found is None else found

    # ── news ──

    def write_news(self, state: State, news: Sequence[Concluded]) -> None:
        """For all who have the outbox open; the oldest are forgotten."""
        if news:
            self._write_news(state, [one.as_list() for one in news])

    def announce(self, state: State, admitted: Sequence[Admitted]) -> None:
        """For those who have a receipt for one of these calls, by its ticket."""
        if admitted:
            self._write_news(state, {ADMITTED: [_announced(one) for one in admitted]})

    def _write_news(self, state: State, news: object) -> None:
        state.news += 1
        body = encode_json(news)
        self._connection.run(self._names.sql("INSERT INTO {news} VALUES (%s, %s)"), (state.news, body))
        if not state.news % 1_000:
            self._connection.run(self._names.sql("DELETE FROM {news} WHERE id <= %s"), (state.news - NEWS,))

    def news_since(self, number: int) -> tuple[list[Concluded], list[Admitted]]:
        """All news of calls behind this number: what became of them, and which were admitted with tickets."""
        heard: list[Concluded] = []
        admitted: list[Admitted] = []
        rows = self._connection.run(self._names.sql("SELECT body FROM {news} WHERE id > %s ORDER BY id"), (number,))
        for (body,) in rows:
            with suppress(*UNREADABLE):  # another program's: what became of those calls is not known
                news = json.loads(body)
                if isinstance(news, dict):
                    admitted += [_admitted_in(one) for one in news[ADMITTED]]
                else:
                    heard += [Concluded.read(one) for one in news]
        return heard, admitted

    # ── pairs ──

    def put_pairs(self, state: State, pairs: Sequence[Pair]) -> None:
        """Keep keys that calls name together, and no more of all than may be kept."""
        named = list({sealed_pair(pair): None for pair in pairs})
        if not named:
            return
        digests = [hashlib.blake2b(one.encode(), digest_size=16).digest() for one in named]
        rows = self._connection.run(
            self._names.sql(
                "INSERT INTO {pairs} SELECT %s + row_number() OVER (ORDER BY row), digest, body "
                "FROM unnest(%s::bytea[], %s::text[]) WITH ORDINALITY AS new (digest, body, row) "
                "WHERE NOT EXISTS (SELECT 1 FROM {pairs} AS old WHERE old.digest = new.digest) RETURNING id"
            ),
            (state.pairs, digests, named),
        )
        state.pairs += len(rows)
        self._connection.run(self._names.sql("DELETE FROM {pairs} WHERE id <= %s"), (state.pairs - MOST_PAIRS,))

    def pairs_since(self, number: int) -> list[Pair]:
        """Keys that calls have named together, behind this number, in their order."""
        query = self._names.sql("SELECT body FROM {pairs} WHERE id > %s ORDER BY id")
        rows = self._connection.run(query, (number,))
        return [pair for (body,) in rows if (pair := unsealed_pair(body)) is not None]

    def forget_pairs(self) -> None:
        """Keep none of those that were named so far; their numbers stay, or others who listen would miss the next."""
        self._connection.run(self._names.sql("UPDATE {pairs} SET body = NULL, digest = NULL"))


def conclude(account: Account, outcome: Outcome, carriers: Iterable[int], merged: Iterable[int]) -> Concluded:
    """Settle calls in the account; the news of that."""
    carriers, merged = list(carriers), list(merged)
    account.conclude(outcome, len(carriers), len(merged))
    return Concluded.of(outcome, carriers, merged)


def _slices(stretches: Runs) -> Iterator[Runs]:
    """The stretches, cut into lists of `AT_ONCE` calls at most."""
    some: Runs = []
    room = AT_ONCE
    for first, last in stretches:
        while first <= last:
            end = min(last, first + room - 1)
            some.append((first, end))
            room -= end - first + 1
            first = end + 1
            if not room:
                yield some
                some, room = [], AT_ONCE
    if some:
        yield some


def _announced(call: Admitted) -> list[object]:
    """A call of the inbox as news have it: its ticket and id; if it repeats another, also that one's outcome."""
    if not call.repeats:
        return [call.ticket, call.id]
    return [call.ticket, call.id, None if call.outcome is None else text_of(call.outcome)]


def _admitted_in(news: Sequence[Any]) -> Admitted:
    """A call that was `_announced`. Raises one of `UNREADABLE` if that is damaged."""
    ticket, call_id, *repeated = news
    outcome = outcome_in(repeated[0]) if repeated else None
    return Admitted(int(ticket), int(call_id), repeats=bool(repeated), outcome=outcome)
