"""Requests in tasks of our own: a native cancellation of who has asked cannot break the pool of connections."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from .._errors.tree import ClientClosed, ClientNotOpen, WrongLoop
from .._runtime.event_loop import HomeLoop, cancelled_natively

T = TypeVar("T")


class RequestTasks:
    """The task group in which an API client makes its requests, and the loop that it belongs to."""

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self._home: HomeLoop | None = None

    def open(self, tasks: TaskGroup, most: int) -> None:
        """Make requests in ``tasks`` from now on, in this event loop, at most so many at a time."""
        self._limiter = anyio.Semaphore(most)
        self._tasks, self._home = tasks, HomeLoop.here()

    def lose(self) -> None:
        """Take no more requests: the tasks have ended, or are about to."""
        self._tasks = None

    async def run(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The result of ``ask``, run in a task of our own.

        Raises `ClientNotOpen`, `ClientClosed` or `WrongLoop` where no request can be made, and what ``ask`` raises.
        """
        tasks = self._here()
        answers: list[T] = []
        bugs: list[Exception] = []
        finished = anyio.Event()
        scope = anyio.CancelScope()

        async def run() -> None:
            try:
                with scope:
                    async with self._limiter:
                        answers.append(await ask())
            except anyio.get_cancelled_exc_class():
                if not cancelled_natively():
                    raise
            except Exception as bug:  # for who asked, and not for all who use these tasks
                bugs.append(bug)
            finally:
                finished.set()

        tasks.start_soon(run)
        try:
            await finished.wait()
        finally:
            scope.cancel()
        if bugs:
            raise bugs[0]
        if not answers:
            raise ClientClosed("the API client was closed, or its tasks cancelled, while this request was under way")
        return answers[0]

    def _here(self) -> TaskGroup:
        """The task group for requests; raises if that is not in this loop, and open."""
        home = self._home
        if home is None:
            message = "the API client is not open yet: use it as `async with UserpilotAPI(...) as api`"
            raise ClientNotOpen(f"{message}, or open the client that it belongs to")
        if self._tasks is None:
            raise ClientClosed("the API client is not open any more: it was closed, or its tasks were cancelled")
        if home.runs_here():
            return self._tasks
        if home.pid != os.getpid():
            raise ClientClosed("the API client was open in the parent process: open one of its own after the fork")
        if home.has_ended():
            raise ClientClosed("the API client was not closed before its event loop ended")
        message = "the API client belongs to another event loop or thread: open one for this loop"
        raise WrongLoop(f"{message}, or, in a worker thread of that loop, call `anyio.from_thread.run(api.track, ...)`")
