"""A stream to a server, over anyio: what httpcore's own connection writes to and reads from.

Those of httpcore's backends put a scope, generators and a table of errors around each read and write, for time-outs
that no request of ours has: each is bounded as a whole.
"""

from __future__ import annotations

import select
import ssl
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from .._runtime.http import httpcore


async def connect(origin: httpcore.Origin, tls: ssl.SSLContext, timeout: float) -> Stream:
    """Connect, and then, for https, do the handshake, for ``timeout`` seconds each.

    Raises `httpcore.ConnectError` and `httpcore.ConnectTimeout`; leaves no socket behind, also where it is cancelled.
    """
    host = origin.host.decode("ascii")
    try:
        with anyio.fail_after(timeout):
            stream: ByteStream = await anyio.connect_tcp(host, origin.port)
        if origin.scheme != b"https":
            return Stream(stream)
        try:
            with anyio.fail_after(timeout):
                return Stream(await TLSStream.wrap(stream, hostname=host, ssl_context=tls, standard_compatible=False))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
            raise
    except TimeoutError as error:
        raise httpcore.ConnectTimeout(error) from error
    except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:  # of which `ssl.SSLError` is one
        raise httpcore.ConnectError(error) from error


class Stream(httpcore.AsyncNetworkStream):
    """A stream that keeps the first bytes of a request, its head, until the next ones come or an answer is awaited.

    So a request leaves in one packet. `begin` is to be called before each.
    """

    def __init__(self, inner: ByteStream) -> None:
        self.sent = False
        """Whether any of the request has left, or may have."""
        self.heard = False
        """Whether anything was read since the request began."""
        self._inner = inner
        self._tls = inner.extra(TLSAttribute.ssl_object, None)
        self._socket = inner.extra(SocketAttribute.raw_socket)
        self._head: bytes | None = None
        self._at_head = True

    def begin(self) -> None:
        """Take what is written next for the head of a request."""
        self.sent, self.heard, self._head, self._at_head = False, False, None, True

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._at_head:
            self._head, self._at_head = buffer, False
            return
        if self._head is not None:
            buffer, self._head = self._head + buffer, None
        if not buffer:
            return
        self.sent = True
        try:
            await self._inner.send(buffer)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream) as error:
            raise httpcore.WriteError(error) from error

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._head is not None:
            await self.write(b"")
        self.heard = True
        try:
            return await self._inner.receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise httpcore.ReadError(error) from error

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        if info != "is_readable":
            return None
        return _is_readable(self._socket.fileno()) or (self._tls is not None and _has_more(self._tls))


def _has_more(tls: ssl.SSLObject) -> bool:
    """Ask whether more has come than was read: it has left the socket, where all records are read that are there."""
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        return True
    return True


def _is_readable(file: int) -> bool:
    """Ask whether there is something to read, or nothing ever will be: of an idle connection, that it has ended."""
    if file < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([file], [], [], 0)[0])
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(0))
