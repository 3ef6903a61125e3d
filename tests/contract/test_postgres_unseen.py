"""The inbox in PostgreSQL is looked into behind what has gone, by the numbers of transactions: no row is overlooked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

pytest.importorskip("psycopg", exc_type=ImportError)

import psycopg
from psycopg import sql

from tests.contract.inline_postgres import InlinePostgresOutbox, NewProcess, keys_of, processes, put, put_in_inbox
from tests.harness.postgres_server import PgBouncer, PostgresServer, program
from userpilot_async._runtime.clocks import steady
from userpilot_async.postgres import _unseen


@pytest.fixture
def process(postgres_url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would."""
    with processes(postgres_url) as process:
        yield process


class Explaining:
    """Has the plans of statements told, beside their rows."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.plan: list[str] = []

    def explain(self, statement: sql.Composable) -> None:
        explained = sql.SQL("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) ") + statement
        self.plan += [row[0] for row in self._connection.run(explained)]

    def walked(self) -> list[str]:
        return [one for one in self.plan if "Seq Scan" in one or "_pkey" in one]


@contextmanager
def open_elsewhere(outbox: InlinePostgresOutbox, *, writes: bool) -> Iterator[Any]:
    """A transaction that stays open, and sees what is gone."""
    with psycopg.connect(**outbox._address.parameters(5.0)) as theirs:  # type: ignore[arg-type]
        theirs.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        theirs.execute("SELECT pg_current_xact_id()" if writes else "SELECT 1")
        yield theirs


@pytest.mark.parametrize("writes", [True, False])
def test_no_look_into_the_inbox_walks_over_what_has_gone(process: NewProcess, writes: bool) -> None:
    """A transaction that is open elsewhere keeps all of it, and each put and each poll would read it."""
    sender = process()
    access = sender.store.access
    with open_elsewhere(sender, writes=writes):
        for _ in range(4):
            put_in_inbox(sender, "ann")
            sender.run("INSERT INTO {0}_inbox (kind, key, body, size) SELECT kind, key, body, size FROM {0}_inbox, "
                       "generate_series(1, 2000)")  # fmt: skip
            sender.poll()
        put_in_inbox(sender, "ann")
        seen = Explaining(access.connection)
        with access.connection.transaction():
            seen.explain(sql.SQL("SELECT {}").format(access.unseen.look()))
            seen.explain(access.names.sql("SELECT seq FROM {inbox} WHERE {rows}", rows=access.unseen.rows()))
        sender.poll()

    assert [] == seen.walked()
    assert [one for one in seen.plan if "_inbox_xact" in one]
    assert (4 * 2001 + 1, []) == (sender.ledger.accepted, keys_of(sender, "inbox"))


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_what_was_put_before_others_and_is_committed_after_them_is_found(process: NewProcess, looks: int) -> None:
    """Numbers of rows, and of transactions, become visible in any order."""
    sender = process()
    with open_elsewhere(sender, writes=True) as slow, open_elsewhere(sender, writes=False) as later:
        insert = f"INSERT INTO {sender.name}_inbox (kind, key, body, size) VALUES ('track', %s, '{{}}', 2)"
        slow.execute(insert.encode(), ('"slow"',))
        for _ in range(looks):
            put_in_inbox(sender, "ann")
            sender.poll()
            sender.poll()
        later.execute(insert.encode(), ('"later"',))
        for _ in range(looks):
            sender.poll()
        slow.commit()
        put(sender, "ben")
        later.commit()
        sender.poll()
    sender.poll()

    assert [('"slow"',), ('"ben"',), ('"later"',)] == sender.run("SELECT key FROM {}_calls ORDER BY id")[looks:]
    assert [] == keys_of(sender, "inbox")


def test_a_row_of_another_server_is_found_within_a_minute(process: NewProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of transactions are a server's own, and a dump has them."""
    sender = process()
    sender.poll()
    sender.run("INSERT INTO {}_inbox (kind, key, body, size, xact) VALUES ('track', '\"ann\"', '{{}}', 2, 1)")
    sender.poll()
    before = sender.ledger.accepted
    now = steady()
    monkeypatch.setattr(_unseen, "steady", lambda: now + _unseen.WHOLE_EVERY)
    sender.poll()

    assert (0, 1) == (before, sender.ledger.accepted)


def test_what_is_put_on_a_server_with_lower_numbers_is_found_at_once(process: NewProcess) -> None:
    """A pooler keeps our connection and goes over to a replica that lagged, or a copy whose numbers are its own."""
    sender, other = process(), process(sender=False)
    for one in (sender, other):
        one.poll()
        one.store.access.unseen.looked(False, "9000000000:9000000000:")
    put_in_inbox(sender, "ann")
    put(other, "ben")
    put_in_inbox(sender, "cid")
    sender.poll()

    assert [('"ann"',), ('"ben"',), ('"cid"',)] == sender.run("SELECT key FROM {}_calls ORDER BY id")


@pytest.mark.skipif(program("pgbouncer") is None, reason="no pgbouncer on PATH")
def test_what_is_put_after_a_crash_behind_a_pooler_is_found_at_once(
    own_postgres: Callable[..., PostgresServer],
) -> None:
    """The numbers of transactions that were undone just before are given once more."""
    server = own_postgres(config={"wal_writer_delay": "'10s'"})
    name = server.new_name()
    server.migrate(name)
    with PgBouncer(server) as bouncer, processes(bouncer.url(name)) as process:
        sender = process(lease_ttl=60.0)
        sender.poll()
        with closing(server.connection()) as theirs:
            for _ in range(100):
                theirs.execute("BEGIN; SELECT pg_current_xact_id(); ROLLBACK")
        sender.poll()  # which commits nothing: the log is not on the disk yet
        server.restart("immediate")
        put_in_inbox(sender, "ann")
        sender.poll()

        assert (1, False) == (sender.ledger.accepted, sender.away)


def test_what_is_put_within_savepoints_is_found_whatever_their_numbers(process: NewProcess) -> None:
    """A savepoint has a number of its own, higher than those of transactions that a look has seen."""
    sender = process()
    insert = f"INSERT INTO {sender.name}_inbox (kind, key, body, size) VALUES ('track', %s, '{{}}', 2)".encode()
    with open_elsewhere(sender, writes=True) as slow:
        for user in ("one", "two", "gone"):
            slow.execute("SAVEPOINT it")
            slow.execute(insert, (f'"{user}"',))
            put_in_inbox(sender, "ann")
            sender.poll()
            sender.poll()
        slow.execute("ROLLBACK TO SAVEPOINT it")
        sender.poll()
        slow.commit()
    sender.poll()

    assert [('"ann"',)] * 3 + [('"one"',), ('"two"',)] == sender.run("SELECT key FROM {}_calls ORDER BY id")


def test_what_was_prepared_is_found_when_it_is_committed(own_postgres: Callable[..., PostgresServer]) -> None:
    server = own_postgres(config={"max_prepared_transactions": "1"})
    with processes(server.new_outbox()) as process:
        sender = process()
        with closing(psycopg.connect(**sender._address.parameters(5.0))) as theirs:  # type: ignore[arg-type]
            theirs.tpc_begin("theirs")
            insert = f"INSERT INTO {sender.name}_inbox (kind, key, body, size) VALUES ('track', '\"cid\"', '{{}}', 2)"
            theirs.execute(insert.encode())
            theirs.tpc_prepare()
        for user in ("ann", "ben"):
            put_in_inbox(sender, user)
            sender.poll()
            sender.poll()
        sender.run("COMMIT PREPARED 'theirs'")
        sender.poll()

        assert [('"ann"',), ('"ben"',), ('"cid"',)] == sender.run("SELECT key FROM {}_calls ORDER BY id")
