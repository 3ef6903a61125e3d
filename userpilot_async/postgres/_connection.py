"""The connection to PostgreSQL: statements, each with a deadline, and what their failures mean.

Used by one thread. Nothing here depends on what a session remembers (no prepared statements, no ``SET`` that outlives
a transaction, no ``LISTEN``): between us and the server may stand PgBouncer, which gives each transaction another one.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql

from .._errors.tree import OutboxError, without_frames
from .._outbox.away import Away
from .._runtime.log import log
from ._address import Address
from ._failures import meaning_of, meaning_of_no_connection

Rows = Sequence[tuple[Any, ...]]
"""The rows of an answer. `Any` is what a column may hold; who asks knows its type."""
Statement = sql.SQL | sql.Composed | bytes

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
        self._limits = sql.SQL(
            "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; "
            "SET LOCAL idle_in_transaction_session_timeout = {}; "
            # Of a join with stretches of ids PostgreSQL expects far too much: compiling it would take 0.2 s each time.
            "SET LOCAL jit = off; "
            # A role may have it off, and every NULL in an array of ours would be the text of that name.
            "SET LOCAL array_nulls = on"
        ).format(milliseconds, round(milliseconds * LOCK_SHARE), 2 * milliseconds)

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
        except UnicodeError:  # of a host's name, by Python's resolver; its frames have the password
            failure = OutboxError(f"{self._address.shown}: its host has a name that no host can have")
        else:
            return
        raise without_frames(failure)

    def run(self, statement: Statement, values: Sequence[object] | None = None) -> Rows:
        """Run one statement, and give its rows.

        Raises `Away`, `TryAgain`, `OutboxError`.
        """
        if values is not None and isinstance(statement, sql.Composed):
            statement = _escaped(statement)
        with self._asking(), self._there().cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description is not None else []

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

    def begin(self, *first: sql.Composable, frozen: bool = False) -> Sequence[Rows]:
        """Begin a transaction with its time-outs, and with its ``first`` statements, in one round trip; their rows."""
        level = "REPEATABLE READ READ ONLY" if frozen else "READ COMMITTED"
        begin = sql.SQL("BEGIN ISOLATION LEVEL {}; {}").format(sql.SQL(level), self._limits)
        try:
            answers = self.run_all(sql.SQL("; ").join([begin, *first]))
        except BaseException:
            self.roll_back()  # it has begun, whichever of them has failed
            raise
        return answers[len(answers) - len(first) :]

    def run_alone(self, *statements: sql.Composed) -> Rows:
        """Run statements in a transaction of their own, with its time-outs, in one round trip; the last one's rows."""
        *_, rows, _ = self.begin(*statements, sql.SQL("COMMIT"))
        return rows

    def run_all(self, statements: sql.SQL | sql.Composed) -> Sequence[Rows]:
        """Run several statements, separated by semicolons, in one round trip; the rows of each. Raises as `run`."""
        with self._asking(), self._there().cursor() as cursor:
            cursor.execute(statements)
            answers: list[Rows] = []
            while True:
                answers.append(cursor.fetchall() if cursor.description is not None else [])
                if not cursor.nextset():
                    return answers

    def roll_back(self) -> None:
        """Undo the transaction. Where that fails, the connection is ended, and the server does it."""
        if self._connection is not None:
            try:
                self.run(b"ROLLBACK")
            except Exception:  # whatever it is, nothing of the transaction may remain
                self.close()

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


def _escaped(statement: sql.Composed) -> sql.Composed:
    """The statement with values to come: a schema's name may have a % in it, which is no place for one."""
    parts: list[sql.Composable] = []
    for part in statement:
        if isinstance(part, sql.Composed):
            part = _escaped(part)
        elif isinstance(part, sql.Identifier) and "%" in (name := part.as_string(None)):
            quoted: Any = name.replace("%", "%%")  # `Any`: no literal, and as psycopg has quoted it
            part = sql.SQL(quoted)
        parts.append(part)
    return sql.Composed(parts)


def warn_if_overheard(address: Address) -> None:
    """Say once in this process, of each outbox, that others may read its password, and all that is put."""
    if address.is_overheard and address.shown not in _overheard:
        _overheard.add(address.shown)
        words = "its password, and all that is put, may go over the network in the clear"
        log(logging.WARNING, f"{address.shown}: {words}; insist on TLS: sslmode=verify-full")


_overheard: set[str] = set()
