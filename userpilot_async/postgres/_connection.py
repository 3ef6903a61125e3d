"""The connection to PostgreSQL: statements, each with a deadline, and what their failures mean.

Used by one thread. Nothing here depends on what a session remembers (no prepared statements, no ``SET`` that outlives
a transaction, no ``LISTEN``): between us and the server may stand PgBouncer, which gives each transaction another one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql

from .._errors.tree import without_frames
from .._outbox.away import Away
from ._address import Address
from ._failures import meaning_of, meaning_of_no_connection

Rows = Sequence[tuple[Any, ...]]
"""The rows of an answer. `Any` is what a column may hold; who asks knows its type."""
Statement = sql.Composable | bytes

LOCK_SHARE = 0.8  # of a deadline: a lock is waited for, and its statement still has time to say that it has failed


class Connection:
    """Not connected yet. ``name`` is the outbox's, for messages; no statement may take longer than ``deadline``."""

    def __init__(self, address: Address, name: str, *, deadline: float) -> None:
        self._address = address
        self._name = name
        self._deadline = deadline
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._busy_since: float | None = None
        milliseconds = round(deadline * 1_000)
        self._begin = (
            f"SET LOCAL statement_timeout = {milliseconds}; "
            f"SET LOCAL lock_timeout = {round(milliseconds * LOCK_SHARE)}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {4 * milliseconds};"
        )

    @property
    def is_connected(self) -> bool:
        """A connection is there, as far as is known."""
        return self._connection is not None

    @property
    def server_version(self) -> int:
        """The server's version: 15.4 is 150004."""
        return self._there().info.server_version

    def connect(self) -> None:
        """Connect anew. Raises `Away`, or `OutboxError` if the server refuses us."""
        self.close()
        try:
            self._connection = psycopg.connect(
                **self._address.parameters(self._deadline),  # type: ignore[arg-type]  # libpq's, by name
                autocommit=True,  # transactions are begun by our own words, with their time-outs, in one round trip
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            failure = meaning_of_no_connection(error, self._address)
        except OSError as error:
            failure = Away(error.strerror or type(error).__name__)
        else:
            return
        raise without_frames(failure)

    def run(self, statement: Statement, values: Sequence[object] | None = None) -> Rows:
        """Run one statement, or with no ``values`` several, and give the rows of the last.

        Raises `Away`, `TryAgain`, `OutboxError`.
        """
        with self._asking(), self._there().cursor() as cursor:
            cursor.execute(statement, values)  # type: ignore[arg-type]  # a `Composable` is one of psycopg's own
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description is not None else []

    def run_many(self, statement: Statement, rows: Sequence[Sequence[object]]) -> int:
        """Run one statement for each of these rows of values; how many rows of tables it has changed."""
        with self._asking(), self._there().cursor() as cursor:
            cursor.executemany(statement, rows)  # type: ignore[arg-type]  # as above
            return max(cursor.rowcount, 0)

    @contextmanager
    def transaction(self, *, frozen: bool = False) -> Iterator[None]:
        """A transaction, committed at the end; ``frozen``, it reads all of one moment, and nothing is written.

        Whatever is raised within undoes it.
        """
        self.begin(frozen=frozen)
        try:
            yield
        except BaseException:
            self.roll_back()
            raise
        self.run(b"COMMIT")

    def begin(self, first: sql.Composable | None = None, *, frozen: bool = False) -> Rows:
        """Begin a transaction with its time-outs, and with a ``first`` statement, in one round trip; its rows."""
        level = "REPEATABLE READ READ ONLY" if frozen else "READ COMMITTED"
        return self.run(sql.SQL("BEGIN ISOLATION LEVEL {}; {} {}").format(
            sql.SQL(level), sql.SQL(self._begin), first or sql.SQL("")
        ))  # fmt: skip

    def roll_back(self) -> None:
        """Undo the transaction; where the connection has ended, the server does that."""
        with suppress(Exception):  # whatever becomes of it, nothing of the transaction remains
            if self._connection is not None and not self._connection.closed:
                self.run(b"ROLLBACK")

    def close(self) -> None:
        """End the connection; nothing that is under way remains."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def break_off_if_older(self, seconds: float) -> None:
        """From any thread: end a connection whose statement has taken so long. A server that stands still sends no end,
        and no time-out of its own.
        """
        since, connection = self._busy_since, self._connection
        if since is None or connection is None or time.monotonic() < since + seconds:
            return
        # It may be gone by now.
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    def _there(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None:
            raise Away("the connection was lost")
        return self._connection

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._busy_since = time.monotonic()
        try:
            yield
            return
        except psycopg.Error as error:
            failure = meaning_of(error, self._address, self._name)
            if self._connection is not None and self._connection.broken:
                self.close()
        finally:
            self._busy_since = None
        raise without_frames(failure)
