"""Rows 1 to 14: a network that breaks, byte by byte, on real sockets and in real, short, times."""

from __future__ import annotations

import gc
import tracemalloc
import warnings
from collections.abc import Callable

import anyio
import attrs
import httpx
import pytest

from tests.harness import (
    BAD_CHUNKS,
    GARBAGE,
    TOLERATED_GARBAGE,
    Behaviour,
    Exchange,
    FaultProxy,
    RawServer,
    RefusedPort,
    Request,
    TLSServer,
    answer,
    answer_before_body,
    bad_chunking,
    cut_after_forward,
    cut_after_read,
    cut_before_forward,
    cut_in_headers,
    cut_within_answer,
    emulator_thread,
    endless_body,
    endless_headers,
    forward,
    garbage,
    gzip_bomb,
    huge_headers,
    interim,
    judge,
    late,
    reset_after_read,
    reset_before_read,
    silent,
    slow_loris,
    stale_keep_alive,
    swallow_answer,
    truncated,
    wrong_length,
)
from tests.harness.stage.calls import PERSON, Side, person
from tests.harness.stage.parcelvoy import both
from tests.harness.stage.scenes import PATIENCE, QUICK, on_sockets, rehearsal
from userpilot_async import DeliveryError, Unavailable

pytestmark = pytest.mark.anyio

MEGABYTE = 1024 * 1024


def by_event(behaviours: dict[str, Behaviour]) -> Callable[[Request], Behaviour]:
    """The behaviour named like the event, the first time it comes; a good answer after that."""
    left = dict(behaviours)

    def choose(request: Request) -> Behaviour:
        name = next((name for name in left if f'"event_name":"{name}"'.encode() in request.body), "")
        return left.pop(name, answer())

    return choose


def attempts(server: RawServer, event_name: str) -> int:
    return sum(f'"event_name":"{event_name}"'.encode() in request.body for request in server.requests)


def and_gone(behaviour: Behaviour) -> Behaviour:
    """Then the connection is closed: what lies unread in it is never read."""

    async def play(exchange: Exchange) -> None:
        await behaviour.play(exchange)
        exchange.wire.close()

    return attrs.evolve(behaviour, play=play)


# ── the first call ──


@pytest.mark.virtual
async def test_calls_and_a_close_as_the_first_thing_after_opening() -> None:
    """The README's ten lines: open, call, leave. A command line tool does nothing else."""
    async with rehearsal(breath=False) as scene:
        await scene.identify(person(1))
        await scene.track(person(1))
        report = await scene.client.flush(10)

        assert 2 == report.statistics.delivered


# ── 1, 2: nobody there ──


async def test_row_01_a_refused_connection_is_tried_again_until_the_server_is_there() -> None:
    """A deployment in which the sidecar or the network starts later than the application."""
    with RefusedPort() as nobody:
        port = nobody.port
        async with on_sockets(nobody) as scene:
            await scene.track(person(1))
            report = await scene.client.flush(0.3)

            assert (1, 0) == (report.remaining, report.statistics.possible_duplicates)
            assert 1 <= report.statistics.retries
            scene.losses = {"closed": 1}

    async with on_sockets(None, url=nobody.url, server_counts=False) as scene:
        await scene.track(person(1))
        await scene.client.flush(0.05)
        with emulator_thread("--port", str(port)):
            await scene.drained()


@pytest.mark.virtual
async def test_row_01_an_hour_of_refused_connections_costs_an_hour() -> None:
    async with rehearsal() as scene:
        scene.network.refuses = True
        await scene.identify_all(person(n) for n in range(100))
        await scene.track_all(person(n) for n in range(100))
        await anyio.sleep(3_600)
        during = scene.statistics
        scene.recovers()
        await scene.drained(90)

        assert (200, 0, 0) == (during.pending, during.dead, during.dropped)
        assert 1 <= scene.network.refused <= 3_600
        assert 0 == scene.statistics.possible_duplicates


async def test_row_02_a_name_that_does_not_resolve_holds_nothing_up_and_loses_nothing() -> None:
    async with on_sockets(None, attrs.evolve(QUICK, request_timeout=5.0), url="https://nowhere.invalid") as scene:
        await scene.track(person(1))
        receipt = await scene.track(person(2))
        with anyio.move_on_after(PATIENCE):
            while not scene.statistics.retries:
                await scene.client.flush(0.05)

        assert "pending" == receipt.status
        assert scene.statistics.retries
        assert (0, None) == (scene.statistics.possible_duplicates, scene.statistics.paused)
        scene.losses = {"closed": 2}


# ── 3, 4: TLS ──


@pytest.mark.parametrize("certificate", ["good", "wrong_name", "expired", "self_signed"])
async def test_row_03_a_certificate_that_is_not_trusted_is_held_and_said_once(certificate: str) -> None:
    """The good one is signed by an authority that no client knows, which is what an eavesdropper's looks like."""
    with TLSServer(certificate=certificate) as server:  # type: ignore[arg-type]
        async with on_sockets(server, attrs.evolve(QUICK, request_timeout=5.0)) as scene:
            await scene.track_all(person(n) for n in range(3))
            with anyio.move_on_after(PATIENCE):
                while scene.statistics.paused is None:
                    await scene.client.flush(0.05)
            await scene.client.flush(0.3)

            assert "certificate" in (scene.statistics.paused or "")
            assert 1 == len(scene.log.said("nothing is sent"))
            assert 3 == scene.statistics.pending
            scene.losses = {"closed": 3}

        assert [] == server.requests
        assert 3 >= server.connections >= 1


@pytest.mark.parametrize("certificate", ["wrong_name", "expired"])
async def test_row_03_a_trusted_authority_does_not_excuse_a_wrong_name_or_an_expired_certificate(
    certificate: str,
) -> None:
    with TLSServer(certificate=certificate) as server:  # type: ignore[arg-type]
        trusting = httpx.AsyncHTTPTransport(verify=server.client_context())
        async with on_sockets(server, attrs.evolve(QUICK, request_timeout=5.0), transport=trusting) as scene:
            await scene.track(person(1))
            with anyio.move_on_after(PATIENCE):
                while scene.statistics.paused is None:
                    await scene.client.flush(0.05)

            assert "certificate" in (scene.statistics.paused or "")
            scene.losses = {"closed": 1}

        assert [] == server.requests


async def test_row_03_a_certificate_that_is_trusted_is_served() -> None:
    """Or the tests beside this one would prove nothing."""
    with TLSServer() as server:
        trusting = httpx.AsyncHTTPTransport(verify=server.client_context())
        async with on_sockets(server.inside, url=server.url, transport=trusting) as scene:
            await scene.track(person(1))
            await scene.drained()

            assert 1 == len(server.requests)


async def test_row_04_a_tls_handshake_that_stalls_ends_at_the_deadline_and_nothing_has_left() -> None:
    """And leaves no socket for the garbage collector: an outage of this kind would cost one for every attempt."""
    with TLSServer(stall_handshake=True) as server, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        async with on_sockets(server, attrs.evolve(QUICK, close_timeout=0)) as scene:
            await scene.track(person(1))
            with anyio.move_on_after(PATIENCE):
                while not (server.connections and scene.statistics.retries) or scene.statistics.in_flight:
                    await scene.client.flush(0.01)

            assert scene.statistics.retries
            assert 0 == scene.statistics.possible_duplicates
            scene.losses = {"closed": 1}
        gc.collect()

        assert 1 <= server.connections
        assert [] == [str(warning.message) for warning in said]


async def test_row_04_leaving_while_a_tls_handshake_stalls_leaves_no_socket_to_the_garbage_collector() -> None:
    with TLSServer(stall_handshake=True) as server, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        async with on_sockets(server, attrs.evolve(QUICK, request_timeout=60.0)) as scene:
            await scene.track(person(1))
            with anyio.move_on_after(PATIENCE):
                while not server.connections:
                    await scene.client.flush(0.01)
            scene.losses = {"closed": 1}
        gc.collect()

    assert [] == [str(warning.message) for warning in said]


# ── 5 to 9: answers that do not come ──


@both
async def test_row_05_reset_before_the_request_is_read_is_sent_again_and_applied_once(to: Side) -> None:
    with RawServer([reset_before_read()]) as server:
        async with on_sockets(server, to=to) as scene:
            await scene.track(person(1))
            await scene.drained()

            assert [(person(1), 1)] == scene.marks()
            assert 2 == len(server.requests)


@pytest.mark.parametrize("how", [cut_after_read(), reset_after_read()], ids=["closed", "reset"])
async def test_row_06_applied_then_the_answer_is_cut(how: Behaviour) -> None:
    """There are no idempotency keys: the event is there twice, and the client says that it may be."""
    with RawServer([how]) as server:
        async with on_sockets(server) as scene:
            await scene.track(person(1))
            await scene.track(person(1))
            await scene.drained()

            assert [(person(1), 1), (person(1), 1), (person(1), 2)] == scene.marks()
            assert 1 == scene.statistics.possible_duplicates


async def test_row_06_a_gap_rather_than_a_double_for_those_who_say_so() -> None:
    with RawServer([cut_after_read()]) as server:
        async with on_sockets(server, attrs.evolve(QUICK, on_ambiguous="drop")) as scene:
            scene.losses = {"ambiguous": 1}
            await scene.track(person(1))
            await scene.track(person(1))
            await scene.drained()

            assert [(person(1), 1), (person(1), 2)] == scene.marks()
            assert 0 == scene.statistics.possible_duplicates


async def test_row_06_an_identify_whose_answer_is_cut_still_comes_before_its_track() -> None:
    with RawServer([cut_after_read()]) as server:
        async with on_sockets(server) as scene:
            await scene.identify(person(1))
            await scene.track(person(1))
            await scene.drained()

            assert ["/v1/identify", "/v1/identify", "/v1/track"] == [request.path for request in server.requests]
            assert 0 == scene.statistics.possible_duplicates


async def test_row_06_the_plain_api_says_that_an_event_may_have_been_applied() -> None:
    with RawServer([cut_after_read()]) as server:
        async with on_sockets(server) as scene:
            error = await scene.refused(scene.client.api.track(person(1), "x", {"mail": PERSON}), Unavailable)

            assert error.ambiguous
            assert 1 == len(server.requests)


async def test_row_06_every_way_of_losing_an_answer_between_a_client_and_a_real_server() -> None:
    """Ten events, five losses: each event is there, and at most once more for each answer that was lost."""
    losses = [cut_before_forward(reset=True), cut_after_forward(), cut_after_forward(reset=True), cut_within_answer(),
              swallow_answer()]  # fmt: skip
    script = [passage for loss in losses for passage in (loss, forward())]
    with emulator_thread() as url, FaultProxy(httpx.URL(url).port or 0, script) as proxy:
        async with on_sockets(proxy, server_counts=False) as scene:
            for n in range(10):
                await scene.track(person(n % 3))
            await scene.drained()
            async with httpx.AsyncClient() as asking:
                stored = (await asking.get(f"{url}/__emulator__/events")).json()["items"]

            marks = [(event["user_id"], event["metadata"]["n"]) for event in stored]
            assert set(scene.receipts) == set(marks)
            assert 5 == sum(passed.passage.ending != "answered" for passed in proxy.passed)
            judge.duplicates(marks, len(proxy.ambiguous))
            judge.per_user_order(marks)
            assert len(marks) - 10 <= scene.statistics.possible_duplicates


@both
async def test_row_07_applied_and_answered_after_our_deadline(to: Side) -> None:
    with RawServer([late(1.0)]) as server:
        async with on_sockets(server, to=to) as scene:
            await scene.track(person(1))
            await scene.drained()

            assert 2 == len(scene.marks())
            assert 1 == scene.statistics.possible_duplicates


@pytest.mark.parametrize("reads", ["everything", "nothing"])
@both
async def test_row_08_a_peer_that_is_silently_gone_costs_one_deadline(reads: str, to: Side) -> None:
    """A host that lost its power sends no FIN: only our own clock ends the wait."""
    with RawServer([answer(), and_gone(silent(reads=reads))]) as server:  # type: ignore[arg-type]
        async with on_sockets(server, to=to) as scene:
            await scene.track(person(1))
            await scene.drained()
            await scene.track(person(1))
            report = await scene.drained()

            assert report.elapsed >= to.quick.request_timeout
            assert [(person(1), 1), (person(1), 2)] == scene.marks()


@pytest.mark.usefixtures("swept")
async def test_row_08_a_peer_that_is_gone_in_mid_write_costs_the_deadlines_and_no_warning() -> None:
    """Three megabytes of ids, of which the kernel takes one."""
    with RawServer(late(1.0, reset_before_read())) as server:
        async with on_sockets(server) as scene:
            ids = (f"{person(n)}{'x' * 1_000}" for n in range(3_000))
            error = await scene.refused(scene.client.api.delete_users(ids), Unavailable)

            assert error.ambiguous
        assert 3 == len(server.requests)


async def test_row_08_all_connections_gone_at_once_do_not_stop_the_others() -> None:
    """Eight requests hang at once; every connection of the pool must come back."""
    with RawServer([silent()] * 8) as server:
        async with on_sockets(server) as scene:
            await scene.track_all(person(n) for n in range(30))
            await scene.drained(2 * PATIENCE)

            assert 8 == sum(request.behaviour == "silent" for request in server.requests)
            assert 30 == len(scene.marks())


@both
async def test_row_08_leaving_while_every_request_hangs_keeps_its_bound(to: Side) -> None:
    with RawServer(silent()) as server:
        async with on_sockets(server, attrs.evolve(to.quick, request_timeout=60.0), to=to) as scene:
            await scene.track_all(person(n) for n in range(20))
            scene.losses = {"closed": 20}

    assert 1 <= len(server.requests)


@both
async def test_row_09_a_stale_keep_alive_connection_costs_a_retry_and_no_double(to: Side) -> None:
    with RawServer([stale_keep_alive()]) as server:
        async with on_sockets(server, to=to) as scene:
            await scene.track(person(1))
            await scene.drained()
            await scene.track(person(1))
            await scene.drained()

            assert [(person(1), 1), (person(1), 2)] == scene.marks()
            assert "closed as stale" in [request.behaviour for request in server.requests]


# ── 10 to 14: answers that no server should give ──


@pytest.mark.parametrize("part", ["headers", "body"])
@both
async def test_row_10_a_slow_loris_ends_at_the_total_deadline(part: str, to: Side) -> None:
    """httpx's own timeout bounds each read, and a byte every 50 ms never trips it."""
    settings = attrs.evolve(to.quick, request_timeout=1.5)  # on a busy machine a status takes a while, too
    with RawServer([slow_loris(0.05, part)]) as server:  # type: ignore[arg-type]
        async with on_sockets(server, settings, to=to) as scene:
            await scene.track(person(1))
            report = await scene.drained()

            assert report.elapsed >= settings.request_timeout
            # The status of a slow body has arrived: that is the answer.
            assert {"headers": (2, 1), "body": (1, 0)}[part] == (len(scene.marks()), scene.statistics.retries)


@pytest.mark.parametrize("fate", ["too_large", "invalid"])
@both
async def test_row_11_an_answer_before_the_body_is_read_is_an_answer(fate: str, to: Side) -> None:
    settings = attrs.evolve(to.quick, request_timeout=1.5)  # as above; the next call may meet a server that is mute
    with RawServer([answer_before_body({"too_large": 413, "invalid": to.rejects}[fate])]) as server:
        async with on_sockets(server, settings, to=to) as scene:
            scene.losses = {fate: 1}
            await scene.track(person(1))
            await scene.drained()
            await scene.track(person(2))
            await scene.drained()

            assert [(person(2), 1)] == scene.marks()


@pytest.mark.usefixtures("swept")
async def test_row_11_an_upload_that_nobody_reads_ends_at_its_deadline() -> None:
    """The server has answered and reads no more, so the write of 20 MB blocks."""
    with RawServer([and_gone(answer_before_body(413))]) as server:
        await upload_in_vain(server)


async def test_row_11_an_upload_whose_connection_is_reset_over_an_early_answer() -> None:
    with RawServer([answer_before_body(413, close=True)]) as server:
        await upload_in_vain(server)


async def upload_in_vain(server: RawServer) -> None:
    async with on_sockets(server) as scene:
        began = anyio.current_time()
        await scene.refused(scene.client.api.import_rows(b"x" * 20 * MEGABYTE), DeliveryError)
        took = anyio.current_time() - began
        await scene.track(person(1))
        await scene.drained()

        assert QUICK.upload_timeout + 1.0 >= took


BROKEN = {
    "truncated": truncated(),
    "cut in the status line": cut_in_headers(5),
    "cut in the headers": cut_in_headers(40),
    "length too long": wrong_length(+5),
    "length too short": wrong_length(-5),
    "interim": interim(),
    **{f"chunks: {kind}": bad_chunking(kind) for kind in BAD_CHUNKS},
    **{f"garbage: {kind}": garbage(kind) for kind in (*GARBAGE, *TOLERATED_GARBAGE)},
}


@pytest.mark.parametrize("kind", BROKEN)
@both
async def test_row_12_a_broken_answer_loses_nothing_and_leaves_the_next_ones_alone(kind: str, to: Side) -> None:
    with RawServer([answer(), BROKEN[kind]]) as server:
        async with on_sockets(server, to=to) as scene:
            for _ in range(2):  # two at a time: they may share a request
                await scene.track_all([person(1), person(1)])
                await scene.drained()

            assert [1, 2, 3, 4] == sorted({n for _, n in scene.marks()})
            assert BROKEN[kind].name in [request.behaviour for request in server.requests]


async def test_row_82_a_success_whose_body_broke_off_may_have_been_one_and_is_counted() -> None:
    """The answer was a delivery; what cut it off may have cut off anything."""
    with RawServer([answer(), BROKEN["truncated"]]) as server:
        async with on_sockets(server) as scene:
            for _ in range(2):
                await scene.track(person(1))
                await scene.drained()

            assert 3 == len(scene.marks())
            assert 1 == scene.statistics.possible_duplicates


@pytest.mark.parametrize("each_bytes", [8_000, 300_000], ids=["many", "one"])
@both
async def test_row_13_300_kb_of_headers(each_bytes: int, to: Side) -> None:
    with RawServer([huge_headers(each_bytes=each_bytes)]) as server:
        async with on_sockets(server, to=to) as scene:
            await scene.track(person(1))
            await scene.drained()

            assert 1 <= len(scene.marks()) <= 1 + scene.statistics.possible_duplicates
            assert "huge_headers" == server.requests[0].behaviour


@pytest.mark.parametrize("flood", [gzip_bomb(), endless_headers()], ids=["gzip bomb", "endless headers"])
@both
async def test_row_14_a_flood_costs_a_megabyte_and_a_deadline(flood: Behaviour, to: Side) -> None:
    """200 kB of gzip hold 200 MB of zeros."""
    await flooded(flood, to)


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("framing", ["chunked", "until_close"])
@both
async def test_row_14_a_body_without_end_costs_a_megabyte(framing: str, to: Side) -> None:
    await flooded(endless_body(framing), to)  # type: ignore[arg-type]


async def flooded(flood: Behaviour, to: Side) -> None:
    with RawServer([flood]) as server:
        async with on_sockets(server, to=to) as scene:
            tracemalloc.start()
            try:
                await scene.track(person(1))
                await scene.drained()
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()

            assert 10 * MEGABYTE >= peak
            assert 1 <= len(scene.marks()) <= 1 + scene.statistics.possible_duplicates
