"""A pool of connections: makes one HTTP request, and gives what came of it. The only file that knows httpx.

httpx 0.28 leaks a slot of its pool when a task is cancelled natively while it waits for one, until every request
raises `PoolTimeout`. So requests run only in tasks that anyio scopes cancel, and never more of them than the pool
has connections.

Requests go to httpx's transport, not through its `AsyncClient`: that one builds the next request of a redirect, even
where none is followed, and what the server wrote into ``Location`` may not survive it (``http://xn--/`` raises an
error of idna's). It would also keep cookies, which are none of ours.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import attrs
import httpcore  # noqa: F401  # httpx would import it, and h11, with the first request: 70 ms of the application's loop
import httpx

from .._errors.foreign import is_a
from .._errors.secret import Secret
from .._protocol import job_list
from .._protocol.verdict import LARGE, Meaning, Promise, Verdict, of_answer, of_failure
from .._runtime.event_loop import in_thread
from .._runtime.log import log
from .._runtime.version import __version__
from .credentials import BadKey, KeyRing, Transport
from .failures import forget_frames, goes_on, is_certificate_error, named

MAX_ANSWER = 1024 * 1024  # bytes read of an answer; a job is 500, an error 300
MAX_LISTING = 16 * 1024 * 1024  # of the job list, which grows
_PIECE = 64 * 1024  # bytes of an upload handed over at once
FAREWELL = 0.3  # seconds to close connections politely


@attrs.define
class _Attempt:
    """An attempt at one request: how far it got."""

    traced: bool = False
    sent: bool = False
    body_sent: Callable[[], bool] = attrs.field(default=lambda: False)
    """Whether any of the request's body was asked for."""
    status: int | None = None
    headers: dict[str, str] = attrs.field(factory=dict, repr=False)
    body: bytearray = attrs.field(factory=bytearray, repr=False)
    whole: bool = False
    """As much of the answer was read as is wanted: what fails after that is no part of it."""
    broke_off: bool = False
    """The answer ended before its end: not by our own deadline or cap, at which the status is the answer."""

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx's trace extension: nothing has left before the request's headers start to.

        It also speaks of the CONNECT by which a proxy is asked for a tunnel: that is not our request.
        """
        self.traced = True
        if event.endswith("send_request_headers.started"):
            self.sent = self.sent or getattr(info.get("request"), "method", b"") != b"CONNECT"

    def take_headers(self, response: httpx.Response) -> None:
        """Take over the status and the headers; of a transport that is not httpx's, they may be anything."""
        headers = response.headers.items()
        self.headers = {name.lower(): value for name, value in headers if is_a(name, str) and is_a(value, str)}
        self.status = int(response.status_code)
        if is_a(response, httpx.Response):
            response.extensions.pop("reason_phrase", None)  # the server's own words, in the `repr` of a response

    def verdict(self, failure: str | None, certificate: bool, cap: int, key: Secret) -> Verdict:
        """Say what came of the attempt. A status is a status; without one it matters whether anything had left.

        A transport that does not trace has sent nothing before it asked for the body: without its body, no server
        can carry out a request that has one. ``certificate``: that was what failed. The ``key`` is in no answer.
        """
        if self.status is not None:
            body = _decoded(self.headers, bytes(self.body), cap)
            broken_off = body is None or self.broke_off
            return of_answer(self.status, self.headers, body or b"", broken_off=broken_off, hidden=key)
        sent = self.sent if self.traced else self.body_sent()
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


class _Request(httpx.Request):
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


class _Body(httpx.AsyncByteStream):
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

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        piece = self._content[self._sent : self._sent + _PIECE]
        if not piece:
            raise StopAsyncIteration
        self._sent += len(piece)
        return piece


class Connection:
    """A pool of connections to one server: `open`, `exchange`, `aclose`.

    ``headers`` gives, for a key, the headers that are the server's own: how it wants to be shown the key.
    """

    def __init__(
        self,
        keys: KeyRing,
        headers: Callable[[str], Mapping[str, str]],
        base_url: str,
        transport: Transport | None,
        *,
        request_timeout: float,
        upload_timeout: float,
        size: int,
    ) -> None:
        self.base_url = base_url
        self.requests: dict[str, int] = {}
        """Requests made, by endpoint."""
        self.keys = keys
        self._headers = headers
        self._transport = transport
        self._request_timeout = request_timeout
        self._upload_timeout = upload_timeout
        self._size = size
        self._http: Transport | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.base_url}>"

    def open(self) -> None:
        """Take requests from now on. The first one connects."""
        self._connecting = anyio.Lock()

    async def aclose(self) -> None:
        """Close all connections; politely, if that is quick."""
        http, self._http = self._http, None
        if http is None:
            return
        try:
            with anyio.move_on_after(FAREWELL):
                await http.aclose()
        except Exception as error:  # the application's own transport may raise anything: nothing waits for its end
            log(logging.WARNING, f"closing the connections raised {named(error)}: they are left to the system")

    async def _connected(self) -> Transport:
        """Give the transport, made for the first request; its TLS context takes 20 to 125 ms, too long for the loop."""
        if self._transport is not None:
            self._http = self._transport
            return self._transport
        async with self._connecting:
            if self._http is None:
                self._http = await in_thread(self._new_transport)
        return self._http

    def _new_transport(self) -> Transport:
        tls = False if self.base_url.startswith("http:") else httpx.create_ssl_context(trust_env=False)
        limits = httpx.Limits(max_connections=self._size, max_keepalive_connections=self._size)
        return httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False)

    async def exchange(
        self, endpoint: str, method: str, path: str, body: bytes | None = None, *,
        filename: str | None = None, promises: Promise = Promise.RECEIPT,
    ) -> Verdict:  # fmt: skip
        """Make one request; never raises for what a network or a server may do.

        ``filename`` sends ``body`` as a multipart upload under this name. Of what ``promises`` a list of jobs more is
        read than of others, and if it is long, in a thread. Must run in a task that only anyio scopes cancel.
        """
        attempt = _Attempt()
        try:
            key = self.keys.secret()
        except Exception as exc:  # the application's callable: whatever it raises means that there is no key now
            did = f"returned what is no key: {exc}" if isinstance(exc, BadKey) else f"raised {type(exc).__name__}"
            return Verdict(Meaning.MISCONFIGURED, detail=f"the api_key callable {did}")
        lists = promises is Promise.JOBS
        cap = MAX_LISTING if lists else MAX_ANSWER
        failure: str | None = None
        certificate = False
        with anyio.move_on_after(self._request_timeout if filename is None else self._upload_timeout) as scope:
            try:
                http = self._http or await self._connected()
                self.requests[endpoint] = self.requests.get(endpoint, 0) + 1
                await self._stream(http, attempt, self._request(attempt, method, path, body, filename, key), cap)
            # httpx maps many of its parts' errors, not all; a transport may raise anything, also no `Exception`: an
            # outcome of pytest's, or a group in which one is.
            except BaseException as exc:
                if goes_on(exc):
                    forget_frames(exc)
                    raise
                failure, certificate, attempt.broke_off = named(exc), is_certificate_error(exc), not attempt.whole
        if scope.cancelled_caught:
            failure = "timeout"
        if not lists or not attempt.is_long:
            return attempt.verdict(failure, certificate, cap, key)

        def digest() -> Verdict:
            verdict, host = attempt.verdict(failure, certificate, cap, key), urlsplit(self.base_url).hostname or ""
            return attrs.evolve(verdict, body=job_list.read(verdict.body, host, path.partition("?")[0]))

        return await in_thread(digest)

    def _request(
        self, attempt: _Attempt, method: str, path: str, body: bytes | None, filename: str | None, key: Secret
    ) -> httpx.Request:
        headers: dict[str, Any] = {  # `str`, or `bytes` that hide the key: httpx takes both
            **{name: key.header(value) for name, value in self._headers(key.reveal()).items()},
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a 200 kB gzip answer can hold 60 MB
            "Connection": "keep-alive",
            "User-Agent": f"userpilot-async/{__version__}",
        }
        # The scope around each request bounds it as a whole. This one, shorter, is for the handshake: httpcore
        # closes the socket of one that times out, but not of one that is cancelled.
        timeouts = {"connect": self._request_timeout * 0.4, "read": None, "write": None, "pool": None}
        extensions = {"trace": attempt.trace, "timeout": timeouts}
        url = self.base_url + path
        if filename is not None and body is not None:
            kind = "text/csv" if filename.endswith(".csv") else "application/x-ndjson"
            files = {"file": (filename, body, kind)}
            request = _Request(method, url, headers=headers, files=files, extensions=extensions)
            content = b"".join(cast("httpx.SyncByteStream", request.stream))
        else:
            if body is not None:
                headers["Content-Type"] = "application/json"
            request = _Request(method, url, headers=headers, content=body, extensions=extensions)
            content = body or b""
        if content:
            stream = request.stream = _Body(content)
            request.begun = False
            attempt.body_sent = lambda: request.begun or stream.begun
        return request

    async def _stream(self, http: Transport, attempt: _Attempt, request: httpx.Request, cap: int) -> None:
        response = await http.handle_async_request(request)
        try:
            attempt.take_headers(response)
            if response.is_stream_consumed:  # a transport that answers from memory
                attempt.body += response.content[:cap]
                attempt.whole = True
                return
            # Cancelled, not broken out of, when it is enough: that ends the generators inside httpx as well.
            with anyio.CancelScope() as enough:
                async for chunk in response.aiter_raw():
                    attempt.body += chunk[: cap - len(attempt.body)]
                    del chunk  # the server may have written the key into it, and this frame waits for the next one
                    if len(attempt.body) >= cap:
                        enough.cancel()
            attempt.whole = True
        except Exception:
            attempt.whole = getattr(response, "is_closed", None) is True  # by httpx, after the last piece
            raise
        finally:
            await response.aclose()
