"""Events delivered for each CPU second of the client's process, with the rate limits lifted."""

from __future__ import annotations

from time import perf_counter, process_time

from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import OPENINGS, OURS, PAUSE_EVERY, POSTHOG, pause

NAME = "drain_rate"
CALLS = 5_000
BARE = "(bare httpx, one client)"
LIFTED = {"track_per_minute": 10_000_000, "burst": 10_000}


async def drained(subject: str, url: str) -> Figures:
    if subject == BARE:
        return await posted(url)
    client = await OPENINGS[subject](url, 2 * CALLS, **(LIFTED if subject == OURS else {}))
    before, started = process_time(), perf_counter()
    for number in range(CALLS):
        said = client.track(user_id(number % 1_000), EVENT, event(number))
        if client.awaited:
            await said
        elif not number % PAUSE_EVERY:
            await pause()
    await client.drain()
    return {"per CPU second": CALLS / (process_time() - before), "per second": CALLS / (perf_counter() - started)}


async def posted(url: str) -> Figures:
    """The least that one request an event costs with httpx."""
    import httpx

    async with httpx.AsyncClient() as http:
        before, started = process_time(), perf_counter()
        for number in range(CALLS):
            body = {"user_id": user_id(number % 1_000), "event_name": EVENT, "metadata": event(number)}
            await http.post(f"{url}/v1/track", json=body)
    return {"per CPU second": CALLS / (process_time() - before), "per second": CALLS / (perf_counter() - started)}


def run(quick: bool) -> Row:
    subjects = [OURS, POSTHOG, BARE]
    with running_sink() as url:
        results = interleaved(subjects, 3 if quick else 5, lambda name: measure(drained, subject=name, url=url))
    figures = column(results, "per CPU second")
    return Row(
        name=NAME,
        what="events delivered for each CPU second, rate limits lifted",
        unit="events",
        goal="–",
        met=None,
        figures=figures,
        more_is_better=True,
        notes=(
            f"the vendor takes one event a request: ours costs {figures[BARE] / figures[OURS]:.2f} × a bare httpx post",
            f"{POSTHOG} sends 100 events in one request, which this vendor has no endpoint for",
            *(
                f"{name}: {row['per CPU second']:,.0f} a CPU second, {row['per second']:,.0f} a second"
                for name, row in results.items()
            ),
        ),
    )
