"""A map of rows: events and properties renamed or left out, constants added, and the property that names the company.

It is applied to the unchecked rows of a line, after these were converted, so it is the same for each tool's exports and
for rows of one's own. A property keeps its value and its rank: one that gives way to known values still does so under
its new name. What was left out is said of the line, by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from .converters._rows import Converted, Rows

Convert = Callable[[dict[str, Any]], Rows]

KINDS: Mapping[str, str] = {
    "users": "identify_user", "companies": "identify_company", "events": "track", "pages": "page_view"
}  # fmt: skip
"""Kinds of rows as a map calls them, and as their ``event_type`` does."""

_EMPTY: Mapping[str, Any] = {}


@attrs.frozen(kw_only=True)
class PropertyRules:
    """Rules for the properties of rows."""

    rename: Mapping[str, str] = attrs.field(factory=dict)
    drop: frozenset[str] = frozenset()
    constant: Mapping[str, str | int | float | bool] = attrs.field(factory=dict)

    def with_more(self, more: PropertyRules) -> PropertyRules:
        """All rules of both; the others must not contradict these."""
        return PropertyRules(
            rename={**self.rename, **more.rename}, drop=self.drop | more.drop,
            constant={**self.constant, **more.constant},
        )  # fmt: skip

    def applied(self, properties: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
        """The properties by these rules; ``rows`` takes notes of what is left out.

        A name that another property gets gives way to that one.
        """
        result: dict[str, Any] = {}
        taken: dict[str, str] = {}
        for name, value in properties.items():
            if name in self.drop:
                rows.note(f"the property `{name}`: dropped by the map")
            elif name in self.rename:
                taken[self.rename[name]] = name
            else:
                result[name] = value
        for new, name in taken.items():
            if new in result:
                rows.note(f"the property `{new}`: replaced by `{name}`, which the map gives its name")
            result[new] = properties[name]
        result.update(self.constant)
        return result

    def name_of(self, name: str) -> str:
        """The name that a property has afterwards."""
        return self.rename.get(name, name)


@attrs.frozen(kw_only=True)
class RowMapping:
    """Rules by which rows are changed before they are checked; `mapping_of` reads them from a file.

    ``events`` are renamed and left out by their names, ``properties`` by theirs: those of all rows, and then those of
    each of the kinds users, companies, events and pages. The property ``company_key`` of a user, an event or a page
    becomes its ``company_id``.
    """

    company_key: str | None = None
    rename_events: Mapping[str, str] = attrs.field(factory=dict)
    drop_events: frozenset[str] = frozenset()
    properties: PropertyRules = attrs.field(factory=PropertyRules)
    of_kind: Mapping[str, PropertyRules] = attrs.field(factory=dict)
    """By the kinds of `KINDS`."""
    _by_type: Mapping[str, PropertyRules] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        none = PropertyRules()
        rules = {type_: self.properties.with_more(self.of_kind.get(kind, none)) for kind, type_ in KINDS.items()}
        object.__setattr__(self, "_by_type", rules)

    @property
    def digest(self) -> str:
        """A short text that tells these rules from others, whatever the order in which they were written."""
        said = attrs.asdict(self, filter=lambda field, _: field.init, value_serializer=_plain)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    def around(self, convert: Convert | None) -> Convert:
        """The conversion of a line by ``convert`` and then by these rules; ``None`` is a line that is a row."""

        def mapped(fields: dict[str, Any]) -> Rows:
            if convert is not None:
                return self.applied(convert(fields))
            rows = Rows()
            rows.append(fields)
            return self.applied(rows)

        return mapped

    def applied(self, found: Rows) -> Rows:
        """The rows by these rules, with what is said of their line."""
        rows = Rows()
        rows.skipped, rows.notes = found.skipped, list(found.notes)
        for row in found:
            event_type, name = row.get("event_type"), row.get("event_name")
            if event_type == "track" and isinstance(name, str):
                if name in self.drop_events:
                    rows.skip(name, "dropped by the map")
                    continue
                if name in self.rename_events:
                    row = _changed(row, {"event_name": self.rename_events[name]})
            rows.append(self._with_properties(row, event_type, rows))
        return rows

    def _with_properties(self, row: dict[str, Any], event_type: Any, rows: Rows) -> dict[str, Any]:
        rules = self._by_type.get(event_type) if isinstance(event_type, str) else None
        properties = row.get("metadata", _EMPTY)
        properties = _EMPTY if properties is None or properties == "" else properties
        if rules is None or not isinstance(properties, Mapping):  # it is refused for what it is
            return row
        changes: dict[str, Any] = {}
        if self.company_key is not None and self.company_key in properties and event_type != "identify_company":
            properties = dict(properties)
            company = properties.pop(self.company_key)
            if company is not None and company != "":
                changes["company_id"] = str(company) if type(company) is int else company
        changes["metadata"] = rules.applied(properties, rows)
        return _changed(row, changes, rules)


def _changed(row: dict[str, Any], changes: Mapping[str, Any], rules: PropertyRules | None = None) -> dict[str, Any]:
    """A row with other fields; the names of properties that give way are renamed with them."""
    fields = {**row, **changes}
    if type(row) is not Converted:
        return fields
    once = row.once if rules is None else map(rules.name_of, row.once)
    return Converted(fields, frozenset(once), implied=row.implied)


def _plain(_: object, __: object, value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else value
