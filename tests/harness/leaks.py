"""Counting sockets, threads and tasks before and after, to see what stayed behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

import anyio
import attrs
import sniffio
import trio

if TYPE_CHECKING:
    from typing import Self

# Both libraries keep idle worker threads for some seconds, for the next call. They are no leak.
_POOLED_THREADS = ("AnyIO worker thread", "asyncio_", "Trio thread", "trio-", "ThreadPoolExecutor")


@attrs.frozen
class Resources:
    """What this process holds at one moment."""

    sockets: int
    threads: int
    tasks: int  # of the running loop; 0 outside of one
    memory_bytes: int  # resident

    @classmethod
    def now(cls) -> Resources:
        return cls(sockets=_sockets(), threads=_threads(), tasks=_tasks(), memory_bytes=_memory_bytes())


class free_of_leaks:
    """A block after which sockets, threads and tasks must be back to where they were before it.

    Use `with` around plain code and `async with` inside a loop, which then gets turns to finish closing.
    `within` is the time it may take, on the caller's clock. Memory is compared only if
    `memory_slack_bytes` is given: allocators keep pages, so it takes a warmed-up process to mean anything.
    """

    def __init__(self, *, within: float = 10.0, memory_slack_bytes: int | None = None) -> None:
        self._within = within
        self._memory_slack_bytes = memory_slack_bytes

    def __enter__(self) -> Self:
        gc.collect()
        self.before = Resources.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            return
        deadline = time.monotonic() + self._within
        while (leaked := self._leaked()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not leaked, leaked

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            return
        deadline = anyio.current_time() + self._within
        while (leaked := self._leaked()) and anyio.current_time() < deadline:
            await anyio.sleep(0.01)
        assert not leaked, leaked

    def _leaked(self) -> str:
        """A sentence about what stayed behind, or nothing."""
        now = Resources.now()
        if self._grown(now):
            gc.collect()
            now = Resources.now()
        grown = self._grown(now)
        if not grown:
            return ""
        threads = ", ".join(thread.name for thread in threading.enumerate())
        return f"left behind: {'; '.join(grown)} (threads alive: {threads})"

    def _grown(self, now: Resources) -> list[str]:
        allowed = {"sockets": 0, "threads": 0, "tasks": 0}
        if self._memory_slack_bytes is not None:
            allowed["memory_bytes"] = self._memory_slack_bytes
        return [
            f"{name} {getattr(self.before, name)} → {getattr(now, name)}"
            for name, slack in allowed.items()
            if getattr(now, name) > getattr(self.before, name) + slack
        ]


def _sockets() -> int:
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor of the listing itself is gone by now
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    return found


def _threads() -> int:
    return sum(not thread.name.startswith(_POOLED_THREADS) for thread in threading.enumerate())


def _tasks() -> int:
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return 0
    return len(asyncio.all_tasks()) if library == "asyncio" else trio.lowlevel.current_statistics().tasks_living


def _memory_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
