"""Calls as the sender reads them: rows of what waits, and such as cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from .._calls.payload import Key, Kind, Payload
from .._calls.stored import UNREADABLE, Stored
from .._calls.values import encode_json
from .._errors.tree import UserpilotError
from .._outbox.window import Found, Read, Reading
from ._connection import Connection
from ._schema import Names

IDENTIFIES = ("user", "company")
FOREIGN = (*IDENTIFIES, "track")
"""Kinds of calls that an application's transactions put; a role that may do no more than that deletes nobody."""
Check = Callable[[Kind, Key, Payload], None]
EPOCH = "extract(epoch FROM {})::float8"


class Reader:
    """The calls of one outbox, by one connection, within a transaction of the caller's."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names

    def read(self, reading: Reading, oldest: int, sent_below: int, check: Check) -> tuple[Read, list[int]]:
        """The calls that are asked for, and ids of such as cannot be read. None is held below ``oldest``,
        and those ``sent_below`` this may have been sent before. ``check`` raises for one that no client could have put.
        """
        start = max(reading.start, oldest)
        values: list[object] = [start]
        where, looked_to = "id >= %s", reading.looks_to(start)
        if reading.only is not None:
            where += " AND key = %s AND id < %s"
            values += [encode_json(reading.only), looked_to]
        query = f"SELECT id, {EPOCH.format('at')}, sent, checked, kind, key, body, moment FROM {{calls}} WHERE {where}"
        rows = self._connection.run(
            self._names.sql(query + " ORDER BY id LIMIT %s"),
            (*values, reading.limit),
        )
        more, read_to = len(rows) == reading.limit, rows[-1][0] + 1 if rows else reading.start
        if reading.only is not None and not more:
            more, read_to = looked_to < reading.end, looked_to
        if not rows:
            return Read([], read_to, more), []
        without = {encode_json(key) for key in reading.without}
        parts = self._parts(rows[0][0], rows[-1][0])
        found, damaged = [], []
        for call_id, at, sent, checked, *fields in rows:
            stored = stored_in(fields)
            if stored.key in without and not stored.has_companion():
                continue
            try:
                if not checked:
                    check_foreign(stored, check)
                found.append(Found((call_id, at, *stored.call(parts.get(call_id, ()))), sent or call_id < sent_below))
            except (UserpilotError, *UNREADABLE):
                damaged.append(call_id)
        return Read(found, read_to, more), damaged

    def _parts(self, first: int, last: int) -> dict[int, list[tuple[Kind, str]]]:
        parts: dict[int, list[tuple[Kind, str]]] = {}
        query = self._names.sql("SELECT call_id, kind, key FROM {parts} WHERE call_id BETWEEN %s AND %s")
        for call_id, kind, key in self._connection.run(query, (first, last)):
            parts.setdefault(call_id, []).append((kind, json.loads(key)))
        return parts


def stored_in(fields: Sequence[Any]) -> Stored:
    """The call in the columns kind, key, body, moment."""
    kind, key, body, moment = fields
    return Stored(kind, key, body.encode(), moment)


def check_foreign(stored: Stored, check: Check) -> None:
    """See that a call which anybody's SQL has put is one that a client could have put, in its form.

    Raises one of `UNREADABLE`, or what ``check`` raises, if it is not: it would end the sending as a bug of ours does,
    at the latest when the server refuses it, and its caller is to be shown it.
    """
    says = json.loads(stored.body)
    encode_json([json.loads(stored.key), says]).encode()  # half a character can be read, and not be sent
    if not isinstance(says, list if stored.kind in IDENTIFIES else dict) or stored.kind not in FOREIGN:
        raise ValueError("no call of a client's")
    if isinstance(says, list) and (other := says[3]) is not None and (stored.kind, other[0]) != IDENTIFIES:
        raise ValueError("an identify says something of another that is no company")
    check(*stored.call())
