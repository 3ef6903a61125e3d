"""Row 88, whatever happens: losses of several reasons, bursts, silence, outages, and a close at a random time."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate, chain, pairwise
from typing import Any

import anyio
import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import length, run_virtual
from tests.harness.stage.calls import Log
from tests.harness.stage.log import losses_in, merged_in
from tests.harness.stage.loops import client_of, virtual_emulator
from userpilot_async import Settings, Statistics, UserpilotClient
from userpilot_async._runtime.outage import LASTING, MATTERS
from userpilot_async.emulator import Fault

steps = st.lists(
    st.one_of(
        st.tuples(st.just("invalid"), st.integers(1, 40)),
        st.tuples(st.just("poison"), st.integers(1, 5)),
        st.tuples(st.just("fat"), st.integers(1, 5)),
        st.tuples(st.just("good"), st.integers(1, 40)),
        st.tuples(st.just("identify"), st.integers(1, 10)),
        st.tuples(st.just("silence"), st.sampled_from([0.0, 0.1, 1.0, 29.9, 30.0, 45.0, 200.0])),
    ),
    max_size=25,
)


async def live_through(happenings: list[tuple[str, Any]], latency: float, close_timeout: float) -> Statistics:
    emulator = virtual_emulator(latency=latency)
    emulator.faults.add(Fault(path="/v1/track", body_contains='"poison"', status=400, times=None))
    emulator.faults.add(Fault(path="/v1/track", body_contains='"fat"', status=413, times=None))
    client = client_of(
        emulator, on_invalid="dead", max_queue_calls=20, when_full="drop_newest",
        max_age=120.0, close_timeout=close_timeout,
    )  # fmt: skip
    async with client as userpilot:
        for what, much in happenings:
            if what == "silence":
                await anyio.sleep(much)
                continue
            for n in range(much):
                if what == "identify":
                    await userpilot.identify(f"u{n % 3}", {"n": n})
                else:
                    await userpilot.track("" if what == "invalid" else f"u{n % 3}", what, {"n": n})
    return client.statistics()


@settings(max_examples=length.of(40), deadline=None)
@given(steps, st.sampled_from([0.0, 0.1, 20.0]), st.sampled_from([0.0, 0.5, 60.0]))
def test_the_numbers_in_the_log_add_up_to_the_losses(
    happenings: list[tuple[str, Any]], latency: float, close_timeout: float
) -> None:
    logs: list[Log] = []

    async def scene() -> Statistics:
        with Log() as log:
            logs.append(log)
            return await live_through(happenings, latency, close_timeout)

    statistics = run_virtual(scene)

    assert losses_in(logs[0]) == statistics.lost_by_reason, logs[0].lines
    assert merged_in(logs[0]) == statistics.merged_lost, logs[0].lines


# ── outages ──

FAIL, AGAIN = "requests fail", "answers again"


class Flapping(httpx.AsyncBaseTransport):
    """A server that is down for a while, and up for a while, in turn; and what it saw of each request."""

    def __init__(self, spans: list[tuple[float, float]]) -> None:
        self.changes = list(accumulate(chain.from_iterable(spans)))
        """It goes down at the first, comes back at the second, and so on."""
        self.attempts: list[tuple[float, bool]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        now = anyio.current_time()
        is_up = bisect_right(self.changes, now) % 2 == 0
        self.attempts.append((now, is_up))
        if not is_up:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(202)

    def outages(self, end: float) -> list[tuple[float, float]]:
        """As the client could see them: from the first request that failed to the first that did not."""
        found: list[tuple[float, float]] = []
        for at, is_up in self.attempts:
            if not is_up and (not found or found[-1][1] < math.inf):
                found.append((at, math.inf))
            elif is_up and found and found[-1][1] == math.inf:
                found[-1] = (found[-1][0], at)
        return [(began, min(ended, end)) for began, ended in found]


@settings(max_examples=length.of(30), deadline=None)
@given(
    spans=st.lists(
        st.tuples(st.sampled_from([0.3, 2.0, 4.0, 20.0, 50.0]), st.sampled_from([0.2, 1.5, 3.0, 9.0, 40.0, 200.0])),
        min_size=1, max_size=8,
    ),
    calls=st.integers(5, 60), pause=st.sampled_from([0.1, 1.0, 3.0]), max_age=st.sampled_from([20.0, 1_000.0]),
    close_timeout=st.sampled_from([0.0, 2.0, 100.0]),
)  # fmt: skip
def test_each_outage_that_lasts_is_in_the_log_with_its_end_and_no_end_that_is_none(
    spans: list[tuple[float, float]], calls: int, pause: float, max_age: float, close_timeout: float
) -> None:
    server = Flapping(spans)
    client = UserpilotClient("KEY", transport=server, settings=Settings(max_age=max_age, close_timeout=close_timeout))
    logs: list[Log] = []

    async def scene() -> float:
        with Log() as log:
            logs.append(log)
            async with client as userpilot:
                for n in range(calls):
                    await userpilot.track(f"u{n % 3}", "clicked", {"n": n})
                    await anyio.sleep(pause)
                await anyio.sleep(60.0)
            return anyio.current_time()

    end = run_virtual(scene)
    lines = [(at, FAIL if FAIL in line else AGAIN) for at, line in logs[0].lines if FAIL in line or AGAIN in line]
    told: list[tuple[float, float]] = []
    for at, what in lines:
        assert (what == FAIL) == (not told or told[-1][1] < math.inf), (lines, server.attempts)
        if what == FAIL:
            told.append((at, math.inf))
        else:
            told[-1] = (told[-1][0], at)

    for began, ended in server.outages(end):
        if ended - began > MATTERS + LASTING:
            assert any(at <= ended and until >= began for at, until in told), (began, ended, lines)
    for at, until in told:  # an end is one when it has lasted, so the line may come until then
        assert any(began <= at <= ended + LASTING for began, ended in server.outages(end)), (at, lines)
        if until < math.inf:
            before = [is_up for when, is_up in server.attempts if when < until][-1:]
            just_then = [is_up for when, is_up in server.attempts if when == until]  # before the line, or behind it
            assert True in before + just_then, (until, lines)
    if told and server.attempts[-1][1]:
        assert told[-1][1] < math.inf, "the end was not said"
    assert all(later - at >= MATTERS for (at, _), (later, _) in pairwise(told)), told
    assert losses_in(logs[0]) == client.statistics().lost_by_reason
