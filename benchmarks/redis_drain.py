"""How fast a backlog in Redis is read, sent and settled by whoever has the lease, when the server takes all at once."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import httpx

from benchmarks.drain import ARRAY, CALLS, MEMORY, QUICK_CALLS, drain, drain_by_hand, fill, send
from benchmarks.fresh import measure
from benchmarks.redis_server import missing, running_redis, used
from benchmarks.redis_subjects import STREAM, pipelined
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.subjects import OURS

NAME = "redis_drain"
BY_HAND = "redis-py and httpx by hand"


async def filled(subject: str, url: str, kind: str, calls: int) -> int:
    """A backlog, by a process that only puts; how many calls."""
    if subject == BY_HAND:
        queue = await pipelined(url, 1_000)
        for first in range(0, calls, queue.at_once):
            await queue.put(first)
    elif subject == OURS:
        from userpilot_async.redis import RedisOutbox

        await fill(RedisOutbox(url, sender=False), kind, calls)
    return calls


async def drained(subject: str, url: str, kind: str, calls: int) -> Figures:
    """Calls a second, from the opening to the last one's settlement."""
    from redis.asyncio import Redis

    from userpilot_async.redis import RedisOutbox

    redis: Any = Redis.from_url(url)
    used_there = await used(redis)
    if subject == BY_HAND:
        figures = await drain_by_hand(partial(by_hand, redis), calls)
    else:
        figures = await drain(RedisOutbox(url) if subject == OURS else None, kind, calls)
    return {**figures, "cpu of Redis": (await used(redis) - used_there) / calls * 1_000_000}


async def by_hand(redis: Any, http: httpx.AsyncClient) -> None:
    """A client written in an hour: a consumer group of one, arrays of the same size, a request after the other."""
    await redis.xgroup_create(STREAM, "senders", id="0")
    while True:
        answer = await redis.xreadgroup("senders", "sender", {STREAM: ">"}, count=ARRAY)
        if not answer:
            return
        entries = answer[0][1]
        await send(http, (fields[b"call"] for _, fields in entries))
        ids = [entry_id for entry_id, _ in entries]
        async with redis.pipeline(transaction=False) as pipeline:
            pipeline.xack(STREAM, "senders", *ids)
            pipeline.xdel(STREAM, *ids)
            await pipeline.execute()


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
    def once(subject: str) -> Figures:
        with running_redis() as url:
            calls = measure(filled, subject=subject, url=url, kind=kind, calls=(QUICK_CALLS if quick else CALLS)[kind])
            return dict(measure(drained, subject=subject, url=url, kind=kind, calls=calls))

    results = interleaved(subjects, 3 if quick else 7, once)
    rates = column(results, "rate")
    ratios = [f"{rates[OURS] / rate:.2f} of {name.strip('()')}" for name, rate in rates.items() if name != OURS]
    return Row(
        name=NAME,
        what=f"calls a second out of Redis, sent and settled, {how}",
        unit="calls/s",
        goal="–",
        met=None,
        figures=rates,
        more_is_better=True,
        notes=(
            f"ours is {'; '.join(ratios)}",
            *(
                f"{name}: {figures['rate']:,.0f} a second; CPU a call {figures['cpu']:.1f} µs, "
                f"of Redis {figures['cpu of Redis']:.1f} µs"
                for name, figures in results.items()
            ),
        ),
    )
