"""The time in which something is open: a task group, and what is done at its two ends.

A task group must be entered and left by the same task. Applications open a client in one task and leave it in another:
fixtures of pytest-asyncio, `IsolatedAsyncioTestCase`, start and stop hooks of frameworks, cells of a notebook. So on
asyncio the task group lives in a task of its own (`_Host`). On trio it stays where it was opened, as everything does
there.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Any, Protocol, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._errors.tree import ClientNotOpen
from .event_loop import loop_here, on_trio

T = TypeVar("T")
E = TypeVar("E", bound="Enterable")
S = TypeVar("S", bound="Startable")
Opened = Callable[[TaskGroup], Awaitable[object]]


class Lifetime(AbstractAsyncContextManager[T, None]):
    """Give ``value`` out between ``opened(tasks)`` and ``closing()``, which no scope can cancel.

    ``opened`` runs in the task that has the task group, ``closing`` in the task that leaves. What the application
    raises inside travels out as it is. ``lost()`` is called where the tasks end before the block is left: the loop is
    being shut down, the application has cancelled them, or the opening was cancelled when ``opened`` had done its work.
    Not an async generator: the loop finishes one that was forgotten in a task of the loop's own, where a task group
    cannot be left.
    """

    def __init__(
        self,
        value: T,
        opened: Opened,
        closing: Callable[[], Awaitable[object]],
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        self._value = value
        self._opened = opened
        self._closing = closing
        self._lost = lost
        self._host: _Host = _InThisTask() if on_trio() else _InItsOwnTask(lost)
        self._loop = loop_here()

    async def __aenter__(self) -> T:
        try:
            await self._host.start(self._opened)
        except BaseException:
            self._lost()
            raise
        return self._value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is GeneratorExit and loop_here() is not self._loop:
            self._lost()  # the loop has ended, and what was in the block is garbage: nothing can be awaited any more
            return
        if loop_here() is None:
            return  # in a forked child, whose asyncio takes the loop that goes on for none: all of it is the parent's
        try:
            with anyio.CancelScope(shield=True):
                await self._closing()
        finally:
            await self._host.end()


def weakly(method: Callable[..., object]) -> Callable[..., object]:
    """Give a function that calls ``method`` while its object lives: for what outlives a client that was forgotten.

    Such a client must be collected, or its loss would not be heard of.
    """
    weak = weakref.WeakMethod(method)

    def call(*arguments: object) -> None:
        method = weak()
        if method is not None:
            method(*arguments)

    return call


class Enterable:
    """``async with`` for a class that has a `Lifetime`.

    Not anyio's `AsyncContextManagerMixin`, which does the same: `typing.get_type_hints` cannot resolve its annotations,
    and so those of no class that is made of it.
    """

    _entered: Lifetime[Any] | None = None

    def __asynccontextmanager__(self) -> Lifetime[Any]:
        raise NotImplementedError

    async def __aenter__(self: E) -> E:
        if self._entered is not None:
            raise RuntimeError(f"this {type(self).__name__} has already been entered")
        lifetime = self._entered = self.__asynccontextmanager__()  # before the wait: another task may come meanwhile
        try:
            value: E = await lifetime.__aenter__()
        except BaseException:
            self._entered = None
            raise
        return value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lifetime, self._entered = self._entered, None
        if lifetime is None:
            raise RuntimeError(f"this {type(self).__name__} has not been entered yet")
        await lifetime.__aexit__(kind, error, traceback)


class Startable(Enterable):
    """A class that is opened by ``async with``, and on asyncio also by `start`, which its ``aclose`` ends."""

    _was_started = False

    async def start(self: S) -> S:
        """Open it without ``async with``, for hooks that start and stop; ``await … .aclose()`` ends what this begins.

        On asyncio only, where any task may do either; gives the object itself. Raises what ``async with`` raises, and
        `ClientNotOpen` on trio, where the task that enters a block must leave it.
        """
        if on_trio():
            raise ClientNotOpen(
                f"on trio a {type(self).__name__} is opened by `async with`: structured concurrency wants the same task"
                " to open and to leave it, which start() and aclose() do not"
            )
        await self.__aenter__()
        self._was_started = True
        return self

    async def _end_start(self) -> None:
        """Leave the block that `start` has entered, if it did."""
        if self._was_started:
            self._was_started = False
            await self.__aexit__(None, None, None)


class _Host(Protocol):
    """The task that has the task group, from `start` to `end`."""

    async def start(self, opened: Opened) -> None:
        """Enter the task group and call ``opened`` with it; raises what that raises."""
        ...

    async def end(self) -> None:
        """Cancel what runs in the task group and leave it; raises what its tasks have raised."""
        ...


class _InThisTask:
    """The task that starts it has the task group, and must end it."""

    async def start(self, opened: Opened, breaks_off: anyio.CancelScope | None = None) -> None:
        """Start as `_Host.start` says; ``breaks_off`` is a scope for the opening alone."""
        self.tasks = anyio.create_task_group()
        await self.tasks.__aenter__()
        try:
            with breaks_off or nullcontext():
                await opened(self.tasks)
                # The tasks take their first step now: one that is cancelled natively before it cannot look after
                # itself.
                await anyio.lowlevel.checkpoint()
        except BaseException:
            await self.end()
            raise

    async def end(self) -> None:
        """Cancel what runs in the task group and leave it, as `_Host.end` says."""
        self.tasks.cancel_scope.cancel()
        await self.tasks.__aexit__(None, None, None)


class _InItsOwnTask:
    """An asyncio task has the task group: any task may start it, and any may end it.

    It outlives a native cancellation (by an application that cancels all tasks there are) for as long as the task that
    started it lives. Without that one it ends: `asyncio.run` cancels all tasks, once, and waits for them.
    """

    def __init__(self, lost: Callable[[], object]) -> None:
        self._lost = lost
        self._inside = _InThisTask()
        self._error: BaseException | None = None
        self._ending = False

    async def start(self, opened: Opened) -> None:
        """Start as `_Host.start` says. Cancelled meanwhile, it breaks off the opening."""
        import asyncio  # a fifth of this package's import time, and loaded already wherever it is needed

        self._starter = weakref.ref(asyncio.current_task() or self)  # not to be kept alive by the client's task
        self._started, self._stop, self._over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._opening = anyio.CancelScope()
        # The loop knows its tasks by weak references only: so this one is held.
        self._task = asyncio.get_running_loop().create_task(self._run(opened), name="userpilot_async")
        try:
            await self._started.wait()
        except BaseException:
            self._opening.cancel()
            self._ending = True
            self._stop.set()
            with anyio.CancelScope(shield=True):
                await self._over.wait()
            raise
        if self._error is not None:
            raise self._error

    async def end(self) -> None:
        """Have the task leave its task group, as `_Host.end` says."""
        self._ending = True
        self._stop.set()
        with anyio.CancelScope(shield=True):
            await self._over.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def _run(self, opened: Opened) -> None:
        import asyncio

        try:
            await self._inside.start(opened, self._opening)
            del opened  # the client's own method: this task must not keep a client that was forgotten
            self._started.set()
            if not self._opening.cancelled_caught:
                await self._wait_for_the_end()
            await self._inside.end()
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError) or not self._started.is_set():  # then it was this task's
                self._error = error
        finally:
            self._started.set()
            self._over.set()
            if not self._ending:
                self._lost()

    async def _wait_for_the_end(self) -> None:
        import asyncio

        while not self._stop.is_set():
            try:
                await self._stop.wait()
            except asyncio.CancelledError:
                starter = self._starter()
                if self._inside.tasks.cancel_scope.cancel_called:
                    return
                if not isinstance(starter, asyncio.Task) or starter.done():
                    return
                me = asyncio.current_task()
                while me is not None and me.uncancel():
                    continue
                starter.add_done_callback(lambda _: self._stop.set())
