"""A backlog that waits in an outbox, or in a queue by hand, and is sent to a server that takes all at once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter, process_time
from typing import Any

import httpx

from benchmarks.durable_subjects import NOBODY
from benchmarks.payloads import EVENT, MARK, event, user_id
from benchmarks.redis_subjects import USERS
from benchmarks.results import Figures
from benchmarks.subjects import OURS

ARRAY = 500  # events in one request to Parcelvoy, the client's default
LIFTED = 10_000_000  # requests a minute: Userpilot takes one event in each
CALLS, QUICK_CALLS = {"parcelvoy": 50_000, "userpilot": 5_000}, {"parcelvoy": 20_000, "userpilot": 2_000}
MEMORY = f"({OURS}, out of memory)"


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


async def fill(outbox: Any, kind: str, calls: int) -> None:
    """A backlog in an outbox, by a process that only puts."""
    async with client(kind, outbox) as opened:
        for number in range(calls):
            put(opened, kind, number)


async def drain(outbox: Any, kind: str, calls: int) -> Figures:
    """Calls a second, from the opening to the last one's settlement; without an outbox, they are put first."""
    taking = Taking()
    started, used = perf_counter(), process_time()
    async with client(kind, outbox, taking) as opened:
        if outbox is None:
            for number in range(calls):
                put(opened, kind, number)
            started, used = perf_counter(), process_time()
        await opened.flush()
    return _figures(taking, calls, started, used)


async def drain_by_hand(send_all: Callable[[httpx.AsyncClient], Awaitable[None]], calls: int) -> Figures:
    """The same by a loop that somebody has written in an hour."""
    taking = Taking()
    started, used = perf_counter(), process_time()
    async with httpx.AsyncClient(transport=taking) as http:
        await send_all(http)
    return _figures(taking, calls, started, used)


async def send(http: httpx.AsyncClient, bodies: Iterable[str | bytes]) -> None:
    """One request to Parcelvoy with these calls, by hand."""
    calls = [json.loads(body) for body in bodies]
    events = [{"name": call["event_name"], "external_id": call["user_id"], "data": call["metadata"]} for call in calls]
    said = await http.post(f"{NOBODY}/api/client/events", content=json.dumps(events))
    said.raise_for_status()


def _figures(taking: Taking, calls: int, started: float, used: float) -> Figures:
    elapsed, used = perf_counter() - started, process_time() - used
    if taking.events != calls:
        raise RuntimeError(f"{taking.events} events were sent of {calls}")
    return {"rate": calls / elapsed, "cpu": used / calls * 1_000_000}
