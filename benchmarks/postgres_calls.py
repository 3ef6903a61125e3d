"""Accepted calls per second when PostgreSQL has committed each of them before its caller goes on; 200 callers."""

from __future__ import annotations

import sys

from benchmarks.callers import CALLERS, Callers
from benchmarks.fresh import measure
from benchmarks.postgres_server import missing, new_database, running_postgres
from benchmarks.postgres_subjects import BULK, PEERS, opened
from benchmarks.results import Figures, Row, column, in_rounds, medians, ratios, with_spread
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
    results = medians(seen)
    rates = column(results, "rate")
    fastest = max((name for name, size in BULK.items() if size == CALLERS), key=lambda name: rates[name])
    return [
        Row(
            name=NAME,
            what=f"calls a second into PostgreSQL, committed and synced, {CALLERS} callers",
            unit="calls/s",
            goal=f"≥ {GOAL} of COPY or executemany of {CALLERS}",
            met=rates[OURS] >= GOAL * rates[fastest],
            figures={**rates, FLOOR: rates[fastest]},
            more_is_better=True,
            notes=(
                *(f"ours is {with_spread(ratios(seen, OURS, name, 'rate'))} of {name.strip('()')}" for name in rates
                  if name != OURS),
                *(f"{name}: {one['rate']:,.0f} a second; p50 {one['p50']:,.0f}, p99 {one['p99']:,.0f} µs of "
                  f"{'a whole transaction' if name in BULK else 'one call'}; CPU a call {one['cpu']:.1f} µs"
                  for name, one in results.items()),
                f"{FLOOR}: {fastest.strip('()')}, by one task that has all of its calls beforehand",
            ),
        )
    ]  # fmt: skip
