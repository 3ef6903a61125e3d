"""A process that starts with a backlog in its outbox: the first request, memory, and what a put and a request cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import perf_counter, process_time
from typing import Any

from benchmarks.answers import LIFTED, Answers
from benchmarks.durable_start import resident_at_most
from benchmarks.durable_subjects import NOBODY
from benchmarks.pauses import watched
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures
from benchmarks.scale.memory import ENOUGH, FOREVER
from benchmarks.scale.series import Measured
from benchmarks.subjects import pause

PUTS, CALLERS, SENT = 5_000, 200, 1_000
READING = 2.0  # seconds after the first request in which it goes on reading
DIFFERENT = 1_000  # calls, over and over again

MEASURED = (
    Measured("opened", "open after", "s"),
    Measured("first", "first request after", "s", most=2.0),
    Measured("peak", "peak memory of the process", "MB"),
    Measured("start pause", "longest turn until it has read, CPU", "ms", most=10.0),
    Measured("start collection", "longest collection meanwhile, CPU", "ms", most=10.0),
    Measured("send cpu", f"CPU to send {SENT:,}, one a request", "µs an event"),
    Measured("put rate", f"puts a second, {CALLERS} callers", "calls/s", is_rate=True),
    Measured("put cpu", "CPU of a put", "µs a call"),
    Measured("put pause", "longest turn while they put, CPU", "ms", most=2.0),
)


def calls(start: int, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """So many users and their events, from one on."""
    return ((user_id(one % DIFFERENT), event(one % DIFFERENT)) for one in range(start, start + number))


def opened(outbox: Any, answers: Answers) -> Any:
    """A client that is not entered yet."""
    from userpilot_async import Settings, UserpilotClient

    settings = Settings(max_queue_calls=10**9, max_queue_bytes=ENOUGH, track_per_minute=LIFTED, burst=10_000,
                        request_timeout=FOREVER)  # fmt: skip
    return UserpilotClient("benchmark", base_url=NOBODY, transport=answers, outbox=outbox, settings=settings)


async def started(outbox: Any) -> Figures:
    """Until the first request, and what a request costs then; not what the first client of a process imports."""
    async with opened(None, Answers()) as first_client:
        await first_client.aclose()
    answers, before = Answers(), perf_counter()
    client = opened(outbox, answers)
    async with watched() as starting:
        await client.start()
        open_after = perf_counter() - before
        await answers.asked.wait()
        first = perf_counter() - before
        await asyncio.sleep(READING)
    used, sent = process_time(), client.statistics().delivered
    answers.tell(200)
    while client.statistics().delivered < sent + SENT:
        await pause()
    answers.hush()
    used, sent = process_time() - used, client.statistics().delivered - sent
    return {
        "opened": open_after, "first": first, "peak": resident_at_most() / 2**20, "start pause": starting["cpu"],
        "start collection": starting["collection cpu"], "send cpu": used / sent * 1e6,
    }  # fmt: skip


async def put(outbox: Any) -> Figures:
    """Puts of a process that does not send."""
    client = await opened(outbox, Answers()).start()
    todo = calls(0, PUTS)

    async def caller() -> None:
        for user, properties in todo:
            await client.track(user, EVENT, properties)

    await client.track("first", EVENT, event(0))
    async with watched() as putting:
        before, used = perf_counter(), process_time()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        elapsed, used = perf_counter() - before, process_time() - used
    return {"put rate": PUTS / elapsed, "put cpu": used / PUTS * 1e6, "put pause": putting["cpu"]}
