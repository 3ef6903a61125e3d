"""Processes of a demonstration: started, read line by line, and killed without a warning."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import anyio
import attrs
from anyio.streams.buffered import BufferedByteReceiveStream

from .._children import start

State = dict[str, Any]
"""The fields of one line that a process has printed."""
LONGEST = 65_536  # bytes of one line; it has some hundred


@attrs.frozen
class Process:
    """A process that prints its state again and again, one JSON object a line."""

    process: anyio.abc.Process
    _printed: BufferedByteReceiveStream

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    async def state(self) -> State | None:
        """The next state; ``None`` if the process prints no more."""
        try:
            state: State = json.loads(await self._printed.receive_until(b"\n", LONGEST))
        except (anyio.EndOfStream, anyio.IncompleteRead):
            return None
        return state

    def kill(self) -> None:
        """Send SIGKILL, if the process is still alive."""
        if self.process.returncode is None:
            self.process.kill()


@asynccontextmanager
async def running(module: ModuleType, *arguments: str) -> AsyncIterator[Process]:
    """A process in which ``main`` of this module runs until the block ends, in a group that a Ctrl-C does not reach."""
    command = [sys.executable, "-c", f"from {module.__name__} import main; main()", *arguments]
    process = await start(command, listened_to=True)
    assert process.stdout is not None
    reader = Process(process, BufferedByteReceiveStream(process.stdout))
    try:
        yield reader
    finally:
        with anyio.CancelScope(shield=True):
            reader.kill()
            await process.aclose()
