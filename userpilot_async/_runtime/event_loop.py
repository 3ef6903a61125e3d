"""The event loop one is running in: asked cheaply, where anyio's own questions cost a microsecond each."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Any, Protocol, TypeVar

import anyio
import attrs

T = TypeVar("T")


def on_trio() -> bool:
    """Ask whether this is called in a task of trio's."""
    return _trio_here() is not None


def _trio_here() -> Any:
    """trio, if this is called in its run, else ``None``. `Any`: it need not be installed.

    httpcore loads whatever trio is installed, of any age, also where asyncio runs; and perhaps in another thread, which
    is not ready with it.
    """
    trio = sys.modules.get("trio")
    lowlevel = getattr(trio, "lowlevel", None)
    if lowlevel is None:
        return None
    runs = getattr(lowlevel, "in_trio_run", None)
    if runs is None:  # before trio 0.29
        try:
            lowlevel.current_trio_token()
        except (RuntimeError, AttributeError):
            return None
        return trio
    return trio if runs() else None


def cancelled_natively() -> bool:
    """Ask in an ``except`` for a cancellation whether no scope did it, but `Task.cancel` on this very task.

    A loop that is shut down does that, or an application that cancels all tasks there are. A task of ours ends
    then; if the cancellation went on, anyio's task group would cancel the application's own task with it.
    """
    return anyio.current_effective_deadline() != -math.inf


def cancel_in(loop: object, scope: anyio.CancelScope) -> None:
    """Cancel a scope of this asyncio loop, from outside of its tasks and callbacks, but in its thread.

    anyio asks asyncio for the running loop. That is none between two `run_until_complete`, and none in a forked child.
    """
    import asyncio

    running = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)  # type: ignore[arg-type]  # it is what `loop_here` gave
    try:
        scope.cancel()
    finally:
        asyncio._set_running_loop(running)


def host_here() -> Callable[[], bool]:
    """Give a function that tells whether the task in which this is called has ended; never true on trio."""
    trio = _trio_here()
    if trio is not None:
        return lambda: False
    import asyncio  # a fifth of this package's import time, and loaded already wherever it is needed

    task = asyncio.current_task()
    return task.done if task is not None else lambda: False


def clock_here() -> Callable[[], float]:
    """Give the clock of the loop this is called in, as a plain function; raises `RuntimeError` outside of any."""
    trio = _trio_here()
    if trio is not None:
        current_time: Callable[[], float] = trio.lowlevel.current_clock().current_time  # also outside of trio's run
        return current_time
    import asyncio

    return asyncio.get_running_loop().time


def loop_here() -> object:
    """Give the object that stands for the loop that runs in this thread, or ``None``."""
    trio = _trio_here()
    if trio is not None:
        return trio.lowlevel.current_trio_token()
    asyncio = sys.modules.get("asyncio")
    return asyncio._get_running_loop() if asyncio is not None else None


def soon_here() -> Callable[..., object]:
    """Give the function by which any thread has another called in this loop: ``soon(function, *arguments)``.

    It raises `RuntimeError` when that loop has ended.
    """
    trio = _trio_here()
    if trio is not None:
        run_soon: Callable[..., object] = trio.lowlevel.current_trio_token().run_sync_soon
        return run_soon
    import asyncio

    return asyncio.get_running_loop().call_soon_threadsafe


def behind_here() -> Callable[..., object]:
    """Give the function by which this loop calls another, behind all that is due: ``behind(function, *arguments)``.

    To be called in the loop's own thread, where `soon_here` would wake a loop that is awake.
    """
    if on_trio():
        return soon_here()
    import asyncio

    return asyncio.get_running_loop().call_soon


class Event(Protocol):
    """An event of the loop's own library, as `event_here` gives it."""

    def set(self) -> object:
        """Wake all who wait, and let nobody wait any more."""
        ...

    async def wait(self) -> object:
        """Wait until it is set."""
        ...


def events_here() -> Callable[[], Event]:
    """Give the class of events of this loop's own library, for whoever makes many: each `anyio.Event` costs 3 µs.

    Raises `RuntimeError` where no loop runs: nobody could wait there.
    """
    trio = _trio_here()
    if trio is not None:
        events: Callable[[], Event] = trio.Event
        return events
    import asyncio

    asyncio.get_running_loop()
    return asyncio.Event


def event_here() -> Event:
    """Give an event of this loop's own library. Raises `RuntimeError` where no loop runs."""
    return events_here()()


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
        with suppress(RuntimeError):  # the loop has ended, and with it the waiting
            soon(done.set)

    threading.Thread(target=work, name="userpilot_async", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]
    return results[0]


@attrs.frozen(eq=False)
class HomeLoop:
    """The event loop in which a client was opened, as other threads, other loops and forked children see it."""

    loop: object
    """The object that `loop_here` gives in the loop."""
    thread: int
    """The `get_ident` of the thread in which the loop runs."""
    pid: int
    """The id of the process in which the loop runs."""
    soon: Callable[..., object]
    """The function that `soon_here` gives in the loop."""

    @classmethod
    def here(cls) -> HomeLoop:
        """Give the loop in which this is called; raises `RuntimeError` outside of any."""
        return cls(loop_here(), get_ident(), os.getpid(), soon_here())

    def runs_here(self) -> bool:
        """Ask whether this is called in a task or a callback of this very loop."""
        return loop_here() is self.loop

    def has_ended(self) -> bool:
        """Ask whether the loop runs nothing any more: it was closed, or this is a forked child, without it."""
        if self.pid != os.getpid():
            return True
        is_closed: Callable[[], bool] | None = getattr(self.loop, "is_closed", None)
        if is_closed is not None:
            return is_closed()
        try:  # trio's token has no such question
            self.soon(_nothing)
        except RuntimeError:
            return True
        return False


def _nothing() -> None:
    """Do nothing, for a question whether this would be called."""
