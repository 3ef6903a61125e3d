"""Reserved properties of users and companies: as tools call them, under the names that Userpilot has for them.

Sources, read 2026-11: docs.userpilot.com, "Identify users" (reserved properties); segment.com/docs, "Spec: Identify"
and "Spec: Group" (reserved traits: ``createdAt``, ``firstName``, ``lastName``, ``name``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..._errors.tree import InvalidCall
from .._timestamps import epoch_text, moment_text, order_of
from ._common import text

_CREATED = "createdAt"
_FIRST, _LAST = ("firstName", "first_name"), ("lastName", "last_name")
_HALVES = frozenset((*_FIRST, *_LAST))


def reserved(properties: Mapping[str, Any], once: Collection[str] = ()) -> tuple[dict[str, Any], frozenset[str]]:
    """Properties with ``createdAt`` as ``created_at``, and a ``name`` of the first and the last one if there is none.

    With them the names of those that give way to known values: those ``once`` given, under their new names, and a
    ``name`` of which only a half is there. A number for a time becomes ISO 8601.
    """
    result, gives_way = dict(properties), set(once)
    if _CREATED in result:
        created = _moment(result.pop(_CREATED))
        if "created_at" not in result:
            result["created_at"] = created
            if _CREATED in gives_way:
                gives_way.add("created_at")
        gives_way.discard(_CREATED)
    if "name" not in result and not _HALVES.isdisjoint(result):
        parts = [text(*(result.get(name) for name in names)) for names in (_FIRST, _LAST)]
        known = [part for part in parts if part is not None]
        if known:
            result["name"] = " ".join(known)
            if len(known) < len(parts) or not gives_way.isdisjoint(_HALVES):
                gives_way.add("name")
    return result, frozenset(gives_way)


def _moment(value: Any) -> Any:
    """A text stays as it was written."""
    return value if isinstance(value, str) else iso(value)


def iso(value: Any) -> Any:
    """A time in UTC as ISO 8601 with its offset, as a property of a user should be; what is no time as it is."""
    try:
        if isinstance(value, str):
            return f"{order_of(moment_text(value))}Z"
        if isinstance(value, (int, float)):
            return epoch_text(value)
    except InvalidCall:
        pass  # it is a property like others, and may be anything
    return value
