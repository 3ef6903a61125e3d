from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterator
from typing import Literal

import anyio
import anyio.to_thread
import httpx
import pytest

from tests.harness import (
    BAD_CHUNKS,
    GARBAGE,
    TOLERATED_GARBAGE,
    Behaviour,
    RawServer,
    RefusedPort,
    Request,
    TLSServer,
    answer,
    answer_before_body,
    bad_chunking,
    cut_after_read,
    cut_in_headers,
    endless_body,
    endless_headers,
    free_of_leaks,
    garbage,
    gzip_bomb,
    huge_headers,
    interim,
    late,
    lying_rate_headers,
    redirect,
    reset_after_read,
    reset_before_read,
    silent,
    slow_loris,
    stale_keep_alive,
    truncated,
    wrong_length,
)
from tests.harness.behaviours import Reads
from tests.harness.tls import Certificate

REQUEST = b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=2, verify=False) as client:
        yield client


def sent_to(server: RawServer, data: bytes = REQUEST, timeout: float = 2.0) -> bytes:
    """All bytes that come back for `data`, until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as sock:
        sock.sendall(data)
        received = b""
        while piece := sock.recv(65_536):
            received += piece
        return received


def test_records_what_it_received(client: httpx.Client) -> None:
    with RawServer() as server:
        client.post(f"{server.url}/v1/identify?a=b", content=b'{"user_id": "u1"}', headers={"X-Mark": "7"})
        client.post(f"{server.url}/v1/track", content=iter([b"chun", b"ked"]))

    first, second = server.requests
    assert ("POST", "/v1/identify?a=b", b'{"user_id": "u1"}') == (first.method, first.path, first.body)
    assert "7" == first.headers["x-mark"]
    assert b"chunked" == second.body
    assert [0, 1] == [first.index, second.index]
    assert [0, 0] == [first.connection, second.connection]
    assert first.stamp <= second.stamp <= time.monotonic()
    assert [first, second] == server.applied


def test_a_sequence_is_played_in_order_and_then_the_rest(client: httpx.Client) -> None:
    with RawServer([answer(503), answer(429, headers={"retry-after": "5"})], then=answer(202)) as server:
        statuses = [client.get(server.url).status_code for _ in range(4)]

    assert [503, 429, 202, 202] == statuses
    assert [False, False, True, True] == [request.applied for request in server.requests]


def test_a_function_chooses_by_the_whole_request(client: httpx.Client) -> None:
    def script(request: Request) -> Behaviour:
        return answer(400 if b"poison" in request.body else 202, str(request.index).encode())

    with RawServer(script) as server:
        answers = [client.post(server.url, content=body) for body in (b"good", b"poison", b"good")]

    assert [(202, "0"), (400, "1"), (202, "2")] == [(a.status_code, a.text) for a in answers]


def test_headers_can_settle_a_request_before_its_body(client: httpx.Client) -> None:
    def on_headers(request: Request) -> Behaviour | None:
        return answer_before_body(413) if int(request.headers["content-length"]) > 100 else None

    with RawServer(on_headers=on_headers) as server:
        assert 202 == client.post(server.url, content=b"x" * 100).status_code
        assert 413 == client.post(server.url, content=b"x" * 101).status_code
        assert [100, 0] == [len(request.body) for request in server.requests]


def test_a_bug_in_a_script_is_raised_at_the_end(client: httpx.Client) -> None:
    def script(request: Request) -> Behaviour:
        raise LookupError("the script's own")

    with (
        pytest.raises(LookupError, match="the script's own"),
        RawServer(script) as server,
        pytest.raises(httpx.TransportError),
    ):
        client.get(server.url)


def test_reset_before_read_resets_and_applies_nothing() -> None:
    with RawServer([reset_before_read()]) as server, pytest.raises(ConnectionResetError):
        sent_to(server)

    (request,) = server.requests
    assert (b"", False) == (request.body, request.applied)


def test_httpx_may_see_a_reset_as_a_disconnection(client: httpx.Client) -> None:
    """The body goes apart from the headers; if that fails with the reset, httpx is silent, and reading finds an end.

    So neither the exception's type nor its words tell a reset from a close.
    """
    with RawServer([reset_before_read()]) as server, pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        client.post(server.url, content=b"lost")


def test_reset_after_read_has_applied_it() -> None:
    with RawServer([reset_after_read()]) as server, pytest.raises(ConnectionResetError):
        sent_to(server)

    assert [b"hello"] == [request.body for request in server.applied]


def test_cut_after_read_has_applied_it_and_sends_no_byte() -> None:
    with RawServer([cut_after_read()]) as server:
        received = sent_to(server)

    assert b"" == received
    assert [b"hello"] == [request.body for request in server.applied]


def test_late_applies_at_once_and_answers_later(client: httpx.Client) -> None:
    with RawServer([late(0.2)]) as server:
        began = time.monotonic()
        assert 202 == client.get(server.url).status_code
        took = time.monotonic() - began

    assert 0.2 <= took < 1
    assert 0.15 > server.requests[0].stamp - began


def test_late_is_as_applied_as_what_comes_late(client: httpx.Client) -> None:
    with RawServer([late(0.01, answer(500))]) as server:
        assert 500 == client.get(server.url).status_code

    assert [] == server.applied


@pytest.mark.parametrize("reads", ["nothing", "headers", "everything"])
def test_silent_keeps_the_socket_open_and_notices_when_the_client_leaves(reads: Reads) -> None:
    with RawServer([silent(reads=reads)]) as server:
        with pytest.raises(TimeoutError):
            sent_to(server, timeout=0.1)
        deadline = time.monotonic() + 2
        while server.open_connections and time.monotonic() < deadline:
            time.sleep(0.01)

        assert 0 == server.open_connections
        assert not server.requests[0].applied


def test_stale_keep_alive_fails_the_second_request_of_its_connection() -> None:
    with (
        RawServer([stale_keep_alive()]) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=2) as sock,
    ):
        sock.sendall(REQUEST)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 202")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):  # it looks alive
            sock.recv(1)
        sock.setblocking(True)
        sock.sendall(REQUEST)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)

    assert [
        (True, "stale_keep_alive, answer 202"),
        (False, "closed as stale"),
    ] == [(request.applied, request.behaviour) for request in server.requests]


@pytest.mark.parametrize(("part", "interval"), [("headers", 0.005), ("body", 0.03)])
def test_slow_loris_stays_under_every_read_timeout(part: Literal["headers", "body"], interval: float) -> None:
    """Each byte comes in time; the whole does not. That is why a total deadline is needed."""
    behaviour = slow_loris(interval, part, answer(200, b"0123456789"))
    with RawServer([behaviour]) as server, httpx.Client(trust_env=False, timeout=0.2) as client:
        began = time.monotonic()
        assert "0123456789" == client.get(server.url).text

    assert 0.25 <= time.monotonic() - began


def test_answer_before_body_answers_while_the_body_is_on_its_way() -> None:
    with (
        RawServer([answer_before_body(413)]) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=2) as sock,
    ):
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 413")


def test_interim_comes_before_the_answer(client: httpx.Client) -> None:
    with RawServer([interim(answer(202))]) as server:
        assert 202 == client.get(server.url).status_code


@pytest.mark.parametrize(
    "behaviour",
    [truncated(), cut_in_headers(), *map(bad_chunking, BAD_CHUNKS), *map(garbage, GARBAGE), huge_headers()],
    ids=lambda behaviour: behaviour.name,
)
def test_broken_answers_are_broken_for_a_strict_client(client: httpx.Client, behaviour: Behaviour) -> None:
    with RawServer([behaviour]) as server, pytest.raises(httpx.RemoteProtocolError):
        client.get(server.url)

    assert server.requests[0].applied


@pytest.mark.parametrize("kind", TOLERATED_GARBAGE)
def test_some_garbage_passes_for_an_answer(client: httpx.Client, kind: str) -> None:
    with RawServer([garbage(kind)]) as server:
        assert 202 == client.get(server.url).status_code


def test_too_long_a_length_leaves_the_client_waiting() -> None:
    with (
        RawServer([wrong_length(by=3)]) as server,
        httpx.Client(trust_env=False, timeout=0.1) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get(server.url)


def test_too_short_a_length_leaves_bytes_for_the_next_answer() -> None:
    with RawServer([wrong_length(by=-3, body=b"abcdef")]) as server:
        received = sent_to(server, REQUEST + REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    assert b"content-length: 3\r\n\r\nabcdefHTTP/1.1 202" in received


def test_a_gzip_bomb_is_small_on_the_wire_and_large_inside(client: httpx.Client) -> None:
    with RawServer([gzip_bomb(10_000_000)]) as server, client.stream("GET", server.url) as response:
        packed = b"".join(response.iter_raw())

    assert 20_000 > len(packed)
    assert 10_000_000 == len(gzip.decompress(packed))


@pytest.mark.parametrize("framing", ["chunked", "until_close"])
def test_an_endless_body_goes_on_until_the_client_leaves(
    client: httpx.Client, framing: Literal["chunked", "until_close"]
) -> None:
    received = 0
    with (
        RawServer([endless_body(framing)]) as server,
        client.stream("GET", server.url) as response,
    ):
        for piece in response.iter_raw():
            received += len(piece)
            if received > 5_000_000:
                break

    assert 5_000_000 < received


def test_endless_headers_go_on_until_the_client_leaves(client: httpx.Client) -> None:
    with RawServer([endless_headers()]) as server, pytest.raises(httpx.RemoteProtocolError):
        client.get(server.url)


def test_redirects_lead_where_they_were_told(client: httpx.Client) -> None:
    with RawServer([redirect("http://elsewhere.test/")]) as server:
        response = client.get(server.url)

    assert (307, "http://elsewhere.test/") == (response.status_code, response.headers["location"])
    assert [] == server.applied


@pytest.mark.parametrize("lie", lying_rate_headers())
def test_lying_headers_arrive_as_they_were_told(client: httpx.Client, lie: str) -> None:
    headers = lying_rate_headers()[lie]
    with RawServer(answer(202, headers=headers)) as server:
        arrived = client.get(server.url).headers

    assert headers == {name: value for name, value in arrived.items() if name.startswith("x-ratelimit")}


def test_a_refused_port_refuses(client: httpx.Client) -> None:
    with RefusedPort() as refused, pytest.raises(httpx.ConnectError, match="refused"):
        client.get(refused.url)


def test_a_good_certificate_is_taken_by_those_who_trust_it() -> None:
    with (
        TLSServer([answer(202, b"inside")]) as server,
        httpx.Client(trust_env=False, verify=server.client_context()) as client,
    ):
        assert "inside" == client.post(server.url, content=b"x" * 100_000).text

    assert [100_000] == [len(request.body) for request in server.requests]
    assert [] == server.handshakes_refused


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [("wrong_name", "mismatch"), ("expired", "expired"), ("self_signed", "self.signed|unable to get")],
)
def test_a_bad_certificate_is_refused_even_by_those_who_trust_the_authority(
    certificate: Certificate, reason: str
) -> None:
    with (
        TLSServer(certificate=certificate) as server,
        httpx.Client(trust_env=False, verify=server.client_context()) as client,
        pytest.raises(httpx.ConnectError, match=reason),
    ):
        client.get(server.url)

    assert [] == server.requests


def test_an_unknown_authority_is_refused_by_default() -> None:
    with (
        TLSServer() as server,
        httpx.Client(trust_env=False) as client,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(server.url)


def test_a_stalled_handshake_never_ends() -> None:
    with (
        TLSServer(stall_handshake=True) as server,
        httpx.Client(trust_env=False, timeout=0.1, verify=False) as client,
        pytest.raises(httpx.ConnectTimeout),
    ):
        client.get(server.url)


def test_cuts_reach_through_tls() -> None:
    with (
        TLSServer([cut_after_read()]) as server,
        httpx.Client(trust_env=False, verify=server.client_context()) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.post(server.url, content=b"applied")

    assert [b"applied"] == [request.body for request in server.inside.applied]


def test_a_server_leaves_nothing_behind() -> None:
    with free_of_leaks():
        with RawServer([silent()]) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(REQUEST)
            server.wait_for_requests(1)
        with TLSServer() as tls, httpx.Client(trust_env=False, verify=tls.client_context()) as client:
            client.get(tls.url)


def test_waiting_for_requests_that_do_not_come_says_how_many_did() -> None:
    with RawServer() as server, pytest.raises(AssertionError, match=r"0 of 1 requests came within 0\.05 s"):
        server.wait_for_requests(1, timeout=0.05)


@pytest.mark.anyio
async def test_serves_a_test_on_any_backend() -> None:
    with RawServer(late(0.05)) as server:
        async with httpx.AsyncClient(trust_env=False) as client, anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(client.get, server.url)
            requests = await anyio.to_thread.run_sync(server.wait_for_requests, 10)

    assert 10 == len({request.connection for request in requests})


@pytest.mark.anyio
@pytest.mark.virtual
async def test_serves_a_test_on_virtual_time_without_timers() -> None:
    with RawServer(late(0.05)) as server:
        async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
            assert 202 == (await client.get(server.url)).status_code

    assert 0 == anyio.current_time()
