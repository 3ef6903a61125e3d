"""The keys of ``dedupe=``: hashes, each with the call that was accepted with it, which it outlives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import attrs

from .._account.shared_ledger import GONE
from .._calls.outcome import Outcome
from .._calls.stored import UNREADABLE, Concluded
from .._calls.values import encode_json
from .._outbox.batch import Put
from ._connection import Connection
from ._schema import Names
from ._state import State

MOST_KEYS = 10_000_000  # kept, the newest: at 600 events a minute seven days have six million
WEEK = 7 * 86_400.0  # seconds for which a key of the inbox counts, as `Settings.dedupe_for` has it
LATEST = 9e12  # seconds since 1970: PostgreSQL has no later date

Repeats = Mapping[int, int]
"""Puts that are none, by their places among all; and the call that each of them repeats."""


@attrs.frozen
class Chosen:
    """The puts of a batch that are to be written, and what is known of the others."""

    puts: Sequence[Put]
    repeats: Repeats = attrs.field(factory=dict)
    duplicates: Mapping[int, Outcome | None] = attrs.field(factory=dict)


class Keys:
    """The keys of one outbox, by one connection, within a transaction that has the state's row locked."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names

    def choose(self, state: State, puts: Sequence[Put]) -> Chosen:
        """Leave out the puts whose key an earlier call has, and keep the keys of all others, under the next ids."""
        digests = [put.dedupe.digest for put in puts if put.dedupe is not None]
        if not digests:
            return Chosen(puts)
        known, chosen, new = self.known(state, digests), list[Put](), list[tuple[int, bytes, float]]()
        repeats: dict[int, int] = {}
        for place, put in enumerate(puts):
            first = known.get(put.dedupe.digest) if put.dedupe is not None else None
            if first is not None:
                repeats[place] = first
                continue
            call_id = state.account.next_id + len(chosen)
            if put.dedupe is not None:
                known[put.dedupe.digest] = call_id
                new.append((call_id, put.dedupe.digest, put.dedupe.seconds))
            chosen.append(put)
        self.add(state, new)
        return Chosen(chosen, repeats, self.refuse(state, repeats, state.account.next_id))

    def known(self, state: State, digests: Sequence[bytes]) -> dict[bytes, int]:
        """The calls that have these keys, as far as those count still."""
        counts = "until > to_timestamp(%s) AND id < %s"
        query = f"SELECT digest, id FROM {{keys}} WHERE digest = ANY(%s::bytea[]) AND {counts}"
        rows = self._connection.run(self._names.sql(query), (list(digests), state.now, state.account.next_id))
        return {bytes(digest): call_id for digest, call_id in rows}

    def add(self, state: State, new: Sequence[tuple[int, bytes, float]]) -> None:
        """Keep keys that no call has, or none for so long: the id of each, its digest, and for how many seconds."""
        if not new:
            return
        ids, digests, seconds = (list(column) for column in zip(*new, strict=True))
        gone = self._connection.run(
            self._names.sql("DELETE FROM {keys} WHERE digest = ANY(%s::bytea[]) RETURNING 1"), (digests,)
        )
        until = [min(state.now + each, LATEST) for each in seconds]
        query = (
            "INSERT INTO {keys} (id, digest, until) SELECT id, digest, to_timestamp(until) "
            "FROM unnest(%s::bigint[], %s::bytea[], %s::float8[]) AS new (id, digest, until) "
            # A row under this id is nobody's: no call has had it yet.
            "ON CONFLICT (id) DO UPDATE "
            "SET digest = EXCLUDED.digest, until = EXCLUDED.until, outcome = NULL, told = false"
        )
        self._connection.run(self._names.sql(query), (ids, digests, until))
        state.account.keys += len(new) - len(gone)

    def refuse(self, state: State, repeats: Repeats, end: int) -> dict[int, Outcome | None]:
        """Count calls that repeat others, and note that their callers know; outcomes as `Committed.duplicates` has it.

        Calls from the id ``end`` on are about to be written.
        """
        if not repeats:
            return {}
        state.account.duplicates += len(repeats)
        query = self._names.sql("UPDATE {keys} SET told = true WHERE id = ANY(%s)")
        self._connection.run(query, (list(set(repeats.values())),))
        return self.outcomes(repeats, end)

    def outcomes(self, repeats: Repeats, end: int) -> dict[int, Outcome | None]:
        """The outcomes of the calls that are repeated; ``None`` of one that is held, or is about to be."""
        query = (
            "SELECT id, outcome, EXISTS (SELECT 1 FROM {calls} WHERE {calls}.id = {keys}.id) FROM {keys} "
            "WHERE id = ANY(%s)"
        )
        found: dict[int, Outcome | None] = {}
        for call_id, text, held in self._connection.run(self._names.sql(query), (list(set(repeats.values())),)):
            outcome = outcome_in(text)
            found[call_id] = GONE if outcome is None and not held and call_id < end else outcome
        return {place: found.get(call_id, GONE) for place, call_id in repeats.items()}

    def settle(self, ids: Iterable[int], outcome: Outcome) -> None:
        """Note what became of these calls."""
        query = "UPDATE {keys} SET outcome = %s WHERE id = ANY(%s) AND outcome IS NULL"
        self._connection.run(self._names.sql(query), (text_of(outcome), list(ids)))

    def may_be_taken_back(self, ids: Sequence[int]) -> list[int]:
        """Calls among these of which nobody was told that they are accepted."""
        if not ids:
            return []
        told = {one for (one,) in self._connection.run(
            self._names.sql("SELECT id FROM {keys} WHERE id = ANY(%s) AND told"), (list(ids),))}  # fmt: skip
        return [one for one in ids if one not in told]

    def take_back(self, state: State, ids: Sequence[int]) -> None:
        """Forget the keys of these calls, as if they had never been put."""
        query = self._names.sql("DELETE FROM {keys} WHERE id = ANY(%s) RETURNING 1")
        state.account.keys -= len(self._connection.run(query, (list(ids),)))

    def forget(self, state: State, most: int) -> int:
        """Forget keys that are too old, or too many, but no more than ``most``; how many."""
        query = (
            "WITH gone AS (DELETE FROM {keys} WHERE id IN ((SELECT id FROM {keys} WHERE until <= to_timestamp(%s) "
            "ORDER BY until LIMIT %s) UNION (SELECT id FROM {keys} ORDER BY id LIMIT %s)) RETURNING 1) "
            "SELECT count(*) FROM gone"
        )
        too_many = min(most, max(0, state.account.keys - MOST_KEYS))
        gone = self._connection.run(self._names.sql(query), (state.now, most, too_many))[0][0]
        state.account.keys = max(0, state.account.keys - gone)
        return int(gone)


def text_of(outcome: Outcome) -> str:
    """An outcome as it is kept beside a key."""
    return encode_json(Concluded.of(outcome, [], []).as_list())


def outcome_in(text: str | None) -> Outcome | None:
    """The outcome that `text_of` has written; ``None`` if there is none, or another program's text."""
    try:
        return None if text is None else Concluded.read(json.loads(text)).outcome
    except UNREADABLE:
        return None
