"""Profiles of users and companies, as far as rows have given them: carried forward into each later row of theirs.

In an import a row with fewer properties can blank the ones that it leaves out; the vendor asks for the full list in
every row. Source: docs.userpilot.com, "Import data", read 2026-10. The rows count in the order in which they come.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from .._calls.values import MAX_PROPERTIES, Value, encode_json, size_of
from .._errors.tree import InvalidCall

MAX_HELD = 8 * 1024 * 1024  # bytes of profiles, about, that one transaction holds in memory before it writes them

_IDS = {"identify_user": "user_id", "identify_company": "company_id"}

Known = tuple["str | None", dict[str, Value]]
"""A user's company, and the properties of a user or a company."""


class Profiles:
    """Profiles in the journal. `carry` and `write` are called inside of one of its transactions."""

    def __init__(self, connection: sqlite3.Connection, *before: sqlite3.Connection) -> None:
        """``before``: where to search for what is not in the journal, the latest first. They stay as they are."""
        self._connection = connection
        self._places = (connection, *before)
        self._known: dict[tuple[str, str], Known] = {}
        self._changed: set[tuple[str, str]] = set()
        self._held = 0

    def carry(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with everything known of its user (company): later values win, a null stays a null.

        A user's company is carried along, too. Other rows come back as they are. Raises `InvalidCall` if more
        properties come together than a profile may have; then the row has changed nothing.
        """
        kind = row["event_type"]
        if kind not in _IDS:
            return row
        if self._held > MAX_HELD:
            self.write()
        place = (kind, row[_IDS[kind]])
        company = row.get("company_id") if kind == "identify_user" else None
        before = self._known.get(place) or self._stored(place)
        if before is None:
            self._learn(place, (company, row["metadata"]))
            return row
        properties = _merged(before[1], row["metadata"])
        now = (company or before[0], properties)
        if now != before:
            self._learn(place, now)
        carried = {**row, "metadata": properties}
        if now[0] is not None and kind == "identify_user":
            carried["company_id"] = now[0]
        return carried

    def carried(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """As `carry`; but a row that replaces some of 500 properties goes in two, each of which has 500 at most."""
        kind = row["event_type"]
        if kind not in _IDS or None not in row["metadata"].values():
            return [self.carry(row)]
        place = (kind, row[_IDS[kind]])
        known = (self._known.get(place) or self._stored(place) or (None, {}))[1]
        together = _merged(known, row["metadata"])
        if len(together) <= MAX_PROPERTIES:
            return [self.carry(row)]
        removed = {
            name: None for name, value in row["metadata"].items() if value is None and known.get(name) is not None
        }
        kept = {name: value for name, value in row["metadata"].items() if value is not None}
        return [self.carry({**row, "metadata": part}) for part in (removed, kept)]

    def write(self) -> None:
        """Put into the journal what has changed, and hold nothing."""
        self._connection.executemany(
            "INSERT INTO profiles VALUES (?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET known = excluded.known",
            [(*place, encode_json(self._known[place])) for place in sorted(self._changed)],
        )
        self.forget()

    def forget(self) -> None:
        """The transaction has come to nothing, or to its end: hold nothing."""
        self._known.clear()
        self._changed.clear()
        self._held = 0

    def _learn(self, place: tuple[str, str], known: Known) -> None:
        self._known[place] = known
        self._changed.add(place)
        self._held += size_of(known[1])

    def _stored(self, place: tuple[str, str]) -> Known | None:
        for connection in self._places:
            found = connection.execute("SELECT known FROM profiles WHERE kind = ? AND key = ?", place).fetchone()
            if found is not None:
                company, properties = json.loads(found[0])
                self._known[place] = known = (company, properties)
                self._held += len(found[0])
                return known
        return None


def _merged(before: dict[str, Value], changes: dict[str, Value]) -> dict[str, Value]:
    properties = {**before, **changes}
    if len(properties) > MAX_PROPERTIES:  # what was removed by an earlier row need not be removed again
        properties = {name: value for name, value in properties.items() if value is not None or name in changes}
    if (count := sum(value is not None for value in properties.values())) > MAX_PROPERTIES:
        raise InvalidCall(
            "metadata",
            f"makes {count:,} properties with those of earlier rows; the limit is {MAX_PROPERTIES}",
        )
    return properties
