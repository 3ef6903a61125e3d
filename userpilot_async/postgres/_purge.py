"""Erase a person, or a company, from the outbox: what waits, what is kept, and what is not accepted yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, LiteralString

from .._calls.pairs import unsealed_pair
from .._calls.payload import identify_in
from .._calls.stored import UNREADABLE, Stored
from .._calls.values import encode_json, size_of
from .._outbox.admin import DELETIONS, OF_COMPANIES, PURGED, PurgeReport, Subject, keys_in, names_company
from ._access import ClientState
from ._pages import call_in
from ._state import State
from ._tables import conclude

PLACES: Mapping[LiteralString, LiteralString] = {"inbox": "seq", "calls": "id", "lost": "id"}
"""Tables with calls, and the columns that name a row in each."""
_HAS = "EXISTS (SELECT 1 FROM unnest(%s::text[]) AS one WHERE strpos(key, one) > 0 OR strpos(body, one) > 0)"


class Search:
    """All that the outbox has of a person or company; the caller has the state's row locked."""

    def __init__(self, access: ClientState, whose: Subject, keys: set[str]) -> None:
        self._connection = access.connection
        self._names = access.names
        self._tables = access.tables
        self._whose = whose
        self._keys = keys
        self._texts = [encode_json(key) for key in sorted({*keys, whose.id})]
        self._ids: dict[str, list[int]] = {}
        self._pairs: list[int] = []
        self._rewritten: dict[str, list[tuple[str, int, int]]] = {}

    def run(self) -> PurgeReport:
        """Search every table; gives what would be erased."""
        report = PurgeReport()
        for place, column in PLACES.items():
            query = f"SELECT {column}, kind, key, body, moment FROM {{{place}}} WHERE {_HAS} ORDER BY 1"
            rows = self._connection.run(self._names.sql(query), (self._texts,))
            self._ids[place] = [row[0] for row in rows if self._is_meant(row[1:], report, kept=place == "lost")]
            self._rewritten[place] = list(self._without_company(rows))
        self._pairs = list(self._pairs_of(report))
        report.waiting = len(self._ids["inbox"]) + len(self._ids["calls"])
        report.lost = len(self._ids["lost"])
        report.changed = sum(map(len, self._rewritten.values()))
        return report

    def _is_meant(self, fields: Sequence[Any], report: PurgeReport, *, kept: bool) -> bool:
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
        report.known_as |= known - self._keys
        return True

    def _without_company(self, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, int, int]]:
        """Identifies of users that name the company: they stay, and say nothing of it any more."""
        for number, *fields in rows if self._whose.kind == "company" else ():
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

    def _pairs_of(self, report: PurgeReport) -> Iterator[int]:
        """Pairs of the person's keys, and of such as are named with them."""
        if self._whose.kind == "company":
            return
        query = "SELECT id, body FROM {pairs} WHERE EXISTS (SELECT 1 FROM unnest(%s::text[]) AS one " \
                "WHERE strpos(body, one) > 0) ORDER BY id"  # fmt: skip
        for number, text in self._connection.run(self._names.sql(query), (self._texts,)):
            pair = set(unsealed_pair(text) or ())
            if pair and pair.isdisjoint(self._keys):
                continue
            report.known_as |= pair - self._keys
            yield number

    def erase(self, state: State) -> None:
        """Erase what was found, heard by all who use the outbox."""
        waiting = self._ids["calls"]
        for place, column in PLACES.items():
            self._run(f"DELETE FROM {{{place}}} WHERE {column} = ANY(%s)", self._ids[place])
            for body, size, number in self._rewritten[place]:
                query = f"UPDATE {{{place}}} SET body = %s, size = %s WHERE {column} = %s"
                self._connection.run(self._names.sql(query), (body, size, number))
        self._run("DELETE FROM {parts} WHERE call_id = ANY(%s)", waiting)
        self._run("UPDATE {pairs} SET body = NULL, digest = NULL WHERE id = ANY(%s)", self._pairs)
        if self._whose.kind == "company":
            query = "DELETE FROM {parts} WHERE kind = 'company' AND key = %s"
            self._connection.run(self._names.sql(query), (self._whose.id,))
        if waiting:
            self._tables.keys.settle(waiting, PURGED)
            self._tables.write_news(state, [conclude(state.account, PURGED, waiting, [])])
            self._tables.find_oldest(state)
        query = "SELECT coalesce(sum(size), 0)::bigint FROM {calls}"
        state.account.bytes = self._connection.run(self._names.sql(query))[0][0]

    def _run(self, statement: Any, ids: list[int]) -> None:  # `Any`: a text of this file
        if ids:
            self._connection.run(self._names.sql(statement), (ids,))
