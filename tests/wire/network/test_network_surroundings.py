"""Rows 15 to 17, 26 to 28, 81: redirects, one bad answer, impatient callers, few descriptors, many proxies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.harness import (
    RawServer,
    answer,
    late,
    length,
    python,
    redirect,
)
from tests.harness.stage.calls import KEY, Side, person
from tests.harness.stage.parcelvoy import both
from tests.harness.stage.scenes import (
    PATIENCE,
    asyncio_only,
    on_sockets,
)
from userpilot_async import DeliveryError, Rejected, Settings, UserpilotAPI, UserpilotClient
from userpilot_async.parcelvoy import ParcelvoyClient

pytestmark = pytest.mark.anyio

# ── 15: redirects ──


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@both
async def test_row_15_a_redirect_is_never_followed(status: int, to: Side) -> None:
    """The key would go with it, to whoever owns the other host."""
    with RawServer() as elsewhere, RawServer(redirect(f"{elsewhere.url}{to.events}", status)) as server:
        async with on_sockets(server, to=to) as scene:
            await scene.track_all(person(n) for n in range(3))
            await scene.client.flush(0.3)

            (line,) = scene.log.said("nothing is sent")
            assert f"{server.url} answers {status}" in (scene.statistics.paused or "")
            assert f"{server.url} answers {status}" in line
            assert 3 == scene.statistics.pending
            scene.losses = {"closed": 3}

        assert 1 <= len(server.requests) <= 3
        assert 0 == elsewhere.connections


async def test_row_15_a_redirect_from_https_to_http_of_the_same_host_is_not_followed_either() -> None:
    with RawServer() as elsewhere, RawServer(redirect(elsewhere.url.replace("127.0.0.1", "localhost"))) as server:
        async with on_sockets(server) as scene:
            error = await scene.refused(scene.client.api.identify(person(1)), DeliveryError)

            assert "307" in str(error)
        assert 0 == elsewhere.connections


# ── 26: impatient callers ──


@asyncio_only
async def test_row_26_a_hundred_thousand_callers_cancelled_natively_leave_the_pool_healthy() -> None:
    """`wait_for(…, 1 ms)` around httpx itself breaks its pool within 60 requests, until every one of them raises."""
    settings = Settings(max_queue_calls=200, max_wait=None, track_per_minute=100_000, burst=1_000)
    with RawServer(late(0.05)) as server:
        async with on_sockets(server, settings) as scene:
            client, ended = scene.client, Counter[str]()
            rounds = length.of(100)
            for _ in range(rounds):
                users = [person(n % 50) for n in range(990)]
                callers: list[Awaitable[object]] = [
                    asyncio.wait_for(client.track(user, "impatient"), 0.001) for user in users
                ]
                callers += [asyncio.wait_for(client.api.track(person(n), "impatient"), 0.001) for n in range(10)]
                for outcome in await asyncio.gather(*callers, return_exceptions=True):
                    ended[type(outcome).__name__] += 1
            accepted = scene.statistics.accepted

            await client.flush(PATIENCE)
            await client.api.track(person(1), "patient")
            await scene.track_all(person(n) for n in range(50))
            await scene.drained()

        assert 1_000 * rounds == sum(ended.values())
        assert 500 * rounds <= ended["TimeoutError"]
        # Who was cancelled was not accepted, and who was accepted has been told so.
        assert ended["Receipt"] == accepted > 0
        assert {"Receipt", "TimeoutError"} == set(ended)
        assert 0 == scene.statistics.possible_duplicates


# ── 27: 64 file descriptors ──

SHORT_OF_DESCRIPTORS = """
import os, resource, sys
import anyio
from userpilot_async import Settings, UserpilotClient

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    more_than_there_are = 64 - len(os.listdir("/proc/self/fd")) + 4
    settings = Settings(concurrency=more_than_there_are, burst=600)
    async with UserpilotClient("canary-key", base_url=sys.argv[1], settings=settings) as client:
        for n in range(200):
            await client.track(f"user-{n}", "clicked", {"n": n})
        print(await client.flush(30))
        statistics = client.statistics()
    print(f"retries: {statistics.retries}, doubles: {statistics.possible_duplicates}")

anyio.run(main, backend=sys.argv[2])
"""


async def test_row_27_with_64_file_descriptors_everything_arrives_once(anyio_backend_name: str) -> None:
    """A container's limit, and an application that holds most of it."""
    with (
        RawServer([late(3.0)] * 64) as server,
        python("-c", SHORT_OF_DESCRIPTORS, server.url, anyio_backend_name) as program,
    ):
        ended = await anyio.to_thread.run_sync(program.wait, 60)

        assert 0 == ended, program.output
        assert "200 accepted = 200 delivered + 0 dead + 0 dropped + 0 merged + 0 pending" in program.output
        assert "doubles: 0" in program.output
        assert 1 <= int(program.wait_for_line(r"retries: (\d+)")[1]), "no connection was refused: nothing was tested"
        assert 200 == len(server.applied)


# ── 28: the environment ──


async def test_row_28_proxy_variables_and_netrc_in_the_environment_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A developer's machine has them; events with the key in them must not go through whatever they name."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer() as proxy, RawServer() as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        async with on_sockets(server) as scene:
            await scene.track(person(1))
            await scene.client.api.identify(person(2), {"n": 1})
            await scene.drained()

        assert [f"Token {KEY}"] * 2 == [request.headers["authorization"] for request in server.requests]
        assert 0 == proxy.connections


@pytest.mark.parametrize("status", [500, 502, 504])
@both
async def test_row_16_one_server_error_between_good_answers(status: int, to: Side) -> None:
    with RawServer([answer(), answer(status, b"<html>sorry</html>")]) as server:
        async with on_sockets(server, to=to) as scene:
            await scene.identify(person(1))
            await scene.track(person(1))
            await scene.drained()

            assert [202, status, 202] == [int(request.behaviour.split()[1]) for request in server.requests]
            assert 1 == scene.statistics.retries


@pytest.mark.parametrize("asked", ["0", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
@both
async def test_row_17_a_503_over_a_socket_with_a_retry_after_that_asks_for_nothing(asked: str, to: Side) -> None:
    with RawServer([answer(503, headers={"retry-after": asked})]) as server:
        async with on_sockets(server, to=to) as scene:
            await scene.track(person(1))
            report = await scene.drained()

            assert 2 == len(server.requests)
            assert PATIENCE >= report.elapsed


@pytest.mark.parametrize("outbox", [None, "file"])
async def test_row_81_over_a_socket_a_hostile_location_is_held_too(outbox: str | None, tmp_path: Path) -> None:
    with RawServer(redirect("http://xn--/", 302)) as server:
        where = None if outbox is None else f"sqlite:///{tmp_path}/events.db"
        settings = Settings(close_timeout=0.1)
        async with UserpilotClient(KEY, base_url=server.url, outbox=where, settings=settings) as userpilot:
            await userpilot.track("u1", "paid")
            while userpilot.statistics().paused is None:
                await anyio.to_thread.run_sync(server.wait_for_requests, 1)
                await anyio.lowlevel.checkpoint()
        async with ParcelvoyClient(KEY, server.url) as parcelvoy:
            await parcelvoy.track("clicked", external_id="u1")
            while parcelvoy.statistics().paused is None:
                await anyio.lowlevel.checkpoint()
            await parcelvoy.aclose(0.1)
        async with UserpilotAPI(KEY, base_url=server.url) as api:
            with pytest.raises(Rejected) as caught:
                await api.track("u1", "paid")

    assert 302 == caught.value.status
