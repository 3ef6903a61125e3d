"""What a transaction that stays open elsewhere costs an outbox in PostgreSQL: all rows that go are kept for it."""

from __future__ import annotations

import asyncio
import sys
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.drain import Taking, client, put
from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.postgres_server import missing, new_database, running_postgres
from benchmarks.redis_subjects import USERS
from benchmarks.results import Figures, Row
from benchmarks.subjects import OURS

NAME = "postgres_dead_rows"
STEPS, QUICK_STEPS = (0, 50_000, 100_000, 200_000), (0, 20_000, 50_000)  # calls that have come and gone
AT_ONCE = 5_000  # calls put by one transaction of the application's, or by the client without waiting
CALLERS, SECONDS = 200, 2.0
ADMITTED, ROUNDS = 100, 9


async def measured(url: str, steps: list[int], held: bool) -> list[Figures]:
    """The figures after each of so many calls; ``held``, while a transaction is open that was begun before."""
    import psycopg

    found: list[Figures] = []
    with psycopg.connect(url) as elsewhere, psycopg.connect(url, autocommit=True) as here:
        if held:
            elsewhere.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            elsewhere.execute("SELECT 1")
        gone = 0
        for step in steps:
            await _in_and_out(url, here, step - gone)
            gone = step
            one, many = await _puts(url, 1), await _puts(url, CALLERS)
            found.append({"one": one, "many": many, **_admission(url, here)})
            await _in_and_out(url, here, 0)  # what was put for that
    return found


async def _in_and_out(url: str, here: Any, calls: int) -> None:
    """So many calls, half of them by transactions of the application's, and all that waits, are sent and settled."""
    from userpilot_async.postgres import PostgresOutbox

    async with client("parcelvoy", PostgresOutbox(url), Taking()) as opened:
        while calls > 0:
            for number in range(AT_ONCE):
                put(opened, "parcelvoy", number)
            await opened.flush()
            said = event(1)
            here.execute(
                "INSERT INTO userpilot_async_inbox (kind, key, body, size) SELECT 'track', %s, %s, 200 "
                f"FROM generate_series(1, {AT_ONCE})",
                ('["e:1"]', f'{{"name":"{EVENT}","external_id":"1","data":{{"n":{len(said)}}}}}'),
            )
            calls -= 2 * AT_ONCE
        for _ in range(1_000):  # polls of the sender, a quarter of a second each
            if not here.execute("SELECT EXISTS (SELECT 1 FROM userpilot_async_inbox)").fetchone()[0]:
                break
            await asyncio.sleep(0.25)
        await opened.flush()


async def _puts(url: str, callers: int) -> float:
    """Calls a second that are committed one after the other, by so many callers."""
    from userpilot_async.postgres import PostgresOutbox

    async with client("parcelvoy", PostgresOutbox(url, sender=False)) as opened:

        async def caller(number: int, end: float) -> int:
            calls = 0
            while perf_counter() < end:
                await opened.track(EVENT, external_id=user_id(number % USERS), data=event(calls))
                calls += 1
            return calls

        await caller(0, perf_counter() + 0.1)
        started = perf_counter()
        calls = sum(await asyncio.gather(*(caller(number, started + SECONDS) for number in range(callers))))
        return calls / (perf_counter() - started)


def _admission(url: str, here: Any) -> Figures:
    """Milliseconds of a poll, and of a transaction that accepts `ADMITTED` calls from the inbox."""
    from userpilot_async.postgres._access import ClientState
    from userpilot_async.postgres._address import address_of
    from userpilot_async.postgres._connection import Connection
    from userpilot_async.postgres._schema import Names

    names = Names("userpilot_async")
    connection = Connection(address_of(url, {})[0], names.name, deadline=60.0)
    connection.connect()
    access = ClientState(connection, names, "benchmark", "the server of the benchmarks")
    looks, admissions = [], []
    for _ in range(ROUNDS):
        before = perf_counter()
        connection.run_alone(names.sql("SELECT revision, {look} FROM {state}", look=access.unseen.look()))
        looks.append(perf_counter() - before)
        with access.row.locked():
            pass
        here.execute(
            "INSERT INTO userpilot_async_inbox (kind, key, body, size) SELECT 'track', '[\"e:1\"]', %s, 200 "
            f"FROM generate_series(1, {ADMITTED})",
            (f'{{"name":"{EVENT}","external_id":"1"}}',),
        )
        before = perf_counter()
        with access.row.locked() as state:
            access.inbox.admit(state)
            access.row.write(state)
        admissions.append(perf_counter() - before)
    connection.close()
    return {"look": median(looks) * 1_000, "admission": median(admissions) * 1_000}


def run(quick: bool) -> list[Row]:
    reason = missing()
    if reason is not None:
        print(f"{NAME} is left out: {reason}", file=sys.stderr)
        return []
    steps = list(QUICK_STEPS if quick else STEPS)
    with running_postgres() as server:
        held, free = (list(measure(measured, url=new_database(server), steps=steps, held=one)) for one in (True, False))
    share = held[-1]["many"] / free[-1]["many"]
    return [
        Row(
            name=NAME,
            what=f"calls a second into PostgreSQL, {CALLERS} callers, after {steps[-1]:,} have come and gone while a "
                 "transaction is open elsewhere",
            unit="of those without it",
            goal="–",
            met=None,
            figures={OURS: share},
            more_is_better=True,
            notes=("calls gone | open elsewhere | puts/s, 1 caller | puts/s, 200 | a look | accepting 100",
                   *(_line(step, one, "yes") for step, one in zip(steps, held, strict=True)),
                   *(_line(step, one, "no") for step, one in zip(steps, free, strict=True))),
        )
    ]  # fmt: skip


def _line(step: int, one: Figures, held: str) -> str:
    rates = f"{one['one']:,.0f} | {one['many']:,.0f}"
    return f"{step:,} | {held} | {rates} | {one['look']:.2f} ms | {one['admission']:.2f} ms"
