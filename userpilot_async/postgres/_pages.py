"""Rows of calls as people see them, and a page of them at a time, within a transaction of the caller's."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, LiteralString, TypeVar

from .._calls.payload import Key, Kind, Payload
from .._calls.stored import UNREADABLE
from .._calls.values import encode_json
from .._outbox.admin import DeadLetter, keys_in
from .._outbox.pages import MOST_READ, Page, WaitingCall
from ._connection import Connection
from ._reading import EPOCH, stored_in
from ._schema import Names

CALLS = f"id, {EPOCH.format('at')}, size, kind, key, body, moment"
LOST = f"{CALLS}, {EPOCH.format('lost_at')}, status, reason, detail"
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
            return self._page("{calls}", CALLS, after, limit, waiting_call)
        texts = [encode_json(one) for one in ids]  # as they stand in the key, also of a person with several ids

        def shown(row: Sequence[Any]) -> WaitingCall | None:
            return waiting_call(row) if set(ids).intersection(_keys(row[4])) else None

        may_have_one = "EXISTS (SELECT 1 FROM unnest(%s::text[]) AS one WHERE strpos(key, one) > 0)"
        return self._page("{calls}", CALLS, after, limit, shown, may_have_one, [texts])

    def lost(self, after: str, limit: int, reason: str | None) -> Page[DeadLetter]:
        """The next lost calls that are kept; raises as `waiting`."""
        if reason is None:
            return self._page("{lost}", LOST, after, limit, dead_letter)
        return self._page("{lost}", LOST, after, limit, dead_letter, "reason = %s", [reason])

    def _page(
        self, table: LiteralString, fields: LiteralString, after: str, limit: int,
        shown: Callable[[Sequence[Any]], T | None], where: LiteralString = "true", values: Sequence[object] = (),
    ) -> Page[T]:  # fmt: skip
        """Rows behind this one, of the next `MOST_READ`, in which ``where`` holds."""
        if after and not PLACE.fullmatch(after):
            raise ValueError("no place in this outbox")
        first = int(after) + 1 if after else 0
        # Its end is found in the index alone: rows in between are not read for it.
        beyond = f"SELECT id FROM {table} WHERE id >= %s ORDER BY id OFFSET %s LIMIT 1"
        ends = self._connection.run(self._names.sql(beyond), (first, MOST_READ))
        last = ends[0][0] - 1 if ends else 2**63 - 1
        query = f"SELECT {fields} FROM {table} WHERE id BETWEEN %s AND %s AND {where} ORDER BY id LIMIT %s"
        rows = self._connection.run(self._names.sql(query), (first, last, *values, limit))
        reached = rows[-1][0] if len(rows) == limit else last if ends else None
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


def _keys(key: str) -> list[str]:
    try:
        return keys_in(key)
    except UNREADABLE:
        return [key]
