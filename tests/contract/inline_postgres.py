"""An outbox in PostgreSQL without a loop and without a thread. Apart from the others, which need no psycopg."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from tests.contract.inline import Client, Inline, at_once, open_now
from userpilot_async.postgres import PostgresOutbox


class InlinePostgresOutbox(Inline, PostgresOutbox):
    """An outbox in PostgreSQL, without a thread."""

    def die(self) -> None:
        """As the process would: nothing more is written. Its lease has ended, too."""
        self.writer.kill()
        self._in_use = False
        self.end_lease()
        self.store.access.connection.close()

    def end_lease(self) -> None:
        """As the server's clock does."""
        self.run("UPDATE {}_state SET lease_until = 'epoch'")

    def run(self, statement: str, *values: Any) -> list[Any]:
        """Run anybody's statement in the database, with the outbox's name in it."""
        with closing(psycopg.connect(**self._address.parameters(5.0), autocommit=True)) as connection:
            cursor = connection.execute(statement.format(self.name), values)
            return cursor.fetchall() if cursor.description else []


NewProcess = Callable[..., InlinePostgresOutbox]


@contextmanager
def processes(url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would; all of them are closed at the end."""
    made: list[InlinePostgresOutbox] = []

    def process(client: Client | None = None, **options: Any) -> InlinePostgresOutbox:
        outbox = InlinePostgresOutbox(url, **options)
        made.append(outbox)
        open_now(outbox, (client or Client()).opening())
        return outbox

    try:
        yield process
    finally:
        for outbox in made:
            at_once(outbox.aclose())
