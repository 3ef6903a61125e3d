"""Serving an emulator on a socket, by uvicorn and h11."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from userpilot_async.emulator._cut import CuttableProtocol
from userpilot_async.emulator._emulator import Emulator

GRACE = 1  # seconds that running requests have left after a signal: an emulated outage is not waited for


async def serve(
    emulator: Emulator,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], object] | None = None,
    *,
    verbose: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM, or until cancelled; returns normally. Needs asyncio.

    Port 0 takes a free one. `on_ready` is called with the URL once connections are accepted. OSError if the address
    cannot be bound. Requests for `host` are answered, besides those that the emulator answers anyway. Only with
    `verbose` does uvicorn log what it logs.
    """
    if host:  # "" is every address of this machine, and no name of it
        try:
            emulator.allow_host(host)
        except ValueError:
            raise OSError(errno.EINVAL, "that is no host's name or address") from None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        config = uvicorn.Config(
            emulator,
            http=CuttableProtocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,  # X-Forwarded-Proto is what a client says, and part of the origin
            date_header=False,  # the emulator dates its answers by its own clock
            server_header=False,
            access_log=verbose,
            log_config=None,
            log_level="info" if verbose else "critical",
            timeout_graceful_shutdown=GRACE,
        )
        shown_host = f"[{host}]" if ":" in host else host
        url = f"http://{shown_host}:{listener.getsockname()[1]}"
        server = _Server(config, url, on_ready)
        try:
            await server.serve(sockets=[listener])
        finally:
            server.drop()


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and leaves quietly."""

    def __init__(self, config: uvicorn.Config, url: str, on_ready: Callable[[str], object] | None) -> None:
        super().__init__(config)
        self._url = url
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready(self._url)

    def drop(self) -> None:
        """Hang up on everybody who is still there, as after a cancellation: nothing stays for the garbage collector."""
        if self.started:
            for each in self.servers:
                each.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in self.server_state.tasks:
            task.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal like uvicorn, but do not raise it again afterwards.

        uvicorn does, so that the process seems to have died of the signal: -15, or a traceback. To be told to stop is
        how an emulator's run ends well.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
