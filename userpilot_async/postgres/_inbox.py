"""A call as one row of the inbox: what is written on connections of the application's, whatever driver they are of."""

from __future__ import annotations

from .._calls.payload import Key, Kind, Payload
from .._calls.stored import Stored
from ._schema import Names

COLUMNS = ("kind", "key", "body", "moment", "size", "dedupe", "ticket")

Row = tuple[str, str, str, str | None, int, bytes | None, int | None]
"""The values of these columns."""


def row_of(kind: Kind, key: Key, payload: Payload, size: int, dedupe: bytes | None, ticket: int | None) -> Row:
    """A call that has been checked. The body is JSON, and so ASCII but for UTF-8, without a NUL."""
    stored = Stored.of(kind, key, payload)
    return stored.kind, stored.key, stored.body.decode(), stored.moment, size, dedupe, ticket


class Insert:
    """The one statement, in the placeholders of each driver; its values are a `Row`'s."""

    def __init__(self, names: Names) -> None:
        self.table = names.text("inbox")
        self.outbox = names.name
        begin = f"INSERT INTO {self.table} ({', '.join(COLUMNS)}) VALUES"
        self.formatted = f"{begin} ({', '.join(['%s'] * len(COLUMNS))})"
        """As psycopg and Django have it."""
        self.numbered = f"{begin} ({', '.join(f'${place}' for place in range(1, len(COLUMNS) + 1))})"
        """As asyncpg has it."""
        self.named = f"{begin} ({', '.join(f':{column}' for column in COLUMNS)})"
        """As SQLAlchemy's ``text`` has it."""
