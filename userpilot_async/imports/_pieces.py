"""The rows of a part, as they lie in its journal: in the pieces that were written, of which halves have a share each.

A part is a range of rows under a root, the file that it was cut as; a piece may have rows of both halves. Beside the
rows, a piece holds the numbers of the lines that they are of. The caller holds the journal's lock.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator

from ._schema import Part


def content_of(connection: sqlite3.Connection, part: Part) -> bytes:
    """The rows of the part, as NDJSON."""
    found: list[bytes] = []
    for first, rows, content, _ in _pieces(connection, part):
        if first >= part.first and first + rows <= part.first + part.rows:
            found.append(content)
        else:
            lines = content.splitlines(keepends=True)
            found += lines[max(0, part.first - first) : part.first + part.rows - first]
    return b"".join(found)


def line_of(connection: sqlite3.Connection, part: Part) -> int | None:
    """The number of the line that the part's first row is of; ``None`` if the journal has no rows of it."""
    for first, _, _, numbers in _pieces(connection, part):
        return int(array("Q", numbers)[part.first - first])
    return None


def first_half(sizes: list[int]) -> int:
    """How many of the first rows make about half of the bytes; at least one, and never all."""
    half, size = sum(sizes) // 2, 0
    for rows, row in enumerate(sizes):
        if size + row > half:
            return max(1, rows)
        size += row
    return max(1, len(sizes) - 1)


def _pieces(connection: sqlite3.Connection, part: Part) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Each piece with rows of the part: (number of its first row under the root, rows, content, line numbers)."""
    first = 0
    for number, rows in connection.execute(
        "SELECT number, rows FROM pieces WHERE root = ? ORDER BY number", (part.root,)
    ).fetchall():
        if first + rows > part.first and first < part.first + part.rows:
            content, lines = connection.execute(
                "SELECT content, lines FROM pieces WHERE root = ? AND number = ?", (part.root, number)
            ).fetchone()
            yield first, rows, content, lines
        first += rows
