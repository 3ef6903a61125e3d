"""A backlog in PostgreSQL: some thousand calls are put by a client, and repeated by SQL under the next ids."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.answers import Answers
from benchmarks.fresh import measure
from benchmarks.payloads import EVENT
from benchmarks.postgres_server import missing, new_database, running_postgres
from benchmarks.results import Figures
from benchmarks.scale import durable
from benchmarks.scale.series import Series
from benchmarks.subjects import pause

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (10_000, 100_000)
FIRST = 10_000  # calls put by a client
AT_ONCE = 100_000  # calls repeated by one statement


async def first_filled(url: str) -> int:
    """The first calls, by a process that only puts."""
    from userpilot_async.postgres import PostgresOutbox

    async with durable.opened(PostgresOutbox(url, sender=False), Answers()) as client:
        for number, (user, properties) in enumerate(durable.calls(0, FIRST)):
            client.track_nowait(user, EVENT, properties)
            if not number % 1_000:
                await pause()
    return FIRST


def filled(url: str, size: int) -> int:
    """Repeat the last calls under the next ids until so many wait."""
    from psycopg import sql

    from userpilot_async.postgres._access import ClientState
    from userpilot_async.postgres._address import address_of
    from userpilot_async.postgres._connection import Connection
    from userpilot_async.postgres._schema import Names

    names = Names("userpilot_async")
    connection = Connection(address_of(url, {})[0], names.name, deadline=120.0)
    connection.connect()
    access = ClientState(connection, names, "benchmark", "the server of the benchmarks")
    waiting = 0
    while waiting < size:
        with access.row.locked() as state:
            number = min(AT_ONCE, size - state.account.waiting)
            rows: Any = connection.run(
                names.sql(
                    "WITH put AS (INSERT INTO {calls} (id, at, kind, key, body, moment, size, checked) "
                    "SELECT {next} + row_number() OVER () - 1, at, kind, key, body, moment, size, checked FROM "
                    "(SELECT * FROM {calls} ORDER BY id DESC LIMIT {least}) AS known, generate_series(1, {times}) "
                    "LIMIT {number} RETURNING size) SELECT count(*), sum(size) FROM put",
                    next=sql.Literal(state.account.next_id),
                    number=sql.Literal(number),
                    least=sql.Literal(FIRST // 2),
                    times=sql.Literal(2 * AT_ONCE // FIRST),
                )
            )
            access.tables.accepted(state, rows[0][0], int(rows[0][1]))
            access.row.write(state)
            waiting = state.account.waiting
    connection.close()
    return waiting


async def started(url: str) -> Figures:
    from userpilot_async.postgres import PostgresOutbox

    return await durable.started(PostgresOutbox(url))


async def put(url: str) -> Figures:
    from userpilot_async.postgres import PostgresOutbox

    return await durable.put(PostgresOutbox(url, sender=False))


def run(quick: bool) -> list[Series]:
    reason = missing()
    if reason is not None:
        print(f"PostgreSQL is left out: {reason}", file=sys.stderr)
        return []
    figures: dict[int, Figures] = {}
    with running_postgres() as server:
        url = new_database(server)
        there = measure(first_filled, url=url)
        for size in QUICK_SIZES if quick else SIZES:
            while there < size:
                there = measure(filled, url=url, size=size)
            figures[size] = {**measure(started, url=url), **measure(put, url=url)}
    notes = ("10 million calls are left out: they take this server's disk longer than all the rest",)
    return [Series(name="PostgreSQL", of="calls there", figures=figures, measured=durable.MEASURED, notes=notes)]
