"""Telling the calls that a test means from others that an application made, and from those that come near. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Literal

import attrs

from .._calls.values import checked_metadata
from .._errors.tree import InvalidCall

Kind = Literal["Track", "Identify", "IdentifyCompany"]
"""The name of a call's class, which both destinations have in common."""

IDS = ("user_id", "external_id", "anonymous_id", "company_id")
FIELDS = ("email", "phone", "timezone", "locale")  # Parcelvoy's own, beside the `data` of a person
MISSING = object()


@attrs.frozen
class Wanted:
    """The calls that a test means; what is ``None`` may be anything."""

    kind: Kind
    id: str | None = None
    event: str | None = None
    properties: Mapping[str, Any] = attrs.field(factory=dict)
    """Properties that a call has to have; it may have others."""
    company: Mapping[str, Any] | None = None
    """The company's properties likewise, its ``id`` among them."""

    def differences(self, call: object) -> list[str]:
        """Say in what the call is not one that is meant, each in a few words; empty if it is one."""
        if type(call).__name__ != self.kind:
            return [f"a call of {type(call).__name__}"]
        found: list[str] = []
        if self.id is not None and self.id not in ids_of(call):
            found.append(f"of {' and '.join(map(repr, ids_of(call)))}")
        if self.event is not None and self.event != event_of(call):
            found.append(f"the event is {event_of(call)!r}")
        found += _unlike(self.properties, properties_of(call))
        if self.company is not None:
            company = getattr(call, "company", None)
            found += ["no company"] if company is None else _unlike(self.company, company, "the company's ")
        return found

    def matching(self, calls: Iterable[object]) -> list[object]:
        """Give those of the calls that are meant, in their order."""
        return [call for call in calls if not self.differences(call)]

    def nearest(self, calls: Sequence[object]) -> list[object]:
        """Give the calls of this kind, those first that come nearest to what is meant."""
        same = [call for call in calls if type(call).__name__ == self.kind]
        return sorted(same, key=lambda call: -self._likeness(call))

    def _likeness(self, call: object) -> float:
        """Give 0 … 3: the event's name counts as much as the id, and both as much as all the properties."""
        event = 1.0 if self.event is None else _alike(self.event, event_of(call) or "")
        whose = 1.0 if self.id is None else max((_alike(self.id, one) for one in ids_of(call)), default=0.0)
        wanted = len(self.properties) + len(self.company or ())
        wrong = len(_unlike(self.properties, properties_of(call)))
        wrong += len(_unlike(self.company or {}, getattr(call, "company", None) or {}))
        return event + whose + (1.0 - wrong / wanted if wanted else 1.0)


def ids_of(call: object) -> list[str]:
    """The ids in a call: of a user or a company; Parcelvoy's calls may have two of a person."""
    return [one for name in IDS if (one := getattr(call, name, None)) is not None]


def event_of(call: object) -> str | None:
    """The name of the event, if the call is one."""
    name: str | None = getattr(call, "event_name", None) or getattr(call, "name", None)
    return name


def properties_of(call: object) -> Mapping[str, Any]:
    """The properties in a call, with Parcelvoy's fields of a person among them."""
    properties = getattr(call, "metadata", None) or getattr(call, "data", None) or {}
    fields = {name: value for name in FIELDS if (value := getattr(call, name, None)) is not None}
    return {**properties, **fields}


def _unlike(wanted: Mapping[str, Any], had: Mapping[str, Any], whose: str = "") -> list[str]:
    found = []
    for name, value in wanted.items():
        there = had.get(name, MISSING)
        if there is MISSING:
            found.append(f"no {whose}{name}")
        elif not _same(value, there):
            found.append(f"{whose}{name} is {there!r}")
    return found


def _same(wanted: Any, had: Any) -> bool:
    """Compare as the caller would, and what is converted on its way (dates, decimals, enums) as it arrives."""
    if isinstance(wanted, (int, float)) and isinstance(wanted, bool) is not isinstance(had, bool):
        return False  # True is 1 to Python, and to no JSON reader
    if wanted == had:  # asked of the wanted first: `mock.ANY` may be one
        return True
    try:
        return bool(checked_metadata({"wanted": wanted})["wanted"] == had)
    except InvalidCall:
        return False


def _alike(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
