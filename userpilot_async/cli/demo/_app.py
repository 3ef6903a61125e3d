"""The application that `demo --crash` kills, in a process of its own.

It accepts the calls of a file into an outbox on disk, sends what is there, and prints its state on stdout, 50 times a
second, one JSON object a line.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import anyio

from ..._client import UserpilotClient
from ..._errors.tree import InvalidCall
from ..._settings import Settings
from ..._userpilot.calls import Call, from_bytes

BURST = 300  # no other process spends from this budget
LINES = 1_200  # with more of them, the events alone would take longer than a minute's budget allows
TICK = 0.02  # seconds between two lines
PRINTED = ("accepted", "delivered", "merged", "pending", "in_flight", "possible_duplicates", "is_sender")


async def run(url: str, path: str, sample: Path) -> None:
    """Accept the calls of ``sample`` from where the outbox at ``path`` ends, and send them to ``url``."""
    settings = Settings(burst=BURST, when_full="wait", max_wait=None)
    outbox = f"sqlite:///{quote(path)}?durability=process"  # the power does not fail here
    client = UserpilotClient("demo", region="us", base_url=url, outbox=outbox, settings=settings, disabled=False)
    async with client:
        accepted = client.statistics().accepted

        async with anyio.create_task_group() as beside:
            beside.start_soon(keep_printing, lambda: print_state(client, accepted=accepted, done=False))
            for call in islice(calls(lines_of(sample)), accepted, None):
                await client.enqueue(call)
                accepted += 1
            await client.flush()
            beside.cancel_scope.cancel()
        print_state(client, accepted=accepted, done=True)


async def keep_printing(print_once: Callable[[], None]) -> None:
    """Call ``print_once`` every `TICK` seconds, until the task is cancelled."""
    while True:
        await anyio.sleep(TICK)
        print_once()


def print_state(client: UserpilotClient, **more: int | bool) -> None:
    """Print the client's counts, and ``more``, as one JSON line on stdout."""
    seen = client.statistics()
    state = {name: getattr(seen, name) for name in PRINTED}
    sys.stdout.write(json.dumps({**state, **more}) + "\n")
    sys.stdout.flush()


def lines_of(sample: Path) -> list[bytes]:
    """Enough of the sample for a short story: what the first 199 users do, who are as busy as all others together."""
    with gzip.open(sample) as file:
        return list(islice((line for line in file if b'"user-00' in line or b'"user-01' in line), LINES))


def calls(lines: Iterable[bytes]) -> Iterator[Call]:
    """The calls on these lines, without the bad lines."""
    for line in lines:
        try:
            call = from_bytes(line)
        except InvalidCall:
            continue
        yield call


def main() -> None:
    """Run the application; its arguments are a URL, a path and the sample."""
    anyio.run(run, sys.argv[1], sys.argv[2], Path(sys.argv[3]))
