"""Calls that wait in memory: what each takes, what it costs to put and to send, and how long the loop stands still."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from time import process_time
from typing import Any

from benchmarks.answers import LIFTED, Answers
from benchmarks.durable_subjects import NOBODY
from benchmarks.fresh import measure
from benchmarks.pauses import watched
from benchmarks.payloads import EVENT, event, profile, user_id
from benchmarks.results import Figures
from benchmarks.scale.series import Measured, Series
from benchmarks.subjects import pause
from benchmarks.waiting_memory import resident

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (1_000, 10_000, 100_000)
ONCE = 100_000  # what is larger takes a minute, and is measured once
SENT = 1_000  # of those that wait, for the cost of sending one of them
IN_A_ROW = 10  # calls between two turns of the loop
FOREVER = 1e6  # seconds: no request meets its timeout, and no call waits for room
ENOUGH = 10**12  # bytes

USERS = 1_000
PUTS: dict[str, Callable[[Any, int], Any]] = {
    "events": lambda client, number: client.track(user_id(number % USERS), EVENT, event(number)),
    "users": lambda client, number: client.track(user_id(number), EVENT, event(number)),
    "one user": lambda client, number: client.track(user_id(0), EVENT, event(number)),
    "identifies": lambda client, number: client.identify(user_id(number), profile(number)),
}
WHAT = {
    "events": f"waiting events of {USERS:,} users",
    "users": "users with a waiting event each",
    "one user": "waiting events of one user",
    "identifies": "users with a waiting identify each",
}
MEASURED = (
    Measured("bytes", "resident memory", "bytes an item", per_item=True),
    Measured("put cpu", "CPU to put and take in", "µs an item", per_item=True),
    Measured("put pause", "longest turn while put, CPU", "ms", most=2.0),
    Measured("put alone", "the same without a collector", "ms", most=2.0),
    Measured("put wall", "longest turn while put, wall", "ms"),
    Measured("put collection", "longest collection, CPU", "ms", most=2.0),
    Measured("send cpu", f"CPU to send one of them, of {SENT:,}", "µs an event"),
    Measured("send pause", "longest turn while sent, CPU", "ms", most=2.0),
    Measured("send wall", "longest turn while sent, wall", "ms"),
)


async def waiting(what: str, size: int) -> Figures:
    """Bytes and CPU of each call: nothing else runs in this loop."""
    answers = Answers()
    client = await _opened(answers, size)
    gc.collect()
    before, used = resident(), process_time()
    await _put(client, what, size)
    await taken_in(client)
    used = process_time() - used
    gc.collect()
    figures = {"bytes": (resident() - before) / size, "put cpu": used / size * 1e6}
    if what == "identifies":  # these go in files: `identify_stall` has their way out
        return figures
    used, sent = process_time(), answers.events
    await _send(client, answers)
    return {**figures, "send cpu": (process_time() - used) / max(1, answers.events - sent) * 1e6}


async def pauses(what: str, size: int, collects: bool) -> Figures:
    """The longest turns while calls are put, and while some are sent; or the former without the garbage collector."""
    answers = Answers()
    client = await _opened(answers, size)
    if not collects:
        gc.disable()
    async with watched() as putting:
        await _put(client, what, size)
        await taken_in(client)
    if not collects:
        return {"put alone": putting["cpu"]}
    figures = {"put pause": putting["cpu"], "put wall": putting["stall"], "put collection": putting["collection cpu"]}
    if what == "identifies":
        return figures
    gc.collect()
    async with watched() as sending:
        await _send(client, answers)
    return {**figures, "send pause": sending["cpu"], "send wall": sending["stall"]}


async def _opened(answers: Answers, size: int) -> Any:
    from userpilot_async import Settings, UserpilotClient

    settings = Settings(
        max_queue_calls=2 * size, max_queue_bytes=ENOUGH, track_per_minute=LIFTED, burst=10_000,
        request_timeout=FOREVER, upload_timeout=FOREVER,
    )  # fmt: skip
    client = await UserpilotClient("benchmark", base_url=NOBODY, transport=answers, settings=settings).start()
    for number in range(200):
        await client.track(user_id(number), EVENT, event(number))
    await asyncio.sleep(0.5)  # connections and imports that come with the first requests
    return client


async def _put(client: Any, what: str, size: int) -> None:
    put = PUTS[what]
    for number in range(size):
        await put(client, number)
        if not number % IN_A_ROW:
            await pause()


async def taken_in(client: Any) -> None:
    """Return once the sender has put everything where it waits."""
    while not client._sender.asleep:
        await pause()
        _see_that_it_sends(client)


async def _send(client: Any, answers: Answers) -> None:
    """Some of what waits, at the pace that the loop allows."""
    until = answers.events + SENT
    answers.tell(200)
    while answers.events < until:
        await pause()
        _see_that_it_sends(client)
    answers.hush()


def _see_that_it_sends(client: Any) -> None:
    if client._sender.bug is not None:
        raise client._sender.bug


def run(quick: bool) -> list[Series]:
    sizes = QUICK_SIZES if quick else SIZES
    return [
        Series(
            name=f"waiting {what}",
            of=of,
            figures={size: _least(what, size, 1 if quick or size > ONCE else 2) for size in sizes},
            measured=MEASURED if what != "identifies" else MEASURED[:6],
        )
        for what, of in WHAT.items()
    ]


def _least(what: str, size: int, rounds: int) -> Figures:
    """The least of some rounds: what is more, others on this machine have taken."""
    seen: list[Figures] = [
        {
            **measure(waiting, what=what, size=size),
            **measure(pauses, what=what, size=size, collects=True),
            **measure(pauses, what=what, size=size, collects=False),
        }
        for _ in range(rounds)
    ]
    return {name: min(one[name] for one in seen) for name in seen[0]}
