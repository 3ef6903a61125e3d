"""How fast a backlog in Redis is read, sent and settled by whoever has the lease, when the server takes all at once."""

from __future__ import annotations

import json
import sys
from time import perf_counter, process_time
from typing import Any

import httpx

from benchmarks.durable_subjects import NOBODY
from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, MARK, event, user_id
from benchmarks.redis_server import missing, running_redis, used
from benchmarks.redis_subjects import STREAM, USERS, pipelined
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.subjects import OURS

NAME = "redis_drain"
ARRAY = 500  # events in one request to Parcelvoy, the client's default
LIFTED = 10_000_000  # requests a minute: Userpilot takes one event in each
CALLS, QUICK_CALLS = {"parcelvoy": 50_000, "userpilot": 5_000}, {"parcelvoy": 20_000, "userpilot": 2_000}
MEMORY = f"({OURS}, out of memory)"
BY_HAND = "redis-py and httpx by hand"


class Taking(httpx.AsyncBaseTransport):
    """A server that costs nothing: it has taken everything at once, and counts the events."""

    def __init__(self) -> None:
        self.events = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.events += request.content.count(MARK)
        return httpx.Response(204 if request.url.path.startswith("/api/client/") else 202)


def client(kind: str, outbox: Any, transport: Taking | None = None) -> Any:
    """A client whose destination has no rate limit, or one that is no limit. `Any`: they share no method that puts."""
    from userpilot_async import Settings, UserpilotClient
    from userpilot_async.parcelvoy import ParcelvoyClient

    if kind == "parcelvoy":
        return ParcelvoyClient("key", NOBODY, outbox=outbox, transport=transport)
    settings = Settings(track_per_minute=LIFTED, burst=10_000)
    return UserpilotClient("key", base_url=NOBODY, outbox=outbox, transport=transport, settings=settings)


def put(opened: Any, kind: str, number: int) -> None:
    user, properties = user_id(number % USERS), event(number)
    if kind == "parcelvoy":
        opened.track_nowait(EVENT, external_id=user, data=properties)
    else:
        opened.track_nowait(user, EVENT, properties)


async def filled(subject: str, url: str, kind: str, calls: int) -> int:
    """A backlog, by a process that only puts; how many calls."""
    if subject == BY_HAND:
        queue = await pipelined(url, 1_000)
        for first in range(0, calls, queue.at_once):
            await queue.put(first)
    elif subject == OURS:
        from userpilot_async.redis import RedisOutbox

        async with client(kind, RedisOutbox(url, sender=False)) as opened:
            for number in range(calls):
                put(opened, kind, number)
    return calls


async def drained(subject: str, url: str, kind: str, calls: int) -> Figures:
    """Calls a second, from the opening to the last one's settlement."""
    from redis.asyncio import Redis

    from userpilot_async.redis import RedisOutbox

    redis: Any = Redis.from_url(url)
    taking = Taking()
    used_there = await used(redis)
    started, used_here = perf_counter(), process_time()
    if subject == BY_HAND:
        await by_hand(redis, taking)
    else:
        async with client(kind, RedisOutbox(url) if subject == OURS else None, taking) as opened:
            if subject == MEMORY:
                for number in range(calls):
                    put(opened, kind, number)
                started, used_here = perf_counter(), process_time()
            await opened.flush()
    elapsed, used_here = perf_counter() - started, process_time() - used_here
    if taking.events != calls:
        raise RuntimeError(f"{subject} has sent {taking.events} events of {calls}")
    return {
        "rate": calls / elapsed,
        "cpu": used_here / calls * 1_000_000,
        "cpu of Redis": (await used(redis) - used_there) / calls * 1_000_000,
    }


async def by_hand(redis: Any, taking: Taking) -> None:
    """A client written in an hour: a consumer group of one, arrays of the same size, a request after the other."""
    await redis.xgroup_create(STREAM, "senders", id="0")
    async with httpx.AsyncClient(transport=taking) as http:
        while True:
            answer = await redis.xreadgroup("senders", "sender", {STREAM: ">"}, count=ARRAY)
            if not answer:
                return
            entries = answer[0][1]
            calls = [json.loads(fields[b"call"]) for _, fields in entries]
            events = [
                {"name": call["event_name"], "external_id": call["user_id"], "data": call["metadata"]} for call in calls
            ]
            said = await http.post(f"{NOBODY}/api/client/events", content=json.dumps(events))
            said.raise_for_status()
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
