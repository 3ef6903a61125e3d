"""Processes of an application with a table of orders, which tell of them in its transactions; and the judge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness import judge
from tests.harness.postgres_server import PostgresServer
from tests.harness.stage.postgres_scenes import Books
from tests.processes.programs.outbox_host import marks_of, stamps_of, told_by
from tests.processes.programs.redis_host import RemoteHost

TABLE = "CREATE TABLE orders (id text PRIMARY KEY)"
DRIVERS = ("psycopg", "Django", "psycopg-async", "asyncpg", "SQLAlchemy")


class TransactionsHost(RemoteHost):
    """The processes of one outbox in the application's own database."""

    runs = "transactions_worker"

    def committed(self) -> set[str]:
        """The orders there are."""
        return {mark for (mark,) in self.books.server.run("SELECT id FROM orders")}

    def transactions(self) -> int:
        """How many transactions were committed: the first order of each is in no savepoint."""
        ((count,),) = self.books.server.run("SELECT count(*) FROM orders WHERE id LIKE '%.0'")
        return int(count)


@contextmanager
def transactions_host(folder: Path, url: str, server: PostgresServer, **orders: Any) -> Iterator[TransactionsHost]:
    """Processes that all have ended when the block does. ``orders`` are for each of them."""
    server.run(TABLE)
    place = server.new_outbox()
    one = TransactionsHost(folder, url, Books(server, place.partition("name=")[2]), place, **orders)
    try:
        yield one
    finally:
        one.end()


def judge_transactions(one: TransactionsHost, limit: int) -> dict[str, Any]:
    """What must hold when nothing is left to send, whoever was killed; how often what happened."""
    marks = [mark for write in told_by(one.url, "applied") for mark in marks_of(write)]
    requests, committed = told_by(one.url, "requests"), one.committed()
    account = one.books.balanced()
    judge.nothing_lost(committed, marks)
    assert set() == set(marks) - committed, "events arrived of what was rolled back"
    assert len(committed) == account["accepted"] == account["delivered"], (len(committed), dict(account))
    assert 0 == account["resets"]
    doubles = judge.duplicates(marks, account["ambiguous"])
    # Of a user, in the order of the transactions, which are made one after the other, and of each one's own calls.
    judge.per_user_order((user, 10 * int(n) + int(part)) for user, n, part in (mark.rsplit(".", 2) for mark in marks))
    worst = judge.requests_in_any_minute(stamps_of(requests, "track"), limit)
    assert [(0,)] == one.books.ask("SELECT count(*) FROM {}_inbox")
    assert "Traceback" not in one.output(), one.output()
    return {
        "orders": len(committed),
        "transactions": one.transactions(),
        "duplicates": doubles,
        "ambiguous": account["ambiguous"],
        "leases": one.books.fence(),
        "holders killed": one.holders_killed,
        "refused": sum(request["status"] == 429 for request in requests),
        "worst minute": worst.count,
        **{driver: sum(f"/{driver}/" in mark for mark in committed) for driver in DRIVERS},
    }
