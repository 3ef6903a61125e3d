"""Stands between Redis clients and a server, and holds, slows or loses what passes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any

import attrs

from tests.harness.loopback import LoopbackServer
from tests.harness.wire import Wire

# What a client says before the caller's first command, or between two: a cut is not meant for it.
HANDSHAKE = frozenset({b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"READONLY"})
# Real seconds. A pipeline arrives in pieces; when all is answered and no piece came for so long, it was the last.
QUIET = 0.02
CALL_WITHIN = 5.0


@attrs.frozen
class Weather:
    """What becomes of bytes at this moment. Seconds are real ones."""

    requests_pass: bool = True
    answers_pass: bool = True
    delay: float = 0.0  # before each answer
    drip_every: float | None = None  # between two bytes of an answer
    late: bool = False  # whether what was held is delivered even if its client has left


@attrs.frozen
class Cut:
    """The fate of one request: its connection ends, before the server has it or after the server has answered."""

    containing: bytes
    applied: bool
    answer_bytes: int = 0
    reset: bool = False

    def strikes(self, request: bytes) -> bool:
        return self.containing in request and _command(request) not in HANDSHAKE


class Values:
    """Finds the ends of values in a stream of RESP2 or RESP3. What is not RESP yields none, for ever."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._at = 0
        self._missing = 1  # elements until the value is whole
        self._lost = False

    def __bool__(self) -> bool:
        """Whether a value has begun and not ended."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """The values that `data` makes whole."""
        whole: list[bytes] = []
        if self._lost:
            return whole
        self._held += data
        try:
            while self._step():
                if self._missing == 0:
                    whole.append(bytes(self._held[: self._at]))
                    del self._held[: self._at]
                    self._at, self._missing = 0, 1
        except ValueError:
            self._lost = True
            self._held.clear()
        return whole

    def _step(self) -> bool:
        """Over one more element, if it is there."""
        end = self._held.find(b"\r\n", self._at)
        if end < 0:
            return False
        kind, rest = bytes(self._held[self._at : self._at + 1]), self._held[self._at + 1 : end]
        end += 2
        inside = 0
        if kind in (b"$", b"!", b"="):
            size = int(rest)
            end += size + 2 if size >= 0 else 0  # -1 is RESP2's null
            if end > len(self._held):
                return False
        elif kind in (b"*", b"~", b">"):
            inside = max(0, int(rest))
        elif kind in (b"%", b"|"):
            # An attribute stands before the value that it belongs to.
            inside = 2 * int(rest) + (kind == b"|")
        self._at = end
        self._missing += inside - 1
        return True


class Side(Wire):
    """A connection's one end, read as it comes."""

    ends_by_reset = False

    def close(self) -> None:
        if not self.closed:
            # A pump may still wait for it, and the next connection may get the same descriptor at once.
            asyncio.get_running_loop().remove_reader(self._sock)
            asyncio.get_running_loop().remove_writer(self._sock)
        super().close()

    def end(self) -> None:
        if self.ends_by_reset:
            self.reset()
        else:
            self.close()

    async def read(self) -> bytes:
        """The next bytes; none when the peer has left."""
        data = await asyncio.get_running_loop().sock_recv(self._sock, 1 << 16)
        await asyncio.sleep(0)  # as in Wire: a peer that is always ready would never let another task run
        return data


@attrs.define
class Link:
    """A client's connection and ours to the server."""

    client: Side
    server: Side
    requests: Values = attrs.field(factory=Values)
    answers: Values = attrs.field(factory=Values)
    unanswered: int = 0
    cut: Cut | None = None
    answer_bytes_given: int = 0
    left: int | None = None  # bytes of answers until it is cut


class RedisProxy(LoopbackServer):
    """Forwards to `upstream_port` of the loopback, and does as it was last told, until `heal`.

    Each method holds from its return on, for connections that are there and for new ones, and replaces what the
    others said; only a cut waits for its request whatever the weather. Cuts need plain RESP, all else works
    through TLS as well. `upstream_port` may be changed, for connections to come.
    """

    scheme = "redis"

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self.upstream_port = upstream_port
        self.requests = 0  # whole ones that came, handshakes included; what a black hole holds has not come
        self.cuts = 0  # done, not only asked for
        self.bytes_to_server = 0
        self.bytes_to_client = 0
        self._weather = Weather()
        self._changed = asyncio.Event()
        self._welcoming = asyncio.Event()
        self._welcoming.set()
        self._accepting: asyncio.Task[None] | None = None
        self._cut: Cut | None = None
        self._sizes: Iterator[int] | None = None
        self._handlers: dict[Side, asyncio.Task[Any]] = {}
        self._flapping: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"{super().url}/0"

    # ── what it may be told ──

    def heal(self, *, late: bool = False) -> None:
        """Forward again. What was held arrives now; that of clients which left meanwhile is lost, or comes `late`."""
        self._call(self._arm(None))
        self._call(self._become(Weather(late=late)))

    def black_hole(self) -> None:
        """Accept, and forward nothing in either direction."""
        self._call(self._become(Weather(requests_pass=False, answers_pass=False)))

    def swallow_answers(self) -> None:
        """The server gets, and carries out, what the client asks; the client waits until it gives up."""
        self._call(self._become(Weather(answers_pass=False)))

    def delay(self, seconds: float) -> None:
        """Hold each answer so long."""
        self._call(self._become(Weather(delay=seconds)))

    def drip(self, every: float = 0.001) -> None:
        """Give answers one byte at a time, each in a packet of its own."""
        self._call(self._become(Weather(drip_every=every)))

    def refuse(self) -> None:
        """As a server that died: connections are reset, new ones refused by the kernel."""
        self._call(self._become(Weather(), welcoming=False))

    def flap(self, *, up: float = 0.05, down: float = 0.05) -> None:
        """Refuse and forward by turns, beginning with a refusal."""

        async def turns() -> None:
            while True:
                await self._close_down()
                await asyncio.sleep(down)
                self._open_up()
                await asyncio.sleep(up)

        async def start() -> None:
            await self._become(Weather())
            self._flapping = asyncio.ensure_future(turns())

        self._call(start())

    def cut_connections(self) -> None:
        """Reset all that are open. New ones are welcome."""
        self._call(self._reset_all())

    def cut_next_request(self, containing: bytes = b"", *, reset: bool = False) -> None:
        """Close the connection of the next request instead of forwarding it; the server does not carry it out.

        Only a request with the bytes `containing` counts, on whichever connection, and no handshake. A pipeline
        or transaction is lost from there on. `reset` closes by RST instead of FIN. `heal` takes it back.
        """
        self._call(self._arm(Cut(containing, applied=False, reset=reset)))

    def cut_next_answer(self, containing: bytes = b"", *, answer_bytes: int = 0, reset: bool = False) -> None:
        """Close the connection of the next request once the server has answered it; the client learns nothing.

        Or gets the first `answer_bytes` of the answer. A pipeline or transaction is carried out whole before
        that, and loses its answers from this one on or all of them. For `containing` see `cut_next_request`.
        """
        self._call(self._arm(Cut(containing, applied=True, answer_bytes=answer_bytes, reset=reset)))

    def cut_answers_after(self, sizes: Iterator[int]) -> None:
        """Reset each connection in the middle of an answer: of the one that goes beyond so many bytes from now on.

        Each connection takes its number from `sizes`, when its first answer comes.
        """
        self._call(self._arm(None, sizes))

    # ── in its own thread ──

    async def handle(self, wire: Wire, connection: int) -> None:
        client = Side(wire.hand_over())
        task = asyncio.current_task()
        assert task is not None
        self._handlers[client] = task
        try:
            if not self._welcoming.is_set():
                client.ends_by_reset = True  # accepted just before it was told to refuse
            elif not await self._held_in_vain(client):
                await self._serve_client(client)
        finally:
            del self._handlers[client]
            client.end()

    async def _serve_client(self, client: Side) -> None:
        server = await _connect(self.upstream_port)
        link = Link(client, server)
        pumps = {asyncio.ensure_future(self._pass_requests(link)), asyncio.ensure_future(self._pass_answers(link))}
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
        finally:
            # Closed first: this task may be cancelled again at the await.
            server.close()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pass_requests(self, link: Link) -> None:
        while data := await link.client.read():
            if await self._held_in_vain(link.client):
                return
            for request in link.requests.feed(data):
                self.requests += 1
                link.unanswered += 1
                if link.cut is None and self._cut is not None and self._cut.strikes(request):
                    link.cut, self._cut = self._cut, None
            if link.cut is not None and not link.cut.applied:
                self._carry_out(link.cut, link)
                return
            self.bytes_to_server += len(data)
            await link.server.write(data)

    async def _pass_answers(self, link: Link) -> None:
        while data := await link.server.read():
            # RESP3's pushes answer nothing.
            answered = sum(not value.startswith(b">") for value in link.answers.feed(data))
            link.unanswered = max(0, link.unanswered - answered)
            if link.cut is None:
                if self._goes_too_far(link, data):
                    await self._give(link, data[: link.left])
                    self.cuts += 1
                    link.client.ends_by_reset = True
                    return
                await self._give(link, data)
                continue
            left = link.cut.answer_bytes - link.answer_bytes_given
            link.answer_bytes_given += len(data[:left])
            await self._give(link, data[:left])
            if link.unanswered == 0:
                await asyncio.sleep(QUIET)
            if link.unanswered == 0 and not link.requests:
                self._carry_out(link.cut, link)
                return

    def _goes_too_far(self, link: Link, data: bytes) -> bool:
        """Whether the connection is to be cut within this answer."""
        if self._sizes is None:
            return False
        if link.left is None:
            link.left = next(self._sizes)
        if len(data) > link.left:
            return True
        link.left -= len(data)
        return False

    async def _give(self, link: Link, data: bytes) -> None:
        await self._lull(self._weather.delay)
        while not self._weather.answers_pass:
            await self._changed.wait()
        while data:
            piece = data if self._weather.drip_every is None else data[:1]
            data = data[len(piece) :]
            # Counted first: who has the answer may look at the counter.
            self.bytes_to_client += len(piece)
            await link.client.write(piece)
            if data:
                await self._lull(self._weather.drip_every or 0.0)

    async def _lull(self, seconds: float) -> None:
        """So many seconds, or until the weather changes."""
        if seconds:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)

    async def _held_in_vain(self, client: Side) -> bool:
        """Wait while requests are held. Whether the client left meanwhile and its request is not to come late."""
        if self._weather.requests_pass:
            return False
        while not self._weather.requests_pass:
            await self._changed.wait()
        return client.peer_has_left() and not self._weather.late

    def _carry_out(self, cut: Cut, link: Link) -> None:
        """The pump returns next, and with that both connections end."""
        self.cuts += 1
        link.client.ends_by_reset = cut.reset

    async def _arm(self, cut: Cut | None, sizes: Iterator[int] | None = None) -> None:
        self._cut, self._sizes = cut, sizes

    async def _become(self, weather: Weather, *, welcoming: bool = True) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
            self._flapping = None
        self._weather = weather
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if welcoming:
            self._open_up()
        else:
            await self._close_down()

    def _open_up(self) -> None:
        if not self._welcoming.is_set():
            self._listener.listen(1024)
            self._welcoming.set()

    async def _close_down(self) -> None:
        if self._welcoming.is_set():
            self._welcoming.clear()
            if self._accepting is not None:
                self._accepting.cancel()
                await asyncio.gather(self._accepting, return_exceptions=True)
            # Bound but not listening: the kernel answers SYN with RST, and the port stays ours.
            self._listener.close()
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.setblocking(False)
            self._listener.bind(("127.0.0.1", self.port))
        await self._reset_all()

    async def _reset_all(self) -> None:
        handlers = dict(self._handlers)
        for client, task in handlers.items():
            client.ends_by_reset = True
            task.cancel()
        await asyncio.gather(*handlers.values(), return_exceptions=True)

    async def _accept(self, handlers: set[asyncio.Task[None]]) -> None:
        while True:
            await self._welcoming.wait()
            self._accepting = asyncio.ensure_future(super()._accept(handlers))
            try:
                await asyncio.wait({self._accepting})
            except asyncio.CancelledError:
                self._accepting.cancel()
                await asyncio.gather(self._accepting, return_exceptions=True)
                raise
            if not self._accepting.cancelled():
                self._accepting.result()

    async def _main(self) -> None:
        try:
            await super()._main()
        finally:
            if self._flapping is not None:
                self._flapping.cancel()
                await asyncio.gather(self._flapping, return_exceptions=True)

    def _call(self, doing: Coroutine[Any, Any, None]) -> None:
        """Have it done in the server's thread, and return when it is."""
        asyncio.run_coroutine_threadsafe(doing, self._loop).result(CALL_WITHIN)


def _command(request: bytes) -> bytes:
    """The command's name, in capitals: of an array of bulk strings, or of a line typed by hand."""
    words = request.split(b"\r\n", 3)
    name = words[2] if request.startswith(b"*") and len(words) > 2 else request.split(b" ", 1)[0].strip()
    return name.upper()


async def _connect(port: int) -> Side:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return Side(sock)
