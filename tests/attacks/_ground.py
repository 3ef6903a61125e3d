"""Where attacks take place: what must hold after each of them is checked here."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tests.harness.stage.calls import person
from tests.harness.stage.scenes import OnSockets, on_sockets

MEGABYTE = 1024 * 1024
SURVIVOR = 999_999


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """The block holds at most so many bytes of Python's at any moment, the test's own server included."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most >= peak


@asynccontextmanager
async def under_attack(server: Any, settings: Any = None, *, memory: int = 48 * MEGABYTE) -> AsyncIterator[OnSockets]:
    """A client of a hostile server. Afterwards a fresh call arrives, the account adds up, and nothing is left behind.

    No line of the log has a character that would begin another line, or command a terminal.
    """
    with little_memory(memory):
        async with on_sockets(server, settings) as scene:
            yield scene
            await scene.track(person(SURVIVOR))
            await scene.drained()
    for line in [*(line for _, line in scene.log.lines), *scene.log.details]:
        assert line.split("\nTraceback", 1)[0].isprintable(), line
    assert "delivered" == scene.receipts[person(SURVIVOR), 1].status
