"""A request on its way out, and the application's own transport, which takes it as a request of its own library."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs

from .._runtime.http import httpx, library_of, loaded
from .credentials import Transport

_PIECE = 64 * 1024  # bytes of an upload handed over at once

if TYPE_CHECKING:

    class _Request(httpx.Request): ...

    class _Stream(httpx.AsyncByteStream): ...

else:  # `_classes` adds those of one library, or of both
    _Request = _Stream = object


Headers = tuple[tuple[bytes, bytes], ...]
"""Names and values, of which those with a key in them hide it."""


@attrs.define
class Outgoing:
    """A request: ``url`` is the whole one."""

    method: str
    url: str
    headers: Headers
    content: bytes | None
    extensions: dict[str, Any]
    begun: Callable[[], bool] = lambda: False
    """Whether any of the request has left; of one that a transport makes, whether any of its body was asked for."""


class Answer(Protocol):
    """A response, as far as it is read here: httpx's own, or one of `pool`."""

    status_code: int
    headers: Any
    is_stream_consumed: bool
    content: bytes
    extensions: Any

    def aiter_raw(self) -> Any:
        """The pieces of the body as they come."""

    async def aclose(self) -> None:
        """Let the connection go, for the next request if the body was read to its end."""


class _NotesReading(_Request):
    """A request that knows whether its body was asked for, by a transport that does not trace."""

    begun = False

    @property
    def content(self) -> bytes:
        self.begun = True
        return super().content

    def read(self) -> bytes:
        self.begun = True
        return super().read()

    async def aread(self) -> bytes:
        self.begun = True
        return await super().aread()


class Body(_Stream):
    """The body of a request, in pieces.

    Not a generator, as httpx's own is: one that is cancelled half-way is left to the garbage collector, and trio
    complains.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._sent = 0

    @property
    def begun(self) -> bool:
        """Whether any of the body was asked for."""
        return self._sent > 0

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        piece = self._content[self._sent : self._sent + _PIECE]
        if not piece:
            raise StopAsyncIteration
        self._sent += len(piece)
        return piece


@cache
def _classes(library: ModuleType, *libraries: ModuleType) -> tuple[type[_NotesReading], type[Body]]:
    """Derive a request of ``library``, and a body that transports of all ``libraries`` take: one may wrap another."""
    streams = tuple(one.AsyncByteStream for one in libraries)
    return type("Request", (_NotesReading, library.Request), {}), type("Body", (Body, *streams), {})


def multipart(filename: str, content: bytes, kind: str) -> tuple[str, bytes]:
    """The content type and the body of a form with one file."""
    form = httpx.Request("POST", "http://host", files={"file": (filename, content, kind)})
    return form.headers["content-type"], b"".join(cast("httpx.SyncByteStream", form.stream))


class Shared:
    """The application's own transport, which all requests share: used as a `ConnectionPool` is."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def connection(self) -> AbstractAsyncContextManager[Shared]:
        """The transport, whoever else uses it."""
        return nullcontext(self)

    async def send(self, outgoing: Outgoing) -> Answer:
        """Make the request, as one of the library that the transport is of."""
        as_request, as_body = _classes(library_of(self._transport), *loaded())
        request = as_request(
            outgoing.method,
            outgoing.url,
            headers=list(outgoing.headers),
            content=outgoing.content,
            extensions=outgoing.extensions,
        )
        stream = request.stream = as_body(outgoing.content or b"")
        request.begun = False
        outgoing.begun = lambda: bool(outgoing.content) and (request.begun or stream.begun)
        answer: Answer = await self._transport.handle_async_request(request)
        return answer

    async def aclose(self) -> None:
        """Let the transport go of its connections."""
        await self._transport.aclose()
