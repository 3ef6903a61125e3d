"""Make the tables of an outbox, or bring them to this version: a command's work, never a client's."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from .._errors.tree import OutboxError
from ._connection import Connection
from ._failures import not_migrated
from ._schema import VERSION, Names, statements
from ._state import check_version

OLDEST_SERVER = 130_000  # PostgreSQL 13: `gen_random_uuid` without an extension


def version_there(connection: Connection, names: Names) -> int:
    """The version of the tables; 0 where there are none. Raises what `Connection.run` raises."""
    found = connection.run(names.sql("SELECT to_regclass({name}) IS NOT NULL", name=_literal(names)))
    if not found[0][0]:
        return 0
    rows = connection.run(names.sql("SELECT version FROM {state}"))
    return int(rows[0][0]) if rows else 0


def _literal(names: Names) -> sql.Literal:
    return sql.Literal(names.text("state"))


def check_server(connection: Connection, place: str) -> None:
    """See that the server is new enough, and that the database holds any text. Raises `OutboxError`."""
    version = connection.server_version
    if version < OLDEST_SERVER:
        raise OutboxError(f"{place} is PostgreSQL {version // 10_000}, and an outbox needs 13 or newer")
    encoding = connection.run(b"SHOW server_encoding")[0][0]
    if encoding != "UTF8":
        raise OutboxError(f"{place} has its text in {encoding}, and an outbox needs a database in UTF8")


def check_tables(connection: Connection, names: Names, place: str) -> None:
    """See that there are tables of our version. Raises `OutboxError`, and what `Connection.run` raises."""
    version = version_there(connection, names)
    if not version:
        raise OutboxError(not_migrated(place, names.name))
    check_version(version, place)


def plan(connection: Connection, names: Names, place: str) -> Sequence[str]:
    """The statements that are missing; none, if the tables are of this version.

    Raises `OutboxError` if they are of a newer one, and what `Connection.run` raises.
    """
    check_server(connection, place)
    version = version_there(connection, names)
    if version > VERSION:
        check_version(version, place)
    return list(statements(names, version))


def migrate(connection: Connection, names: Names, place: str) -> Sequence[str]:
    """Run what `plan` gives, in one transaction, and give it. Raises as `plan`; nothing is changed then."""
    with connection.transaction():
        # Two that migrate at the same time do it one after the other. The lock ends with the transaction.
        connection.run(names.sql("SELECT pg_advisory_xact_lock(hashtext({name}))", name=_literal(names)))
        missing = plan(connection, names, place)
        for statement in missing:
            connection.run(statement.encode())
    return missing
