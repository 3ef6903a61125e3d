"""Spans of rows: a table is looked at by several short statements, and changed by several short transactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import LiteralString, TypeVar

from ._connection import Connection
from ._schema import Names

SPAN = 20_000  # rows looked at by one statement: some hundredths of a second
FIRST, LAST = -(2**63), 2**63 - 1  # numbers of rows; another program's may be below 0

T = TypeVar("T")


def end_of_span(
    connection: Connection, names: Names, table: LiteralString, column: LiteralString, first: int, rows: int
) -> int | None:
    """Where a span of so many rows ends that begins with this number; ``None`` where there are no more than that."""
    # In the index alone: the rows in between are not read for it.
    query = f"SELECT {column} FROM {{{table}}} WHERE {column} >= %s ORDER BY {column} OFFSET %s LIMIT 1"
    beyond = connection.run(names.sql(query), (first, rows))
    return beyond[0][0] - 1 if beyond else None


def cut(found: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """As many at a time as one transaction may change."""
    for start in range(0, len(found), most):
        yield found[start : start + most]
