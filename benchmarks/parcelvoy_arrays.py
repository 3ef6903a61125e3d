"""Events a second to a local Parcelvoy, beside a loop by hand that posts arrays of the same size.

The local server is the emulator in a process of its own: it does what any server does, which is to read the events.
The same to a sink that only counts bytes shows what the client itself costs, with nothing to wait for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time

from benchmarks.cores import for_the_rest
from benchmarks.fresh import ROOT, measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import OURS

NAME = "parcelvoy_arrays"
CALLS = 50_000
ARRAY = 500  # the client's default
GOAL = 0.8
BY_HAND = "(httpx by hand, one array after the other)"


async def delivered(subject: str, url: str) -> Figures:
    """From the first call to the last answer."""
    started, used = perf_counter(), process_time()
    requests = await (through_the_client(url) if subject == OURS else by_hand(url))
    return {
        "per second": CALLS / (perf_counter() - started),
        "per CPU second": CALLS / (process_time() - used),
        "requests per 10,000": requests * 10_000 / CALLS,
    }


async def through_the_client(url: str) -> int:
    from userpilot_async.parcelvoy import ParcelvoyClient

    async with ParcelvoyClient("key", url) as parcelvoy:
        for number in range(CALLS):
            await parcelvoy.track(EVENT, external_id=user_id(number % 1_000), data=event(number))
        report = await parcelvoy.flush()
    assert report.statistics.delivered == CALLS
    return sum(report.statistics.requests.values())


async def by_hand(url: str) -> int:
    """A client written in ten minutes: no queue, no retries, no account, and nothing else can happen meanwhile."""
    import httpx

    headers = {"Authorization": "Bearer key", "Content-Type": "application/json"}
    async with httpx.AsyncClient(headers=headers) as http:
        for start in range(0, CALLS, ARRAY):
            events = [
                {"name": EVENT, "external_id": user_id(number % 1_000), "data": event(number)}
                for number in range(start, start + ARRAY)
            ]
            answer = await http.post(f"{url}/api/client/events", content=json.dumps(events))
            answer.raise_for_status()
    return CALLS // ARRAY


@contextmanager
def running_emulator() -> Iterator[str]:
    """The URL of a new one, on the core where the servers are."""
    command = [sys.executable, "-m", "userpilot_async.emulator"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=for_the_rest) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.kill()


def run(quick: bool) -> Row:
    rounds = 3 if quick else 7

    def once(name: str) -> Figures:
        with running_emulator() as url:  # a new one each time: it keeps every event
            return measure(delivered, subject=name, url=url)

    results = interleaved([OURS, BY_HAND], rounds, once)
    with running_sink() as url:
        sunk = interleaved([OURS, BY_HAND], rounds, lambda name: measure(delivered, subject=name, url=url))
    figures = column(results, "per second")
    share = figures[OURS] / figures[BY_HAND]
    return Row(
        name=NAME,
        what="events a second to a local Parcelvoy, in arrays of 500",
        unit="events",
        goal="≥ 0.8 of httpx by hand",
        met=share >= GOAL,
        figures=figures,
        more_is_better=True,
        notes=(
            f"{share:.2f} of the loop by hand, which waits for each answer before it makes the next array",
            f"to a sink that reads nothing: {sunk[OURS]['per second'] / sunk[BY_HAND]['per second']:.2f} of it",
            *(
                f"{name}{where}: {row['per second']:,.0f} a second, {row['per CPU second']:,.0f} a CPU second, "
                f"{row['requests per 10,000']:.0f} requests for 10,000 events"
                for where, rows in (("", results), (", to the sink", sunk))
                for name, row in rows.items()
            ),
        ),
    )
