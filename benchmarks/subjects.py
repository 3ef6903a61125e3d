"""The clients that are measured. Each has its own defaults, unless a queue would be too short for what is put in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from benchmarks.payloads import EVENT, Properties

PAUSE_EVERY = 128  # calls: how often a loop of sync calls lets other tasks run, as our own track() does by itself


class Subject(Protocol):
    """A client, opened in the running loop and never closed: its process ends with the measurement."""

    awaited: bool
    """`track` and `identify` are coroutine functions."""
    track: Callable[[str, str, Properties], Any]
    identify: Callable[[str, Properties], Any] | None

    async def drain(self) -> None:
        """Wait until everything is delivered."""


Opening = Callable[[str, int], Any]


@attrs.define
class Opened:
    awaited: bool
    track: Callable[[str, str, Properties], Any]
    identify: Callable[[str, Properties], Any] | None
    finish: Callable[[], Any]

    async def drain(self) -> None:
        ending = self.finish()
        if ending is not None:
            await ending


async def userpilot(url: str, room: int, **settings: Any) -> Opened:
    from userpilot_async import Settings, UserpilotClient

    client = UserpilotClient("benchmark", base_url=url, settings=Settings(max_queue_calls=room, **settings))
    await client.__aenter__()
    return Opened(True, client.track, client.identify, client.flush)


async def posthog(url: str, room: int) -> Opened:
    from posthog import AsyncPosthog

    client = AsyncPosthog("benchmark", host=url, max_queue_size=room)
    await client.__aenter__()

    def track(user: str, event: str, properties: Properties) -> None:
        client.capture(event, distinct_id=user, properties=properties)

    def identify(user: str, properties: Properties) -> None:
        client.set(distinct_id=user, properties=properties)

    return Opened(False, track, identify, lambda: client.flush(None))


async def snowplow(url: str, room: int) -> Opened:
    import logging

    from snowplow_tracker import AsyncEmitter, SelfDescribing, SelfDescribingJson, Tracker

    logging.getLogger("snowplow_tracker.emitters").setLevel(logging.WARNING)  # its default says each request to stderr
    emitter = AsyncEmitter(url, buffer_capacity=room)
    tracker = Tracker("benchmark", emitter)
    schema = f"iglu:com.example/{EVENT}/jsonschema/1-0-0"

    def track(user: str, event: str, properties: Properties) -> None:
        tracker.track(SelfDescribing(SelfDescribingJson(schema, {"user_id": user, **properties})))

    return Opened(False, track, None, emitter.sync_flush)


async def segment(url: str, room: int) -> Opened:
    from segment.analytics.client import Client

    client = Client("benchmark", host=url, max_queue_size=room)

    def track(user: str, event: str, properties: Properties) -> None:
        client.track(user, event, properties)

    return Opened(False, track, client.identify, client.flush)


async def mixpanel(url: str, room: int) -> Opened:
    from mixpanel import BufferedConsumer, Mixpanel

    consumer = BufferedConsumer(events_url=f"{url}/track", people_url=f"{url}/engage")
    client = Mixpanel("benchmark", consumer)
    return Opened(False, client.track, client.people_set, consumer.flush)


async def dict_in_deque(url: str, room: int) -> Opened:
    waiting: deque[dict[str, Any]] = deque()

    def track(user: str, event: str, properties: Properties) -> None:
        waiting.append({"user_id": user, "event_name": event, "metadata": dict(properties)})

    return Opened(False, track, None, waiting.clear)


OURS = "userpilot_async"
POSTHOG = "AsyncPosthog"
FLOOR = "floor"

OPENINGS: dict[str, Callable[..., Any]] = {
    OURS: userpilot,
    POSTHOG: posthog,
    "snowplow": snowplow,
    "segment": segment,
    "mixpanel": mixpanel,
    FLOOR: dict_in_deque,
}


async def pause() -> None:
    await asyncio.sleep(0)
