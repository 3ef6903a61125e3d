"""Serving on a socket of this machine, by uvicorn and h11: an emulator, or another app that people look at."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from userpilot_async.emulator._cut import CuttableProtocol
from userpilot_async.emulator._emulator import Emulator

GRACE = 1  # seconds that running requests have left after a signal: an emulated outage is not waited for


def listen(host: str, port: int) -> socket.socket:
    """A socket on this address; port 0 takes a free one. Raises OSError if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def url_of(listener: socket.socket, host: str) -> str:
    """The URL of what listens there, without a slash at its end."""
    shown_host = f"[{host}]" if ":" in host else host
    return f"http://{shown_host}:{listener.getsockname()[1]}"


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
    with listen(host, port) as listener:
        url = url_of(listener, host)
        ready = partial(on_ready, url) if on_ready is not None else None
        # The emulator dates its answers by its own clock.
        await serve_app(emulator, listener, ready, verbose=verbose, http=CuttableProtocol, date_header=False)


async def serve_app(
    app: ASGIApp,
    listener: socket.socket,
    on_ready: Callable[[], object] | None = None,
    *,
    verbose: bool = False,
    **options: Any,  # of uvicorn's Config
) -> None:
    """Serve any app until SIGINT or SIGTERM, or until cancelled; returns normally, and leaves no connection open."""
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        proxy_headers=False,  # X-Forwarded-Proto is what a client says, and part of the origin
        server_header=False,
        access_log=verbose,
        log_config=None,
        log_level="info" if verbose else "critical",
        timeout_graceful_shutdown=GRACE,
        **options,
    )
    server = _Server(config, on_ready)
    try:
        await server.serve(sockets=[listener])
    finally:
        server.drop()


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and leaves quietly."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object] | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready()

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
        how a run ends well.
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
