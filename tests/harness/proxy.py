"""Stands between a client and a real server, and loses or delays what passes, one request at a time."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Literal

import attrs

from tests.harness.behaviours import Request
from tests.harness.loopback import LoopbackServer
from tests.harness.script import Record, Script, Turns
from tests.harness.wire import Wire


@attrs.frozen
class Passage:
    """What becomes of one request and of its answer. Delays are real seconds."""

    ending: Literal["answered", "cut_before", "cut_after", "cut_within", "swallowed"] = "answered"
    delay_request: float = 0.0  # before it reaches the server
    delay_answer: float = 0.0  # between the server's answer and ours, or the cut
    reset: bool = False  # cut by RST instead of FIN


def forward(*, delay_request: float = 0.0, delay_answer: float = 0.0) -> Passage:
    return Passage("answered", delay_request, delay_answer)


def cut_before_forward(*, reset: bool = False, after: float = 0.0) -> Passage:
    """The server never sees the request, and the client cannot know that."""
    return Passage("cut_before", delay_request=after, reset=reset)


def cut_after_forward(*, reset: bool = False, after: float = 0.0) -> Passage:
    """The server has answered, so it has applied the request; the client gets not one byte."""
    return Passage("cut_after", delay_answer=after, reset=reset)


def cut_within_answer(*, reset: bool = False) -> Passage:
    """The client gets half of the answer's bytes."""
    return Passage("cut_within", reset=reset)


def swallow_answer() -> Passage:
    """The server has applied the request; the client waits until it gives up."""
    return Passage("swallowed")


@attrs.frozen
class Passed:
    """A request that went, or did not go, through the proxy. Stamps are time.monotonic()."""

    request: Request
    passage: Passage
    forwarded_at: float | None  # None: the server did not get it
    status: int | None  # the server's answer; None: it left without one
    answered_at: float | None  # when the answer was sent on; None: the client got none, or not all of it


class FaultProxy(LoopbackServer):
    """Forwards to `upstream_port` byte for byte, and does to each request what the script says.

    `script` is as for `RawServer`, with `Passage`s. Every client connection has an upstream connection of
    its own. `upstream_port` may be changed, for a server that was killed and started again.
    """

    def __init__(self, upstream_port: int, script: Script[Passage] = (), *, then: Passage | None = None) -> None:
        super().__init__()
        self.upstream_port = upstream_port
        self._turns: Turns[Passage] = Turns(script, then or forward())
        self._arrived = 0
        self._record: Record[Passed] = Record()

    @property
    def passed(self) -> list[Passed]:
        """Requests with their fate sealed, in the order of that."""
        return self._record.entries()

    @property
    def ambiguous(self) -> list[Passed]:
        """Requests that the server answered without the client learning of it: each may become a duplicate."""
        return [entry for entry in self.passed if entry.status is not None and entry.answered_at is None]

    def wait_for_passed(self, count: int, timeout: float = 5.0) -> list[Passed]:
        """Block until so many have passed."""
        return self._record.wait_for(count, timeout)

    async def handle(self, wire: Wire, connection: int) -> None:
        upstream: Wire | None = None
        try:
            while await _readable_while_open(wire, upstream):
                request, data = await self._receive(wire, connection)
                passage = self._turns.before_reading() or self._turns.after_reading(request)
                await asyncio.sleep(passage.delay_request)
                if passage.ending == "cut_before":
                    self._record.add(Passed(request, passage, None, None, None))
                    return _cut(wire, passage)
                upstream = upstream or await _connect(self.upstream_port)
                if not await self._pass(wire, upstream, request, data, passage):
                    return None
        finally:
            if upstream is not None:
                upstream.close()

    async def _receive(self, wire: Wire, connection: int) -> tuple[Request, bytes]:
        head = await wire.read_head()
        body, raw_body = await wire.read_body(head.headers)
        method, path, _ = head.start_line.split(" ", 2)
        request = Request(
            connection=connection,
            index=self._arrived,
            stamp=time.monotonic(),
            behaviour="proxy",
            method=method,
            path=path,
            headers=head.headers,
            body=body,
        )
        self._arrived += 1
        return request, head.raw + raw_body

    async def _pass(self, wire: Wire, upstream: Wire, request: Request, data: bytes, passage: Passage) -> bool:
        """Whether the connection may go on."""
        fate = Passed(request, passage, forwarded_at=time.monotonic(), status=None, answered_at=None)
        try:
            await upstream.write(data)
            status, answer = await upstream.read_answer(request.method)
            fate = attrs.evolve(fate, status=status)
            await asyncio.sleep(passage.delay_answer)
        except BaseException:  # also when the proxy is stopped: an answer that got so far is ambiguous
            self._record.add(fate)
            raise
        # A write to a client that has just gone succeeds, into the kernel's buffer.
        if passage.ending == "answered" and not wire.peer_has_left():
            fate = attrs.evolve(fate, answered_at=time.monotonic())
        # Before the client can act on the answer, or a test that looks then would not find the entry.
        self._record.add(fate)
        if fate.answered_at is not None:
            try:
                await wire.write(answer)
            except ConnectionError:
                self._record.replace(fate, attrs.evolve(fate, answered_at=None))
                raise
        elif passage.ending == "cut_within":
            await wire.write(answer[: len(answer) // 2])
        if passage.ending == "swallowed":
            await wire.wait_until_left()
        elif passage.ending != "answered":
            _cut(wire, passage)
        return passage.ending == "answered" and request.headers.get("connection", "").lower() != "close"


def _cut(wire: Wire, passage: Passage) -> None:
    if passage.reset:
        wire.reset()
    else:
        wire.close()


async def _connect(port: int) -> Wire:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return Wire(sock)


async def _readable_while_open(wire: Wire, upstream: Wire | None) -> bool:
    """Wait for the client's next byte. False if either side leaves first: idle servers close, too."""
    if upstream is None:
        return await wire.readable()
    client = asyncio.ensure_future(wire.readable())
    server = asyncio.ensure_future(upstream.readable())
    try:
        await asyncio.wait({client, server}, return_when=asyncio.FIRST_COMPLETED)
        return client.done() and client.result() and not server.done()
    finally:
        client.cancel()
        server.cancel()
        await asyncio.gather(client, server, return_exceptions=True)
