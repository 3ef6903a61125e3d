"""The time in which something is open: a task group, and what is done at its two ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

T = TypeVar("T")
E = TypeVar("E", bound="Enterable")


class Lifetime(AbstractAsyncContextManager[T, None]):
    """Give ``value`` out between ``opened(tasks)`` and ``closing()``, which no scope can cancel.

    What the application raises inside travels out as it is; what one of the tasks raises travels out as anyio's
    exception group. Not an async generator: the loop finishes one that was forgotten in a task of the loop's own,
    where a task group cannot be left, and cancels the application's task in the attempt.
    """

    def __init__(
        self, value: T, opened: Callable[[TaskGroup], Awaitable[object]], closing: Callable[[], Awaitable[object]]
    ) -> None:
        self._value = value
        self._opened = opened
        self._closing = closing

    async def __aenter__(self) -> T:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        try:
            await self._opened(self._tasks)
            # The tasks take their first step now: one that is cancelled natively before it cannot look after itself.
            await anyio.lowlevel.checkpoint()
        except BaseException:
            await self._end()
            raise
        return self._value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self._closing()
        finally:
            await self._end()

    async def _end(self) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)


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
        lifetime = self.__asynccontextmanager__()
        value: E = await lifetime.__aenter__()
        self._entered = lifetime
        return value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lifetime, self._entered = self._entered, None
        if lifetime is None:
            raise RuntimeError(f"this {type(self).__name__} has not been entered yet")
        await lifetime.__aexit__(kind, error, traceback)
