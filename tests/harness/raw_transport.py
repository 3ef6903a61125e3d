"""A network in memory: real httpx, httpcore and h11 over bytes that a script makes up. For a clock that jumps."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any

import anyio.lowlevel
import httpcore
import httpx

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"
SERVER_ANSWER = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


class RawTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport, whose connections lead to ``answer(request)``: the bytes of an answer, or of none.

    ``answer`` gets the bytes of one request, its head and its body. Behind the bytes that it gives, the connection is
    closed; behind ``None`` it stays open, and is silent. With ``proxy`` the way leads through a forward proxy.
    """

    def __init__(self, answer: Callable[[bytes], bytes | None], *, proxy: bool = False) -> None:
        super().__init__(verify=False)
        # A context of its own would be made, from all of the system's certificates, for each connection.
        options: dict[str, Any] = {"network_backend": _Backend(answer), "ssl_context": _NO_TLS}
        self._pool = (
            httpcore.AsyncHTTPProxy("http://proxy.test:3128", **options)
            if proxy
            else httpcore.AsyncConnectionPool(max_connections=8, **options)
        )


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer

    async def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(self._answer)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self._written = b""
        self._waiting = b""
        self._closes = False

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await anyio.lowlevel.checkpoint()
        self._written += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await anyio.lowlevel.checkpoint()
        if self._written:
            written, self._written = self._written, b""
            answer = self._answer(written)
            if answer is None:
                await anyio.sleep_forever()
            self._waiting += answer or b""
            self._closes = answer not in (SERVER_ANSWER, TUNNEL)
        if not self._waiting and not self._closes:
            await anyio.sleep_forever()
        given, self._waiting = self._waiting[:max_bytes], self._waiting[max_bytes:]
        return given

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()

    async def start_tls(self, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return None


def in_turn(answers: Iterable[bytes | None], then: bytes = SERVER_ANSWER) -> Callable[[bytes], bytes | None]:
    """Give one answer after the other, and ``then`` for ever."""
    left = iter(answers)
    return lambda request: next(left, then)
