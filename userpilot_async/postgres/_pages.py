"""Rows of calls as people see them, and a page of them at a time, within a transaction of the caller's."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, LiteralString, TypeVar

from .._calls.payload import Key, Kind, Payload
from .._calls.stored import UNREADABLE
from .._calls.values import encode_json
from .._outbox.admin import DeadLetter, Selection, keys_in
from .._outbox.pages import MOST_READ, Page, WaitingCall
from ._connection import Connection, Rows
from ._reading import EPOCH, stored_in
from ._schema import Names
from ._spans import LAST, end_of_span

CALLS = f"id, {EPOCH.format('at')}, size, kind, key, body, moment"
LOST = f"{CALLS}, {EPOCH.format('lost_at')}, status, reason, detail"
AT_ONCE = 1_000  # lost calls read by one statement, or put back by one transaction, for which all others wait
PLACE = re.compile(r"\d{1,18}")  # a row's id

T = TypeVar("T")


class Pages:
    """The calls of one outbox, a page at a time, by one connection."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names

    def waiting(self, after: str, limit: int, ids: Collection[str]) -> Page[WaitingCall]:
        """The next calls that wait; raises `ValueError` where ``after`` is no row's id."""
        if not ids:
            return self._page("calls", CALLS, after, limit, waiting_call)
        texts = [encode_json(one) for one in ids]  # as they stand in the key, also of a person with several ids

        def shown(row: Sequence[Any]) -> WaitingCall | None:
            return waiting_call(row) if set(ids).intersection(_keys(row[4])) else None

        may_have_one = "EXISTS (SELECT 1 FROM unnest(%s::text[]) AS one WHERE strpos(key, one) > 0)"
        return self._page("calls", CALLS, after, limit, shown, may_have_one, [texts])

    def lost(self, after: str, limit: int, reason: str | None) -> Page[DeadLetter]:
        """The next lost calls that are kept; raises as `waiting`."""
        if reason is None:
            return self._page("lost", LOST, after, limit, dead_letter)
        return self._page("lost", LOST, after, limit, dead_letter, "reason = %s", [reason])

    def chosen(self, fields: LiteralString, chosen: Selection) -> Iterator[Sequence[Any]]:
        """The columns of the chosen lost calls that are kept, by their ids."""
        for rows in self._pages_of(fields, chosen, LAST):
            yield from rows

    def each_chosen(self, fields: LiteralString, chosen: Selection, end: int) -> Iterator[Rows]:
        """The columns of the chosen lost calls below this id: each page is read in a transaction of its own."""
        pages = self._pages_of(fields, chosen, end - 1)
        while True:
            with self._connection.transaction(frozen=True):
                rows = next(pages, None)
            if rows is None:
                return
            yield rows

    def _pages_of(self, fields: LiteralString, chosen: Selection, last: int) -> Iterator[Rows]:
        where, values = "id > %s AND id <= %s", list[object]()
        if chosen.reasons:
            where, values = where + " AND reason = ANY(%s)", [*values, list(chosen.reasons)]
        if chosen.ids:
            where, values = where + " AND id = ANY(%s::bigint[])", [*values, _known(chosen.ids)]
        query = self._names.sql(f"SELECT {fields} FROM {{lost}} WHERE {where} ORDER BY id LIMIT %s")
        rows = self._connection.run(query, (-1, last, *values, AT_ONCE))
        while rows:
            yield rows
            rows = self._connection.run(query, (rows[-1][0], last, *values, AT_ONCE))

    def kept(self, ids: Collection[int]) -> Sequence[int]:
        """The ids among these under which a lost call is kept."""
        query = self._names.sql("SELECT id FROM {lost} WHERE id = ANY(%s::bigint[])")
        return [one for (one,) in self._connection.run(query, (_known(ids),))] if ids else []

    def _page(
        self, table: LiteralString, fields: LiteralString, after: str, limit: int,
        shown: Callable[[Sequence[Any]], T | None], where: LiteralString = "true", values: Sequence[object] = (),
    ) -> Page[T]:  # fmt: skip
        """Rows behind this one, of the next `MOST_READ`, in which ``where`` holds."""
        if after and not PLACE.fullmatch(after):
            raise ValueError("no place in this outbox")
        first = int(after) + 1 if after else 0
        end = end_of_span(self._connection, self._names, table, "id", first, MOST_READ)
        query = f"SELECT {fields} FROM {{{table}}} WHERE id BETWEEN %s AND %s AND {where} ORDER BY id LIMIT %s"
        rows = self._connection.run(self._names.sql(query), (first, LAST if end is None else end, *values, limit))
        reached = rows[-1][0] if len(rows) == limit else end
        found = [one for row in rows if (one := shown(row)) is not None]
        return Page(found, None if reached is None else str(reached))


def waiting_call(row: Sequence[Any]) -> WaitingCall:
    """A row of the calls that wait."""
    call_id, at, size, kind, key, *_ = row
    return WaitingCall(call_id, at, kind, ", ".join(_keys(key)), size, call_in(row[3:7]))


def dead_letter(row: Sequence[Any]) -> DeadLetter:
    """A row of the lost calls."""
    call_id, at, _, kind, key, _, _, lost_at, status, reason, detail = row
    return DeadLetter(call_id, at, kind, ", ".join(_keys(key)), lost_at, status, reason, detail, call_in(row[3:7]))


def call_in(fields: Sequence[Any]) -> tuple[Kind, Key, Payload] | None:
    """The call in the columns kind, key, body, moment; ``None`` if it cannot be read."""
    try:
        return stored_in(fields).call()
    except UNREADABLE:
        return None


def _known(ids: Collection[int]) -> list[int]:
    """The ids among these that a row can have."""
    return [one for one in ids if one <= LAST]


def _keys(key: str) -> list[str]:
    try:
        return keys_in(key)
    except UNREADABLE:
        return [key]
