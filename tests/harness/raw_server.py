"""A server that misbehaves as told, one request at a time, on real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import attrs

from tests.harness.behaviours import Behaviour, Exchange, Request, answer
from tests.harness.loopback import LoopbackServer
from tests.harness.script import Record, Script, Turns
from tests.harness.wire import Wire

if TYPE_CHECKING:
    from typing import Self


class RawServer(LoopbackServer):
    """Plays a script of behaviours and records what it received.

    `script` is one behaviour for every request, or a sequence of them (then `then` for all that follow, by
    the order in which the first byte of each request comes), or a function of the whole request.
    `on_headers` may settle a request before its body is read, by returning a behaviour instead of None.
    """

    def __init__(
        self,
        script: Script[Behaviour] = (),
        *,
        then: Behaviour | None = None,
        on_headers: Callable[[Request], Behaviour | None] | None = None,
    ) -> None:
        super().__init__()
        self._turns: Turns[Behaviour] = Turns(script, then or answer())
        self._on_headers = on_headers
        self._record: Record[Request] = Record()

    @property
    def requests(self) -> list[Request]:
        """What came so far, in the order in which it was read."""
        return self._record.entries()

    @property
    def applied(self) -> list[Request]:
        return [request for request in self.requests if request.applied]

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[Request]:
        """Block until so many came. In an async test: `await anyio.to_thread.run_sync(server.wait_for_requests, 3)`."""
        return self._record.wait_for(count, timeout)

    async def handle(self, wire: Wire, connection: int) -> None:
        closes_on_next = False
        while await wire.readable():
            if closes_on_next:
                self._note_request(Request(connection=connection, behaviour="closed as stale"))
                return
            exchange, behaviour = await self._receive(wire, connection)
            await behaviour.play(exchange)
            if wire.closed or exchange.request.headers.get("connection", "").lower() == "close":
                return
            closes_on_next = exchange.closes_on_next

    async def _receive(self, wire: Wire, connection: int) -> tuple[Exchange, Behaviour]:
        """Take in as much as the behaviour whose turn it is reads, and record it."""
        behaviour = self._turns.before_reading()
        request = Request(connection=connection)
        if behaviour is None or behaviour.reads != "nothing":
            head = await wire.read_head()
            method, path, _ = head.start_line.split(" ", 2)
            request = attrs.evolve(request, index=len(self._record), method=method, path=path, headers=head.headers)
            if self._on_headers is not None:
                behaviour = self._on_headers(request) or behaviour
            if behaviour is None or behaviour.reads == "everything":
                body, _ = await wire.read_body(head.headers)
                request = attrs.evolve(request, body=body)
        if behaviour is None:
            behaviour = self._turns.after_reading(attrs.evolve(request, index=len(self._record)))
        request = attrs.evolve(request, behaviour=behaviour.name, applied=behaviour.applied)
        return Exchange(wire, self._note_request(request)), behaviour

    def _note_request(self, request: Request) -> Request:
        noted = attrs.evolve(request, index=len(self._record), stamp=time.monotonic())
        self._record.add(noted)
        return noted


class RefusedPort:
    """A port of the loopback that refuses every connection, and that nobody else can get meanwhile."""

    def __enter__(self) -> Self:
        # Bound but not listening: the kernel answers SYN with RST, and the port stays ours.
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sock.close()
