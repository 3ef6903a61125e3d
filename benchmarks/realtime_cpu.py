"""CPU of one realtime request, against the request alone: four tasks that post with one httpx client."""

from __future__ import annotations

import asyncio
from statistics import median
from time import process_time

from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, column, in_rounds, medians, ratios, with_spread
from benchmarks.sink import running_sink
from benchmarks.subjects import OPENINGS, OURS, PAUSE_EVERY, pause

NAME = "realtime_cpu"
CALLS = 5_000
WARM_UP = 200  # requests, by which all connections are open and everything is imported
TASKS = 4  # requests under way, enough to keep one core busy
BY_HAND = "(four tasks around httpx)"
GOAL = 0.9
LIFTED = {"track_per_minute": 10_000_000, "burst": 10_000}


async def sent(subject: str, url: str) -> Figures:
    if subject == BY_HAND:
        return await posted(url)
    client = await OPENINGS[subject](url, 2 * CALLS, **LIFTED)

    async def deliver(calls: int) -> None:
        for number in range(calls):
            await client.track(user_id(number % 1_000), EVENT, event(number))
            if not number % PAUSE_EVERY:
                await pause()
        await client.drain()

    await deliver(WARM_UP)
    before = process_time()
    await deliver(CALLS)
    return {"µs": (process_time() - before) / CALLS * 1e6}


async def posted(url: str) -> Figures:
    """What these requests cost by hand: no queue, no receipt, no second attempt."""
    import httpx

    async with httpx.AsyncClient(headers={"Authorization": "Token KEY"}) as http:

        async def post(numbers: range) -> None:
            for number in numbers:
                body = {"user_id": user_id(number % 1_000), "event_name": EVENT, "metadata": event(number)}
                (await http.post(f"{url}/v1/track", json=body)).raise_for_status()

        async def deliver(calls: int) -> None:
            async with asyncio.TaskGroup() as tasks:
                for first in range(TASKS):
                    tasks.create_task(post(range(first, calls, TASKS)))

        await deliver(WARM_UP)
        before = process_time()
        await deliver(CALLS)
        return {"µs": (process_time() - before) / CALLS * 1e6}


def run(quick: bool) -> Row:
    with running_sink() as url:
        seen = in_rounds([OURS, BY_HAND], 5 if quick else 9, lambda name: measure(sent, subject=name, url=url))
    shares = ratios(seen, OURS, BY_HAND, "µs")
    costs = column(medians(seen), "µs")
    return Row(
        name=NAME,
        what="CPU of one realtime request ÷ four tasks around httpx",
        unit="×",
        goal=f"≤ {GOAL}",
        met=median(shares) <= GOAL,
        figures={OURS: median(shares), BY_HAND: 1.0},
        notes=(
            f"ours ÷ by hand: {with_spread(shares)}",
            *(f"{name}: {cost:,.0f} µs a request" for name, cost in costs.items()),
        ),
    )
