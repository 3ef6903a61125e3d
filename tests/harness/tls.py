"""The raw server behind TLS, with a certificate to trust or to refuse, or with no handshake at all."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import trustme

from tests.harness.behaviours import Behaviour, Request
from tests.harness.loopback import LoopbackServer
from tests.harness.raw_server import RawServer
from tests.harness.script import Script
from tests.harness.wire import Wire

if TYPE_CHECKING:
    from typing import Self

Certificate = Literal["good", "wrong_name", "expired", "self_signed"]


class TLSServer(LoopbackServer):
    """Takes TLS off and hands the bytes to a `RawServer` with the same script, which is `inside`.

    A client that trusts only the system's authorities refuses even the good certificate: that is the
    "untrusted" case. With `client_context()` it trusts ours. `stall_handshake` reads and never answers.
    """

    scheme = "https"

    def __init__(
        self,
        script: Script[Behaviour] = (),
        *,
        then: Behaviour | None = None,
        certificate: Certificate = "good",
        stall_handshake: bool = False,
    ) -> None:
        super().__init__()
        self.inside = RawServer(script, then=then)
        self.handshakes_refused: list[Exception] = []
        self._stall_handshake = stall_handshake
        self._context = _server_context(certificate)
        self._stack = ExitStack()

    @property
    def requests(self) -> list[Request]:
        return self.inside.requests

    def client_context(self) -> ssl.SSLContext:
        """Trusts our authority and nobody else: for `verify=` of a client."""
        context = ssl.create_default_context()
        _authority().configure_trust(context)
        return context

    def __enter__(self) -> Self:
        self._stack.enter_context(self.inside)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack:
            super().__exit__(kind, error, traceback)

    async def handle(self, wire: Wire, connection: int) -> None:
        if self._stall_handshake:
            await wire.wait_until_left()
            return
        loop = asyncio.get_running_loop()
        outside = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(outside)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, wire.hand_over(), ssl=self._context)
        except (ssl.SSLError, ConnectionError) as error:
            self.handshakes_refused.append(error)
            return
        to_outside = asyncio.StreamWriter(transport, protocol, outside, loop)
        inside, to_inside = await asyncio.open_connection("127.0.0.1", self.inside.port)
        pumps = [
            asyncio.ensure_future(_pump(outside, to_inside)),
            asyncio.ensure_future(_pump(inside, to_outside)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First what needs no waiting: this task may be cancelled again at any await below.
            for pump in pumps:
                pump.cancel()
            to_inside.transport.abort()
            to_outside.close()
            try:
                # Time for the last bytes to leave; but a client that answers no close_notify would hold it for 30 s.
                await asyncio.wait({asyncio.ensure_future(_closed(to_outside)), *pumps}, timeout=1.0)
            finally:
                to_outside.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # either side has gone, by reset or in the middle of TLS; the other follows


async def _closed(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await writer.wait_closed()


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@cache
def _server_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # "self_signed" stands for any authority that the client does not know, ours included.
    authority = trustme.CA() if certificate == "self_signed" else _authority()
    name = "elsewhere.test" if certificate == "wrong_name" else "127.0.0.1"
    end = datetime.now(UTC) - timedelta(days=1) if certificate == "expired" else None
    begin = None if end is None else end - timedelta(days=30)
    authority.issue_cert(
        name, "localhost" if certificate != "wrong_name" else name, not_before=begin, not_after=end
    ).configure_cert(context)
    return context
