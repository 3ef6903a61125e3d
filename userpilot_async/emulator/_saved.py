"""Records as JSON tables and back: the names of the fields once, then a row for each record."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

import attrs

Saved: TypeAlias = dict[str, Any]
"""JSON, as far as `json` makes it. `Any`: whatever a call has said."""

Record = TypeVar("Record")


def table(cls: type[Any], records: Iterable[Any]) -> Saved:
    """Records of one attrs class as JSON. Their dicts and lists are not copied. `Any`: attrs has no type of its own."""
    names = [field.name for field in attrs.fields(cls)]
    return {"fields": names, "rows": [[getattr(record, name) for name in names] for record in records]}


def records(cls: type[Record], saved: Saved) -> list[Record]:
    """The records of a table; raises KeyError, TypeError or ValueError for what is no such table."""
    names = saved["fields"]
    return [cls(**dict(zip(names, row, strict=True))) for row in saved["rows"]]


def finite(moment: float) -> float | None:
    """A moment for JSON, which has no infinity: None is never."""
    return None if math.isinf(moment) else moment


def moment(saved: float | None) -> float:
    """The moment that `finite` made a number or None of."""
    return math.inf if saved is None else float(saved)
