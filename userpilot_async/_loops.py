"""The event loop one is running in, asked cheaply: anyio's own questions cost a microsecond each."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable

import anyio
import attrs


@attrs.frozen
class Loop:
    """Two questions to ask on every call."""

    time: Callable[[], float]
    """Seconds on the loop's clock; what `anyio.current_time` says."""
    here: Callable[[], object]
    """What stands for the loop that runs in this thread, or ``None``."""


def cancelled_natively() -> bool:
    """Ask in an ``except`` for a cancellation: nobody's scope did it, but `Task.cancel` on this very task.

    A loop that is shut down does that, or an application that cancels all tasks there are. A task of ours ends
    then; if the cancellation went on, anyio's task group would cancel the application's own task with it.
    """
    return anyio.current_effective_deadline() != -math.inf


def this_loop() -> Loop:
    """The loop this is called in; raises `RuntimeError` outside of any."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        in_run, token = trio.lowlevel.in_trio_run, trio.lowlevel.current_trio_token
        return Loop(trio.current_time, lambda: token() if in_run() else None)
    return Loop(asyncio.get_running_loop().time, asyncio._get_running_loop)
