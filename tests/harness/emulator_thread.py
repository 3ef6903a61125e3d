"""An emulator on a port of the loopback, in a thread of this process: what most tests that need a URL need."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

from userpilot_async.emulator import serve
from userpilot_async.emulator.__main__ import arguments, made


@contextmanager
def emulator_thread(*words: str) -> Iterator[str]:
    """The base URL of an emulator with these words of its command line. A process would take a second to start."""
    options = arguments(words)
    ready: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def main() -> None:
        task = asyncio.ensure_future(serve(made(options), options.host, options.port, ready.put))
        running.append((asyncio.get_running_loop(), task))
        with suppress(asyncio.CancelledError):
            await task

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            ready.put(error)
            raise

    thread = Thread(target=run, name="an emulator")
    thread.start()
    url = ready.get(timeout=10.0)
    if isinstance(url, BaseException):
        raise url
    try:
        yield url
    finally:
        loop, task = running[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
