"""Connections of the application's: which kind one is, and how a row goes into the inbox on it.

No driver is imported for that. Of what an application has not imported, it has no connection.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any

import attrs
import psycopg
from psycopg.rows import tuple_row

from .._errors.foreign import must_be
from .._errors.tree import ConfigurationError
from ._insert import COLUMNS, Insert, Row

KNOWN = (
    "a connection of psycopg 3 or asyncpg, a connection or a session of SQLAlchemy 2, or Django's connection, to "
    "PostgreSQL"
)

# Of each of the following, `Any` is a connection or a session of this kind.


def _on_psycopg(connection: Any, insert: Insert, row: Row) -> None:
    # Not by `connection.execute`: its cursors may be of a class with other placeholders. Whether it is prepared, the
    # connection's own `prepare_threshold` says, as of the application's statements.
    psycopg.Cursor(connection, row_factory=tuple_row).execute(insert.encoded, row)


async def _on_async_psycopg(connection: Any, insert: Insert, row: Row) -> None:
    await psycopg.AsyncCursor(connection, row_factory=tuple_row).execute(insert.encoded, row)


async def _on_asyncpg(connection: Any, insert: Insert, row: Row) -> None:
    await connection.execute(insert.numbered, *row)


def _on_sqlalchemy(connection: Any, insert: Insert, row: Row) -> None:
    _check_database(connection.dialect.name)
    connection.execute(_text(insert), dict(zip(COLUMNS, row, strict=True)))


async def _on_async_sqlalchemy(connection: Any, insert: Insert, row: Row) -> None:
    _check_database(connection.dialect.name)
    await connection.execute(_text(insert), dict(zip(COLUMNS, row, strict=True)))


def _on_session(session: Any, insert: Insert, row: Row) -> None:
    _on_sqlalchemy(session.connection(), insert, row)  # which flushes nothing, unlike the session's own `execute`


async def _on_async_session(session: Any, insert: Insert, row: Row) -> None:
    await _on_async_sqlalchemy(await session.connection(), insert, row)


def _on_django(connection: Any, insert: Insert, row: Row) -> None:
    _check_database(connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute(insert.formatted, row)


def _text(insert: Insert) -> Any:
    """The statement as SQLAlchemy takes it, whichever driver is below."""
    return sys.modules["sqlalchemy"].text(insert.named)


def _check_database(name: str) -> None:
    if name != "postgresql":
        raise ConfigurationError(f"connection must be to PostgreSQL, where the outbox is, not to {name}")


@attrs.frozen
class Way:
    """How a row is put on a connection: right away, or by awaiting. One of the two is ``None``."""

    put: Callable[[Any, Insert, Row], None] | None = None
    aput: Callable[[Any, Insert, Row], Awaitable[None]] | None = None


WAYS: Mapping[tuple[str, str], Way] = {
    ("psycopg", "Connection"): Way(put=_on_psycopg),
    ("psycopg", "AsyncConnection"): Way(aput=_on_async_psycopg),
    ("asyncpg", "Connection"): Way(aput=_on_asyncpg),
    ("asyncpg.pool", "PoolConnectionProxy"): Way(aput=_on_asyncpg),
    ("sqlalchemy", "Connection"): Way(put=_on_sqlalchemy),
    ("sqlalchemy.orm", "Session"): Way(put=_on_session),
    ("sqlalchemy.orm", "scoped_session"): Way(put=_on_session),
    ("sqlalchemy.ext.asyncio", "AsyncConnection"): Way(aput=_on_async_sqlalchemy),
    ("sqlalchemy.ext.asyncio", "AsyncSession"): Way(aput=_on_async_session),
    ("sqlalchemy.ext.asyncio", "async_scoped_session"): Way(aput=_on_async_session),
    ("django.db.backends.base.base", "BaseDatabaseWrapper"): Way(put=_on_django),
    ("django.utils.connection", "ConnectionProxy"): Way(put=_on_django),
}
"""By the public names of the classes, which their libraries keep, in the modules that have them."""


def way_of(connection: object, modules: Mapping[str, ModuleType] = sys.modules) -> Way:
    """How calls are put on this connection, among the ``modules`` there are. Raises `ConfigurationError`."""
    for (module, name), way in WAYS.items():
        kind = getattr(modules.get(module), name, None)
        # By `isinstance`, as for everybody: what a tracer has wrapped says that it is what it wraps.
        if isinstance(kind, type) and isinstance(connection, kind):
            if name == "ConnectionProxy" and not hasattr(connection, "vendor"):  # Django's cache is one, too
                break
            return way
    raise ConfigurationError(f"connection {must_be(KNOWN, connection)}")
