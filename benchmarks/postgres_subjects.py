"""Subjects that keep calls in PostgreSQL: ours, what one writes by hand with psycopg, and a queue of another package.

By hand there is no limit, no account, and after a lost answer nobody knows whether a call is there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from importlib.util import find_spec

import attrs

from benchmarks.durable_subjects import NOBODY, body
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.subjects import OURS

USERS = 1_000
CONNECTIONS = 20  # of a pool, as an application has it
PROCRASTINATE = "procrastinate"
FUNCTION = "psycopg, a pgmq-style function each"
EACH = "psycopg, an INSERT each"
GROUPED = "psycopg, a COPY of all who wait"
COPIED = {f"(psycopg, COPY of {size:,})": size for size in (200, 1_000)}
MANY = {"(psycopg, executemany of 200)": 200}
BULK = {**COPIED, **MANY}
PEERS = (FUNCTION, EACH, GROUPED, *((PROCRASTINATE,) if find_spec("procrastinate") else ()))
PLAIN = "INSERT INTO plain (kind, key, body) VALUES (%s, %s, %s)"
COPY = "COPY plain (kind, key, body) FROM STDIN"
ENQUEUE = "SELECT enqueue(%s)"
_writers: list[asyncio.Task[None]] = []  # a loop keeps none of its tasks alive


@attrs.frozen
class Queue:
    """Opened in the running loop and never closed: its process ends with the measurement."""

    put: Callable[[int], Awaitable[object]]
    """Calls, counted from this one. When it returns, they are committed."""
    table: str
    """Where they can be counted."""
    at_once: int = 1
    """How many calls one `put` is."""


def said(number: int) -> str:
    """A call, as one would write it by hand."""
    return json.dumps(body(user_id(number % USERS), EVENT, event(number)))


def row(number: int) -> tuple[str, str, str]:
    """The same as a row of the plain table."""
    return "track", json.dumps(user_id(number % USERS)), said(number)


async def userpilot(url: str) -> Queue:
    from userpilot_async import UserpilotClient
    from userpilot_async.postgres import PostgresOutbox

    client = UserpilotClient("benchmark", base_url=NOBODY, outbox=PostgresOutbox(url, sender=False))
    await client.__aenter__()

    async def put(number: int) -> None:
        await client.track(user_id(number % USERS), EVENT, event(number))

    return Queue(put, "userpilot_async_calls")


async def each(url: str, statement: str, values: Callable[[int], tuple[str, ...]], table: str) -> Queue:
    """The usual code: a connection out of a pool, one statement, a commit."""
    import psycopg

    pool = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(CONNECTIONS)]
    one_by_one = asyncio.Semaphore(CONNECTIONS)  # whoever has waited longest is next, as in a pool

    async def put(number: int) -> None:
        async with one_by_one:
            connection = pool.pop()
            await connection.execute(statement.encode(), values(number))
            pool.append(connection)

    return Queue(put, table)


async def grouped(url: str) -> Queue:
    """The best that a plain program can do for callers who each wait for the commit: one COPY of all who wait by then.

    The writer is a task of the callers' loop: no thread, no deadline, no account, and nobody can be cancelled.
    """
    import psycopg

    connection = await psycopg.AsyncConnection.connect(url)
    waiting: list[tuple[tuple[str, str, str], asyncio.Future[None]]] = []
    some = asyncio.Event()

    async def write() -> None:
        while True:
            await some.wait()
            some.clear()
            batch = waiting.copy()
            waiting.clear()
            async with connection.cursor() as cursor, cursor.copy(COPY) as copying:
                for one, _ in batch:
                    await copying.write_row(one)
            await connection.commit()
            for _, done in batch:
                done.set_result(None)

    async def put(number: int) -> None:
        done = asyncio.get_running_loop().create_future()
        waiting.append((row(number), done))
        some.set()
        await done

    _writers.append(asyncio.create_task(write()))
    return Queue(put, "plain")


async def bulk(url: str, subject: str) -> Queue:
    """The limit: somebody who has so many calls beforehand, and nobody who waits for one of them."""
    import psycopg

    connection = await psycopg.AsyncConnection.connect(url)
    size = BULK[subject]

    async def copied(first: int) -> None:
        async with connection.cursor() as cursor, cursor.copy(COPY) as copying:
            for number in range(first, first + size):
                await copying.write_row(row(number))
        await connection.commit()

    async def inserted(first: int) -> None:
        async with connection.cursor() as cursor:
            await cursor.executemany(PLAIN, [row(number) for number in range(first, first + size)])
        await connection.commit()

    return Queue(copied if subject in COPIED else inserted, "plain", size)


async def procrastinate(url: str) -> Queue:
    """A queue for background jobs; it has a pool of its own."""
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url, min_size=CONNECTIONS, max_size=CONNECTIONS))
    await app.open_async()
    await app.schema_manager.apply_schema_async()
    job = app.configure_task("track", allow_unknown=True)

    async def put(number: int) -> None:
        await job.defer_async(**body(user_id(number % USERS), EVENT, event(number)))

    return Queue(put, "procrastinate_jobs")


async def opened(subject: str, url: str) -> Queue:
    """A subject, connected to this database."""
    if subject == OURS:
        return await userpilot(url)
    if subject == PROCRASTINATE:
        return await procrastinate(url)
    if subject == FUNCTION:
        return await each(url, ENQUEUE, lambda number: (said(number),), "queue")
    if subject == GROUPED:
        return await grouped(url)
    return await bulk(url, subject) if subject in BULK else await each(url, PLAIN, row, "plain")
