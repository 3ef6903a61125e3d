"""Subjects that keep calls in Redis: ours, and what one writes by hand with redis-py, of the same JSON.

By hand there is no limit, no account, and after a lost answer nobody knows whether a call is there.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from benchmarks.durable_subjects import NOBODY, body
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.subjects import OURS

EACH = "redis-py, an XADD each"
PIPELINED = {f"(redis-py, pipelines of {size:,} XADDs)": size for size in (100, 1_000)}
SUBJECTS = (OURS, EACH, *PIPELINED)
STREAM = "calls"
OUR_STREAM = "{userpilot_async}:log"
USERS = 1_000
MANY = 1_000  # connections; by default redis-py 8 has 100, and the caller after that gets an exception


@attrs.frozen
class Queue:
    """Opened in the running loop and never closed: its process ends with the measurement."""

    put: Callable[[int], Awaitable[object]]
    """Calls, counted from this one. When it returns, Redis has them."""
    stream: str
    """Where they can be counted."""
    at_once: int = 1
    """How many calls one `put` is."""


async def userpilot(url: str) -> Queue:
    from userpilot_async import UserpilotClient
    from userpilot_async.redis import RedisOutbox

    client = UserpilotClient("benchmark", base_url=NOBODY, outbox=RedisOutbox(url, sender=False))
    await client.__aenter__()

    async def put(number: int) -> None:
        await client.track(user_id(number % USERS), EVENT, event(number))

    return Queue(put, OUR_STREAM)


def said(number: int) -> str:
    """A call, as one would write it by hand."""
    return json.dumps(body(user_id(number % USERS), EVENT, event(number)))


async def each(url: str) -> Queue:
    """The usual code with redis-py, which opens a connection for each caller, with one call on its way."""
    from redis.asyncio import Redis

    redis: Any = Redis.from_url(url, max_connections=MANY)

    async def put(number: int) -> None:
        await redis.xadd(STREAM, {"call": said(number)})

    return Queue(put, STREAM)


async def pipelined(url: str, size: int) -> Queue:
    """The limit: somebody who has so many calls beforehand, and nobody who waits for one of them."""
    from redis.asyncio import Redis

    redis: Any = Redis.from_url(url)

    async def put(first: int) -> None:
        async with redis.pipeline(transaction=False) as pipeline:
            for number in range(first, first + size):
                pipeline.xadd(STREAM, {"call": said(number)})
            await pipeline.execute()

    return Queue(put, STREAM, size)


async def opened(subject: str, url: str) -> Queue:
    """A subject, connected to this Redis."""
    if subject == OURS:
        return await userpilot(url)
    return await pipelined(url, PIPELINED[subject]) if subject in PIPELINED else await each(url)
