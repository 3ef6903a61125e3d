"""An outage ends: key queues wake that have all backed off until the same moment, and send what they have."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

from benchmarks.answers import Answers
from benchmarks.durable_subjects import NOBODY
from benchmarks.fresh import measure
from benchmarks.pauses import watched
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures
from benchmarks.scale.memory import ENOUGH, FOREVER, taken_in
from benchmarks.scale.series import Measured, Series
from benchmarks.subjects import pause

SIZES, QUICK_SIZES = (1_000, 10_000, 100_000), (1_000, 10_000)
ARRAY = 500  # events in one request to Parcelvoy, the client's default
ASLEEP = 2  # seconds, as the server asks for
MEASURED = (
    Measured("asleep", "key queues asleep at once", "queues"),
    Measured("fail pause", "longest turn while all requests fail, CPU", "ms", most=2.0),
    Measured("wake pause", "longest turn until all is delivered, CPU", "ms", most=2.0),
    Measured("wake wall", "longest turn until all is delivered, wall", "ms"),
    Measured("wake collection", "longest collection meanwhile, CPU", "ms", most=2.0),
)


async def outage(size: int) -> Figures:
    """All requests are under way when the server fails, and asks for the same pause."""
    from userpilot_async._schedule.queue_state import QueueState
    from userpilot_async.parcelvoy import ParcelvoyClient, ParcelvoySettings

    logging.disable()
    answers = Answers()
    settings = ParcelvoySettings(max_queue_calls=2 * size, max_queue_bytes=ENOUGH, request_timeout=FOREVER)
    client: Any = await ParcelvoyClient("benchmark", NOBODY, transport=answers, settings=settings).start()
    for number in range(size):
        client.track_nowait(EVENT, external_id=user_id(number), data=event(number))
        if not number % ARRAY:
            await pause()
    await taken_in(client)
    queues = client._sender.schedule._queues
    due = asyncio.get_running_loop().time() + ASLEEP
    gc.collect()
    async with watched() as failing:
        answers.tell(503, **{"Retry-After": str(ASLEEP)})
        await pause()
    for queue in list(queues):  # as if as many arrays had failed at once as it takes for them all
        if queue.place is QueueState.EVENTS:
            queues.hold(queue, due)
    asleep = len(queues._backing_off)
    client._sender.wake()
    answers.tell(200)
    async with watched() as waking:
        await client.flush()
    assert client.statistics().delivered == size
    return {
        "asleep": asleep, "fail pause": failing["cpu"], "wake pause": waking["cpu"], "wake wall": waking["stall"],
        "wake collection": waking["collection cpu"],
    }  # fmt: skip


def run(quick: bool) -> list[Series]:
    figures = {size: dict(measure(outage, size=size)) for size in (QUICK_SIZES if quick else SIZES)}
    notes = ("arrays of 500 to a Parcelvoy; all queues but those of eight arrays are put to sleep by hand",)
    return [Series(name="outage", of="users whose event failed", figures=figures, measured=MEASURED, notes=notes)]
