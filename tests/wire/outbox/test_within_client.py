"""Events that commit with an application's transaction: delivered is what was committed, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from threading import Thread
from typing import Any

import pytest

from tests.harness.postgres_server import PostgresServer, missing

if missing():
    pytest.skip(str(missing()), allow_module_level=True)

import psycopg

from tests.harness.stage.loops import KEY, InProcess, markers, wait_until
from userpilot_async import (
    ClientClosed,
    ConfigurationError,
    InvalidCall,
    Receipt,
    Settings,
    Track,
    UserpilotClient,
    blocking,
)
from userpilot_async.emulator import Emulator
from userpilot_async.postgres import PostgresOutbox, _inbox, put
from userpilot_async.testing import capture

# Real times: SQLAlchemy and asyncpg are asyncio's.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]

LIMIT = 1_000_000
WITHIN = 60.0  # seconds, of which a busy machine may need some


class RolledBack(Exception):
    """Undoes a transaction, or a savepoint."""


@asynccontextmanager
async def a_client(url: str, emulator: Emulator, **options: Any) -> AsyncIterator[UserpilotClient]:
    settings = Settings(track_per_minute=LIMIT, identify_per_minute=LIMIT, burst=1_000, flush_interval=0.01)
    outbox = PostgresOutbox(url, **options)
    async with UserpilotClient(KEY, transport=InProcess(emulator), outbox=outbox, settings=settings) as client:
        yield client


def an_emulator() -> Emulator:
    return Emulator(rate_limit=LIMIT, seed=1)


def plain(url: str) -> str:
    return url.partition("?")[0]


async def test_what_is_delivered_is_what_was_committed(postgres_url: str) -> None:
    """Sixty transactions at the same time, on connections of three kinds: some are rolled back, whole or in part."""
    aio = pytest.importorskip("sqlalchemy.ext.asyncio")
    asyncpg = pytest.importorskip("asyncpg")
    emulator, receipts = an_emulator(), dict[int, Receipt]()
    engine = aio.create_async_engine(plain(postgres_url).replace("postgresql:", "postgresql+asyncpg:"))
    session_of = aio.async_sessionmaker(engine)

    async def in_a_session(client: UserpilotClient, n: int) -> None:
        with suppress(RolledBack):
            async with session_of.begin() as session:
                calls = client.within(session)
                receipts[n] = await calls.track(f"u{n % 7}", "paid", {"n": n})
                with suppress(RolledBack):
                    async with session.begin_nested():
                        receipts[n + 1] = await calls.track(f"u{n % 7}", "paid", {"n": n + 1})
                        if n % 4 == 2:
                            raise RolledBack
                receipts[n + 2] = await calls.track(f"u{n % 7}", "paid", {"n": n + 2})
                if n % 3 == 0:
                    raise RolledBack

    async def on_asyncpg(client: UserpilotClient, pool: Any, n: int) -> None:
        with suppress(RolledBack):
            async with pool.acquire() as connection, connection.transaction():
                receipts[n] = await client.within(connection).track(f"u{n % 7}", "paid", {"n": n})
                if n % 20 == 0:
                    raise RolledBack

    def in_a_thread(client: UserpilotClient, n: int) -> None:
        with suppress(RolledBack), psycopg.connect(plain(postgres_url)) as connection:
            receipts[n] = client.within(connection).track_nowait(f"u{n % 7}", "paid", {"n": n})
            if n % 20 == 0:
                raise RolledBack

    async with (
        a_client(postgres_url, emulator) as client,
        asyncpg.create_pool(plain(postgres_url), min_size=1, max_size=4) as pool,
    ):
        async with asyncio.TaskGroup() as tasks:
            for n in range(0, 200, 10):
                tasks.create_task(in_a_session(client, n))
                tasks.create_task(on_asyncpg(client, pool, n + 500))
                tasks.create_task(asyncio.to_thread(in_a_thread, client, n + 1_000))
        committed = {n for first in range(0, 200, 10) if first % 3 for n in (first, first + 2)}
        committed |= {first + 1 for first in range(0, 200, 10) if first % 3 and first % 4 != 2}
        committed |= {n for first in range(0, 200, 10) for n in (first + 500, first + 1_000) if n % 20}
        outcomes = [await receipts[n].outcome(WITHIN) for n in sorted(committed)]
        await client.flush()
        statistics = client.statistics()
    await engine.dispose()

    assert committed == set(markers(emulator))
    assert len(committed) == len(markers(emulator)) == statistics.accepted == statistics.delivered
    assert {"delivered"} == {outcome.status for outcome in outcomes}
    assert {("pending", -1)} == {(receipts[n].status, receipts[n].id) for n in set(receipts) - committed}
    order = [n for n in markers(emulator) if n < 500]
    assert [sorted(trio) for trio in _by_tens(order)] == _by_tens(order)


def _by_tens(numbers: list[int]) -> list[list[int]]:
    """The numbers of each transaction, as they came."""
    return [[n for n in numbers if n // 10 == ten] for ten in sorted({n // 10 for n in numbers})]


async def test_who_only_puts_hears_what_becomes_of_its_calls_and_of_those_without_a_client(postgres_url: str) -> None:
    emulator, name = an_emulator(), postgres_url.partition("name=")[2]
    async with a_client(postgres_url, an_emulator(), sender=False) as web:
        with psycopg.connect(plain(postgres_url)) as connection:
            put(connection, Track("u1", "paid", {"n": 1}), name=name)
            receipt = web.within(connection).track_nowait("u1", "paid", {"n": 2})
        async with a_client(postgres_url, emulator):
            outcome = await receipt.outcome(WITHIN)

        assert "delivered" == outcome.status
        assert [1, 2] == markers(emulator)


async def test_the_wrong_form_or_an_invalid_call_sends_nothing_to_the_database(postgres_url: str) -> None:
    async with a_client(postgres_url, an_emulator(), sender=False) as client:
        with psycopg.connect(plain(postgres_url)) as connection:
            calls = client.within(connection)
            with pytest.raises(ConfigurationError, match=r"this one is not: use track_nowait\(\) with it"):
                await calls.track("u1", "paid")
            with pytest.raises(InvalidCall, match="event_name"):
                calls.track_nowait("u1", "")
            with pytest.raises(InvalidCall, match="dedupe"):
                calls.identify_nowait("u1", dedupe="")
            status = connection.info.transaction_status
        async with await psycopg.AsyncConnection.connect(plain(postgres_url)) as other:
            with pytest.raises(ConfigurationError, match=r"cannot await, .*: use await track\(\) with it"):
                client.within(other).track_nowait("u1", "paid")
        with pytest.raises(ConfigurationError, match=r"connection must be a connection of psycopg 3 or .*, not str"):
            client.within(postgres_url)
    with pytest.raises(ClientClosed):
        calls.track_nowait("u1", "paid")

    assert psycopg.pq.TransactionStatus.IDLE == status


async def test_the_other_calls_are_put_too_in_another_loop_and_thread(postgres_url: str) -> None:
    emulator = an_emulator()

    async def elsewhere() -> None:
        async with await psycopg.AsyncConnection.connect(plain(postgres_url)) as connection:
            calls = client.within(connection)
            await calls.identify("u1", {"plan": "pro"}, company={"id": "acme"})
            await calls.identify_company("acme", {"size": 3}, dedupe="acme:3")

    async with a_client(postgres_url, emulator) as client:
        thread = Thread(target=asyncio.run, args=(elsewhere(),))
        thread.start()
        await asyncio.to_thread(thread.join)
        with psycopg.connect(plain(postgres_url)) as connection:
            calls = client.within(connection)
            calls.identify_nowait("u2", {"plan": "free"})
            last = calls.identify_company_nowait("globex", {"size": 4})
        await last.outcome(WITHIN)
        await client.flush()

    users, companies = emulator.store.users, emulator.store.companies
    assert ({"plan": "pro"}, "acme") == (users["u1"].properties, users["u1"].company_id)
    assert ({"plan": "free"}, {"size": 3}) == (users["u2"].properties, companies["acme"].properties)


async def test_a_fact_that_is_told_again_is_one_call_and_its_receipts_show_that(postgres_url: str) -> None:
    emulator = an_emulator()
    async with a_client(postgres_url, emulator) as client, a_client(postgres_url, emulator) as other:
        with psycopg.connect(plain(postgres_url)) as connection:
            told = [client.within(connection).track_nowait("u1", "paid", dedupe="evt_1") for _ in range(2)]
        await told[0].outcome(WITHIN)
        with psycopg.connect(plain(postgres_url)) as connection:
            told += [one.within(connection).track_nowait("u1", "paid", dedupe="evt_1") for one in (client, other)]
        with suppress(RolledBack), psycopg.connect(plain(postgres_url)) as connection:
            client.within(connection).track_nowait("u1", "gone", dedupe="evt_2")
            raise RolledBack
        with psycopg.connect(plain(postgres_url)) as connection:
            given_back = client.within(connection).track_nowait("u1", "again", dedupe="evt_2")
        outcomes = [await one.outcome(WITHIN) for one in (*told, given_back)]
        directly = await client.track("u1", "paid", dedupe="evt_1")
        statistics = client.statistics()

    assert ["delivered", *["merged"] * 3, "delivered"] == [one.status for one in outcomes]
    assert ["delivered"] * 3 == [one.row.status for one in outcomes[1:4] if one.row is not None]
    assert [False, True, True, True] == [one.is_duplicate for one in told]
    assert {told[0].id} == {one.id for one in told}
    assert (directly.is_duplicate, statistics.duplicates_refused) == (True, 4)
    assert ["paid", "again"] == [event.event_name for event in emulator.store.events]


@pytest.mark.parametrize("way", ["flush", "aclose"])
async def test_who_sends_waits_for_what_was_committed_just_before(way: str, postgres_url: str) -> None:
    emulator, name = an_emulator(), postgres_url.partition("name=")[2]
    async with a_client(postgres_url, emulator) as client:
        await wait_until(lambda: client.statistics().is_sender)
        with psycopg.connect(plain(postgres_url)) as connection:
            client.within(connection).track_nowait("u1", "paid", {"n": 0})
            put(connection, Track("u1", "paid", {"n": 1}), name=name)
        report = await (client.flush if way == "flush" else client.aclose)(WITHIN)

    assert report.complete
    assert [0, 1] == markers(emulator)


async def test_a_flush_waits_for_more_than_is_accepted_in_one_transaction(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inbox, "AT_ONCE", 3)
    emulator, name = an_emulator(), postgres_url.partition("name=")[2]
    async with a_client(postgres_url, emulator) as client:
        await wait_until(lambda: client.statistics().is_sender)
        with psycopg.connect(plain(postgres_url)) as connection:
            for n in range(40):
                put(connection, Track("u1", "paid", {"n": n}), name=name)
        report = await client.flush(WITHIN)

    assert report.complete
    assert list(range(40)) == markers(emulator)


async def test_a_capture_shows_calls_at_once_and_the_server_has_what_was_committed(postgres_url: str) -> None:
    with capture() as userpilot:
        async with UserpilotClient(outbox=postgres_url) as client:
            with suppress(RolledBack), psycopg.connect(plain(postgres_url)) as connection:
                client.within(connection).track_nowait("u1", "gone")
                raise RolledBack
            with psycopg.connect(plain(postgres_url)) as connection:
                receipt = client.within(connection).track_nowait("u1", "paid")
            await receipt.outcome(WITHIN)
            await userpilot.flush()

            assert ["gone", "paid"] == [call.event_name for call in userpilot.calls]
            assert ["paid"] == [event.event_name for event in userpilot.events]


async def test_a_blocking_client_puts_within_transactions(postgres_url: str, postgres_server: PostgresServer) -> None:
    def in_a_view() -> str:
        with blocking(UserpilotClient("KEY", outbox=f"{postgres_url}&sender=false")) as client:
            with psycopg.connect(plain(postgres_url)) as connection:
                receipt = client.within(connection).track_nowait("u1", "paid")
            return receipt.status

    name = postgres_url.partition("name=")[2]

    assert "pending" == await asyncio.to_thread(in_a_view)
    assert [("track", '"u1"')] == postgres_server.run(f"SELECT kind, key FROM {name}_inbox")


@pytest.mark.parametrize(
    ("kind", "key", "body"),
    [
        ("user", '""', "[{},null,2,null]"), ("user", '"u1"', '[{"a":{"b":[1]}},null,2,null]'),
        ("user", '"u1"', '[{},{"company_id":7},2,null]'), ("user", '"u1"', '[{},null,2,["track","c",{},2]]'),
        ("alias", '"u1"', '{"user_id":"u1"}'), ("delete_user", '"u1"', '{"users":["u1"]}'),
        ("track", '"u1"', '{"user_id":"","event_name":"paid"}'),
    ],
)  # fmt: skip
async def test_what_no_client_could_have_put_is_set_aside_and_does_not_end_the_sending(
    postgres_url: str, kind: str, key: str, body: str
) -> None:
    """Any role that may insert into the inbox could stop everybody's calls otherwise, and delete people."""
    emulator = an_emulator()
    with psycopg.connect(plain(postgres_url)) as connection:
        insert = f"INSERT INTO {postgres_url.rpartition('=')[2]}_inbox (kind, key, body, size) VALUES (%s, %s, %s, 2)"
        connection.execute(insert, (kind, key, body))  # type: ignore[call-overload]  # a test's own words
    async with a_client(postgres_url, emulator) as client:
        receipt = await client.track("u2", "paid")
        await client.flush(timeout=WITHIN)
        lost = client.statistics().lost_by_reason

    assert {"damaged": 1} == dict(lost)
    assert "delivered" == receipt.status
