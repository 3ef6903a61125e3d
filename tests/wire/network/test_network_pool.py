"""The pool of connections, on real sockets: no cancellation costs one, and those that nobody needs are closed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute

from tests.harness import Behaviour, RawServer, Request, TLSServer, answer, late, length, silent
from tests.harness.stage.calls import person
from tests.harness.stage.scenes import PATIENCE, QUICK, on_sockets
from userpilot_async._delivery import connection, pool
from userpilot_async._delivery.connection import Connection
from userpilot_async._delivery.credentials import KeyRing
from userpilot_async._delivery.pool import KEEPALIVE
from userpilot_async._delivery.stream import Stream
from userpilot_async._protocol.verdict import Meaning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.anyio

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
SIZE = 4


@asynccontextmanager
async def connected(server: RawServer, size: int = SIZE) -> AsyncIterator[Connection]:
    keys = KeyRing("KEY", "USERPILOT_API_KEY")
    one = Connection(keys, lambda key: {}, server.url, None, request_timeout=60.0, upload_timeout=60.0, size=size)
    one.open()
    try:
        yield one
    finally:
        await one.aclose()


async def statuses(one: Connection, requests: int) -> list[int | None]:
    """The answers to so many requests at a time; shorter than that if one of them finds no connection."""
    seen: list[int | None] = []

    async def ask() -> None:
        seen.append((await one.exchange("probe", "POST", "/v1/track", b"{}")).status)

    with anyio.move_on_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for _ in range(requests):
                tasks.start_soon(ask)
    return seen


async def open_at(server: RawServer, connections: int) -> bool:
    """Wait until the server has just so many connections, which it learns a little later."""
    with anyio.move_on_after(PATIENCE):
        while server.open_connections != connections:
            await anyio.sleep(0.001)
    return server.open_connections == connections


@ON_ASYNCIO
async def test_three_thousand_natively_cancelled_requests_cost_no_connection() -> None:
    """A pool of httpx's is dead after that. Some wait for one, some connect, some send, some wait for an answer."""
    loop = asyncio.get_running_loop()
    cancelled, turn, waits = 0, 0, True

    def choose(request: Request) -> Behaviour:
        return silent() if waits and request.index % 5 == 4 else answer()

    with RawServer(choose) as server:
        async with connected(server) as one:
            while cancelled < length.of(3_000):  # some are answered before
                turn += 1
                assert turn < length.of(3_000), "hardly any request is cancelled"
                asking = [loop.create_task(one.exchange("probe", "POST", "/v1/track", b"{}")) for _ in range(10)]
                for _ in range(turn % 30):
                    await asyncio.sleep(0)
                for number, task in enumerate(asking):
                    task.cancel()
                    if number % 2:  # and once more, amid what a cancelled request leaves in order
                        await asyncio.sleep(0)
                        task.cancel()
                ended = await asyncio.gather(*asking, return_exceptions=True)
                cancelled += sum(isinstance(end, asyncio.CancelledError) for end in ended)
            waits = False

            assert 20 * [202] == await statuses(one, 20)
            assert SIZE >= server.open_connections
        assert await open_at(server, 0)


async def test_requests_take_the_connection_that_was_left_last_and_never_more_than_there_are() -> None:
    with RawServer(then=late(0.02)) as server:
        async with connected(server) as one:
            first = await statuses(one, 3 * SIZE)
            for _ in range(10):
                await statuses(one, 1)

            assert 3 * SIZE * [202] == first
            assert SIZE == server.connections
            assert 1 == len({request.connection for request in server.requests[-10:]})


async def test_a_connection_that_nobody_needs_is_closed_with_the_next_request(monkeypatch) -> None:
    with RawServer(then=late(0.02)) as server:
        async with connected(server) as one:
            await statuses(one, SIZE)
            later = pool.time.monotonic() + KEEPALIVE + 1
            monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: later))
            await statuses(one, 1)

            assert await open_at(server, 1)
            assert SIZE + 1 == server.connections


async def test_a_connection_that_the_server_closes_with_its_answer_is_not_used_again() -> None:
    with RawServer([answer(headers={"connection": "close"})]) as server:
        async with connected(server, size=1) as one:
            assert [202, 202] == [*await statuses(one, 1), *await statuses(one, 1)]
            assert 2 == server.connections


async def test_a_connection_that_the_server_has_closed_meanwhile_costs_no_request() -> None:
    with RawServer([answer(close=True)]) as server:
        async with connected(server, size=1) as one:
            first = await statuses(one, 1)
            gone = await open_at(server, 0)
            second = await statuses(one, 1)

        assert [202, True, 202] == [*first, gone, *second]
        assert 2 == len(server.requests)


async def test_all_connections_are_closed_at_the_end_also_those_with_a_request_under_way() -> None:
    with RawServer([answer(), silent(), answer()]) as server:
        async with connected(server) as one, anyio.create_task_group() as tasks:
            tasks.start_soon(statuses, one, 3)
            await anyio.to_thread.run_sync(server.wait_for_requests, 3)
            await one.aclose()
            left = await open_at(server, 0)
            tasks.cancel_scope.cancel()

        assert left


async def test_a_request_that_waited_for_a_connection_while_all_were_closed_leaves_no_connection_behind() -> None:
    with RawServer([silent(), answer()]) as server:
        async with connected(server, size=1) as one, anyio.create_task_group() as tasks:
            tasks.start_soon(statuses, one, 2)
            await anyio.to_thread.run_sync(server.wait_for_requests, 1)
            await one.aclose()
            await anyio.to_thread.run_sync(server.wait_for_requests, 2)

            assert await open_at(server, 0)


async def test_authorities_are_loaded_once_for_all_connections(monkeypatch) -> None:
    loaded: list[str] = []
    load = connection.tls_context
    monkeypatch.setattr(connection, "tls_context", lambda url: loaded.append(url) or load(url))
    with TLSServer(certificate="good") as server:
        async with on_sockets(server, attrs.evolve(QUICK, request_timeout=5.0)) as scene:
            await scene.track_all(person(n) for n in range(6))
            with anyio.move_on_after(PATIENCE):
                while server.connections < 2:
                    await scene.client.flush(0.05)
            scene.losses = {"closed": 6}

        assert 2 <= server.connections
        assert [server.url] == loaded


class Scripted(ByteStream):
    """A stream that answers as it is told to, and notes what is written."""

    def __init__(
        self, file: socket.socket, *answers: bytes | Exception, breaks: Exception | None = None, tls: Any = None
    ) -> None:
        self.written: list[bytes] = []
        self._file = file
        self._answers = iter(answers)
        self._breaks = breaks
        self._tls = tls

    @property
    def extra_attributes(self) -> dict[object, Callable[[], object]]:
        return {SocketAttribute.raw_socket: lambda: self._file, TLSAttribute.ssl_object: lambda: self._tls}

    async def send(self, item: bytes) -> None:
        self.written.append(item)
        if self._breaks is not None:
            raise self._breaks

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        told = next(self._answers)
        if isinstance(told, Exception):
            raise told
        return told

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        return None


@pytest.fixture
def idle() -> Iterator[socket.socket]:
    """A socket with nothing to read."""
    near, far = socket.socketpair()
    with near, far:
        yield near


def connects(monkeypatch, to: ByteStream | Exception) -> None:
    """Have every connection be this stream, or fail so."""

    async def connect_tcp(host: str, port: int) -> ByteStream:
        if isinstance(to, Exception):
            raise to
        return to

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)


@pytest.mark.parametrize(("method", "body"), [("POST", b'{"n":1}'), ("GET", None), ("POST", b"")])
async def test_a_request_leaves_in_one_piece(monkeypatch, idle, method: str, body: bytes | None) -> None:
    stream = Scripted(idle, *2 * [b"HTTP/1.1 204 No Content\r\n\r\n"])
    connects(monkeypatch, stream)
    with RawServer() as server:
        async with connected(server) as one:
            verdicts = [await one.exchange("probe", method, "/v1/track", body) for _ in range(2)]

    assert [204, 204] == [verdict.status for verdict in verdicts]
    assert 2 == len(stream.written)
    for written in stream.written:
        head, _, sent = written.partition(b"\r\n\r\n")
        assert head.startswith(f"{method} /v1/track HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode())
        assert (body or b"") == sent
        assert (f"\r\nContent-Length: {len(body or b'')}".encode() in head) == (method == "POST")


@pytest.mark.parametrize(
    ("answers", "meaning", "detail"),
    [
        ([anyio.BrokenResourceError()], Meaning.LOST, "ReadError, BrokenResourceError"),
        ([anyio.ClosedResourceError()], Meaning.LOST, "ReadError, ClosedResourceError"),
        ([anyio.EndOfStream()], Meaning.LOST, "RemoteProtocolError"),
        ([b"HTTP/1.1 202 Accepted\r\n\r\n", b"{}", anyio.EndOfStream()], Meaning.ACCEPTED, ""),
    ],
)
async def test_the_end_of_a_connection_is_told_from_its_breaking(
    monkeypatch, idle, answers: list[bytes | Exception], meaning: Meaning, detail: str
) -> None:
    connects(monkeypatch, Scripted(idle, *answers))
    with RawServer() as server:
        async with connected(server) as one:
            verdict = await one.exchange("probe", "POST", "/v1/track", b"{}")

    assert (meaning, detail) == (verdict.meaning, verdict.detail)


BROKEN = [anyio.BrokenResourceError(), anyio.ClosedResourceError(), anyio.EndOfStream()]


@pytest.mark.parametrize("breaks", BROKEN)
async def test_an_answer_counts_that_came_before_the_request_could_be_written(monkeypatch, idle, breaks) -> None:
    refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
    connects(monkeypatch, Scripted(idle, refusal, breaks=breaks))
    with RawServer() as server:
        async with connected(server) as one:
            verdict = await one.exchange("probe", "POST", "/v1/track", b"{}")

    assert 413 == verdict.status


@pytest.mark.parametrize("breaks", BROKEN)
async def test_a_request_that_breaks_while_it_is_written_may_have_arrived(monkeypatch, idle, breaks) -> None:
    """Some of it may have left: to send it again as if none had would count an event twice."""
    connects(monkeypatch, Scripted(idle, anyio.BrokenResourceError(), breaks=breaks))
    with RawServer() as server:
        async with connected(server) as one:
            verdict = await one.exchange("probe", "POST", "/v1/track", b"{}")

    assert Meaning.LOST is verdict.meaning


async def test_nothing_of_a_request_has_left_before_its_body_does_also_of_the_second_one(idle) -> None:
    stream, sent = Stream(Scripted(idle)), list[bool]()
    for _ in range(2):
        stream.begin()
        await stream.write(b"head")
        sent.append(stream.sent)
        await stream.write(b"body")
        sent.append(stream.sent)

    assert [False, True] * 2 == sent


def test_a_connection_whose_socket_is_closed_has_ended(idle: socket.socket) -> None:
    stream = Stream(Scripted(idle))
    open_one = stream.get_extra_info("is_readable")
    idle.close()

    assert (False, True) == (open_one, stream.get_extra_info("is_readable"))


async def test_an_answer_that_came_before_its_request_is_of_another_and_says_nothing(monkeypatch, idle) -> None:
    accepted, refused = (b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status for status in (b"202 A", b"400 B"))
    connects(monkeypatch, Scripted(idle, accepted + refused, accepted))
    with RawServer() as server:
        async with connected(server, size=1) as one:
            verdicts = [await one.exchange("probe", "POST", "/v1/track", b"{}") for _ in range(3)]

    assert [202, None, 202] == [verdict.status for verdict in verdicts]
    assert (Meaning.LOST, True) == (verdicts[1].meaning, verdicts[1].ambiguous)


@pytest.mark.parametrize("more", [b"H", ssl.SSLWantReadError(), ssl.SSLZeroReturnError()])
async def test_a_connection_whose_tls_has_more_than_the_answer_is_not_used_again(
    monkeypatch, idle, more: bytes | Exception
) -> None:
    class TLS:
        def read(self, size: int) -> bytes:
            if isinstance(more, Exception):
                raise more
            return more

    streams = [Scripted(idle, *2 * [b"HTTP/1.1 204 No Content\r\n\r\n"], tls=TLS()) for _ in range(2)]
    turns = iter(streams)

    async def connect_tcp(host: str, port: int) -> ByteStream:
        return next(turns)

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    with RawServer() as server:
        async with connected(server, size=1) as one:
            await statuses(one, 1)
            await statuses(one, 1)

    assert ([2, 0] if isinstance(more, ssl.SSLWantReadError) else [1, 1]) == [len(one.written) for one in streams]


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ConnectionRefusedError(), "ConnectError, ConnectionRefusedError"),
        (socket.gaierror(), "ConnectError, gaierror"),
        (TimeoutError(), "ConnectTimeout, TimeoutError"),
    ],
)
async def test_what_cannot_be_connected_to_is_named_and_was_sent_nothing(
    monkeypatch, error: Exception, detail: str
) -> None:
    connects(monkeypatch, error)
    with RawServer() as server:
        async with connected(server) as one:
            verdict = await one.exchange("probe", "POST", "/v1/track", b"{}")

    assert (Meaning.UNSENT, detail) == (verdict.meaning, verdict.detail)
