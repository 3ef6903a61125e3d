"""Clients of the emulator that mean it harm: on a developer's machine it is a server like any other."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.harness.processes import emulator_process

HEADERS = {"Authorization": "Token KEY", "X-API-Version": "2020-09-22"}
BOUNDARY = "b"
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The same emulator for all attacks: what one breaks, the next one meets."""
    with emulator_process("--rate-limit", "100000") as address:
        yield address


def alive(url: str) -> None:
    """A call of an honest client is taken."""
    body = {"user_id": "honest", "event_name": "opened"}
    assert 202 == httpx.post(f"{url}/v1/track", json=body, headers=HEADERS, timeout=20, trust_env=False).status_code


def raw(url: str, data: bytes, *, patience: float = 5.0) -> bytes:
    """Send these bytes; gives the server's answer."""
    parts = urlsplit(url)
    with closing(socket.create_connection((parts.hostname, parts.port), timeout=patience)) as wire:
        answer = b""
        with suppress(OSError):  # it may hang up on what it does not want to read
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            while piece := wire.recv(65_536):
                answer += piece
        return answer


def multipart(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


FILE = b'Content-Disposition: form-data; name="file"; filename="%s"\r\n\r\n{"user_id":"u"}'
BODIES: dict[str, bytes] = {
    "10,000 parts": multipart(*(b'Content-Disposition: form-data; name="x%d"\r\n\r\n1' % n for n in range(10_000))),
    "10,000 headers of a part": multipart(b"".join(b"X-%d: 1\r\n" % n for n in range(10_000)) + b"\r\n1"),
    "a header of 4 MB": multipart(b"X: " + b"x" * 4 * MEGABYTE + b"\r\n\r\n1"),
    "a name of 4 MB": multipart(b"x" * 4 * MEGABYTE + b": 1\r\n\r\n1"),
    "a preamble of 4 MB": b"p" * 4 * MEGABYTE + multipart(FILE % b"a"),
    "an epilogue of 4 MB": multipart(FILE % b"a") + b"e" * 4 * MEGABYTE,
    "no end": b"--b\r\n" + FILE % b"a",
    "line ends only": b"\r\n" * 2 * MEGABYTE,
    "no disposition": multipart(b"\r\n1"),
    "a continuation": multipart(b"Content-Disposition: form-data; name*0*=file; filename*=utf-8''%2e%2e\r\n\r\n1"),
    "parameters by the thousand": multipart(b"Content-Disposition: form-data" + b"; a=b" * 1_000 + b"\r\n\r\n1"),
    "quotes without end": multipart(b'Content-Disposition: form-data; name="' + b'\\"' * 100_000 + b"\r\n\r\n1"),
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", ["/v1/imports", "/v1/users/bulk_identify"])
def test_a_multipart_body_that_means_harm_is_refused_or_taken_in_bounded_time(url: str, path: str, body: bytes) -> None:
    headers = {**HEADERS, "content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = httpx.post(url + path, content=body, headers=headers, timeout=20, trust_env=False)

    assert answer.status_code in (200, 202, 400, 409, 413)
    alive(url)


FILENAMES = [
    b"../../../../tmp/evil",
    b"/tmp/evil",
    b"..\\\\evil",
    b'a\\"; x=\\"',
    b"%00",
    b"\xff\xfe",
    b"C:\\\\evil",
    b"",
]


@pytest.mark.parametrize("filename", FILENAMES, ids=range(len(FILENAMES)))
def test_the_name_of_an_upload_is_a_text_and_no_place(url: str, filename: bytes, tmp_path: Path) -> None:
    """The name is kept, and shown; no file of that name is made, and the answer is JSON all the same."""
    headers = {
        **HEADERS,
        "Authorization": f"Token {filename.hex()}x",
        "content-type": "multipart/form-data; boundary=b",
    }
    body = multipart(FILE % filename)
    answer = httpx.post(f"{url}/v1/users/bulk_identify", content=body, headers=headers, timeout=20, trust_env=False)

    json.loads(answer.content)
    assert not Path("/tmp/evil").exists()
    alive(url)


HOST = b"Host: 127.0.0.1\r\n"
AUTH = b"Authorization: Token KEY\r\nX-API-Version: 2020-09-22\r\nContent-Type: application/json\r\n"
CALL = b'{"user_id":"smuggled","event_name":"x"}'
POST = b"POST /v1/track HTTP/1.1\r\n" + HOST + AUTH
SMUGGLED: dict[str, bytes] = {
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 39\r\n\r\n" + CALL,
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POST,
    "chunked in another case, twice": POST + b"Transfer-Encoding: chunked, Chunked\r\n\r\n0\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + CALL,
    "a length with a sign": POST + b"Content-Length: +39\r\n\r\n" + CALL,
    "a chunk with bad ends": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 39\r\n\r\n" + CALL,
    "a folded header": POST + b"X: a\r\n b\r\nContent-Length: 39\r\n\r\n" + CALL,
    "a bare CR": POST + b"X: a\rContent-Length: 39\r\n\r\n" + CALL,
    "NUL in a header": POST + b"X: a\x00b\r\nContent-Length: 39\r\n\r\n" + CALL,
    "no host": b"POST /v1/track HTTP/1.1\r\n" + AUTH + b"Content-Length: 39\r\n\r\n" + CALL,
    "an absolute target": b"POST http://e/v1/track HTTP/1.1\r\n" + HOST + AUTH + b"Content-Length: 39\r\n\r\n" + CALL,
    "CONNECT": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "headers of 2 MB": b"POST / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 2 * MEGABYTE + b"\r\n\r\n",
    "100,000 headers": b"POST / HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 100_000 + b"\r\n",
}  # fmt: skip


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED)
def test_bytes_that_are_no_request_or_two_at_once_are_refused(url: str, data: bytes) -> None:
    answer = raw(url, data)

    assert 1 >= answer.count(b"HTTP/1.1 202")
    assert b"Traceback" not in answer
    alive(url)


def test_a_thousand_requests_in_a_row_on_one_connection_get_a_thousand_answers(url: str) -> None:
    """Pipelining: each answer, in order, and nobody else waits."""
    one = POST + b"Content-Length: %d\r\n\r\n" % len(CALL) + CALL
    answer = raw(url, one * 1_000, patience=30)

    assert 1_000 == answer.count(b"HTTP/1.1 202")
    alive(url)


def test_two_hundred_connections_that_say_nothing_keep_nobody_out(url: str) -> None:
    parts = urlsplit(url)
    idle = [socket.create_connection((parts.hostname, parts.port)) for _ in range(200)]
    for wire in idle[::2]:
        wire.sendall(b"POST /v1/track HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{")
    try:
        alive(url)
    finally:
        for wire in idle:
            wire.close()
    alive(url)


JSONS = [
    b"[" * 500_000, b'{"a":' * 200_000, b"9" * MEGABYTE, b'{"user_id":NaN}', b'{"user_id":"\\ud800"}', b'"\\ud800"',
    b'{"user_id":"u","user_id":"v","event_name":"e"}', b"\xff\xfe{\x00}\x00", b"{}" * 100_000, b"null", b"",
    b'{"user_id":{"__class__":"x"},"event_name":["e"],"metadata":{"a":{"b":{}}}}',
]  # fmt: skip


@pytest.mark.parametrize("body", JSONS, ids=range(len(JSONS)))
@pytest.mark.parametrize("path", ["/v1/track", "/v1/users", "/api/client/events", "/__emulator__/faults"])
def test_json_that_means_harm_is_refused(url: str, path: str, body: bytes) -> None:
    headers = {**HEADERS, "content-type": "application/json"}
    if path.startswith("/api"):
        headers["Authorization"] = "Bearer KEY"
    method = "DELETE" if path == "/v1/users" else "POST"
    answer = httpx.request(method, url + path, content=body, headers=headers, timeout=20, trust_env=False)

    assert 500 > answer.status_code
    alive(url)


PATHS = [
    "/v1/background_jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/v1/background_jobs/..%00", "/__emulator__/../../etc/passwd",
    "/__emulator__/users/%2e%2e", "/__emulator__/users/%00", "//etc/passwd", "/v1/track/%0d%0aX-Evil:%201",
    "/__emulator__/users?limit=-1", "/__emulator__/users?limit=1e9", "/__emulator__/users?offset=" + "9" * 5_000,
    "/v1/background_jobs?page=" + "9" * 5_000, "/v1/background_jobs?page=-1", "/" + "a/" * 5_000, "/%", "/%zz", "/?%",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_a_path_leads_to_no_file_and_to_no_traceback(url: str, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\n".encode() + HOST + AUTH + b"Connection: close\r\n\r\n"
    answer = raw(url, request)

    assert b"root:" not in answer
    assert b"\r\nX-Evil" not in answer
    assert b" 500 " not in answer.split(b"\r\n", 1)[0]
    alive(url)
