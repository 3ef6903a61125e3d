"""Accepted calls per second when PostgreSQL has committed each of them before its caller goes on; 200 callers.

Two rows, as there are two floors. One does the same: 200 callers who each wait for the commit of their own call, and a
task that copies and commits all who wait by then, as ours are grouped. The other has no callers: one task with all of
its calls beforehand, which commits 200 of them at a time, so that nothing is collected and nobody is woken.
"""

from __future__ import annotations

import sys
from statistics import median

from benchmarks.callers import CALLERS, Callers
from benchmarks.fresh import measure
from benchmarks.postgres_server import missing, new_database, running_postgres
from benchmarks.postgres_subjects import BULK, GROUPED, PEERS, opened
from benchmarks.results import Figures, Rounds, Row, column, in_rounds, medians, ratios, with_spread
from benchmarks.subjects import FLOOR, OURS

NAME = "postgres_calls"
SECONDS, QUICK_SECONDS = 2.0, 1.0
GOAL = 0.7


async def accepted(subject: str, url: str, seconds: float) -> Figures:
    """Calls a second, and how long one takes."""
    import psycopg

    queue = await opened(subject, url)
    tasks = Callers(queue, 1 if subject in BULK else CALLERS)
    await tasks.warm_up()
    figures = await tasks.measure(seconds)
    with psycopg.connect(url) as connection:
        found = connection.execute(f"SELECT count(*) FROM {queue.table}".encode()).fetchone()
    if found is None or found[0] != tasks.warmed_up + tasks.calls:
        raise RuntimeError(f"{subject} has {found} of {tasks.warmed_up + tasks.calls} calls in PostgreSQL")
    return figures


def run(quick: bool) -> list[Row]:
    reason = missing()
    if reason is not None:
        print(f"{NAME} is left out: {reason}", file=sys.stderr)
        return []
    seconds = QUICK_SECONDS if quick else SECONDS
    with running_postgres() as server:

        def once(subject: str) -> Figures:
            return dict(measure(accepted, subject=subject, url=new_database(server), seconds=seconds))

        seen = in_rounds((OURS, *PEERS, *BULK), 3 if quick else 7, once)
    return [_row_of_callers(seen), _row_of_bulk(seen)]


def _row_of_callers(seen: Rounds) -> Row:
    results = {name: figures for name, figures in medians(seen).items() if name not in BULK}
    rates, shares = column(results, "rate"), ratios(seen, OURS, GROUPED, "rate")
    return Row(
        name=NAME,
        what=f"calls a second into PostgreSQL, committed and synced, {CALLERS} callers",
        unit="calls/s",
        goal=f"≥ {GOAL} of a COPY of all who wait",
        met=median(shares) >= GOAL,
        figures={**rates, FLOOR: rates[GROUPED]},
        more_is_better=True,
        notes=(
            *(f"ours is {with_spread(ratios(seen, OURS, name, 'rate'))} of {name}" for name in rates if name != OURS),
            *(_said(name, one, "one call") for name, one in results.items()),
            f"{FLOOR}: {GROUPED}; its callers, too, wait for the commit",
        ),
    )


def _row_of_bulk(seen: Rounds) -> Row:
    results = {name: figures for name, figures in medians(seen).items() if name in (OURS, *BULK)}
    rates = column(results, "rate")
    fastest = max((name for name, size in BULK.items() if size == CALLERS), key=lambda name: rates[name])
    shares = ratios(seen, OURS, fastest, "rate")
    return Row(
        name=NAME,
        what=f"the same, beside one task that commits {CALLERS} calls at a time, and has them all beforehand",
        unit="calls/s",
        goal=f"≥ {GOAL} of COPY or executemany of {CALLERS}",
        met=median(shares) >= GOAL,
        figures={**rates, FLOOR: rates[fastest]},
        more_is_better=True,
        notes=(
            *(f"ours is {with_spread(ratios(seen, OURS, name, 'rate'))} of {name.strip('()')}" for name in BULK),
            *(_said(name, results[name], "a whole transaction") for name in BULK),
            f"{FLOOR}: {fastest.strip('()')}",
        ),
    )


def _said(name: str, one: Figures, of: str) -> str:
    return (
        f"{name}: {one['rate']:,.0f} a second; p50 {one['p50']:,.0f}, p99 {one['p99']:,.0f} µs of {of}; "
        f"CPU a call {one['cpu']:.1f} µs"
    )
