"""One HTTP request at a time, and what came of it: the only file that knows httpx.

httpx 0.28 leaks a slot of its pool when a task is cancelled natively while it waits for one, until every request
raises `PoolTimeout`. So requests run only in tasks that anyio scopes cancel, and never more of them than the pool
has connections.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, cast

import anyio
import anyio.to_thread
import attrs
import httpcore  # noqa: F401  # httpx would import it, and h11, with the first request: 70 ms of the application's loop
import httpx

from . import _verdict
from ._endpoint import BadKey, KeyRing, Transport
from ._verdict import Meaning, Verdict
from ._version import __version__

MAX_ANSWER = 1024 * 1024  # bytes read of an answer; a job is 500, an error 300
MAX_LISTING = 16 * 1024 * 1024  # of the job list, which grows
_PIECE = 64 * 1024  # bytes of an upload handed over at once
FAREWELL = 0.3  # seconds to close connections politely


@attrs.define
class _Attempt:
    """How far one request got."""

    traced: bool = False
    sent: bool = False
    status: int | None = None
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytearray = attrs.field(factory=bytearray)

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx's trace extension: nothing has left before the request's headers start to."""
        self.traced = True
        if event.endswith("send_request_headers.started"):
            self.sent = True

    def verdict(self, failure: str | None, error: BaseException | None = None) -> Verdict:
        """A status is a status, even if its body broke off; otherwise it matters whether anything had left."""
        if self.status is not None:
            encoded = self.headers.get("content-encoding", "identity").strip().lower() != "identity"
            return _verdict.of_answer(self.status, self.headers, b"" if encoded else bytes(self.body))
        early = isinstance(
            error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
        )
        sent = self.sent if self.traced else not early
        return _verdict.of_failure(failure or "no answer", sent=sent, certificate=_is_certificate_error(error))


class _Body(httpx.AsyncByteStream):
    """A request's body in pieces. Not a generator, as httpx's own is: one that is cancelled half-way is left to the
    garbage collector, and trio complains.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._sent = 0

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
        self._http: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.base_url}>"

    def open(self) -> None:
        """Take requests. The first one connects."""
        self._connecting = anyio.Lock()

    async def aclose(self) -> None:
        """Close all connections; politely, if that is quick."""
        http, self._http = self._http, None
        if http is not None:
            with anyio.move_on_after(FAREWELL):
                await http.aclose()

    async def _connected(self) -> httpx.AsyncClient:
        """The HTTP client, built by whoever comes first; its TLS context takes 20 to 125 ms, too long for the loop."""
        async with self._connecting:
            if self._http is None:
                self._http = await self._built()
        return self._http

    async def _built(self) -> httpx.AsyncClient:
        if self._transport is not None:
            return self._new_client()
        return await anyio.to_thread.run_sync(self._new_client, abandon_on_cancel=True)

    def _new_client(self) -> httpx.AsyncClient:
        plain = self._transport is not None or self.base_url.startswith("http:")
        tls = False if plain else httpx.create_ssl_context(trust_env=False)
        # The scope around each request bounds it as a whole. This one, shorter, is for the handshake: httpcore
        # closes the socket of one that times out, but not of one that is cancelled.
        timeout = httpx.Timeout(None, connect=self._request_timeout * 0.4)
        limits = httpx.Limits(max_connections=self._size, max_keepalive_connections=self._size)
        client = httpx.AsyncClient(
            transport=cast("httpx.AsyncBaseTransport | None", self._transport),
            verify=tls,
            limits=limits,
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
        )
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # a proxy's would grow without end
        return client

    async def exchange(
        self, endpoint: str, method: str, path: str, body: bytes | None = None, *, filename: str | None = None
    ) -> Verdict:
        """Make one request; never raises for what a network or a server may do.

        ``filename`` sends ``body`` as a multipart upload under this name. Must run in a task that only anyio
        scopes cancel.
        """
        attempt = _Attempt()
        try:
            key = self.keys.current()
        except Exception as exc:  # the application's callable: whatever it raises means that there is no key now
            did = f"returned what is no key: {exc}" if isinstance(exc, BadKey) else f"raised {type(exc).__name__}"
            return Verdict(Meaning.MISCONFIGURED, detail=f"the api_key callable {did}")
        cap = MAX_LISTING if method == "GET" else MAX_ANSWER
        failure, error = None, None
        with anyio.move_on_after(self._request_timeout if filename is None else self._upload_timeout) as scope:
            http = self._http or await self._connected()
            self.requests[endpoint] = self.requests.get(endpoint, 0) + 1
            try:
                await self._stream(http, attempt, self._request(http, method, path, body, filename, key), cap)
            except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError, OSError) as exc:
                failure, error = _named(exc), exc
        if scope.cancelled_caught:
            failure = "timeout"
        return attempt.verdict(failure, error)

    def _request(
        self, http: httpx.AsyncClient, method: str, path: str, body: bytes | None, filename: str | None, key: str
    ) -> httpx.Request:
        headers = {
            **self._headers(key),
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a 200 kB gzip answer can hold 60 MB
            "User-Agent": f"userpilot-async/{__version__}",
        }
        if filename is not None and body is not None:
            kind = "text/csv" if filename.endswith(".csv") else "application/x-ndjson"
            files = {"file": (filename, body, kind)}
            request = http.build_request(method, self.base_url + path, headers=headers, files=files)
            request.stream = _Body(b"".join(cast("httpx.SyncByteStream", request.stream)))
            return request
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = http.build_request(method, self.base_url + path, headers=headers, content=body)
        if body is not None:
            request.stream = _Body(body)
        return request

    async def _stream(self, http: httpx.AsyncClient, attempt: _Attempt, request: httpx.Request, cap: int) -> None:
        request.extensions["trace"] = attempt.trace
        response = await http.send(request, stream=True)
        try:
            attempt.status = response.status_code
            attempt.headers = {name.lower(): value for name, value in response.headers.items()}
            if response.is_stream_consumed:  # a transport that answers from memory
                attempt.body += response.content[:cap]
                return
            # Cancelled, not broken out of, when it is enough: that ends the generators inside httpx as well.
            with anyio.CancelScope() as enough:
                async for chunk in response.aiter_raw():
                    attempt.body += chunk[: cap - len(attempt.body)]
                    if len(attempt.body) >= cap:
                        enough.cancel()
        finally:
            await response.aclose()


def _named(error: BaseException) -> str:
    """The error and its root, by their types: `ConnectError` alone may be a name, a port, or a protocol."""
    root, seen = error, 0
    while (cause := root.__cause__ or root.__context__) is not None and seen < 10:
        root, seen = cause, seen + 1
    name = type(error).__name__
    told = root.reason if isinstance(root, ssl.SSLError) and root.reason else type(root).__name__
    return name if told in (name, "OSError", "CancelledError", "Cancelled") else f"{name}, {told}"


def _is_certificate_error(error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
