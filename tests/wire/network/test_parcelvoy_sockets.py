"""Rows 6, 8, 11, 15 and 36 where Parcelvoy's arrays, aliases and devices make a difference, on real sockets.

What is the same for both sides is in `test_network_sockets.py`.
"""

from __future__ import annotations

import json

import attrs
import httpx
import pytest

from tests.harness import (
    Behaviour,
    FaultProxy,
    RawServer,
    Request,
    TLSServer,
    answer,
    answer_before_body,
    cut_after_forward,
    cut_after_read,
    cut_before_forward,
    cut_within_answer,
    emulator_thread,
    forward,
    judge,
    redirect,
    reset_after_read,
    silent,
    swallow_answer,
)
from tests.harness.stage.calls import marks_in, person
from tests.harness.stage.parcelvoy import ALIASES, DEVICES, EVENTS, PARCELVOY, alias, register, visitor
from tests.harness.stage.scenes import PATIENCE, on_sockets
from userpilot_async import parcelvoy

pytestmark = pytest.mark.anyio

THREE = [person(1), person(2), person(1)]
IDENTIFIES = PARCELVOY.identifies


# ── 6: applied, then the answer is cut ──


@pytest.mark.parametrize("how", [cut_after_read(), reset_after_read()], ids=["closed", "reset"])
async def test_row_06_each_event_of_an_array_whose_answer_is_cut_may_be_there_twice(how: Behaviour) -> None:
    with RawServer([how], then=answer(204)) as server:
        async with on_sockets(server, to=PARCELVOY) as scene:
            await scene.track_all(THREE)
            await scene.drained()

            marks = scene.marks()
            assert sorted(marks[:3]) == sorted(marks[3:]) == sorted(scene.receipts)
            assert 3 == scene.statistics.possible_duplicates


async def test_row_06_a_gap_as_large_as_the_array_for_those_who_say_so() -> None:
    with RawServer([cut_after_read()], then=answer(204)) as server:
        async with on_sockets(server, attrs.evolve(PARCELVOY.quick, on_ambiguous="drop"), to=PARCELVOY) as scene:
            scene.losses = {"ambiguous": 3}
            await scene.track_all(THREE)
            await scene.drained()
            await scene.track(person(1))
            await scene.drained()

            assert sorted(scene.receipts) == sorted(scene.marks())
            assert 0 == scene.statistics.possible_duplicates
            assert {parcelvoy.Track} == {type(letter.call) for letter in scene.letters}


async def test_row_06_identify_device_and_event_keep_their_order_when_each_answer_is_cut() -> None:
    with RawServer([cut_after_read(), answer(204)] * 4) as server:
        async with on_sockets(server, to=PARCELVOY) as scene:
            await scene.identify(person(1))
            await register(scene, person(1), "phone")
            await scene.track(person(1))
            await scene.drained()

            assert [IDENTIFIES] * 4 + [DEVICES] * 2 + [EVENTS] * 2 == [request.path for request in server.requests]
            said, _, met, _, *_ = [json.loads(request.body) for request in server.requests]
            assert said["data"]  # before the server is told that there is such a person, for the device
            assert {"external_id": person(1), "data": {}} == met
            assert 1 == scene.statistics.possible_duplicates


@pytest.mark.parametrize("how", [cut_after_read(), reset_after_read()], ids=["closed", "reset"])
async def test_row_06_an_alias_refused_after_its_answer_was_cut_was_done(how: Behaviour) -> None:
    with RawServer([how, answer(422)], then=answer(204)) as server:
        async with on_sockets(server, to=PARCELVOY) as scene:
            receipt = await alias(scene, 1)
            await scene.track(visitor(1))
            await scene.drained()

            assert [ALIASES, ALIASES, EVENTS] == [request.path for request in server.requests]
            assert "delivered" == receipt.status


async def test_row_06_every_way_of_losing_an_answer_between_a_client_and_a_real_server() -> None:
    """Five arrays of three, five losses: each event is there, and at most once more for each answer that was lost."""
    losses = [cut_before_forward(reset=True), cut_after_forward(), cut_after_forward(reset=True), cut_within_answer(),
              swallow_answer()]  # fmt: skip
    script = [passage for loss in losses for passage in (loss, forward())]
    with emulator_thread() as url, FaultProxy(httpx.URL(url).port or 0, script) as proxy:
        async with on_sockets(proxy, to=PARCELVOY, server_counts=False) as scene:
            for _ in losses:
                await scene.track_all(THREE)
                await scene.drained()
            async with httpx.AsyncClient() as asking:
                stored = (await asking.get(f"{url}/__emulator__/parcelvoy/events")).json()["items"]

            marks = list(marks_in(stored))
            assert set(scene.receipts) == set(marks)
            assert 5 == sum(passed.passage.ending != "answered" for passed in proxy.passed)
            extra = judge.duplicates(marks, sum(len(json.loads(lost.request.body)) for lost in proxy.ambiguous))
            judge.per_user_order(marks)
            assert 3 <= extra <= scene.statistics.possible_duplicates


# ── 8: a peer that is gone ──


async def test_row_08_all_connections_gone_at_once_do_not_stop_the_other_arrays() -> None:
    """Eight arrays of three hang at once; every connection of the pool must come back."""
    with RawServer([silent()] * 8, then=answer(204)) as server:
        async with on_sockets(server, attrs.evolve(PARCELVOY.quick, max_events=3), to=PARCELVOY) as scene:
            await scene.track_all(person(n) for n in range(30))
            await scene.drained(2 * PATIENCE)

            assert 8 == sum(request.behaviour == "silent" for request in server.requests)
            assert 30 == len(scene.marks())
            assert 24 == scene.statistics.possible_duplicates


# ── 11, 36: refused for its size before it is read ──


@pytest.mark.parametrize("close", [False, True], ids=["left open", "closed"])
async def test_row_36_an_array_refused_by_its_length_alone_is_cut_down_until_it_fits(close: bool) -> None:
    """What a gateway with a limit of 20 kB does: it answers 413 when it has seen the headers."""

    def too_large(request: Request) -> Behaviour | None:
        return answer_before_body(413, close=close) if int(request.headers["content-length"]) > 20_000 else None

    with RawServer(then=answer(204), on_headers=too_large) as server:
        async with on_sockets(server, to=PARCELVOY) as scene:
            for n in range(200):
                await scene.track(person(n), "e" * 200)
            await scene.drained()

            assert set(scene.receipts) == set(scene.marks())
            assert 1 <= sum("413" in request.behaviour for request in server.requests) <= 10


# ── 15: redirects ──


async def test_row_15_a_redirect_from_https_to_http_of_the_same_host_is_not_followed() -> None:
    with RawServer() as elsewhere, TLSServer(redirect(f"{elsewhere.url}{EVENTS}")) as server:
        trusting = httpx.AsyncHTTPTransport(verify=server.client_context())
        async with on_sockets(server.inside, url=server.url, transport=trusting, to=PARCELVOY) as scene:
            scene.losses = {"closed": 2}
            await scene.track_all([person(1), person(2)])
            await scene.client.flush(0.3)

            assert f"{server.url} answers 307" in (scene.statistics.paused or "")

        assert 1 == len(server.requests)
        assert 0 == elsewhere.connections
