"""An event within the application's own transaction in PostgreSQL: beside the same with one plain INSERT more."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter, perf_counter_ns, process_time
from typing import Any

from benchmarks.durable_subjects import NOBODY
from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.postgres_server import missing, new_database, running_postgres
from benchmarks.postgres_subjects import ENQUEUE, FUNCTION, PLAIN, USERS, row, said
from benchmarks.results import Figures, Rounds, Row, column, in_rounds, medians, ratios, with_spread
from benchmarks.subjects import FLOOR, OURS

NAME = "postgres_within"
ALONE = "(without an event)"
WITH_SENDER = f"({OURS}, with its sender)"
SUBJECTS = (OURS, FUNCTION, FLOOR, ALONE)
ORDER = "INSERT INTO orders (customer, amount) VALUES (%s, %s)"
WRITERS = 64
WARM_UP = 20
TRANSACTIONS, QUICK_TRANSACTIONS = 1_000, 300  # of each subject
SECONDS, QUICK_SECONDS = 4.0, 2.0
ONE_GOAL, MANY_GOAL = 1.3, 0.95

Event = Callable[[Any, int], Awaitable[object]]  # Any: psycopg's connection, which is imported where it is measured


async def event_of(subject: str, url: str) -> Event:
    """A statement, on a connection with a transaction under way: an event about what that has written."""
    if subject in (OURS, WITH_SENDER):
        from userpilot_async import UserpilotClient
        from userpilot_async.postgres import PostgresOutbox

        outbox = PostgresOutbox(url, sender=subject == WITH_SENDER)
        client = await UserpilotClient("benchmark", base_url=NOBODY, outbox=outbox).__aenter__()
        return lambda on, number: client.within(on).track(user_id(number % USERS), EVENT, event(number))
    if subject == FUNCTION:
        return lambda on, number: on.execute(ENQUEUE, (said(number),))
    if subject == FLOOR:
        return lambda on, number: on.execute(PLAIN, row(number))
    return lambda _on, _number: asyncio.sleep(0)


async def transaction(connection: Any, say: Event, number: int) -> int:
    """An order, and an event about it; nanoseconds of the event alone."""
    async with connection.transaction():
        await connection.execute(ORDER, (user_id(number % USERS), number))
        before = perf_counter_ns()
        await say(connection, number)
        return perf_counter_ns() - before


async def by_turns(url: str, transactions: int) -> dict[str, Figures]:
    """Microseconds of a transaction, and of the event in it, of all subjects in turn on one connection."""
    import psycopg

    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    events = {subject: await event_of(subject, url) for subject in SUBJECTS}
    whole: dict[str, list[float]] = {subject: [] for subject in SUBJECTS}
    alone: dict[str, list[float]] = {subject: [] for subject in SUBJECTS}
    for number in range(transactions + WARM_UP):
        for subject, say in events.items():
            before = perf_counter_ns()
            alone[subject].append(await transaction(connection, say, number) / 1_000)
            whole[subject].append((perf_counter_ns() - before) / 1_000)
    return {
        subject: {"transaction": median(whole[subject][WARM_UP:]), "event": median(alone[subject][WARM_UP:])}
        for subject in SUBJECTS
    }


async def by_many(subject: str, url: str, seconds: float) -> Figures:
    """Transactions a second of all writers, each on a connection of its own."""
    import psycopg

    connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(WRITERS)]
    say = await event_of(subject, url)
    numbers = count()

    async def writer(connection: Any, end: float, most: int) -> int:
        done = 0
        while perf_counter() < end and done < most:
            await transaction(connection, say, next(numbers))
            done += 1
        return done

    async def all_writers(end: float, most: int = sys.maxsize) -> int:
        return sum(await asyncio.gather(*(writer(connection, end, most) for connection in connections)))

    await all_writers(perf_counter() + 60, WARM_UP)
    used, started = process_time(), perf_counter()
    done = await all_writers(started + seconds)
    return {"rate": done / (perf_counter() - started), "cpu": (process_time() - used) / done * 1_000_000}


def run(quick: bool) -> list[Row]:
    reason = missing()
    if reason is not None:
        print(f"{NAME} is left out: {reason}", file=sys.stderr)
        return []
    rounds = 3 if quick else 7
    with running_postgres() as server:
        turns = partial(measure, by_turns, transactions=QUICK_TRANSACTIONS if quick else TRANSACTIONS)
        several = [turns(url=new_database(server)) for _ in range(rounds)]
        one = {subject: [figures[subject] for figures in several] for subject in SUBJECTS}

        def once(subject: str) -> Figures:
            seconds = QUICK_SECONDS if quick else SECONDS
            return dict(measure(by_many, subject=subject, url=new_database(server), seconds=seconds))

        many = in_rounds((*SUBJECTS, WITH_SENDER), rounds, once)
    return [_row_of_one(one), _row_of_many(many)]


def _row_of_one(seen: Rounds) -> Row:
    whole, alone = column(medians(seen), "transaction"), column(medians(seen), "event")
    shares = ratios(seen, OURS, FLOOR, "transaction")
    return Row(
        name=NAME,
        what="a transaction with an order and an event, committed and synced, median",
        unit="µs",
        goal=f"≤ {ONE_GOAL} × the same with a plain INSERT",
        met=median(shares) <= ONE_GOAL,
        figures=whole,
        notes=(
            f"ours takes {with_spread(shares)} of the floor's time, "
            f"{with_spread(ratios(seen, OURS, ALONE, 'transaction'))} of that without an event",
            f"the event's statement alone takes {with_spread(ratios(seen, OURS, FLOOR, 'event'))} of the floor's",
            *(f"{name}: {whole[name]:,.0f} µs, of these {alone[name]:,.0f} for the event" for name in whole),
            f"{FLOOR}: the same event as a plain INSERT into a table without any index but its key",
        ),
    )


def _row_of_many(seen: Rounds) -> Row:
    results = medians(seen)
    shares = ratios(seen, OURS, FLOOR, "rate")
    return Row(
        name=NAME,
        what=f"such transactions a second, {WRITERS} writers in one process",
        unit="transactions/s",
        goal=f"≥ {MANY_GOAL} of those with a plain INSERT",
        met=median(shares) >= MANY_GOAL,
        figures=column(results, "rate"),
        more_is_better=True,
        notes=(
            *(f"{subject.strip('()')} makes {with_spread(ratios(seen, subject, FLOOR, 'rate'))} of the floor's"
              for subject in (OURS, WITH_SENDER, FUNCTION, ALONE)),
            *(f"{name}: {figures['rate']:,.0f} a second, CPU of the process {figures['cpu']:,.0f} µs each"
              for name, figures in results.items()),
        ),
    )  # fmt: skip
