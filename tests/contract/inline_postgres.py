"""An outbox in PostgreSQL without a loop and without a thread. Apart from the others, which need no psycopg."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Any

import psycopg

from tests.contract.inline_remote import InlineRemote, processes_of
from userpilot_async.postgres import PostgresOutbox


class InlinePostgresOutbox(InlineRemote, PostgresOutbox):
    """An outbox in PostgreSQL, without a thread."""

    def end_lease(self) -> None:
        """As the server's clock does."""
        self.run("UPDATE {}_state SET lease_until = 'epoch'")

    def run(self, statement: str, *values: Any) -> list[Any]:
        """Run anybody's statement in the database, with the outbox's name in it."""
        with closing(psycopg.connect(**self._address.parameters(5.0), autocommit=True)) as connection:
            cursor = connection.execute(statement.format(self.name), values)
            return cursor.fetchall() if cursor.description else []


NewProcess = Callable[..., InlinePostgresOutbox]


def processes(url: str) -> AbstractContextManager[NewProcess]:
    """Opens the same outbox with each call, as another process would; all of them are closed at the end."""
    return processes_of(partial(InlinePostgresOutbox, url))


def put(outbox: InlinePostgresOutbox, *users: str) -> list[int]:
    """Put a track of each of these users; their ids."""
    return [outbox.put("track", user, b"{}", 2, 0.0).id for user in users]


def put_in_inbox(outbox: InlinePostgresOutbox, *users: str) -> None:
    """What transactions of the application's do."""
    for user in users:
        outbox.run("INSERT INTO {}_inbox (kind, key, body, size) VALUES ('track', %s, '{{}}', 2)", f'"{user}"')


def keys_of(outbox: InlinePostgresOutbox, table: str) -> list[str]:
    return [key for (key,) in outbox.run(f"SELECT key FROM {{}}_{table} ORDER BY 1")]
