"""How long the event loop stands still on rarer occasions, each with 100,000 calls that wait."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from benchmarks import disk
from benchmarks.answers import LIFTED, Answers
from benchmarks.durable_subjects import NOBODY
from benchmarks.fast_loop import FastLoop
from benchmarks.fresh import measure
from benchmarks.pauses import told, watched
from benchmarks.payloads import EVENT, event, profile, user_id
from benchmarks.results import Figures, interleaved
from benchmarks.subjects import pause

CALLS = 100_000
MORE = 10_000  # calls that find no room
LOOP = FastLoop
TAKEOVER = 5.0  # seconds after the second process has begun to read
PATIENCE = 6_000.0  # seconds: no request meets its timeout

PUTS: dict[str, Callable[[Any, int], Any]] = {
    "events": lambda client, number: client.track(user_id(number % 1_000), EVENT, event(number)),
    "users": lambda client, number: client.track(user_id(number), EVENT, event(number)),
    "identifies": lambda client, number: client.identify(user_id(number), profile(number)),
}
"""A call by its number, by what waits: events of 1,000 users, an event or an identify of each of 100,000."""
WHAT = {"events": "events of 1,000 users", "users": "an event each of 100,000 users", "identifies": "identifies"}


def opened(answers: Answers, **settings: Any) -> Any:
    """A client that is not entered yet. `Any`: its `track` is one of several."""
    from userpilot_async import Settings, UserpilotClient

    outbox = settings.pop("outbox", None)
    room = {"max_queue_calls": CALLS, "track_per_minute": LIFTED, "request_timeout": PATIENCE, **settings}
    room = {"upload_timeout": PATIENCE, **room}
    return UserpilotClient("benchmark", base_url=NOBODY, transport=answers, outbox=outbox, settings=Settings(**room))


async def put(client: Any, what: str, numbers: range) -> None:
    for number in numbers:
        await PUTS[what](client, number)
        if not number % 10:
            await pause()


async def flushed(what: str) -> Figures:
    """The longest turn while a flush waits for a server that does not answer, and says what is left."""
    answers = Answers()
    client = await opened(answers).start()
    await put(client, what, range(CALLS))
    async with watched() as figures:
        await client.flush(timeout=2.0)
    return figures


async def closed(what: str) -> Figures:
    """The longest turn while a client is closed that cannot send what waits."""
    client = await opened(Answers()).start()
    await put(client, what, range(CALLS))
    logging.disable()
    async with watched() as figures:
        await client.aclose(timeout=1.0)
    return figures


async def dropped(what: str) -> Figures:
    """The longest turn while each call drops the oldest one."""
    client = await opened(Answers(), when_full="drop_oldest").start()
    await put(client, what, range(CALLS))
    await asyncio.sleep(0.5)
    logging.disable()
    async with watched() as figures:
        await put(client, what, range(CALLS, CALLS + MORE))
    assert client.statistics().dropped >= MORE // 2
    return figures


async def broken(what: str) -> Figures:
    """The longest turn while the schedule raises, calls go on, and the client is left."""
    client = await opened(Answers()).start()
    await put(client, what, range(CALLS))
    await asyncio.sleep(0.5)

    def bug(*_: Any) -> Any:
        raise RuntimeError("a bug in the schedule")

    logging.disable()
    async with watched() as figures:
        client._sender.schedule.next = bug
        await put(client, what, range(CALLS, CALLS + 100))
        with suppress(RuntimeError):
            await client.aclose(timeout=1.0)
    return figures


async def left_behind(what: str, place: str) -> int:
    """Fill a file, begin to send, and die."""
    from userpilot_async.sqlite import SQLiteOutbox

    answers = Answers()
    outbox = SQLiteOutbox(os.path.join(place, "events.db"), durability="process")
    client = await opened(answers, outbox=outbox, flush_interval=0.1).start()
    for number in range(CALLS):
        PUTS_NOWAIT[what](client, number)
        if not number % 1_000:
            await pause()
    await answers.asked.wait()
    await asyncio.sleep(1.0)
    return answers.requests


PUTS_NOWAIT: dict[str, Callable[[Any, int], Any]] = {
    "events": lambda client, number: client.track_nowait(user_id(number % 1_000), EVENT, event(number)),
    "users": lambda client, number: client.track_nowait(user_id(number), EVENT, event(number)),
    "identifies": lambda client, number: client.identify_nowait(user_id(number), profile(number)),
}


async def taken_over(what: str, place: str) -> Figures:
    """The longest turn while a second process takes over, reads, and goes on sending."""
    from userpilot_async.sqlite import SQLiteOutbox

    async with opened(Answers()) as first_client:  # what the first one of a process imports is not what is asked for
        await first_client.aclose()
    answers = Answers()
    answers.tell(200)
    outbox = SQLiteOutbox(os.path.join(place, "events.db"), durability="process")
    client = opened(answers, outbox=outbox)
    async with watched() as opening:
        await client.start()
    async with watched() as figures:
        await asyncio.sleep(TAKEOVER)
    delivered = client.statistics().delivered
    return {**figures, "stall": max(figures["stall"], opening["stall"]), "delivered": delivered}


CASES = {
    "a flush of what the server does not answer": flushed,
    "a close that drops it": closed,
    '`when_full="drop_oldest"`': dropped,
    "a bug in the schedule": broken,
}
AFTER_ANOTHER = "another process takes over a file"


def cases() -> Iterator[tuple[str, str]]:
    for case in (*CASES, AFTER_ANOTHER):
        for what in PUTS:
            yield case, what


def once(case: str, what: str) -> Figures:
    if case in CASES:
        return dict(measure(CASES[case], what=what))
    with disk.directory() as place:
        measure(left_behind, what=what, place=place)
        return dict(measure(taken_over, what=what, place=place))


def notes(rounds: int) -> Iterator[str]:
    """A line for each of the cases."""
    names = {f"{case}, {WHAT[what]}": (case, what) for case, what in cases()}
    results = interleaved(names, rounds, lambda name: once(*names[name]))
    for name, figures in results.items():
        yield f"({name}): {told(figures)}"
