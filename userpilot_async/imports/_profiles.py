"""Profiles of users and companies, as far as rows have given them: carried forward into each later row of theirs.

In an import a row with fewer properties can blank the ones that it leaves out; the vendor asks for the full list in
every row. Source: docs.userpilot.com, "Import data", read 2026-10.

What is earlier and later, the rows' own times say, not their places in the file; where two have the same time, the
places do. Exports are split by arrival, so that a row may come behind younger ones of its person. Such a late row gets
what was known at its time, and nothing of its future; behind it goes a row with all that is known now, dated with the
youngest row so far, so that the youngest has the last word in the upload, too. Nothing is held back for this: a profile
knows of each property when it was said.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any

import attrs

from .._calls.values import MAX_PROPERTIES, Value, encode_json, size_of
from .._errors.tree import InvalidCall
from ._fields import DEFAULT_SOURCE
from ._timestamps import order_of, seconds_between

MAX_HELD = 8 * 1024 * 1024  # bytes of profiles, about, that are held in memory

_IDS = {"identify_user": "user_id", "identify_company": "company_id"}
_NO_NAMES: frozenset[str] = frozenset()

Place = tuple[str, str]
"""The kind of a row, and the id of its user or company."""


@attrs.frozen
class Profile:
    """All that rows have said of a user or a company so far."""

    company: str | None
    properties: dict[str, Value]
    at: str = ""
    """The time of the youngest row, as `order_of` gives it; empty in journals of earlier versions."""
    company_at: str = ""
    older: dict[str, str] = attrs.field(factory=dict)
    """When those properties were said that the youngest row did not say."""
    once: frozenset[str] = _NO_NAMES
    """Properties of which only the first value counts, because no row has said them otherwise."""

    def said(self, name: str) -> str:
        """When the property's value was said last."""
        return self.older.get(name, self.at)

    def as_json(self) -> str:
        """The text in the journal."""
        return encode_json([self.company, self.properties, self.at, self.company_at, self.older, sorted(self.once)])

    @classmethod
    def of_json(cls, text: str) -> Profile:
        """The value of a text in the journal, which an earlier version may have written."""
        company, properties, *more = json.loads(text)
        return cls(company, properties, *more[:3], *map(frozenset, more[3:]))


class Profiles:
    """Profiles in the journal. `carried` and `write` are called inside of one of its transactions.

    What one transaction has read or learned is held for the next ones, up to `MAX_HELD`: most users come again soon.
    """

    def __init__(self, connection: sqlite3.Connection, *before: sqlite3.Connection) -> None:
        """``before``: where to search for what is not in the journal, the latest first. They stay as they are."""
        self._connection = connection
        self._places = (connection, *before)
        self._known: dict[Place, Profile] = {}
        self._changed: set[Place] = set()
        self._held = 0
        self.late = 0
        """Rows of this transaction that came behind younger ones of their user or company."""
        self.late_by = 0.0
        """Seconds by which the latest of them was late."""

    def carry(self, row: dict[str, Any], once: Collection[str] = _NO_NAMES) -> dict[str, Any]:
        """The row with everything known of its user (company): later values win, a null stays a null.

        A user's company is carried along, too. Other rows come back as they are. Values of the properties ``once``
        give way to known ones. Raises `InvalidCall` if more properties come together than a profile may have; then the
        row has changed nothing.
        """
        place = _place_of(row)
        if place is None:
            return row
        rows = self._in_order(place, self._profile(place), row, once, implied=False)
        return rows[0]

    def carried(
        self, row: dict[str, Any], once: Collection[str] = _NO_NAMES, *, implied: bool = False
    ) -> list[dict[str, Any]]:
        """As `carry`; but a row that replaces some of 500 properties goes in two, each of which has 500 at most.

        So does a row that comes behind a younger one of its user (company): the second has all that is known now. Of a
        row that is ``implied`` by another nothing is left where it says nothing new.
        """
        place = _place_of(row)
        if place is None:
            return [row]
        known = self._profile(place)
        if known is None:
            return self._in_order(place, known, row, once, implied=implied)
        if order_of(row["inserted_at"]) < known.at:
            return self._behind(place, known, row, once, implied=implied)
        if None not in row["metadata"].values() or len(_merged(known.properties, row["metadata"])) <= MAX_PROPERTIES:
            return self._in_order(place, known, row, once, implied=implied)
        removed = {
            name: None
            for name, value in row["metadata"].items()
            if value is None and known.properties.get(name) is not None
        }
        kept = {name: value for name, value in row["metadata"].items() if value is not None}
        return [self.carry({**row, "metadata": part}, once) for part in (removed, kept)]

    def write(self) -> None:
        """Put into the journal what has changed: the transaction is at its end."""
        self._put()
        self.late, self.late_by = 0, 0.0

    def forget(self) -> None:
        """The transaction has come to nothing: hold nothing."""
        self._known.clear()
        self._changed.clear()
        self._held, self.late, self.late_by = 0, 0, 0.0

    def _in_order(
        self, place: Place, before: Profile | None, row: dict[str, Any], once: Collection[str], *, implied: bool
    ) -> list[dict[str, Any]]:
        company = row.get("company_id") if place[0] == "identify_user" else None
        at, said = order_of(row["inserted_at"]), row["metadata"]
        if before is None:
            firsts = frozenset(once).intersection(said) if once else _NO_NAMES
            self._learn(place, Profile(company, said, at, at if company else "", {}, firsts))
            return [row]
        if once:
            said = {n: value for n, value in said.items() if n not in once or before.properties.get(n) is None}
        properties = _merged(before.properties, said)
        now = _later(before, properties, said, company, at, once)
        if properties == before.properties:
            if now != before:
                self._learn(place, now, grown=False)
            if implied and now.company == before.company:
                return []
        else:
            self._learn(place, now)
        carried = {**row, "metadata": properties}
        if now.company is not None and place[0] == "identify_user":
            carried["company_id"] = now.company
        return [carried]

    def _behind(
        self, place: Place, known: Profile, row: dict[str, Any], once: Collection[str], *, implied: bool
    ) -> list[dict[str, Any]]:
        """The rows for one that comes behind a younger one: with what was known by then, and with what is known now."""
        at = order_of(row["inserted_at"])
        by_then = {name: value for name, value in known.properties.items() if known.said(name) <= at}
        said = {n: value for n, value in row["metadata"].items() if n not in once or by_then.get(n) is None}
        new = {name: value for name, value in said.items() if _counts(name, name in once, known, at)}
        company = row.get("company_id") if place[0] == "identify_user" else None
        moves = company is not None and (known.company is None or known.company_at <= at)
        properties, then = _merged(known.properties, new), _merged(by_then, said)
        self.late += 1
        self.late_by = max(self.late_by, seconds_between(at, known.at))
        now = attrs.evolve(
            known,
            properties=properties,
            older={**known.older, **dict.fromkeys(new, at)},
            company=company if moves else known.company,
            company_at=at if moves else known.company_at,
            once=(known.once - new.keys()) | (new.keys() & set(once)),
        )
        self._learn(place, now)
        if implied and properties == known.properties and now.company == known.company:
            return []
        late = {**row, "metadata": then}
        if company is None and known.company is not None and known.company_at <= at:
            late["company_id"] = known.company
        source = DEFAULT_SOURCE if row["source"] == "web-client" else row["source"]
        latest = {
            "event_type": place[0], _IDS[place[0]]: place[1], "source": source, "inserted_at": f"{known.at}Z",
            "metadata": properties,
        }  # fmt: skip
        if now.company is not None:
            latest["company_id"] = now.company
        return [late, latest]

    def _learn(self, place: Place, known: Profile, *, grown: bool = True) -> None:
        self._known[place] = known
        self._changed.add(place)
        if grown:
            self._held += size_of(known.properties)

    def _profile(self, place: Place) -> Profile | None:
        """The profile as it is known by now; makes room first, if too much is held."""
        if self._held > MAX_HELD:
            self._put()
            self._known.clear()
            self._held = 0
        return self._known.get(place) or self._stored(place)

    def _stored(self, place: Place) -> Profile | None:
        for connection in self._places:
            found = connection.execute("SELECT known FROM profiles WHERE kind = ? AND key = ?", place).fetchone()
            if found is not None:
                self._known[place] = known = Profile.of_json(found[0])
                self._held += len(found[0])
                return known
        return None

    def _put(self) -> None:
        self._connection.executemany(
            "INSERT INTO profiles VALUES (?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET known = excluded.known",
            [(*place, self._known[place].as_json()) for place in sorted(self._changed)],
        )
        self._changed.clear()


def _place_of(row: dict[str, Any]) -> Place | None:
    kind = row["event_type"]
    return (kind, row[_IDS[kind]]) if kind in _IDS else None


def _later(
    before: Profile, properties: dict[str, Value], said: dict[str, Value], company: str | None, at: str,
    once: Collection[str],
) -> Profile:  # fmt: skip
    """All that is known after a row that is no older than those before it."""
    older = before.older
    if len(said) == len(properties):  # it said all of them
        older = {}
    elif at != before.at:
        older = {name: older.get(name, before.at) for name in before.properties if name not in said}
    elif older:
        older = {name: when for name, when in older.items() if name not in said}
    firsts = (before.once - said.keys()) | (said.keys() & set(once)) if once or before.once else before.once
    return Profile(company or before.company, properties, at, at if company else before.company_at, older, firsts)


def _counts(name: str, only_once: bool, known: Profile, at: str) -> bool:
    """Whether a value that was said before others is one that still holds."""
    if name not in known.properties or (known.properties[name] is None and known.said(name) <= at):
        return True
    return name in known.once or (not only_once and known.said(name) <= at)


def _merged(before: dict[str, Value], changes: dict[str, Value]) -> dict[str, Value]:
    properties = {**before, **changes}
    if len(properties) <= MAX_PROPERTIES:
        return properties
    # What was removed by an earlier row need not be removed again.
    properties = {name: value for name, value in properties.items() if value is not None or name in changes}
    if (count := sum(value is not None for value in properties.values())) > MAX_PROPERTIES:
        raise InvalidCall(
            "metadata",
            f"makes {count:,} properties with those of earlier rows; the limit is {MAX_PROPERTIES}",
        )
    return properties
