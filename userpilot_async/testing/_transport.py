"""The way from a client to an emulator in this process: httpx's transport for ASGI, and what it lacks."""

from __future__ import annotations

from urllib.parse import urlsplit

from .._runtime.http import httpx
from ..emulator import ConnectionCut, Emulator


class InProcess(httpx.ASGITransport):
    """Takes requests for ``base_url`` to the emulator; a connection that it cuts is a `httpx.ReadError`.

    The path of the URL, which is a proxy's, is taken off: the emulator has none.
    """

    def __init__(self, emulator: Emulator, base_url: str) -> None:
        super().__init__(emulator)
        self._prefix = urlsplit(base_url).path.rstrip("/").encode()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Give the answer of the emulator to this request."""
        if self._prefix:
            request.url = request.url.copy_with(raw_path=request.url.raw_path.removeprefix(self._prefix))
        try:
            return await super().handle_async_request(request)
        except ConnectionCut as cut:
            raise httpx.ReadError("the connection was cut", request=request) from cut
