"""How fast a backlog in PostgreSQL is read, sent and settled by the holder of the lease, if the server takes it all."""

from __future__ import annotations

import json
import sys
from time import perf_counter, process_time

import httpx

from benchmarks.durable_subjects import NOBODY
from benchmarks.fresh import measure
from benchmarks.postgres_server import missing, new_database, running_postgres
from benchmarks.postgres_subjects import COPIED, bulk
from benchmarks.redis_drain import ARRAY, CALLS, MEMORY, QUICK_CALLS, Taking, client, put
from benchmarks.results import Figures, Row, column, in_rounds, medians, ratios, with_spread
from benchmarks.subjects import OURS

NAME = "postgres_drain"
BY_HAND = "psycopg and httpx by hand"
TAKE = "DELETE FROM plain WHERE id IN (SELECT id FROM plain ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING body"


async def filled(subject: str, url: str, kind: str, calls: int) -> int:
    """A backlog, by a process that only puts; how many calls."""
    if subject == BY_HAND:
        queue = await bulk(url, next(name for name, size in COPIED.items() if size == 1_000))
        for first in range(0, calls, queue.at_once):
            await queue.put(first)
    elif subject == OURS:
        from userpilot_async.postgres import PostgresOutbox

        async with client(kind, PostgresOutbox(url, sender=False)) as opened:
            for number in range(calls):
                put(opened, kind, number)
    return calls


async def drained(subject: str, url: str, kind: str, calls: int) -> Figures:
    """Calls a second, from the opening to the last one's settlement."""
    taking = Taking()
    started, used = perf_counter(), process_time()
    if subject == BY_HAND:
        await by_hand(url, taking)
    else:
        from userpilot_async.postgres import PostgresOutbox

        outbox = PostgresOutbox(url) if subject == OURS else None
        started, used = perf_counter(), process_time()
        async with client(kind, outbox, taking) as opened:
            if subject == MEMORY:
                for number in range(calls):
                    put(opened, kind, number)
                started, used = perf_counter(), process_time()
            await opened.flush()
    elapsed, used = perf_counter() - started, process_time() - used
    if taking.events != calls:
        raise RuntimeError(f"{subject} has sent {taking.events} events of {calls}")
    return {"rate": calls / elapsed, "cpu": used / calls * 1_000_000}


async def by_hand(url: str, taking: Taking) -> None:
    """A client written in an hour: rows are locked, sent in an array of the same size, and gone with the commit."""
    import psycopg

    async with await psycopg.AsyncConnection.connect(url) as connection, httpx.AsyncClient(transport=taking) as http:
        while True:
            rows = await (await connection.execute(TAKE, (ARRAY,))).fetchall()
            if not rows:
                return
            calls = [json.loads(body) for (body,) in rows]
            events = [
                {"name": call["event_name"], "external_id": call["user_id"], "data": call["metadata"]} for call in calls
            ]
            said = await http.post(f"{NOBODY}/api/client/events", content=json.dumps(events))
            said.raise_for_status()
            await connection.commit()


def run(quick: bool) -> list[Row]:
    reason = missing()
    if reason is not None:
        print(f"{NAME} is left out: {reason}", file=sys.stderr)
        return []
    return [
        _row("parcelvoy", "in arrays of 500, no budget", (OURS, BY_HAND, MEMORY), quick),
        _row("userpilot", "one a request, budget lifted", (OURS, MEMORY), quick),
    ]


def _row(kind: str, how: str, subjects: tuple[str, ...], quick: bool) -> Row:
    with running_postgres() as server:

        def once(subject: str) -> Figures:
            url = new_database(server)
            calls = measure(filled, subject=subject, url=url, kind=kind, calls=(QUICK_CALLS if quick else CALLS)[kind])
            return dict(measure(drained, subject=subject, url=url, kind=kind, calls=calls))

        seen = in_rounds(subjects, 3 if quick else 7, once)
    results = medians(seen)
    return Row(
        name=NAME,
        what=f"calls a second out of PostgreSQL, sent and settled, {how}",
        unit="calls/s",
        goal="–",
        met=None,
        figures=column(results, "rate"),
        more_is_better=True,
        notes=(
            *(f"ours is {with_spread(ratios(seen, OURS, name, 'rate'))} of {name.strip('()')}" for name in subjects
              if name != OURS),
            *(f"{name}: {one['rate']:,.0f} a second; CPU a call {one['cpu']:.1f} µs" for name, one in results.items()),
        ),
    )  # fmt: skip
