"""The time in which something is open: a task group, and what is done at its two ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

T = TypeVar("T")


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
