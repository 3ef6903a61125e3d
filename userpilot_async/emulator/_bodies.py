"""Reading the body of a request: never more of it than its route takes."""

from __future__ import annotations

from contextlib import aclosing

import attrs
from starlette.requests import Request

SMALL = 1024 * 1024  # bytes; ours, for what is never large: an event's metadata has 10 KB, a fault a few lines


@attrs.frozen
class Body:
    """A request's body. Of one that is too large no more than that is known."""

    content: bytes = attrs.field(repr=False)
    """All of it; nothing if it is too large."""
    size: int
    """Bytes: all of them, or as many as were announced or had come when it proved too large."""


async def read_body(request: Request, most: int) -> Body:
    """The body of at most so many bytes. Nothing is read of one that announces more, and no more than that of others.

    Raises `ClientDisconnect` if the client leaves.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > most):
        return Body(b"", int(announced[:18]))
    size, chunks = 0, []
    async with aclosing(request.stream()) as stream:  # what is left half-way is not to wait for its collection
        async for chunk in stream:
            size += len(chunk)
            if size > most:
                return Body(b"", size)
            chunks.append(chunk)
    return Body(b"".join(chunks), size)
