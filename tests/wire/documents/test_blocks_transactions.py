"""The blocks of the guide about transactions run, against a server of PostgreSQL; Django's are in `processes`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.harness.documents import PAGES
from tests.harness.postgres_server import PostgresServer, missing

if missing():
    pytest.skip(str(missing()), allow_module_level=True)

import psycopg

from tests.harness.stage.loops import InProcess
from tests.harness.stage.transactions import migration, module_of
from userpilot_async import UserpilotClient
from userpilot_async.emulator import Emulator

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]

WITHIN = 60.0  # seconds
EVENT = {"id": "evt_1", "user": "u1", "invoice": 7, "amount": 49}
(RIGHTS,) = [block.code for block in PAGES["transactions"].blocks if block.language == "sql"]


@pytest.fixture
def shop(postgres_server: PostgresServer) -> str:
    """The URL of an application's database, with an outbox of the name that is there by default."""
    database = postgres_server.new_name()
    postgres_server.run(f"CREATE DATABASE {database}")
    postgres_server.run("CREATE TABLE invoices (id int, paid bool)", database)
    postgres_server.run("INSERT INTO invoices VALUES (7, false)", database)
    postgres_server.migrate("userpilot_async", database)
    return postgres_server.url_of(database)


@asynccontextmanager
async def a_client(outbox: str) -> AsyncIterator[tuple[UserpilotClient, Emulator]]:
    emulator = Emulator(seed=1)
    async with UserpilotClient("KEY", transport=InProcess(emulator), outbox=outbox) as client:
        yield client, emulator


async def arrive(emulator: Emulator, events: int = 1) -> list[str]:
    """The names of the events that have arrived, as soon as there are so many."""
    async with asyncio.timeout(WITHIN):
        while len(emulator.store.events) < events:
            await asyncio.sleep(0.02)
    return [event.event_name for event in emulator.store.events]


async def test_the_blocks_for_connections_that_are_awaited(shop: str) -> None:
    asyncpg = pytest.importorskip("asyncpg")
    pytest.importorskip("sqlalchemy")
    to_shop = shop.replace("postgresql:", "postgresql+asyncpg:")
    in_sqlalchemy = module_of("with_sqlalchemy.py", {"postgresql+asyncpg://localhost/shop": to_shop})
    async with (
        a_client(shop) as (client, emulator),
        asyncpg.create_pool(shop, min_size=1, max_size=1) as pool,
    ):
        await in_sqlalchemy.pay(client, EVENT)
        await module_of("with_asyncpg.py").pay(client, pool, EVENT)
        arrived = await arrive(emulator, 2)
        await in_sqlalchemy.engine.dispose()

    assert ["invoice_paid"] * 2 == arrived


async def test_the_blocks_for_connections_that_are_not(shop: str) -> None:
    async with a_client(shop) as (client, emulator):
        module_of("with_psycopg.py", {"dbname=shop": shop}).pay(client, EVENT)
        module_of("with_put.py", {"dbname=shop": shop}).pay(EVENT)
        with suppress(psycopg.Error):
            module_of("with_psycopg.py", {"dbname=shop": shop}).pay(client, {**EVENT, "invoice": "seven"})

        assert ["invoice_paid"] * 2 == await arrive(emulator, 2)


async def test_the_rights_are_enough(shop: str, postgres_server: PostgresServer) -> None:
    database, number = shop.rpartition("/")[2], postgres_server.new_name()
    web, sender = f"web_{number}", f"sender_{number}"
    postgres_server.run(RIGHTS.replace("shop_web", web).replace("shop_userpilot", sender), database)
    url_of = postgres_server.url_of
    put = module_of("with_put.py", {"dbname=shop": url_of(database, user=web)})
    async with a_client(url_of(database, user=sender)) as (client, emulator):
        put.pay(EVENT)
        await client.track("u1", "paid")
        arrived = await arrive(emulator, 2)
    granted = postgres_server.run(
        f"SELECT table_name FROM information_schema.role_table_grants WHERE grantee = '{sender}' GROUP BY 1", database
    )
    tables = postgres_server.run("SELECT tablename FROM pg_tables WHERE tablename LIKE 'userpilot%'", database)

    assert ["invoice_paid", "paid"] == arrived
    assert set(tables) == set(granted)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), psycopg.connect(url_of(database, user=web)) as connection:
        connection.execute("SELECT * FROM userpilot_async_inbox")


async def test_alembics_migration_makes_the_tables(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for Alembic, whose `op.execute` runs a statement in the migration's transaction."""
    database = postgres_server.new_name()
    postgres_server.run(f"CREATE DATABASE {database}")
    (tmp_path / "userpilot.sql").write_text(migration(postgres_server.url_of(database)))
    alembic: Any = ModuleType("alembic")
    alembic.op = ModuleType("alembic.op")
    monkeypatch.setitem(sys.modules, "alembic", alembic)
    with psycopg.connect(postgres_server.url_of(database)) as connection:
        alembic.op.execute = connection.execute
        module_of("add_userpilot.py", file=tmp_path / "add_userpilot.py").upgrade()
        was_undone = postgres_server.run("SELECT to_regclass('userpilot_async_state')", database)
    async with a_client(postgres_server.url_of(database)) as (client, emulator):
        await client.track("u1", "paid")

        assert ["paid"] == await arrive(emulator)
    assert [(None,)] == was_undone, "all of it is in the migration's transaction"
