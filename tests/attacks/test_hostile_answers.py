"""A server, or whoever sits on the line to it, answers what no client should swallow."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.attacks._ground import MEGABYTE, under_attack
from tests.harness import Behaviour, Exchange, RawServer, Request, answer, http_answer, raw
from tests.harness.stage.calls import KEY, person
from tests.harness.stage.scenes import asyncio_only
from userpilot_async import DeliveryError, Rejected, Settings, UserpilotAPI

pytestmark = pytest.mark.anyio

OK = http_answer(202, b"")
CHUNKED = http_answer(200, headers={"content-length": None, "transfer-encoding": "chunked"})
JSON = {"content-type": "application/json"}


def endless(name: str, begin: bytes, piece: bytes, *, applied: bool = True) -> Behaviour:
    """A beginning, and then the same piece until the client leaves."""

    async def play(exchange: Exchange) -> None:
        await exchange.wire.write(begin)
        while True:
            await exchange.wire.write(piece)
            await asyncio.sleep(0)

    return Behaviour(name, play, applied)


# ── floods ──

FLOODS = [
    endless("interim answers without end", b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 100),
    endless("interim answers, each of 60 kB", b"", b"HTTP/1.1 102 Processing\r\nx: " + b"h" * 60_000 + b"\r\n\r\n"),
    endless("empty lines without end", b"", b"\r\n" * 1_000),
    endless("a status line without end", b"HTTP/1.1 200 ", b"O" * 10_000),
    endless("a name of a header without end", b"HTTP/1.1 200 OK\r\n", b"x" * 10_000),
    endless("folded headers without end", b"HTTP/1.1 200 OK\r\nx: a\r\n", b" folded\r\n" * 1_000),
    endless("tiny headers without end", b"HTTP/1.1 200 OK\r\n", b"a:b\r\n" * 1_000),
    endless("the size of a chunk without end", CHUNKED, b"0" * 10_000),
    endless("an extension of a chunk without end", CHUNKED + b"5;", b"a=b;" * 1_000),
    endless("chunks of one byte without end", CHUNKED, b"1\r\nx\r\n" * 1_000),
    endless("trailers without end", CHUNKED + b"2\r\n{}\r\n0\r\n", b"x-trailer: t\r\n" * 1_000),
    endless("a length of an exabyte", http_answer(200, headers={"content-length": str(10**18)}), b"z" * 65_536),
    endless("a body without end that says it is HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\n", b"z" * 65_536),
]


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
async def test_a_flood_costs_a_deadline_and_little_memory(flood: Behaviour) -> None:
    with RawServer([flood]) as server:
        async with under_attack(server) as scene:
            await scene.track(person(1))
            await scene.drained()

        assert flood.name == server.requests[0].behaviour


# ── bombs ──


@contextmanager
def no_forgery() -> Iterator[None]:
    """A refusal may be raised inside; its words stay on one line, and are few."""
    try:
        yield
    except DeliveryError as error:
        assert str(error).isprintable()
        assert 1_000 >= len(str(error))


def zeros(size: int, pack: Callable[[bytes], bytes]) -> bytes:
    return pack(bytes(size))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


BOMBS = {
    "x-gzip": zeros(64 * MEGABYTE, gzip.compress),
    "deflate": zeros(64 * MEGABYTE, zlib.compress),
    "DeFlAtE": zeros(64 * MEGABYTE, raw_deflate),
    "gzip, gzip": gzip.compress(zeros(64 * MEGABYTE, gzip.compress)),
    "br": b"\x8b\xff\xff" * 1_000,
    "zstd": b"\x28\xb5\x2f\xfd" * 1_000,
}


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("encoding", BOMBS)
@pytest.mark.parametrize("status", [200, 503])
async def test_a_bomb_of_any_encoding_is_not_unpacked_beyond_the_cap(encoding: str, status: int) -> None:
    with RawServer([answer(status, BOMBS[encoding], {**JSON, "content-encoding": encoding})]) as server:
        async with under_attack(server) as scene:
            await scene.track(person(1))
            await scene.drained()


# ── JSON ──

DOCUMENTS = {
    "a list as deep as an answer is long": b"[" * MEGABYTE,
    "objects as deep": b'{"errors":' * 100_000,
    "closed, and as deep": b"[" * 200_000 + b"]" * 200_000,
    "a number of a megabyte": b'{"job_id": "j", "total_rows": ' + b"9" * (MEGABYTE - 100) + b"}",
    "an exponent": b'{"job_id": "j", "total_rows": 1e999999, "completed_rows": -1e999999}',
    "NaN": b'{"job_id": "j", "total_rows": NaN, "completed_rows": Infinity, "elapsed_time": -Infinity}',
    "half a pair": b'{"job_id": "\\ud800", "status": "\\udfff", "errors": [{"message": "\\ud800"}]}',
    "NUL": b'{"job_id": "\\u0000", "errors": [{"message": "\\u0000\\u001b[2J\\r\\nuserpilot: all is well"}]}',
    "the same name twice": b'{"job_id": "a", "job_id": "../../v1/track", "status": "completed", "status": "failed"}',
    "names of the data model": b'{"__class__": "x", "__init__": {"__globals__": 1}, "__proto__": {"job_id": 1}}',
    "names by the ten thousand": b"{" + b",".join(b'"%d":0' % n for n in range(90_000)) + b"}",
    "every type where another is due": b'{"job_id": [], "status": {}, "errors": 5, "filename": true, "links": "x"}',
    "errors that are none": b'{"errors": [null, 5, [], {"message": {}, "error_code": []}]}',
    "UTF-16": '{"job_id": "j"}'.encode("utf-16"),
    "no UTF-8": b'{"job_id": "\xff\xfe"}',
}


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("status", [200, 400])
@asyncio_only
async def test_a_document_meant_to_harm_is_an_answer_like_another(document: bytes, status: int) -> None:
    """To a call, to a file, to a look at a job, and to one at all of them."""
    hostile = answer(status, document, JSON)
    with RawServer(lambda request: answer() if request.path == "/v1/track" else hostile) as server:
        async with under_attack(server), UserpilotAPI(KEY, base_url=server.url, attempts=1) as api:
            for asking in (
                api.identify("u"), api.job("j"), api.jobs(), api.bulk_identify_users([{"user_id": "u"}]),
                api.import_rows(b"{}"), api.delete_users(["u"]),
            ):  # fmt: skip
                with no_forgery():
                    await asking


HEAPS = [b"[],", b"{},", b"0,", b'"",', b'{"":{}},', b'{"job_id":"j"},']


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("heap", HEAPS)
@asyncio_only
async def test_a_job_list_of_16_mb_is_not_taken_apart_into_hundreds_of_megabytes(heap: bytes) -> None:
    listed = b"[" + heap * (15 * MEGABYTE // len(heap)) + b"0]"
    with RawServer(lambda request: answer() if request.path == "/v1/track" else answer(200, listed, JSON)) as server:
        settings = Settings(flush_interval=0, close_timeout=1.0)
        async with under_attack(server, settings, memory=130 * MEGABYTE) as scene:
            with no_forgery():
                await scene.client.api._read_jobs(most_pages=1)


# ── what an answer may make of the next request ──


async def test_cookies_are_never_sent_back() -> None:
    cookie = {"set-cookie": "session=stolen; Domain=127.0.0.1; Path=/", "x-next": "1"}
    with RawServer(answer(headers=cookie)) as server:
        async with under_attack(server) as scene:
            await scene.track_all(person(n) for n in range(5))
            await scene.drained()

        assert not [request for request in server.requests if "cookie" in request.headers]


SPLITS = {
    "a refusal of the key": http_answer(401, b""),
    "a success": http_answer(202, b""),
    "a redirect": http_answer(307, headers={"location": "http://127.0.0.2:9/v1/track"}),
    "a refusal of the call": http_answer(400, b'{"errors": [{"message": "no"}]}', JSON),
}


@pytest.mark.parametrize("second", SPLITS.values(), ids=SPLITS)
async def test_an_answer_that_comes_before_its_request_answers_nothing(second: bytes) -> None:
    """Response splitting: who has a connection say one more thing must not decide what becomes of the next call."""
    was_read, said = threading.Event(), threading.Event()

    async def play(exchange: Exchange) -> None:
        await exchange.write(OK)
        await asyncio.to_thread(was_read.wait, 5)  # or the client would read both at once
        await exchange.wire.write(second)
        said.set()

    with RawServer([Behaviour("says more", play, applied=True)]) as server:
        async with under_attack(server) as scene:
            await scene.track(person(1))
            await scene.drained()
            was_read.set()
            await anyio.to_thread.run_sync(said.wait, 5)
            await scene.track(person(2))
            await scene.drained()

            assert scene.statistics.paused is None
            assert [(person(1), 1), (person(2), 1)] == scene.marks()
        assert {0, 1} == {request.connection for request in server.requests}


@pytest.mark.parametrize("token", ["h2c", "websocket", "TLS/1.0"])
async def test_a_connection_is_never_handed_over_to_another_protocol(token: str) -> None:
    switched = f"HTTP/1.1 101 Switching Protocols\r\nupgrade: {token}\r\nconnection: upgrade\r\n\r\n".encode()
    with RawServer([raw(switched + b"GET /secret HTTP/1.1\r\n\r\n", close=False, name="switched")]) as server:
        async with under_attack(server) as scene:
            await scene.track(person(1))
            await scene.drained()


WORDS = {
    "colours": "\x1b[2J\x1b[31mowned",
    "a line": "line\r\nuserpilot: 0 calls lost",
    "controls": "\x00\x07\x08\x7f\x85\x9b2J",
    "right to left": "\u202egnp.exe\u2066",
    "ends of lines": "a\u2028b\u2029c\x0bd\x0ce",
    "formats": "%s%n%(asctime)s{0.__class__}{record}",
    "markup": "[bold red]owned[/bold red][link=http://127.0.0.2]here[/link]",
    "a novel": "so it is " * 50_000,
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("status", [401, 404])
async def test_what_a_server_says_neither_forges_a_line_of_the_log_nor_commands_a_terminal(
    words: str, status: int
) -> None:
    said = json.dumps({"errors": [{"message": words, "error_code": words}]}).encode()
    answers = iter([answer(400, said, JSON)])

    def script(request: Request) -> Behaviour:
        return next(answers, answer()) if request.path == "/v1/track" else answer(status, said, JSON)

    with RawServer(script) as server:
        async with under_attack(server) as scene:
            scene.losses = {"invalid": 1}
            await scene.track(person(1))
            await scene.drained()
            error = await scene.refused(scene.client.api.job("j"), Rejected)

        (letter,) = scene.letters
        for text in (letter.detail, letter.error_code, letter.error, str(error), error.error_code):
            assert text is None or (str(text).isprintable() and 1_000 >= len(str(text)))


LINKS = [
    "http://127.0.0.2:{port}/v1/background_jobs?page=2", "//127.0.0.2:{port}/v1/background_jobs?page=2",
    "http://127.0.0.1:{port}@127.0.0.2:{port}/v1/background_jobs?page=2", "http:\\\\127.0.0.2:{port}/?page=2",
    "/v1/track?user_id=u", "../../v1/users?users=u", "?page=2 HTTP/1.1\r\nHost: 127.0.0.2:{port}\r\n\r\n",
    "file:///etc/passwd?x=1", "javascript:alert(1)?x", "data:,?x=1", "?" + "a" * 5_000, "http://[::1?x", "?\x00=1",
    "https://localhost:{port}/v1/background_jobs?page=2", "?page=2#@127.0.0.2", "http://xn--/?x=1", {"href": "//h/?a"},
]  # fmt: skip


@pytest.mark.parametrize("link", LINKS, ids=range(len(LINKS)))
@pytest.mark.parametrize("where", ["body", "header"])
async def test_a_link_in_the_job_list_leads_to_no_other_host_and_no_other_path(link: Any, where: str) -> None:
    """The key goes with each page that is asked for."""
    with RawServer() as elsewhere:
        ours = link.format(port=elsewhere.port) if isinstance(link, str) else link
        page: dict[str, Any] = {"jobs": [{"job_id": f"j{n}", "status": "completed"} for n in range(10)]}
        headers: dict[str, str | None] = dict(JSON)
        if where == "body":
            page["links"] = {"next": ours}
        elif isinstance(ours, str) and ours.isprintable():
            headers["link"] = f'<{ours}>; rel="next"'
        listed = answer(200, json.dumps(page).encode(), headers)
        with RawServer(lambda request: answer() if request.path == "/v1/track" else listed) as server:
            async with under_attack(server) as scene:
                await scene.client.api.jobs()

        assert 0 == elsewhere.connections
        looks = [request.path for request in server.requests if request.method == "GET"]
        assert 1 <= len(looks) <= 100
        assert {"/v1/background_jobs"} == {path.partition("?")[0] for path in looks}


async def test_a_job_list_without_end_is_left_after_a_hundred_pages() -> None:
    """Each page full, each with a link to the next one."""
    pages = count(1)

    def endless_list(request: Request) -> Behaviour:
        if request.path == "/v1/track":
            return answer()
        number = next(pages)
        jobs = [{"job_id": f"{number}-{n}", "status": "completed", "filename": "f"} for n in range(10)]
        body = {"jobs": jobs, "links": {"next": f"/v1/background_jobs?page={number + 1}"}, "has_more": True}
        return answer(200, json.dumps(body).encode(), JSON)

    with RawServer(endless_list) as server:
        async with under_attack(server, Settings(flush_interval=0, close_timeout=1.0)) as scene:
            jobs = await scene.client.api.jobs()

        assert (1_000, 101) == (len(jobs), next(pages))
