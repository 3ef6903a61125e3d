"""An attempt at one request: how far it got, what was read of its answer, and the verdict on both.

A request has been sent from the moment that its headers start to leave. The body of an answer is unpacked here, up to
a size, although no packed one was asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from .._errors.foreign import is_a
from .._errors.secret import Secret
from .._protocol.verdict import LARGE, Verdict, of_answer, of_failure


@attrs.define
class Attempt:
    """An attempt at one request: how far it got."""

    traced: bool = False
    sent: bool = False
    begun: Callable[[], bool] = attrs.field(default=lambda: False)
    """Of a request that is not traced: what `Outgoing.begun` says."""
    status: int | None = None
    headers: dict[str, str] = attrs.field(factory=dict, repr=False)
    body: bytearray = attrs.field(factory=bytearray, repr=False)
    whole: bool = False
    """As much of the answer was read as is wanted: what fails after that is no part of it."""
    broke_off: bool = False
    """The answer ended before its end: not by our own deadline or cap, at which the status is the answer."""

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take in what httpx's trace extension reports: nothing has left before the request's headers start to.

        It also speaks of the CONNECT by which a proxy is asked for a tunnel: that is not our request.
        """
        self.traced = True
        if event.endswith("send_request_headers.started"):
            self.sent = self.sent or getattr(info.get("request"), "method", b"") != b"CONNECT"

    def take_headers(self, headers: Iterable[tuple[str, str]], status: int) -> None:
        """Take over the headers and the status; of a transport that is not httpx's, they may be anything."""
        self.headers = {name.lower(): value for name, value in headers if is_a(name, str) and is_a(value, str)}
        self.status = int(status)

    def verdict(self, failure: str | None, certificate: bool, cap: int, key: Secret) -> Verdict:
        """Say what came of the attempt. A status is a status; without one it matters whether anything had left.

        A transport that does not trace has sent nothing before it asked for the body: without its body, no server
        can carry out a request that has one. ``certificate``: that was what failed. The ``key`` is in no answer.
        """
        if self.status is not None:
            body = _decoded(self.headers, bytes(self.body), cap)
            broken_off = body is None or self.broke_off
            return of_answer(self.status, self.headers, body or b"", broken_off=broken_off, hidden=key)
        sent = self.sent if self.traced else self.begun()
        return of_failure(failure or "no answer", sent=sent, certificate=certificate)

    @property
    def is_long(self) -> bool:
        """Whether the answer takes long to read: it is large, or packed, so that its size is unknown."""
        return len(self.body) > LARGE or self.headers.get("content-encoding", "identity") != "identity"


def _decoded(headers: Mapping[str, str], body: bytes, cap: int) -> bytes | None:
    """Undo the compression that we did not ask for; ``None`` if the body is broken, or larger than ``cap`` bytes.

    A kind of compression that zlib does not know leaves nothing to read.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding == "identity" or not body:
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return b""
    try:
        inflating = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: of either kind, as its header says
        inflated = inflating.decompress(body, cap)
    except zlib.error:
        return None
    return inflated if inflating.eof else None
