"""Erase a person, or a company, from the outbox: what waits, what is kept, and what is not accepted yet.

The search has nothing locked, or all others would wait for as long as it takes to look at every row. What it has found
is looked at again and erased in short transactions, which come one after the other with those of everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, LiteralString

import attrs

from .._calls.pairs import unsealed_pair
from .._calls.payload import identify_in
from .._calls.stored import UNREADABLE, Stored
from .._calls.values import encode_json, size_of
from .._outbox.admin import DELETIONS, OF_COMPANIES, PURGED, PurgeReport, Subject, keys_in, names_company
from ._access import ClientState
from ._pages import call_in
from ._spans import FIRST, LAST, SPAN, cut, end_of_span
from ._state import State
from ._tables import conclude

PLACES: Mapping[LiteralString, LiteralString] = {"inbox": "seq", "calls": "id", "lost": "id"}
"""Tables with calls, and the columns that name a row in each."""
ERASED = 1_000  # rows erased in one transaction, for which everybody waits: some hundredths of a second
_HAS = "EXISTS (SELECT 1 FROM unnest(%s::text[]) AS one WHERE strpos(key, one) > 0 OR strpos(body, one) > 0)"


@attrs.frozen
class _Changes:
    """Of some rows, those to be erased, and those to be written without the company: body, size, number of each."""

    erased: Sequence[int]
    rewritten: Sequence[tuple[str, int, int]]
    size: int
    """By how many bytes all of them are more than what is left of them."""


class Purge:
    """The erasure of a person or company, or, not ``really``, only the search; within no transaction."""

    def __init__(self, access: ClientState, whose: Subject, *, really: bool) -> None:
        self._access = access
        self._connection = access.connection
        self._names = access.names
        self._whose = whose
        self._really = really
        self._report = PurgeReport()
        self._keys: set[str] = set()
        self._texts: list[str] = []

    def run(self) -> PurgeReport:
        """Search every table, and erase what is found; how much that was, or would be."""
        # What is only counted is counted at one moment: a call that moves on meanwhile would be counted twice.
        with nullcontext() if self._really else self._connection.transaction(frozen=True):
            with self._reading():
                state = self._access.row.read()
            self._keys = self._whose.keys("" if state.owner is None else state.owner.destination)
            self._texts = [encode_json(key) for key in sorted({*self._keys, self._whose.id})]
            self._search("inbox")
            self._search("calls")
            self._search("lost")
            if self._really:
                # What was accepted from the inbox, or put back into the line, while another table was looked at.
                self._search("calls", state.account.next_id)
                self._search("lost", state.account.next_id)
                self._report.done = True
            self._erase_parts()
            self._erase_pairs()
        return self._report

    # ── transactions ──

    def _reading(self) -> AbstractContextManager[None]:
        """A short transaction for a look at one table, or the one around all of it."""
        return self._connection.transaction(frozen=True) if self._really else nullcontext()

    @contextmanager
    def _erasing(self) -> Iterator[State]:
        """A short transaction that has the state's row locked."""
        with self._access.row.locked() as state:
            yield state
            self._access.row.write(state)

    # ── calls ──

    def _search(self, place: LiteralString, first: int = FIRST) -> None:
        """Look at the rows from this number on, a span at a time."""
        column, start = PLACES[place], first
        while True:
            with self._reading():
                end = end_of_span(self._connection, self._names, place, column, start, SPAN)
                found = self._run(
                    f"SELECT {column} FROM {{{place}}} WHERE {column} BETWEEN %s AND %s AND {_HAS} ORDER BY 1",
                    start, LAST if end is None else end, self._texts,
                )  # fmt: skip
            for some in cut([row[0] for row in found], ERASED):
                self._handle(place, some)
            if end is None:
                return
            start = end + 1

    def _handle(self, place: LiteralString, numbers: Sequence[int]) -> None:
        if not self._really:
            self._decide(place, numbers)
        elif place == "calls":
            with self._erasing() as state:
                changes = self._decide(place, numbers, "FOR UPDATE")
                self._erase(place, changes)
                self._account_for(state, changes)
        else:
            # No account has these: nobody need wait while another program has one of the rows locked.
            with self._connection.transaction():
                self._erase(place, self._decide(place, numbers, "FOR UPDATE"))

    def _decide(self, place: LiteralString, numbers: Sequence[int], lock: LiteralString = "") -> _Changes:
        """Count the rows among these that are meant, and are still there; what is to be done to them."""
        column = PLACES[place]
        rows = self._run(
            f"SELECT {column}, size, kind, key, body, moment FROM {{{place}}} WHERE {column} = ANY(%s) "
            f"ORDER BY 1 {lock}", list(numbers),
        )  # fmt: skip
        meant = [row for row in rows if self._is_meant(row[2:], kept=place == "lost")]
        rewritten = list(self._without_company(rows))
        if place == "lost":
            self._report.lost += len(meant)
        else:
            self._report.waiting += len(meant)
        self._report.changed += len(rewritten)
        sizes = {row[0]: row[1] for row in rows}
        less = sum(row[1] for row in meant) + sum(sizes[number] - size for _, size, number in rewritten)
        return _Changes([row[0] for row in meant], rewritten, less)

    def _is_meant(self, fields: Sequence[Any], *, kept: bool) -> bool:
        """The call in these columns is meant. Of one that cannot be read, it is enough that the id stands there."""
        kind, key = fields[:2]
        try:
            known = set(keys_in(key))
        except UNREADABLE:
            return True
        if call_in(fields) is not None and (kind in OF_COMPANIES) is not (self._whose.kind == "company"):
            return False
        if kind in DELETIONS and not kept:
            return False
        if known.isdisjoint(self._keys):
            return call_in(fields) is None
        self._report.known_as |= known - self._keys
        return True

    def _without_company(self, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, int, int]]:
        """Identifies of users that name the company: they stay, and say nothing of it any more."""
        for number, _, *fields in rows if self._whose.kind == "company" else ():
            call = call_in(fields)
            if call is None or not names_company(call, self._whose.id):
                continue
            kind, key, payload = call
            identify = identify_in(payload)
            if identify is None:
                continue
            metadata, beside, _, _ = identify
            others = {name: value for name, value in (beside or {}).items() if name != "company_id"} or None
            size = size_of(metadata) + (size_of(others) if others else 0)
            yield Stored.of(kind, key, (metadata, others, size, None)).body.decode(), size, number

    def _erase(self, place: LiteralString, changes: _Changes) -> None:
        column = PLACES[place]
        if changes.erased:
            self._run(f"DELETE FROM {{{place}}} WHERE {column} = ANY(%s)", list(changes.erased))
        if changes.rewritten:
            self._run(
                f"UPDATE {{{place}}} SET body = new.body, size = new.size "
                "FROM unnest(%s::text[], %s::int[], %s::bigint[]) AS new (body, size, number) "
                f"WHERE {column} = number", *map(list, zip(*changes.rewritten, strict=True)),
            )  # fmt: skip

    def _account_for(self, state: State, changes: _Changes) -> None:
        """Have it heard by all who use the outbox."""
        state.account.bytes -= changes.size
        if changes.erased:
            erased, tables = list(changes.erased), self._access.tables
            self._run("DELETE FROM {parts} WHERE call_id = ANY(%s)", erased)
            tables.keys.settle(erased, PURGED)
            tables.write_news(state, [conclude(state.account, PURGED, erased, [])])
            tables.find_oldest(state)

    # ── beside calls ──

    def _erase_parts(self) -> None:
        """Parts of calls that stay, which the server has already."""
        if self._whose.kind == "company":
            theirs, key = "kind = 'company' AND key = %s", encode_json(self._whose.id)
            with self._reading():
                found = self._run(f"SELECT DISTINCT call_id FROM {{parts}} WHERE {theirs}", key)
            self._in_turns(
                [call_id for (call_id,) in found],
                lambda some: self._run(f"DELETE FROM {{parts}} WHERE call_id = ANY(%s) AND {theirs}", some, key),
            )

    def _erase_pairs(self) -> None:
        """Pairs of the person's keys, and of such as are named with them."""
        if self._whose.kind == "company":
            return
        query = "SELECT id, body FROM {pairs} WHERE EXISTS (SELECT 1 FROM unnest(%s::text[]) AS one " \
                "WHERE strpos(body, one) > 0) ORDER BY id"  # fmt: skip
        with self._reading():
            rows = self._run(query, self._texts)
        numbers: list[int] = []
        for number, text in rows:
            pair = set(unsealed_pair(text) or ())
            if pair and pair.isdisjoint(self._keys):
                continue
            self._report.known_as |= pair - self._keys
            numbers.append(number)
        self._in_turns(
            numbers, lambda some: self._run("UPDATE {pairs} SET body = NULL, digest = NULL WHERE id = ANY(%s)", some)
        )

    def _in_turns(self, numbers: Sequence[int], erase: Callable[[list[int]], object]) -> None:
        for some in cut(numbers, ERASED) if self._really else ():
            with self._erasing():
                erase(list(some))

    def _run(self, statement: Any, *values: object) -> Sequence[tuple[Any, ...]]:  # `Any`: a text of this file
        return self._connection.run(self._names.sql(statement), values)
