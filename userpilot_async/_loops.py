"""The event loop one is running in: asked cheaply, where anyio's own questions cost a microsecond each."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import anyio

T = TypeVar("T")


def on_trio() -> bool:
    """Ask whether this is called in a task of trio's."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def cancelled_natively() -> bool:
    """Ask in an ``except`` for a cancellation: nobody's scope did it, but `Task.cancel` on this very task.

    A loop that is shut down does that, or an application that cancels all tasks there are. A task of ours ends
    then; if the cancellation went on, anyio's task group would cancel the application's own task with it.
    """
    return anyio.current_effective_deadline() != -math.inf


def host_here() -> Callable[[], bool]:
    """Give a function that tells whether the task in which this is called has ended; never true on trio."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return lambda: False
    import asyncio  # a fifth of this package's import time, and loaded already wherever it is needed

    task = asyncio.current_task()
    return task.done if task is not None else lambda: False


def clock_here() -> Callable[[], float]:
    """The clock of the loop this is called in, as a plain function; raises `RuntimeError` outside of any."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        current_time: Callable[[], float] = trio.lowlevel.current_clock().current_time  # also outside of trio's run
        return current_time
    import asyncio

    return asyncio.get_running_loop().time


def loop_here() -> object:
    """What stands for the loop that runs in this thread, or ``None``."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token()
    asyncio = sys.modules.get("asyncio")
    return asyncio._get_running_loop() if asyncio is not None else None


def soon_here() -> Callable[..., object]:
    """What calls a function soon in the loop that this is called in, from any thread: ``soon(function, *arguments)``.

    It raises `RuntimeError` when that loop has ended.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        run_soon: Callable[..., object] = trio.lowlevel.current_trio_token().run_sync_soon
        return run_soon
    import asyncio

    return asyncio.get_running_loop().call_soon_threadsafe


async def in_thread(function: Callable[[], T]) -> T:
    """Call the function in a daemon thread of its own, and give what it gives, or raise what it raises.

    anyio keeps its threads for the next call, and the interpreter waits for them at its end: for ever, where a loop
    was stopped in the middle.
    """
    done, soon = anyio.Event(), soon_here()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            soon(done.set)

    threading.Thread(target=work, name="userpilot_async", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]
    return results[0]
