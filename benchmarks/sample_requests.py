"""Requests that a realistic mix of calls takes, against one request a call."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from typing import Any

from benchmarks.fresh import ROOT, measure
from benchmarks.payloads import EVENT, event, profile, user_id
from benchmarks.results import Row
from benchmarks.subjects import FLOOR, OURS
from tests.harness.clock import VirtualTimeLoop

NAME = "sample_requests"
LOOP = VirtualTimeLoop
PLACES = (ROOT / "userpilot_async/sample.ndjson.gz", ROOT / "userpilot_async/cli/sample.ndjson.gz")


def sample() -> tuple[str, list[bytes]]:
    """The bundled lines and where they are from; without a bundle 3,000 updates of 300 users and 500 events."""
    for place in PLACES:
        if place.exists():
            return place.name, gzip.decompress(place.read_bytes()).splitlines()
    calls: list[dict[str, Any]] = []
    for number in range(3_000):
        user = {"user_id": user_id(number % 300)}
        calls.append({"type": "identify", **user, "metadata": profile(number)})
        if number % 6 == 0:
            calls.append({"type": "track", **user, "event_name": EVENT, "metadata": event(number)})
    return "a stand-in", [json.dumps(call).encode() for call in calls]


async def sent() -> dict[str, Any]:
    """All calls at once into the client, and what the emulator saw until all were delivered."""
    import httpx

    from userpilot_async import InvalidCall, Track, UserpilotClient
    from userpilot_async._userpilot.calls import from_bytes
    from userpilot_async.emulator import Emulator

    loop = asyncio.get_running_loop()
    emulator = Emulator(clock=lambda: 1_780_000_000.0 + loop.time())
    origin, lines = sample()
    tracks = others = invalid = 0
    async with UserpilotClient("benchmark", transport=httpx.ASGITransport(app=emulator)) as client:
        for line in lines:
            try:
                call = from_bytes(line)
            except InvalidCall:  # the sample has some, on purpose
                invalid += 1
                continue
            tracks, others = (tracks + 1, others) if isinstance(call, Track) else (tracks, others + 1)
            await client.enqueue(call)
        report = await client.flush()
    return {
        "origin": origin, "tracks": tracks, "others": others, "invalid": invalid,
        "requests": Counter(request.family for request in emulator.store.requests),
        "minutes": report.elapsed / 60, "account": str(report),
    }  # fmt: skip


def run(quick: bool) -> Row:
    told = measure(sent)
    calls, requests = told["tracks"] + told["others"], sum(told["requests"].values())
    one_by_one = max(told["tracks"], told["others"]) / 600
    return Row(
        name=NAME,
        what=f"requests for the {calls:,} calls of {told['origin']}",
        unit="requests",
        goal="–",
        met=None,
        figures={OURS: requests, FLOOR: calls},
        notes=(
            f"{told['tracks']:,} events and {told['others']:,} identifies; requests by family: {told['requests']}",
            f"{calls / requests:.1f} calls a request, {told['minutes']:.1f} virtual minutes; one request a call (under "
            f"“floor”) would take {one_by_one:.1f} minutes at 600 a minute",
            told["account"],
        ),
    )
