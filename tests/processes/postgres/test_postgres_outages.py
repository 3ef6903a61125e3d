"""PostgreSQL is not there when the client opens, goes away in the middle, or stands still; PgBouncer is in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import psycopg
import pytest
from psycopg import sql

from tests.harness import free_of_leaks, judge
from tests.harness.postgres_server import PgBouncer, PostgresServer, program
from tests.harness.stage.loops import wait_until
from tests.harness.stage.outbox_files import an_emulator, marks_at, put, sent
from tests.harness.stage.postgres_scenes import Books, with_postgres
from tests.harness.stage.redis_scenes import ON_ASYNCIO, Log, in_order, marks_judged
from tests.processes.redis.test_redis_outages import collect, track_while
from userpilot_async import Receipt
from userpilot_async.postgres._address import address_of
from userpilot_async.postgres._connection import Connection

pytestmark = pytest.mark.anyio

Start = Callable[..., PostgresServer]


def books(server: PostgresServer, url: str) -> Books:
    return Books(server, url.partition("name=")[2])


async def put_more(receipts: dict[Any, Receipt], count: int) -> None:
    """Wait until so many more calls are held."""
    enough = len(receipts) + count
    await wait_until(lambda: len(receipts) >= enough)


async def test_a_client_opens_without_postgresql_and_its_calls_wait_until_it_comes(own_postgres: Start) -> None:
    server, emulator = own_postgres(), an_emulator()
    url = server.new_outbox()
    server.stop()
    receipts: dict[Any, Receipt] = {}
    async with free_of_leaks():
        with Log() as log:
            async with with_postgres(url, emulator, max_wait=None) as userpilot:
                async with anyio.create_task_group() as callers:
                    for n in range(20):
                        callers.start_soon(collect, receipts, userpilot, f"u{n % 3}", n)
                    await wait_until(lambda: 20 == userpilot.statistics().unpersisted)
                    assert {} == receipts, "a call returned that is held nowhere"
                    server.start()
                report = await sent(userpilot)

    assert 1 == len(log.said("does not answer (connection refused); calls wait meanwhile")), log.lines
    assert 20 == report.statistics.accepted == report.statistics.delivered
    assert list(range(20)) == sorted(marks_at(emulator))
    assert 20 == books(server, url).balanced()["delivered"]


@ON_ASYNCIO
async def test_nothing_is_lost_when_postgresql_crashes_in_the_middle_and_comes_back(own_postgres: Start) -> None:
    """Users go on clicking meanwhile, and their calls take a little longer."""
    server, emulator = own_postgres(durable=True), an_emulator(latency=0.01)
    url = server.new_outbox()
    receipts: dict[Any, Receipt] = {}
    with Log() as log:
        async with with_postgres(url, emulator, max_wait=None, lease_ttl=30.0) as userpilot:
            over = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(track_while, userpilot, over, receipts)
                for how in ("immediate", "fast"):
                    await put_more(receipts, 40)
                    server.stop(how)
                    await wait_until(lambda: 4 <= userpilot.statistics().unpersisted)
                    server.start()
                    await put_more(receipts, 20)
                over.set()
            report = await sent(userpilot)
            ambiguous = userpilot.statistics().possible_duplicates

    assert log.said("answers again"), log.lines
    assert 0 == report.statistics.outbox_resets
    assert {"delivered"} == {receipt.status for receipt in receipts.values()}
    marks_judged(emulator, set(receipts), ambiguous)
    assert in_order(emulator) == len(receipts) == books(server, url).balanced()["delivered"]


@ON_ASYNCIO
@pytest.mark.parametrize("how", ["down at start", "refused in the middle", "frozen in the middle"])
async def test_with_a_fallback_calls_return_at_once_and_are_put_when_postgresql_is_back(
    how: str, own_postgres: Start
) -> None:
    server, emulator = own_postgres(), an_emulator()
    url = server.new_outbox()
    receipts: dict[Any, Receipt] = {}
    if how == "down at start":
        server.stop()
    with Log() as log:
        async with with_postgres(url, emulator, fallback="memory", max_wait=5.0, timeout=0.5) as userpilot:
            if how != "down at start":
                await put(userpilot, ["before"])
                await sent(userpilot)
                server.pause() if how == "frozen in the middle" else server.stop("immediate")
            with anyio.fail_after(8):
                await userpilot.track("u", "clicked", {"mark": -1})  # perhaps before anybody has noticed
                await wait_until(lambda: bool(log.said("does not answer")))
            begun = time.monotonic()
            for mark in range(500):
                receipts[mark] = await userpilot.track("u", "clicked", {"mark": mark})
            took_all = time.monotonic() - begun
            assert 501 == userpilot.statistics().unpersisted
            server.resume() if how == "frozen in the middle" else server.start()
            await wait_until(lambda: not userpilot.statistics().unpersisted, 20)
            report = await sent(userpilot)

    assert took_all <= 1.0, "500 calls waited for something"
    assert {"delivered"} == {receipt.status for receipt in receipts.values()}
    assert ["before"] * (how != "down at start") + list(range(-1, 500)) == marks_at(emulator)
    assert report.statistics.accepted == books(server, url).balanced()["delivered"]


@ON_ASYNCIO
@pytest.mark.skipif(program("pgbouncer") is None, reason="no pgbouncer on PATH")
async def test_behind_pgbouncer_in_transaction_mode_all_is_the_same(own_postgres: Start) -> None:
    """Each transaction may get another connection: nothing may be left in one for the next."""
    server, emulator = own_postgres(), an_emulator()
    name = server.new_name()
    server.migrate(name)
    receipts: dict[Any, Receipt] = {}
    with PgBouncer(server) as bouncer:
        async with (
            with_postgres(bouncer.url(name), emulator) as sender, with_postgres(bouncer.url(name)) as producer,
        ):  # fmt: skip
            over = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(track_while, sender, over, receipts)
                receipts |= {
                    f"p{n}.0": await producer.track(f"p{n}", "clicked", {"mark": f"p{n}.0"}) for n in range(50)
                }
                await wait_until(lambda: len(receipts) >= 150)
                over.set()
            await sent(sender)

    assert in_order(emulator) == len(receipts) == Books(server, name).balanced()["delivered"]
    assert [(0,)] == server.run("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'")


@ON_ASYNCIO
@pytest.mark.skipif(program("pgbouncer") is None, reason="no pgbouncer on PATH")
async def test_transactions_of_the_application_put_calls_behind_pgbouncer_too(own_postgres: Start) -> None:
    """Other sessions come in between: nothing is prepared, as the application's own statements need it."""
    server, emulator = own_postgres(), an_emulator()
    name = server.new_name()
    server.migrate(name)
    with PgBouncer(server) as bouncer:
        database = bouncer.url(name).partition("?")[0]
        async with with_postgres(bouncer.url(name), emulator) as userpilot:
            await wait_until(lambda: userpilot.statistics().is_sender)

            async def awaited(user: str) -> None:
                async with await psycopg.AsyncConnection.connect(database, prepare_threshold=None) as connection:
                    for n in range(12):
                        await userpilot.within(connection).track(user, "paid", {"mark": f"{user}.0.{n}"})
                        await (connection.rollback() if n % 4 == 3 else connection.commit())

            def blocking(user: str) -> None:
                with psycopg.connect(database, prepare_threshold=None) as connection:
                    for n in range(12):
                        userpilot.within(connection).track_nowait(user, "paid", {"mark": f"{user}.0.{n}"})
                        connection.rollback() if n % 4 == 3 else connection.commit()

            async with anyio.create_task_group() as tasks:
                for number in range(3):
                    tasks.start_soon(awaited, f"a{number}")
                    tasks.start_soon(anyio.to_thread.run_sync, blocking, f"b{number}")
            report = await userpilot.flush(30)

    assert report.complete
    committed = {f"{kind}{one}.0.{n}" for kind in "ab" for one in range(3) for n in range(12) if n % 4 != 3}
    assert (committed, len(committed)) == (set(marks_at(emulator)), len(marks_at(emulator)))
    assert in_order(emulator) == len(committed) == Books(server, name).balanced()["delivered"]


@ON_ASYNCIO
async def test_a_sender_that_is_stopped_in_the_middle_of_a_transaction_holds_nobody_up_for_long(
    own_postgres: Start,
) -> None:
    """As one whose machine is gone does: the server sees no end of its connection, and its lock remains."""
    server, emulator = own_postgres(), an_emulator()
    url = server.new_outbox()
    name = url.partition("name=")[2]
    async with with_postgres(url, emulator, max_wait=None, timeout=0.5) as userpilot:
        await put(userpilot, range(3))
        stopped = Connection(address_of(server.url, {})[0], name, deadline=0.5)
        stopped.connect()
        stopped.begin(sql.SQL("SELECT * FROM {} FOR UPDATE").format(sql.Identifier(f"{name}_state")))  # and no more
        begun = time.monotonic()
        await put(userpilot, range(3, 6))
        judge.within_bound(time.monotonic() - begun, 5.0)
        await sent(userpilot)
        stopped.close()

    assert list(range(6)) == sorted(marks_at(emulator))
