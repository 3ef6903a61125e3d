"""A pool of connections to one server: each is used by one request at a time, and stays open for the next one.

httpcore's own looks through all its connections, and polls the socket of each, twice a request; and it leaks a slot for
good when a task that waits for one is cancelled natively. Here a connection is closed unless its last request has
ended well.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack, suppress
from functools import lru_cache
from types import TracebackType
from typing import cast

import anyio

from .._runtime.http import httpcore, httpx
from .outgoing import Answer, Body, Outgoing
from .stream import Stream, connect

KEEPALIVE = 5.0  # seconds that an idle connection stays open: httpx's default
_EMPTY = {"POST", "PUT", "PATCH"}  # which say how long their body is, also if it is empty: RFC 9110, 8.6


class ConnectionPool:
    """At most so many connections, ``most``: ``async with pool.connection() as one``. ``tls`` says whom to trust.

    The one that was left last is taken first, so that those nobody needs are idle until they are closed.
    """

    def __init__(self, base_url: str, tls: ssl.SSLContext, most: int) -> None:
        request = httpx.Request("GET", base_url)
        self._host = request.headers["host"].encode("ascii")
        self._origin = _url(base_url).origin
        self._tls = tls
        tls.set_alpn_protocols(["http/1.1"])
        self._limit = anyio.Semaphore(most, fast_acquire=True)
        self._idle: deque[tuple[float, _Connection]] = deque()  # the one that was left first is first
        self._open: set[_Connection] = set()
        self._keeps = True

    def connection(self) -> Checkout:
        """A connection for one request, waited for if all are taken."""
        return Checkout(self)

    async def aclose(self) -> None:
        """Close all connections, also those that requests are under way on, and keep none from now on."""
        self._keeps = False
        self._idle.clear()
        async with AsyncExitStack() as closing:
            while self._open:
                closing.push_async_callback(self._open.pop().aclose)

    async def take(self) -> _Connection:
        """Give a connection that nobody else has: an idle one, else a new one. Then `leave` it."""
        await self._limit.acquire()
        try:
            while self._idle and time.monotonic() - self._idle[0][0] > KEEPALIVE:
                await self._close(self._idle.popleft()[1])
            while self._idle:
                connection = self._idle.pop()[1]
                if not connection.has_expired():
                    return connection
                await self._close(connection)
        except BaseException:
            self._limit.release()
            raise
        connection = _Connection()
        self._open.add(connection)
        return connection

    async def leave(self, connection: _Connection) -> None:
        """Keep a connection whose request has ended well for the next one; close one that was cut off, at any point."""
        try:
            if self._keeps and connection.is_idle():
                self._idle.append((time.monotonic(), connection))
            else:
                with suppress(Exception):  # what the request has met is told, and not this
                    await self._close(connection)
        finally:
            self._limit.release()

    async def _close(self, connection: _Connection) -> None:
        self._open.discard(connection)
        with anyio.CancelScope(shield=True):
            await connection.aclose()

    async def send(self, connection: _Connection, outgoing: Outgoing) -> Answer:
        """Make the request on this connection, which is made with its first one."""
        if connection.http is None:
            stream = connection.stream = await connect(
                self._origin, self._tls, outgoing.extensions["timeout"]["connect"]
            )
            connection.http = httpcore.AsyncHTTP11Connection(self._origin, stream, KEEPALIVE)
        stream = connection.stream
        stream.begin()
        content = outgoing.content or b""
        outgoing.begun = lambda: stream.sent
        headers = [(b"Host", self._host), *outgoing.headers]
        if content or outgoing.method in _EMPTY:
            headers.append((b"Content-Length", b"%d" % len(content)))
        request = httpcore.Request(outgoing.method, _url(outgoing.url), headers=headers, content=Body(content))
        response = await connection.http.handle_async_request(request)
        if not stream.heard:  # a server that answers once too often has said it of the request before
            raise httpcore.RemoteProtocolError("the answer came before the request")
        return _Received(response)


class _Connection:
    """A connection that one request at a time is made on, from the first one on."""

    __slots__ = ("http", "stream")

    http: httpcore.AsyncHTTP11Connection | None
    stream: Stream

    def __init__(self) -> None:
        self.http = None

    def is_idle(self) -> bool:
        """Whether it is open, and its last request has ended well."""
        return self.http is not None and self.http.is_idle()

    def has_expired(self) -> bool:
        """Whether it has been idle for too long, or the server has closed it meanwhile."""
        return self.http is None or self.http.has_expired()

    async def aclose(self) -> None:
        """Close it, if it is open."""
        if self.http is not None and not self.http.is_closed():
            await self.http.aclose()


class Checkout:
    """A context in which one request has a connection to itself."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Checkout:
        self._connection = await self._pool.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.leave(self._connection)

    async def send(self, outgoing: Outgoing) -> Answer:
        """Make the one request on this connection."""
        return await self._pool.send(self._connection, outgoing)


class _Received:
    """A response of httpcore's, as `Answer` describes it."""

    is_stream_consumed = False
    content = b""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response
        self.status_code = response.status
        self.extensions = response.extensions
        self.headers = httpx.Headers(response.headers)

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """The pieces of the body, without a generator around httpcore's: one less that a cancellation must end."""
        return cast("AsyncIterable[bytes]", self._response.stream).__aiter__()

    async def aclose(self) -> None:
        """Let the connection go, as `Answer` says."""
        await self._response.aclose()


@lru_cache(64)
def _url(url: str) -> httpcore.URL:
    """Read a URL as httpx does, for httpcore; what goes into a request is its path, quoted."""
    read = httpx.URL(url)
    return httpcore.URL(scheme=read.raw_scheme, host=read.raw_host, port=read.port, target=read.raw_path)
