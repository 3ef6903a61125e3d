"""How fast a backlog in PostgreSQL is read, sent and settled by the holder of the lease, if the server takes it all."""

from __future__ import annotations

import sys
from functools import partial

import httpx

from benchmarks.drain import ARRAY, CALLS, MEMORY, QUICK_CALLS, drain, drain_by_hand, fill, send
from benchmarks.fresh import measure
from benchmarks.postgres_server import missing, new_database, running_postgres
from benchmarks.postgres_subjects import COPIED, bulk
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

        await fill(PostgresOutbox(url, sender=False), kind, calls)
    return calls


async def drained(subject: str, url: str, kind: str, calls: int) -> Figures:
    """Calls a second, from the opening to the last one's settlement."""
    if subject == BY_HAND:
        return await drain_by_hand(partial(by_hand, url), calls)
    from userpilot_async.postgres import PostgresOutbox

    return await drain(PostgresOutbox(url) if subject == OURS else None, kind, calls)


async def by_hand(url: str, http: httpx.AsyncClient) -> None:
    """A client written in an hour: rows are locked, sent in an array of the same size, and gone with the commit."""
    import psycopg

    async with await psycopg.AsyncConnection.connect(url) as connection:
        while True:
            rows = await (await connection.execute(TAKE, (ARRAY,))).fetchall()
            if not rows:
                return
            await send(http, (body for (body,) in rows))
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
