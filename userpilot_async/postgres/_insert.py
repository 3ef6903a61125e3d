"""A call as one row of the inbox: what is written on connections of the application's, whatever driver they are of."""

from __future__ import annotations

from .._calls.dedupe import DedupeKey
from .._calls.payload import Key, Kind, Payload
from .._calls.stored import Stored
from ._schema import Names

COLUMNS = ("kind", "key", "body", "moment", "size", "dedupe", "dedupe_for", "ticket")

Row = tuple[str, str, str, str | None, int, bytes | None, float | None, int | None]
"""The values of these columns."""


def row_of(kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None, ticket: int | None) -> Row:
    """A call that has been checked. The body is JSON, and so ASCII but for UTF-8, without a NUL."""
    stored = Stored.of(kind, key, payload)
    digest, seconds = (None, None) if dedupe is None else (dedupe.digest, dedupe.seconds)
    return stored.kind, stored.key, stored.body.decode(), stored.moment, size, digest, seconds, ticket


class Insert:
    """The one statement, in the placeholders of each driver; its values are a `Row`'s."""

    def __init__(self, names: Names) -> None:
        self.table = names.text("inbox")
        self.outbox = names.name
        columns = ", ".join(COLUMNS)
        places = ", ".join(["%s"] * len(COLUMNS))
        # A schema's name may be anything, placeholders among it.
        escaped = self.table.replace("%", "%%")
        self.formatted = f"INSERT INTO {escaped} ({columns}) VALUES ({places})"
        """As Django has it."""
        self.encoded = self.formatted.encode()
        """As psycopg has it."""
        numbers = ", ".join(f"${place}" for place in range(1, len(COLUMNS) + 1))
        self.numbered = f"INSERT INTO {self.table} ({columns}) VALUES ({numbers})"
        """As asyncpg has it."""
        escaped = self.table.replace(":", "\\:")
        self.named = f"INSERT INTO {escaped} ({columns}) VALUES ({', '.join(f':{column}' for column in COLUMNS)})"
        """As SQLAlchemy's ``text`` has it."""
