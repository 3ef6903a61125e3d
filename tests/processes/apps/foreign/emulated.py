"""An emulator in process, and one client of each kind that talks to it: what the suites have in common.

The suites stand for other people's repositories, so nothing here comes from `tests`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from userpilot_async import UserpilotAPI, UserpilotClient
from userpilot_async.emulator import Emulator
from userpilot_async.parcelvoy import ParcelvoyClient

KEY = "key-of-the-suites"
PARCELVOY = "https://parcelvoy.example.com"

# By class: how it is made, and how it tells the server of event number n.
KINDS: dict[str, tuple[Callable[..., Any], Callable[[Any, int], Any]]] = {
    "UserpilotClient": (
        lambda **options: UserpilotClient(KEY, **options),
        lambda client, n: client.track("u", "clicked", {"n": n}),
    ),
    "UserpilotAPI": (
        lambda **options: UserpilotAPI(KEY, **options),
        lambda client, n: client.track("u", "clicked", {"n": n}),
    ),
    "ParcelvoyClient": (
        lambda **options: ParcelvoyClient(KEY, PARCELVOY, **options),
        lambda client, n: client.track("clicked", external_id="u", data={"n": n}),
    ),
}


class Scene:
    """A client of this kind, not yet open, and what it was told; `check` compares that with what has arrived."""

    def __init__(self, kind: str, **options: Any) -> None:
        make, self._tell = KINDS[kind]
        self.kind = kind
        self.emulator = Emulator()
        self.client = make(transport=httpx.ASGITransport(self.emulator), **options)
        self._told = 0

    async def tell(self, calls: int = 1) -> None:
        """Make so many calls of the client."""
        for _ in range(calls):
            self._told += 1
            await self._tell(self.client, self._told)

    async def flush(self) -> None:
        """Wait until all of them have arrived, and look."""
        if self.kind != "UserpilotAPI":
            report = await self.client.flush(30)
            assert report.complete, report
        self.check()

    def check(self) -> None:
        """Once the client is closed, everything it was told has arrived, in that order."""
        arrived = [event.metadata["n"] for event in self.emulator.store.events]
        arrived += [event.data["n"] for event in self.emulator.store.parcelvoy.events]
        assert list(range(1, self._told + 1)) == arrived
        assert self._told, "the suite has called nothing"


@contextmanager
def emulator_process() -> Iterator[str]:
    """The URL of an emulator in a process of its own, for applications that read it from their environment."""
    command = [sys.executable, "-m", "userpilot_async.emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            listening = next(found for line in process.stdout if (found := re.search(r"listening on (\S+)", line)))
            yield listening[1]
        finally:
            process.kill()


def reports_at(url: str) -> list[str]:
    """The `report` of every event that the emulator at this URL has."""
    answer = httpx.get(f"{url}/__emulator__/events").raise_for_status()
    return [event["metadata"]["report"] for event in answer.json()["items"]]
