"""The tables of an outbox in PostgreSQL: made once, by whoever may, and refused where they are not ours to use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.harness.postgres_server import PostgresServer
from userpilot_async import ConfigurationError, OutboxError

pytest.importorskip("psycopg", exc_type=ImportError)

from psycopg import sql

from tests.contract.inline_postgres import processes
from userpilot_async.postgres._address import address_of
from userpilot_async.postgres._connection import Connection
from userpilot_async.postgres._migrate import migrate, plan
from userpilot_async.postgres._schema import TABLES, VERSION, Names, checked_schema


@pytest.fixture
def connection(postgres_server: PostgresServer) -> Iterator[Connection]:
    """A connection of the outbox's, as the superuser."""
    connection = Connection(address_of(postgres_server.url, {})[0], "an outbox", deadline=20.0)
    connection.connect()
    with closing(connection):
        yield connection


def tables(server: PostgresServer, name: str) -> set[str]:
    found = server.run("SELECT tablename FROM pg_tables WHERE tablename LIKE %s", values=(f"{name}\\_%",))
    return {row[0] for row in found}


def test_tables_are_made_once(connection: Connection, postgres_server: PostgresServer) -> None:
    names = Names(postgres_server.new_name())
    first = migrate(connection, names, "here")

    assert {f"{names.name}_{one}" for one in TABLES} == tables(postgres_server, names.name)
    assert len(TABLES) < len(first)
    assert [] == migrate(connection, names, "here")


def test_a_plan_makes_nothing(connection: Connection, postgres_server: PostgresServer) -> None:
    names = Names(postgres_server.new_name())

    assert plan(connection, names, "here")
    assert set() == tables(postgres_server, names.name)


def test_what_is_planned_can_be_run_by_hand(connection: Connection, postgres_server: PostgresServer) -> None:
    names = Names(postgres_server.new_name())
    postgres_server.run(";\n".join(plan(connection, names, "here")))

    assert [] == plan(connection, names, "here")


def test_tables_may_be_in_a_schema_of_their_own(connection: Connection, postgres_server: PostgresServer) -> None:
    name = postgres_server.new_name()
    postgres_server.run(f'CREATE SCHEMA "Of {name}"')
    migrate(connection, Names(name, f"Of {name}"), "here")

    assert [(VERSION,)] == postgres_server.run(f'SELECT version FROM "Of {name}".{name}_state')


def test_a_schema_may_have_a_name_with_places_for_values_in_it(postgres_server: PostgresServer) -> None:
    name = postgres_server.new_name()
    postgres_server.run(f'CREATE SCHEMA "100%s {name}"')
    postgres_server.migrate(name, schema=f"100%s {name}")
    with processes(f"{postgres_server.url}?name={name}&schema=100%25s%20{name}") as process:
        receipt = process().put("track", "u1", b"{}", 2, 0.0)

        assert 0 == receipt.id
        assert 1 == process().admin().inspect().account.accepted


def test_a_schema_that_is_not_there_is_to_be_made_first(
    connection: Connection, postgres_server: PostgresServer
) -> None:
    """And not by the command that has just failed for want of it."""
    with pytest.raises(OutboxError, match='schema "nowhere" does not exist; make the schema first'):
        migrate(connection, Names(postgres_server.new_name(), "nowhere"), "here")


@pytest.mark.parametrize("schema", ["", "a;\nb", "a\0b", 7])
def test_a_schema_that_no_statement_can_be_made_with_is_refused(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="schema must be"):
        checked_schema(schema)


def test_where_it_fails_nothing_is_made(connection: Connection, postgres_server: PostgresServer) -> None:
    names = Names(postgres_server.new_name())
    postgres_server.run(f"CREATE TABLE {names.name}_files (theirs int)")
    with pytest.raises(OutboxError, match="already exists"):
        migrate(connection, names, "here")

    assert {f"{names.name}_files"} == tables(postgres_server, names.name)


def test_tables_of_a_newer_version_are_refused(connection: Connection, postgres_server: PostgresServer) -> None:
    names = Names(postgres_server.new_name())
    migrate(connection, names, "here")
    postgres_server.run(f"UPDATE {names.name}_state SET version = version + 1")
    with pytest.raises(OutboxError, match=f"here is of version {VERSION + 1}, of a newer userpilot_async"):
        migrate(connection, names, "here")


def test_two_that_make_them_at_the_same_time_both_end_well(postgres_server: PostgresServer) -> None:
    name, failed = postgres_server.new_name(), list[BaseException]()

    def make() -> None:
        try:
            postgres_server.migrate(name)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert [] == failed
    assert len(TABLES) == len(tables(postgres_server, name))


def test_a_transaction_whose_beginning_fails_is_over(connection: Connection) -> None:
    """Or the next one would be a part of it, which the server refuses."""
    with pytest.raises(OutboxError, match="division by zero"):
        connection.begin(sql.SQL("SELECT 1 / 0"))

    assert [(1,)] == connection.run_alone(sql.SQL("SELECT {}").format(1))


def test_a_database_that_does_not_hold_any_text_is_refused(postgres_server: PostgresServer) -> None:
    database = postgres_server.new_name()
    postgres_server.run(f"CREATE DATABASE {database} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(OutboxError, match="has its text in LATIN1"):
        postgres_server.migrate("shop", database)
