"""A process of an application that tells of its orders in the transactions that insert them, by one of five drivers.

    python -m tests.processes.programs.transactions_worker '{"file": "postgresql://…", "witness": …, "drivers": […]}'

Of ten transactions two are rolled back whole and one by its savepoint alone. The table ``orders`` has what was
committed, whoever dies and whenever. Each user's transactions come one after the other. Without drivers the process
only sends. What it writes down, and how it ends, is what `outbox_worker` says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import anyio
import asyncpg
import attrs
import django
import psycopg
from anyio import from_thread, to_thread
from django.conf import settings
from django.db import Error as DjangoError
from django.db import connections
from django.db.transaction import atomic
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from tests.processes.programs import outbox_worker, redis_worker
from userpilot_async import UserpilotClient
from userpilot_async._outbox.protocol import Outbox
from userpilot_async.postgres import PostgresOutbox

INSERT = "INSERT INTO orders VALUES (%s)"
AGAIN = 0.05  # seconds until another try, where the database is away
# What drivers raise where it is. Whether a transaction was committed that was under way, only the table knows.
AWAY = (psycopg.Error, asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, DjangoError, OSError)


@attrs.frozen(kw_only=True)
class Orders(redis_worker.Orders):
    """Orders in which ``users`` of each driver place orders, ``at_most`` transactions each."""

    drivers: list[str] = attrs.field(factory=list)


class RolledBack(Exception):
    """Undoes a transaction, or a savepoint."""


class Blocking:
    """A connection that is not awaited, and its savepoints."""

    def __init__(self, connection: Any, execute: Callable[[str, tuple[str]], object], block: Callable[[], Any]) -> None:
        self.connection, self.execute, self.block = connection, execute, block


class Awaited(Blocking):
    """A connection that is awaited."""


@contextmanager
def on_psycopg(url: str) -> Iterator[Blocking]:
    with psycopg.connect(url, autocommit=True, connect_timeout=2) as connection:
        yield Blocking(connection, connection.execute, connection.transaction)


@contextmanager
def on_django(url: str) -> Iterator[Blocking]:
    connection = connections["default"]  # of this thread
    try:
        yield Blocking(connection, partial(_by_cursor, connection), atomic)
    finally:
        connection.close()


def _by_cursor(connection: Any, statement: str, values: tuple[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


@asynccontextmanager
async def on_async_psycopg(url: str) -> AsyncIterator[Awaited]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=2) as connection:
        yield Awaited(connection, connection.execute, connection.transaction)


@asynccontextmanager
async def on_asyncpg(url: str) -> AsyncIterator[Awaited]:
    connection = await asyncpg.connect(url, timeout=2)
    try:
        execute = partial(connection.execute, INSERT.replace("%s", "$1"))
        yield Awaited(connection, lambda statement, values: execute(*values), connection.transaction)
    finally:
        connection.terminate()


@asynccontextmanager
async def on_sqlalchemy(url: str) -> AsyncIterator[Awaited]:
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    try:
        async with AsyncSession(engine) as session:
            insert = text(INSERT.replace("%s", ":id"))

            def block() -> Any:
                return session.begin_nested() if session.in_transaction() else session.begin()

            yield Awaited(session, lambda statement, values: session.execute(insert, {"id": values[0]}), block)
    finally:
        await engine.dispose()


BLOCKING = {"psycopg": on_psycopg, "Django": on_django}
AWAITED = {"psycopg-async": on_async_psycopg, "asyncpg": on_asyncpg, "SQLAlchemy": on_sqlalchemy}


def fate(n: int) -> tuple[bool, bool]:
    """Whether a user's ``n``-th transaction is rolled back, and whether its savepoint is."""
    return n % 10 in (3, 7), n % 10 in (5, 7)


class Worker(outbox_worker.Worker):
    """Places orders."""

    orders: Orders

    def outbox(self) -> Outbox:
        return PostgresOutbox(self.orders.file, sender=self.orders.sender, **self.orders.outbox)

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.orders.file.partition("?")[0]

    async def work(self, userpilot: UserpilotClient) -> None:
        to_thread.current_default_thread_limiter().total_tokens = 100  # each user of a driver that blocks has one
        async with anyio.create_task_group() as users:
            for driver in self.orders.drivers:
                for number in range(self.orders.users):
                    user = f"{self.orders.slot}/{driver}/{number}/{self.orders.life}"
                    if driver in BLOCKING:
                        place = partial(self.place_blocking, userpilot, BLOCKING[driver], user)
                        users.start_soon(to_thread.run_sync, place)
                    else:
                        users.start_soon(self.place, userpilot, AWAITED[driver], user)
        if self.orders.drivers:
            outbox_worker.say("placed")

    def place_blocking(self, userpilot: UserpilotClient, connect: Any, user: str) -> None:
        """Place a user's orders on a connection that is not awaited, in a thread."""
        n = 0
        while n < self.orders.at_most and not self.stopping.is_set():
            try:
                with connect(self.database) as to:
                    while n < self.orders.at_most and not self.stopping.is_set():
                        n += 1  # whatever becomes of it: it may have been committed where that raises
                        with suppress(RolledBack):
                            self.one_blocking(userpilot, to, user, n)
                        from_thread.run(anyio.sleep, self.orders.pause)
            except AWAY:
                from_thread.run(anyio.sleep, AGAIN)

    def one_blocking(self, userpilot: UserpilotClient, to: Blocking, user: str, n: int) -> None:
        """Make one transaction: an order, one in a savepoint, and a third one."""
        undone, partly = fate(n)

        def order(part: int) -> None:
            mark = f"{user}.{n}.{part}"
            to.execute(INSERT, (mark,))
            userpilot.within(to.connection).track_nowait(user, "ordered", {"mark": mark})

        with to.block():
            order(0)
            with suppress(RolledBack), to.block():
                order(1)
                if partly:
                    raise RolledBack
            order(2)
            if undone:
                raise RolledBack

    async def place(self, userpilot: UserpilotClient, connect: Any, user: str) -> None:
        """Place a user's orders on a connection that is awaited."""
        n = 0
        while n < self.orders.at_most and not self.stopping.is_set():
            try:
                async with connect(self.database) as to:
                    while n < self.orders.at_most and not self.stopping.is_set():
                        n += 1
                        with suppress(RolledBack):
                            await self.one(userpilot, to, user, n)
                        await anyio.sleep(self.orders.pause)
            except AWAY:
                await anyio.sleep(AGAIN)

    async def one(self, userpilot: UserpilotClient, to: Awaited, user: str, n: int) -> None:
        """Make one transaction, as above."""
        undone, partly = fate(n)

        async def order(part: int) -> None:
            mark = f"{user}.{n}.{part}"
            await to.execute(INSERT, (mark,))  # type: ignore[misc]  # those of awaited connections are
            await userpilot.within(to.connection).track(user, "ordered", {"mark": mark})

        async with to.block():
            await order(0)
            with suppress(RolledBack):
                async with to.block():
                    await order(1)
                    if partly:
                        raise RolledBack
            await order(2)
            if undone:
                raise RolledBack


def configure_django(url: str) -> None:
    """Have Django use this database."""
    told = psycopg.conninfo.conninfo_to_dict(url)
    names = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port"}
    found = {name: told[key] for name, key in names.items()}
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **found}})
    django.setup()


if __name__ == "__main__":
    worker = Orders(**json.loads(sys.argv[1]))
    configure_django(worker.file.partition("?")[0])
    outbox_worker.main(Worker, worker)
