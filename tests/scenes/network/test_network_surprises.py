"""Rows 81, 82 and 84: what a request meets that nobody foresaw. It is that request's failure, and nobody else's."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import h11
import httpx
import pytest

from tests.harness import judge, length, run_virtual
from tests.harness.raw_transport import SERVER_ANSWER, TUNNEL, RawTransport, in_turn
from tests.harness.stage.loops import KEY
from userpilot_async import Settings, Unavailable, UserpilotAPI, UserpilotClient
from userpilot_async.parcelvoy import ParcelvoyClient

pytestmark = pytest.mark.anyio
virtual = pytest.mark.virtual

ANSWERS = length.of(300, least=100, soak=10_000)
HOUR = 3_600.0
MEGABYTE = 1024 * 1024
JSON = {"content-type": "application/json"}
URL = "https://server.test"


class Raises(httpx.AsyncBaseTransport):
    """Raises so many times, before or after it has read the request's body; then it answers."""

    def __init__(self, error: Callable[[], BaseException], times: int = 3, *, reads: bool = False) -> None:
        self._error = error
        self._left = times
        self._reads = reads
        self.answered = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.lowlevel.checkpoint()
        if self._reads:
            await request.aread()
        if self._left:
            self._left -= 1
            raise self._error()
        self.answered += 1
        return httpx.Response(202)


def chained() -> BaseException:
    """An exception whose causes go round in a ring, as those of careless libraries do."""
    error, cause = RuntimeError("a"), KeyError("b")
    error.__cause__, cause.__cause__ = cause, error
    return error


class Unprintable(Exception):
    """An exception whose own description fails."""

    def __str__(self) -> str:
        raise AttributeError("no text")

    __repr__ = __str__


class Liar(ssl.SSLError):
    """An exception none of whose properties can be read, nor the name of its class."""

    class _Nameless(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]  # it is meant to be wrong
            raise ValueError("no name")

    def _fail(self) -> Any:
        raise ValueError("no such thing")

    __class__ = __cause__ = __context__ = reason = property(_fail)  # type: ignore[assignment]  # as above


class Outcome(BaseException):
    """As pytest's outcomes are, which a transport of a test raises where it fails."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "KeyError": lambda: KeyError("x"),
    "RuntimeError": lambda: RuntimeError("Cannot send a request, as the client has been closed."),
    "ClosedResourceError": anyio.ClosedResourceError,
    "UnicodeError": lambda: UnicodeError("label empty or too long"),
    "RemoteProtocolError": lambda: h11.RemoteProtocolError("h11's own, not httpx's"),
    "SSLError": lambda: ssl.SSLError("one argument, so that it has no reason"),
    "Unprintable": Unprintable,
    "ExceptionGroup": lambda: ExceptionGroup("of a task group", [ValueError("v"), OSError("o")]),
    "RecursionError": chained,
    "MemoryError": MemoryError,
    "StopAsyncIteration": lambda: LookupError("nothing left"),
    "AssertionError": AssertionError,
    "Liar": lambda: Liar("x"),
    "BaseException": Outcome,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("of a task group", [ValueError("v"), Outcome()]),
    "CancelledError": asyncio.CancelledError,  # of a future that somebody has cancelled: nobody has cancelled the task
}


@virtual
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_row_81_whatever_a_transport_raises_costs_a_repetition(
    error: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    transport = Raises(error)
    async with UserpilotClient(KEY, base_url=URL, transport=transport) as userpilot:
        receipt = await userpilot.track("u1", "paid")
        report = await userpilot.flush(HOUR)

    assert ("delivered", True) == (receipt.status, report.complete)
    assert 1 == judge.conservation(report.statistics)
    assert 0 == report.statistics.possible_duplicates  # nothing had asked for the body: nothing had left
    assert 3 == report.statistics.retries
    assert all(KEY not in record.getMessage() for record in caplog.records)


@virtual
@pytest.mark.parametrize("reads", [False, True])
async def test_row_81_a_request_whose_body_was_asked_for_may_have_arrived(reads: bool) -> None:
    transport = Raises(lambda: KeyError("x"), 1, reads=reads)
    async with UserpilotClient(KEY, base_url=URL, transport=transport) as userpilot:
        await userpilot.track("u1", "paid")
        report = await userpilot.flush(HOUR)

    assert int(reads) == report.statistics.possible_duplicates


@virtual
async def test_row_81_parcelvoys_client_meets_it_alike() -> None:
    async with ParcelvoyClient(KEY, URL, transport=Raises(lambda: KeyError("x"))) as parcelvoy:
        receipt = await parcelvoy.track("clicked", external_id="u1")
        await parcelvoy.flush(HOUR)

    assert "delivered" == receipt.status


@virtual
async def test_row_81_of_the_plain_api_it_breaks_one_call_and_not_the_block() -> None:
    transport = Raises(lambda: KeyError("x"), 3, reads=True)
    async with UserpilotAPI(KEY, base_url=URL, transport=transport, attempts=1) as api:
        with pytest.raises(Unavailable, match="KeyError") as caught:
            await api.track("u1", "paid")
        assert caught.value.ambiguous
        for _ in range(2):
            with pytest.raises(Unavailable):
                await api.identify("u1")
        await api.track("u1", "paid")

    assert 1 == transport.answered


@virtual
async def test_row_81_a_transport_that_cannot_be_closed_does_not_keep_anybody_from_leaving(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck(Raises):
        async def aclose(self) -> None:
            raise KeyError("in aclose")

    async with UserpilotClient(KEY, base_url=URL, transport=Stuck(MemoryError, 0)) as userpilot:
        await userpilot.track("u1", "paid")

    assert 1 == sum("KeyError" in record.getMessage() for record in caplog.records)


class Pieces(httpx.AsyncByteStream):
    """An answer's body that cannot be closed; it may break off as well."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    async def aclose(self) -> None:
        raise KeyError("in aclose")


class Odd:
    """An answer of a transport that is not httpx's."""

    is_stream_consumed = True

    def __init__(self, status_code: Any = 202, headers: Any = None, content: Any = b"") -> None:
        self.status_code, self.headers, self.content = status_code, headers or {}, content

    async def aclose(self) -> None:
        pass


ODD: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "a status that is none": lambda: Odd(None),
    "headers of other types": lambda: Odd(
        503, {"content-encoding": None, "retry-after": 5, "date": 1, b"x": "y", 5: 6}
    ),
    "no headers": lambda: Odd(503, 5),
    "a body of text": lambda: Odd(content="text"),
    "a stream that raises": lambda: httpx.Response(202, stream=Pieces(b"{}", Outcome())),
}


class Answers(Raises):
    """Answers once so, then as `Raises` does."""

    def __init__(self, first: Callable[[], Any]) -> None:
        super().__init__(MemoryError, 0)
        self._first: Callable[[], Any] | None = first

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        first, self._first = self._first, None
        response: httpx.Response = await super().handle_async_request(request) if first is None else first()
        return response


@virtual
@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
async def test_row_81_an_answer_that_is_none_costs_a_repetition(answer: Callable[[], Any]) -> None:
    async with UserpilotClient(KEY, base_url=URL, transport=Answers(answer)) as userpilot:
        receipt = await userpilot.track("u1", "paid")
        report = await userpilot.flush(HOUR)

    assert "delivered" == receipt.status
    assert 1 == judge.conservation(report.statistics)


@virtual
async def test_row_81_a_whole_answer_counts_though_its_stream_cannot_be_closed() -> None:
    transport = Answers(lambda: httpx.Response(202, stream=Pieces(b"{}")))
    async with UserpilotClient(KEY, base_url=URL, transport=transport) as userpilot:
        receipt = await userpilot.track("u1", "paid")
        report = await userpilot.flush(5.0)

    assert ("delivered", 0, 0) == (receipt.status, transport.answered, report.statistics.possible_duplicates)


class Counted(httpx.AsyncByteStream):
    """An answer's body of so many equal pieces, which counts those that are read."""

    def __init__(self, piece: bytes, pieces: int) -> None:
        self._piece = piece
        self._pieces = pieces
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.read < self._pieces:
            await anyio.lowlevel.checkpoint()
            self.read += 1
            yield self._piece


@virtual
async def test_row_14_of_an_answer_without_end_a_megabyte_is_read_and_no_more_is_kept() -> None:
    """Sockets give 64 kB at once; a transport of the application's may have all of it in one piece."""
    in_many, in_one = Counted(b" " * 64 * 1024, 100), Counted(b'["' + b"x" * 2 * MEGABYTE + b'"]', 1)
    bodies = iter([in_many, in_one])
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=JSON, stream=next(bodies)))
    async with UserpilotAPI(KEY, base_url=URL, transport=transport, attempts=1) as api:
        await api.track("u1", "paid")  # spaces alone are nothing, which is an answer
        with pytest.raises(Unavailable, match="what it calls JSON and is none"):
            await api.track("u1", "paid")

    assert (16, 1) == (in_many.read, in_one.read)


# ── an answer that points where no answer can point ──

LOCATIONS = ["http://xn--/", "http://[::1", "//", "http://a b/", "http://user:pw@h:99999999/", "\x00", "/%zz" * 999]


@virtual
@pytest.mark.parametrize("location", LOCATIONS, ids=range(len(LOCATIONS)))
@pytest.mark.parametrize("status", [301, 302, 308])
async def test_row_81_a_redirect_is_held_wherever_it_points_to(status: int, location: str) -> None:
    head = f"HTTP/1.1 {status} Moved\r\nlocation: ".encode() + location.encode() + b"\r\ncontent-length: 0\r\n\r\n"
    moved = [head if "\x00" not in location else head.replace(b"\x00", b"http://xn--a/")] * 3
    async with UserpilotClient(KEY, base_url=URL, transport=RawTransport(in_turn(moved))) as userpilot:
        receipt = await userpilot.track("u1", "paid")
        await anyio.sleep(10)
        held = userpilot.statistics().paused
        await userpilot.flush(HOUR)

    assert f"answers {status} on track" in (held or "")
    assert "delivered" == receipt.status


# ── a proxy on the way ──


REFUSALS = {
    "403": b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 4\r\n\r\nword",
    "503": b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
    "hangs up": b"",
    "garbage": b"SSH-2.0-OpenSSH\r\n",
}


@virtual
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("on_ambiguous", ["send", "drop"])
async def test_row_84_what_a_proxy_did_not_let_through_was_not_sent(refusal: bytes, on_ambiguous: Any) -> None:
    refusals = iter([refusal] * 3)

    def answer(request: bytes) -> bytes:
        return next(refusals, TUNNEL) if request.startswith(b"CONNECT") else SERVER_ANSWER

    transport = RawTransport(answer, proxy=True)
    settings = Settings(on_ambiguous=on_ambiguous)
    async with UserpilotClient(KEY, base_url=URL, transport=transport, settings=settings) as userpilot:
        receipt = await userpilot.track("u1", "paid")
        report = await userpilot.flush(HOUR)

    assert "delivered" == receipt.status
    assert (3, 0) == (report.statistics.retries, report.statistics.possible_duplicates)


# ── anything at all ──

PIECES = [
    b"HTTP/1.1 202 Accepted", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 302 Found", b"HTTP/1.1 503 Busy",
    b"HTTP/1.1 429 Slow", b"HTTP/1.1 401 No", b"HTTP/1.1 404 No", b"HTTP/1.1 103 Early", b"HTTP/1.1 999 ?",
    b"HTTP/1.1 000 ?", b"HTTP/9.9 200 OK", b"HTTP/1.1 20", b"", b"\x16\x03\x01", b"GET / HTTP/1.1", b"PRI * HTTP/2.0",
]  # fmt: skip
HEADERS = [
    b"content-length: 5", b"content-length: -1", b"content-length: 5, 6", b"transfer-encoding: chunked",
    b"transfer-encoding: gzip", b"content-encoding: gzip", b"content-encoding: br", b"content-type: text/html",
    b"content-type: application/json", b"location: http://xn--/", b"location: //[", b"retry-after: nan",
    b"retry-after: -9e999", b"x-ratelimit-remaining: nan", b"x-ratelimit-reset: 1e400", b"date: Mon, 99 Foo",
    b"connection: close", b"connection: upgrade", b"upgrade: h2c", b": empty", b"no colon", b"x: \xff\xfe",
    b"x-request-id: \x1b[2J", b"set-cookie: a=b; domain=\xf0", b"www-authenticate: Basic", b"x" * 20_000 + b": y",
]  # fmt: skip
BODIES = [
    b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"{}", b"[]", b'{"job_id": 5}', b'{"errors": [[[1]]]}',
    b"<html>", b"\x1f\x8b\x08\x00garbage", b"[" * 100_000, b'{"errors": [{"message": {}}]}', b"null", b"\xff" * 99,
    b'{"job_id":"x","status":"completed"}', b'[{"job_id": "../../v1/track", "status": []}]',
]  # fmt: skip


def any_answer(chance: random.Random) -> bytes | None:
    """A status line, headers and a body that may each be anything, cut off anywhere; or silence."""
    if chance.random() < 0.03:
        return None
    lines = [chance.choice(PIECES), *chance.choices(HEADERS, k=chance.randrange(4))]
    if chance.random() < 0.05:
        lines.append(chance.randbytes(chance.randrange(60)))
    answer = b"\r\n".join(lines) + b"\r\n\r\n" + chance.choice(BODIES)
    return answer[: chance.randrange(len(answer) + 1)] if chance.random() < 0.3 else answer


@pytest.mark.parametrize("seed", range(ANSWERS // 100))
def test_row_82_fuzz_a_hundred_random_answers_leave_the_application_alone_and_the_next_call_arrives(seed: int) -> None:
    chance = random.Random(seed)
    backend = chance.choice(["asyncio", "trio"])

    async def scene() -> None:
        transport = RawTransport(in_turn(any_answer(chance) for _ in range(100)))
        settings = Settings(request_timeout=5.0, bulk_threshold=5, imports=chance.choice([None, "when_late"]))
        async with UserpilotClient(KEY, base_url=URL, transport=transport, settings=settings) as userpilot:
            for n in range(60):
                await userpilot.track(f"u{n}", "clicked", {"n": n})
                await userpilot.identify(f"u{n % 20}", {"n": n})
            await anyio.sleep(12 * HOUR)
            fresh = await userpilot.track("fresh", "clicked")
            await userpilot.flush(HOUR)
            statistics = userpilot.statistics()
            assert "delivered" == fresh.status
            assert 121 == judge.conservation(statistics)

    run_virtual(scene, backend)
