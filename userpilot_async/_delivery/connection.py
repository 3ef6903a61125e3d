"""The connections to one server: makes one HTTP request, and gives what came of it.

Requests go to a `ConnectionPool`, or to the application's own transport, not through httpx's `AsyncClient`: that one
builds the next request of a redirect, even where none is followed, and what the server wrote into ``Location`` may not
survive it (``http://xn--/`` raises an error of idna's). It would also keep cookies, which are none of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urlsplit

import anyio
import attrs

from .._errors.secret import Secret
from .._errors.tree import ConfigurationError
from .._protocol import job_list
from .._protocol.patience import Patience
from .._protocol.verdict import TIMEOUT, Meaning, Promise, Verdict
from .._runtime import stand_in
from .._runtime.event_loop import clock_here, in_thread
from .._runtime.http import is_response, tls_context
from .._runtime.log import log
from .._runtime.version import __version__
from .attempt import Attempt
from .credentials import BadKey, KeyRing, Transport, reaches_network
from .failures import forget_frames, goes_on, is_certificate_error, named
from .outgoing import Headers, Outgoing, Shared, multipart
from .pool import Checkout, ConnectionPool

MAX_ANSWER = 1024 * 1024  # bytes read of an answer; a job is 500, an error 300
MAX_LISTING = 16 * 1024 * 1024  # of the job list, which grows
_JSON = (b"Content-Type", b"application/json")
FAREWELL = 0.3  # seconds to close connections politely


class Connection:
    """Up to ``size`` connections to one server: `open`, `exchange`, `aclose`.

    ``headers`` gives, for a key, the headers that are the server's own: how it wants to be shown the key. Requests wait
    ``request_timeout`` seconds for their answer, after time-outs up to ``longest_timeout``.
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
        longest_timeout: float | None = None,
    ) -> None:
        self.base_url = base_url
        self.requests: dict[str, int] = {}
        """Requests made, by endpoint."""
        self.keys: KeyRing = keys
        self.time: stand_in.LoopTime = stand_in.LoopTime()
        """The time that those pause by who make requests one after the other."""
        self.met: stand_in.StandIn | None = None
        """The stand-in for the server that was there at the opening, in a test."""
        self._headers = headers
        self._common: Headers = ()
        self._common_of: Secret | None = None
        self._transport = transport
        self._own = keys, transport
        self._request_timeout = request_timeout
        self._upload_timeout = upload_timeout
        self._size = size
        self._patience = Patience(request_timeout, longest_timeout or request_timeout)
        self._http: ConnectionPool | Shared | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.base_url}>"

    def meet_stand_in(self) -> stand_in.StandIn | None:
        """Talk to what a test has put in the server's place, and give that; ``None`` if there is nothing.

        Raises `ConfigurationError` in a test that has put nothing there, for a server that is not on this machine.
        """
        here = self.met = stand_in.current()
        (self.keys, self._transport), self.time = self._own, stand_in.LoopTime()
        if here is not None:
            self.time = stand_in.SkippedTime(clock_here())
        if self.keys.switch is not None:
            return here
        if here is not None:
            self._transport, self.keys = here.transport(self.base_url), KeyRing(stand_in.KEY, "")
            return here
        how = stand_in.forbidden()
        if how and self._transport is None and reaches_network(self.base_url):
            raise ConfigurationError(f"a test must not reach {self.base_url}: {how}")
        if self.keys.missing:
            raise ConfigurationError(self.keys.missing)
        return None

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

    async def _connected(self) -> ConnectionPool | Shared:
        """Give what requests are made with, from the first one on; to load authorities takes too long for the loop."""
        if self._transport is not None:
            self._http = Shared(self._transport)
            return self._http
        async with self._connecting:
            if self._http is None:
                tls = await in_thread(partial(tls_context, self.base_url))
                self._http = ConnectionPool(self.base_url, tls, self._size)
        return self._http

    async def exchange(
        self, endpoint: str, method: str, path: str, body: bytes | None = None, *,
        filename: str | None = None, promises: Promise = Promise.RECEIPT,
    ) -> Verdict:  # fmt: skip
        """Make one request; never raises for what a network or a server may do.

        ``filename`` sends ``body`` as a multipart upload under this name. Of what ``promises`` a list of jobs more is
        read than of others, and if it is long, in a thread. To be called in tasks that only anyio scopes cancel: a pool
        of httpx's, which is an application's own transport, loses a connection for good otherwise. Our own does not.
        """
        attempt = Attempt()
        try:
            key = self.keys.secret()
        except Exception as exc:  # the application's callable: whatever it raises means that there is no key now
            did = f"returned what is no key: {exc}" if isinstance(exc, BadKey) else f"raised {type(exc).__name__}"
            return Verdict(Meaning.MISCONFIGURED, detail=f"the api_key callable {did}")
        lists = promises is Promise.JOBS
        cap = MAX_LISTING if lists else MAX_ANSWER
        failure: str | None = None
        certificate = False
        began, waits = anyio.current_time(), self._patience.seconds(endpoint)
        with anyio.move_on_after(waits if filename is None else self._upload_timeout) as scope:
            try:
                http = self._http or await self._connected()
                self.requests[endpoint] = self.requests.get(endpoint, 0) + 1
                async with http.connection() as one:
                    outgoing = self._outgoing(attempt, method, path, body, filename, key)
                    await self._stream(one, attempt, outgoing, cap)
            # httpx maps many of its parts' errors, not all; a transport may raise anything, also no `Exception`: an
            # outcome of pytest's, or a group in which one is.
            except BaseException as exc:
                if goes_on(exc):
                    forget_frames(exc)
                    raise
                failure, certificate, attempt.broke_off = named(exc), is_certificate_error(exc), not attempt.whole
        if scope.cancelled_caught:
            failure = TIMEOUT
            self._patience.too_short(endpoint)
        elif attempt.status is not None:
            self._patience.answered(endpoint, anyio.current_time() - began)
        if not lists or not attempt.is_long:
            return attempt.verdict(failure, certificate, cap, key)

        def digest() -> Verdict:
            verdict, host = attempt.verdict(failure, certificate, cap, key), urlsplit(self.base_url).hostname or ""
            return attrs.evolve(verdict, body=job_list.read(verdict.body, host, path.partition("?")[0]))

        return await in_thread(digest)

    def _outgoing(
        self, attempt: Attempt, method: str, path: str, body: bytes | None, filename: str | None, key: Secret
    ) -> Outgoing:
        headers = self._common_headers(key)
        # The scope around each request bounds it as a whole. This one, shorter, is for the handshake: an application's
        # own httpcore closes the socket of one that times out, but not of one that is cancelled.
        timeouts = {"connect": self._request_timeout * 0.4, "read": None, "write": None, "pool": None}
        extensions = {"trace": attempt.trace, "timeout": timeouts}
        if filename is not None and body is not None:
            kind = "text/csv" if filename.endswith(".csv") else "application/x-ndjson"
            content_type, body = multipart(filename, body, kind)
            headers = (*headers, (b"Content-Type", content_type.encode("ascii")))
        elif body is not None:
            headers = (*headers, _JSON)
        outgoing = Outgoing(method, self.base_url + path, headers, body, extensions)
        attempt.begun = lambda: outgoing.begun()
        return outgoing

    def _common_headers(self, key: Secret) -> Headers:
        """Give the headers that all requests with this key have: made once, and not for each."""
        if self._common_of is not key:
            own = {name: key.header(value) for name, value in self._headers(key.reveal()).items()}
            common = {
                **own,
                "Accept": b"application/json",
                "Accept-Encoding": b"identity",  # a 200 kB gzip answer can hold 60 MB
                "Connection": b"keep-alive",
                "User-Agent": f"userpilot-async/{__version__}".encode("ascii"),
            }
            self._common = tuple((name.encode("ascii"), value) for name, value in common.items())
            self._common_of = key
        return self._common

    async def _stream(self, to: Checkout | Shared, attempt: Attempt, outgoing: Outgoing, cap: int) -> None:
        response = await to.send(outgoing)
        try:
            attempt.take_headers(response.headers.items(), response.status_code)
            if is_response(response):
                response.extensions.pop("reason_phrase", None)  # the server's own words, in the `repr` of a response
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
