"""The emulator on a port, in a thread of this process: for other processes, other languages, browsers."""

from __future__ import annotations

import asyncio
import queue
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .._runtime.event_loop import in_thread

if TYPE_CHECKING:
    from ..emulator import Emulator, Faults, Store

STARTS_WITHIN = 10.0  # seconds


class EmulatorServer:
    """An emulator that answers at `url` from ``with`` (or ``async with``, or `start`) on.

    ``emulator`` is one to serve, or else it is made with the ``options`` of `userpilot_async.emulator.Emulator`.
    ``host`` is where it listens, ``"0.0.0.0"`` for other machines, which then need an ``allow_hosts``; ``port`` 0 takes
    a free one. Needs ``userpilot-async[emulator]``.
    """

    def __init__(
        self, emulator: Emulator | None = None, *, host: str = "127.0.0.1", port: int = 0, **options: Any
    ) -> None:
        from ..emulator import Emulator

        if emulator is not None and options:
            raise TypeError("an emulator that is given has its options already")
        self.emulator: Emulator = Emulator(**options) if emulator is None else emulator
        """The emulator that is served, in this process."""
        self.url: str = ""
        """The base URL for clients, without a slash at its end; empty before the start."""
        self._host, self._port = host, port
        self._thread: Thread | None = None

    def __repr__(self) -> str:
        """Give the URL, if there is one."""
        return f"<EmulatorServer {self.url or 'not started'}>"

    @property
    def store(self) -> Store:
        """All that the server has, jobs up to now; raises `LookupError` if several keys have accounts: `store_of`."""
        self.emulator.advance()
        return self.emulator.store

    def store_of(self, key: str) -> Store:
        """All that came with this key, jobs up to now, where several keys have accounts of their own.

        Raises `LookupError` if no call with it was accepted.
        """
        self.emulator.advance()
        return self.emulator.store_of(key)

    @property
    def faults(self) -> Faults:
        """The faults in place: ``server.faults.add(Fault(status=503))``."""
        return self.emulator.faults

    def start(self) -> EmulatorServer:
        """Listen from now on, and give this. Raises `OSError` if the address cannot be bound."""
        if self._thread is not None:
            raise RuntimeError(f"this server is running: {self.url}")
        ready: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()
        thread = Thread(target=self._run, args=(ready,), name="userpilot-emulator", daemon=True)
        thread.start()
        came = ready.get(timeout=STARTS_WITHIN)
        if isinstance(came, BaseException):
            thread.join()
            raise came
        self.url, self._thread = came, thread
        return self

    def stop(self) -> None:
        """Hang up, and end the thread. May be called again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            thread.join()

    def __enter__(self) -> EmulatorServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> EmulatorServer:
        return await in_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, ready: queue.SimpleQueue[str | BaseException]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:  # raised where it was started; nothing is waited for after that
            ready.put(error)

    async def _serve(self, ready: queue.SimpleQueue[str | BaseException]) -> None:
        from ..emulator import serve

        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(serve(self.emulator, self._host, self._port, ready.put))
        with suppress(asyncio.CancelledError):
            await self._task
