"""What a server can do to a request: small values, some of which take another as `then`.

Every function here returns a `Behaviour` for a `RawServer`'s script.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Literal

import attrs

from tests.harness.wire import Wire

Reads = Literal["nothing", "headers", "everything"]


@attrs.frozen(kw_only=True)
class Request:
    """A request as the server saw it."""

    connection: int  # the server's connections are numbered from 0
    index: int = -1  # position in the server's `requests`
    stamp: float = 0.0  # time.monotonic() when as much of it was read as its behaviour reads
    behaviour: str = ""
    applied: bool = False  # whether a server that behaves so has done what was asked
    method: str = ""  # this and the rest stay empty as far as the behaviour does not read them
    path: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)  # names in lower case
    body: bytes = b""


@attrs.define
class Exchange:
    """A request that is being answered by a behaviour."""

    wire: Wire
    request: Request
    drip: float | None = None  # seconds between bytes
    drip_part: str = ""
    closes_on_next: bool = False
    _in_body: bool = False

    async def write(self, data: bytes) -> None:
        """Send `data`, one byte at a time where a slow loris asked for that."""
        head = data
        if self._in_body:
            head = b""
        elif (end := data.find(b"\r\n\r\n")) >= 0:
            head, self._in_body = data[: end + 4], True
        for part, piece in (("headers", head), ("body", data[len(head) :])):
            if self.drip is None or self.drip_part != part:
                await self.wire.write(piece)
                continue
            for byte in piece:
                await self.wire.write(bytes([byte]))
                await asyncio.sleep(self.drip)


@attrs.frozen
class Behaviour:
    name: str
    play: Callable[[Exchange], Awaitable[None]] = attrs.field(repr=False)
    applied: bool = False
    reads: Reads = "everything"  # before it plays


def http_answer(
    status: int = 202, body: bytes = b"", headers: Mapping[str, str | None] | None = None, *, reason: str | None = None
) -> bytes:
    """The bytes of a well-formed answer. In `headers`, None leaves out a default (`date`, `content-length`)."""
    defaults: dict[str, str | None] = {"date": formatdate(time.time(), usegmt=True)}
    if status not in (204, 304) and status >= 200:
        defaults["content-length"] = str(len(body))
    if reason is None:
        reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    fields = {**defaults, **{name.lower(): value for name, value in (headers or {}).items()}}
    lines = [
        f"HTTP/1.1 {status} {reason}",
        *(f"{name}: {value}" for name, value in fields.items() if value is not None),
    ]
    return "\r\n".join(lines).encode("latin-1", "surrogateescape") + b"\r\n\r\n" + body


# ── answers in good order ──


def answer(
    status: int = 202, body: bytes = b"", headers: Mapping[str, str | None] | None = None, *, close: bool = False
) -> Behaviour:
    """A well-formed answer. `close` closes the connection behind it without having said so."""

    async def play(exchange: Exchange) -> None:
        await exchange.write(http_answer(status, body, headers))
        if close:
            exchange.wire.close()

    return Behaviour(f"answer {status}", play, applied=200 <= status < 300)


def redirect(location: str, status: int = 307) -> Behaviour:
    return answer(status, headers={"location": location})


def interim(then: Behaviour | None = None, status: int = 103) -> Behaviour:
    """An informational answer first, then the real one."""

    async def before(exchange: Exchange) -> None:
        await exchange.wire.write(http_answer(status, headers={"date": None}))

    return _before("interim", before, then or answer())


# ── answers that do not come ──


def reset_before_read() -> Behaviour:
    """RST while the request lies unread in the kernel."""

    async def play(exchange: Exchange) -> None:
        exchange.wire.reset()

    return Behaviour("reset_before_read", play, reads="nothing")


def reset_after_read(*, applied: bool = True) -> Behaviour:
    async def play(exchange: Exchange) -> None:
        exchange.wire.reset()

    return Behaviour("reset_after_read", play, applied)


def cut_after_read(*, applied: bool = True) -> Behaviour:
    """The request was applied, then the connection is closed (FIN) without a byte."""

    async def play(exchange: Exchange) -> None:
        exchange.wire.close()

    return Behaviour("cut_after_read", play, applied)


def late(seconds: float, then: Behaviour | None = None) -> Behaviour:
    """`then`, real `seconds` later; applied at once, if `then` applies it."""

    async def before(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)

    return _before(f"late {seconds:g}", before, then or answer())


def silent(*, applied: bool = False, reads: Reads = "everything") -> Behaviour:
    """No answer for ever; the connection stays open until the client leaves."""

    async def play(exchange: Exchange) -> None:
        # What is left unread fills the buffers: with a large request, the client's write blocks too.
        await exchange.wire.wait_until_left(reading=reads == "everything")

    return Behaviour("silent", play, applied, reads)


def stale_keep_alive(then: Behaviour | None = None) -> Behaviour:
    """`then`, after which the connection looks alive but is closed, unread, when the next request comes.

    That next request takes no turn of the script; it is recorded as "closed as stale", not applied.
    """

    async def before(exchange: Exchange) -> None:
        exchange.closes_on_next = True

    return _before("stale_keep_alive", before, then or answer())


# ── answers too slow, too early, too big ──


def slow_loris(interval: float, part: Literal["headers", "body"] = "body", then: Behaviour | None = None) -> Behaviour:
    """`then`, with real `interval` seconds between the bytes of one part of it."""

    async def before(exchange: Exchange) -> None:
        exchange.drip, exchange.drip_part = interval, part

    return _before(f"slow_loris {part}", before, then or answer(body=b"x" * 10_000))


def answer_before_body(status: int = 413, body: bytes = b"", *, close: bool = False) -> Behaviour:
    """The answer as soon as the headers are in. Then the connection is left with the body unread.

    With `close` it is closed at once: the unread body makes that an RST, which may overtake the answer.
    """

    async def play(exchange: Exchange) -> None:
        await exchange.write(http_answer(status, body))
        if close:
            exchange.wire.close()
        else:
            await exchange.wire.wait_until_left(reading=False)

    return Behaviour(f"answer_before_body {status}", play, reads="headers")


def huge_headers(total_bytes: int = 300_000, each_bytes: int = 8_000) -> Behaviour:
    """An answer with so many bytes of headers, or of one header if `each_bytes` says so."""
    count, rest = divmod(total_bytes, each_bytes)
    sizes = [each_bytes] * count + ([rest] if rest else [])
    return _renamed("huge_headers", answer(headers={f"x-{n}": "h" * size for n, size in enumerate(sizes)}))


def gzip_bomb(decoded_bytes: int = 200 * 1024 * 1024) -> Behaviour:
    """A gzip body of zeros, a thousandth of its decoded size; sent whether or not gzip was accepted."""
    return _renamed("gzip_bomb", answer(200, _gzipped_zeros(decoded_bytes), {"content-encoding": "gzip"}))


def endless_body(framing: Literal["chunked", "until_close"] = "chunked", pause: float = 0.0) -> Behaviour:
    """A body that ends when the client leaves."""
    piece = b"z" * 65_536

    async def play(exchange: Exchange) -> None:
        encoding = {"transfer-encoding": "chunked"} if framing == "chunked" else {}
        await exchange.write(http_answer(200, headers={"content-length": None, **encoding}))
        while True:
            await exchange.write(b"10000\r\n" + piece + b"\r\n" if framing == "chunked" else piece)
            await asyncio.sleep(pause)

    return Behaviour("endless_body", play, applied=True)


def endless_headers(pause: float = 0.0) -> Behaviour:
    """Header after header until the client leaves."""

    async def play(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 202 Accepted\r\n")
        while True:
            await exchange.write(b"x-more: " + b"h" * 1000 + b"\r\n")
            await asyncio.sleep(pause)

    return Behaviour("endless_headers", play, applied=True)


# ── how they are put together ──


def _before(name: str, act: Callable[[Exchange], Awaitable[None]], then: Behaviour) -> Behaviour:
    async def play(exchange: Exchange) -> None:
        await act(exchange)
        await then.play(exchange)

    return attrs.evolve(then, name=f"{name}, {then.name}", play=play)


def _renamed(name: str, behaviour: Behaviour) -> Behaviour:
    return attrs.evolve(behaviour, name=name)


@lru_cache(maxsize=2)
def _gzipped_zeros(decoded_bytes: int) -> bytes:
    # Piece by piece: the bomb is for the client's memory, not for ours.
    packer = zlib.compressobj(9, wbits=31)
    piece = bytes(1 << 20)
    whole, rest = divmod(decoded_bytes, len(piece))
    return b"".join(packer.compress(piece) for _ in range(whole)) + packer.compress(piece[:rest]) + packer.flush()
