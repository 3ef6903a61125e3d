from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.harness import (
    FaultProxy,
    Passage,
    RawServer,
    RefusedPort,
    Request,
    answer,
    cut_after_forward,
    cut_before_forward,
    cut_within_answer,
    endless_body,
    forward,
    free_of_leaks,
    raw,
    swallow_answer,
)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=2) as client:
        yield client


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer(answer(202, b'{"ok": true}')) as server:
        yield server


def test_forwards_byte_for_byte_and_keeps_the_connection(client: httpx.Client, server: RawServer) -> None:
    with FaultProxy(server.port) as proxy:
        texts = [client.post(f"{proxy.url}/v1/track", content=b"x" * 200_000).text for _ in range(3)]

        assert ['{"ok": true}'] * 3 == texts
        assert [200_000] * 3 == [len(request.body) for request in server.requests]
        assert {0} == {request.connection for request in server.requests}
        assert [(202, "/v1/track")] * 3 == [(entry.status, entry.request.path) for entry in proxy.passed]


def test_chunks_and_empty_answers_pass(client: httpx.Client) -> None:
    chunked = raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", close=False)
    until_close = raw(b"HTTP/1.1 200 OK\r\n\r\nto the end")
    with RawServer([chunked, answer(204), until_close]) as server, FaultProxy(server.port) as proxy:
        answers = [client.post(proxy.url, content=iter([b"a", b"b"])) for _ in range(3)]

    assert [(200, "abc"), (204, ""), (200, "to the end")] == [(a.status_code, a.text) for a in answers]


@pytest.mark.parametrize("reset", [False, True])
def test_cut_before_forward_keeps_it_from_the_server(client: httpx.Client, server: RawServer, reset: bool) -> None:
    with FaultProxy(server.port, [cut_before_forward(reset=reset)]) as proxy:
        with pytest.raises(httpx.TransportError):
            client.post(proxy.url)
        assert 202 == client.post(proxy.url).status_code

        assert 1 == len(server.requests)
        assert [] == proxy.ambiguous


@pytest.mark.parametrize("passage", [cut_after_forward(), cut_after_forward(reset=True), cut_within_answer()])
def test_an_answer_cut_after_forwarding_is_ambiguous(client: httpx.Client, server: RawServer, passage: Passage) -> None:
    with FaultProxy(server.port, [passage]) as proxy:
        with pytest.raises(httpx.TransportError):
            client.post(proxy.url, content=b"applied")

        assert [b"applied"] == [request.body for request in server.applied]
        assert 1 == len(proxy.wait_for_passed(1)) == len(proxy.ambiguous)


def test_a_swallowed_answer_times_out(server: RawServer) -> None:
    with FaultProxy(server.port, [swallow_answer()]) as proxy, httpx.Client(trust_env=False, timeout=0.1) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(proxy.url)

        assert 1 == len(server.applied) == len(proxy.ambiguous)


def test_an_answer_that_comes_after_the_client_has_gone_is_ambiguous(server: RawServer) -> None:
    with FaultProxy(server.port, [forward(delay_answer=0.2)]) as proxy:
        with httpx.Client(trust_env=False, timeout=0.05) as client, pytest.raises(httpx.ReadTimeout):
            client.post(proxy.url)

        assert [202] == [entry.status for entry in proxy.wait_for_passed(1)]
        assert 1 == len(proxy.ambiguous)


def test_an_answer_under_way_when_the_proxy_stops_is_ambiguous(server: RawServer) -> None:
    with (
        FaultProxy(server.port, [forward(delay_answer=60)]) as proxy,
        httpx.Client(trust_env=False, timeout=0.1) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.post(proxy.url)

    assert 1 == len(proxy.ambiguous)


def test_each_direction_is_delayed_by_itself(client: httpx.Client, server: RawServer) -> None:
    with FaultProxy(server.port, [forward(delay_request=0.1, delay_answer=0.2)]) as proxy:
        began = time.monotonic()
        client.post(proxy.url)
        ended = time.monotonic()

    (seen,) = server.requests
    assert 0.1 <= seen.stamp - began < 0.2
    assert 0.2 <= ended - seen.stamp < 0.4


def test_a_function_chooses_by_the_request(client: httpx.Client, server: RawServer) -> None:
    def script(request: Request) -> Passage:
        return cut_before_forward() if b"unlucky" in request.body else forward()

    with FaultProxy(server.port, script) as proxy:
        assert 202 == client.post(proxy.url, content=b"lucky").status_code
        with pytest.raises(httpx.TransportError):
            client.post(proxy.url, content=b"unlucky")


def test_an_upstream_that_never_stops_talking_does_not_stop_the_proxy_from_ending() -> None:
    with (
        RawServer(endless_body("until_close")) as server,
        FaultProxy(server.port, [swallow_answer()]) as proxy,
        httpx.Client(trust_env=False, timeout=0.1) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get(proxy.url)


def test_an_upstream_that_is_gone_cuts_and_another_can_take_its_place(client: httpx.Client, server: RawServer) -> None:
    with RefusedPort() as refused, FaultProxy(refused.port) as proxy:
        with pytest.raises(httpx.TransportError):
            client.get(proxy.url)
        proxy.upstream_port = server.port

        assert 202 == client.get(proxy.url).status_code


def test_an_idle_upstream_that_closes_closes_the_client_too(client: httpx.Client) -> None:
    with RawServer(answer(202, close=True)) as server, FaultProxy(server.port) as proxy:
        for _ in range(3):
            assert 202 == client.get(proxy.url).status_code
            deadline = time.monotonic() + 5
            while proxy.open_connections and time.monotonic() < deadline:
                time.sleep(0.005)
            assert not proxy.open_connections

        assert 3 == proxy.connections


def test_a_proxy_leaves_nothing_behind(server: RawServer) -> None:
    with (
        free_of_leaks(),
        FaultProxy(server.port, [forward(), cut_after_forward()]) as proxy,
        httpx.Client(trust_env=False) as client,
    ):
        client.get(proxy.url)
        with pytest.raises(httpx.TransportError):
            client.get(proxy.url)
