"""The console on a port of this machine, by uvicorn, until a signal."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

GRACE = 1  # seconds that running requests have left after a signal


def listen(host: str, port: int) -> socket.socket:
    """A socket on this address; port 0 takes a free one. Raises `OSError` if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def url_of(listener: socket.socket, host: str) -> str:
    """The URL of what listens there."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


async def serve(app: ASGIApp, listener: socket.socket, on_ready: Callable[[], object]) -> None:
    """Serve until SIGINT or SIGTERM; ``on_ready`` is called when requests are answered."""
    config = uvicorn.Config(
        app, ws="none", lifespan="off", proxy_headers=False, server_header=False, access_log=False, log_config=None,
        log_level="critical", timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
    await _Server(config, on_ready).serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready, and ends well on a signal."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal as uvicorn does, but do not raise it again afterwards: it would look like a crash."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
