"""Processes of a demonstration: started, listened to, and killed without a warning."""

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

Moment = dict[str, Any]
LONGEST = 65_536  # bytes of what is said of one moment; it is some hundred


@attrs.frozen
class Process:
    """A process that says each moment on a line of its own, as JSON."""

    process: anyio.abc.Process
    _said: BufferedByteReceiveStream

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    async def moment(self) -> Moment | None:
        """The next one; ``None`` if it says no more."""
        try:
            moment: Moment = json.loads(await self._said.receive_until(b"\n", LONGEST))
        except (anyio.EndOfStream, anyio.IncompleteRead):
            return None
        return moment

    def kill(self) -> None:
        """SIGKILL, if it is still alive."""
        if self.process.returncode is None:
            self.process.kill()


@asynccontextmanager
async def living(module: ModuleType, *arguments: str) -> AsyncIterator[Process]:
    """A process in which ``main`` of this module runs until the block ends, in a group that a Ctrl-C does not reach."""
    command = [sys.executable, "-c", f"from {module.__name__} import main; main()", *arguments]
    process = await start(command, listened_to=True)
    assert process.stdout is not None
    life = Process(process, BufferedByteReceiveStream(process.stdout))
    try:
        yield life
    finally:
        with anyio.CancelScope(shield=True):
            life.kill()
            await process.aclose()
