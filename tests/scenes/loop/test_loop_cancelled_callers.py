"""Row 45: whoever waits for the client may be cancelled, at any await, in either way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import attrs
import pytest

from tests.harness import judge
from tests.harness.stage.loops import (
    cancelled_at,
    client_of,
    markers,
    running,
    virtual_emulator,
)

pytestmark = pytest.mark.anyio

IN_EACH_WAY = pytest.mark.parametrize(
    ("anyio_backend", "how"),
    [("asyncio", "natively"), ("asyncio", "scope"), ("trio", "scope")],
    indirect=["anyio_backend"],
)
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


# ── 45: calls ──


@pytest.mark.virtual
@IN_EACH_WAY
@pytest.mark.parametrize("kind", ["track", "identify", "identify_company"])
async def test_row_45_a_call_cancelled_where_it_lets_the_loop_run_is_accepted_and_delivered_or_neither(
    how: str, kind: str
) -> None:
    emulator = virtual_emulator()
    met, kept = 0, []
    async with running(client_of(emulator)) as userpilot:
        calls = {
            "track": lambda key: userpilot.track(key, "clicked"),
            "identify": userpilot.identify,
            "identify_company": userpilot.identify_company,
        }
        for n in range(2_000):  # more calls than it takes in a row before one lets the loop run
            before = userpilot.statistics().accepted
            happened, receipt = await cancelled_at(how, 1, lambda key=f"id-{n}": calls[kind](key))
            accepted = userpilot.statistics().accepted - before
            assert (receipt is not None) == bool(accepted)
            met += happened
            kept += [f"id-{n}"] * accepted
        report = await userpilot.flush(3_600)

    assert met >= 2, "no call was cancelled: nothing was tested"
    assert report.complete
    judge.conservation(report.statistics)
    judge.conservation_by_id(kept, {"delivered": {applied.id for applied in emulator.store.applied}})


@attrs.define
class Line:
    """What became of four calls that waited in line, and of a fifth among them that was cancelled."""

    got_in: list[str] = attrs.field(factory=list)
    happened: bool = False
    receipt: object = None
    reached: set[str] = attrs.field(factory=set)
    statistics: Any = None


async def wait_in_line(how: str, number: int, kind: str) -> Line:
    """Fill a queue of two, let three wait for room, and cancel the middle one at its `number`-th await."""
    line, emulator = Line(), virtual_emulator(latency=1.0)
    async with running(client_of(emulator, max_queue_calls=2, max_wait=None)) as userpilot:

        async def track(n: str) -> None:
            await userpilot.track(n, "clicked")
            line.got_in.append(n)

        async def disturbed() -> None:
            call = userpilot.identify if kind == "identify" else lambda key: userpilot.track(key, "clicked")
            line.happened, line.receipt = await cancelled_at(how, number, lambda: call("cancelled"))

        await track("first")
        await track("second")
        async with anyio.create_task_group() as tasks:
            for waiting in (lambda: track("before"), disturbed, lambda: track("after")):
                tasks.start_soon(waiting)
                await anyio.wait_all_tasks_blocked()
        line.statistics = (await userpilot.flush(60)).statistics
    line.reached = {applied.id for applied in emulator.store.applied}
    return line


@pytest.mark.virtual
@IN_EACH_WAY
@pytest.mark.parametrize("kind", ["track", "identify"])
async def test_row_45_a_call_cancelled_while_it_waits_for_room_is_not_accepted_and_the_next_in_line_gets_in(
    how: str, kind: str
) -> None:
    number = 1
    while (line := await wait_in_line(how, number, kind)).happened:
        assert line.receipt is None
        assert ["first", "second", "before", "after"] == line.got_in
        assert {*line.got_in} == line.reached
        assert 4 == judge.conservation(line.statistics)
        number += 1

    assert number > 1, "the call never waited: nothing was tested"
    assert line.receipt is not None
    assert {*line.got_in, "cancelled"} == line.reached
    assert 5 == judge.conservation(line.statistics)


@pytest.mark.virtual
@ON_ASYNCIO
async def test_row_45_a_caller_cancelled_in_the_very_turn_its_room_came_leaves_the_room_to_the_next() -> None:
    emulator = virtual_emulator(latency=1.0)
    async with running(client_of(emulator, max_queue_calls=1, max_wait=None)) as userpilot:
        receipt = await userpilot.track("u", "clicked", {"n": "first"})
        unlucky = asyncio.create_task(userpilot.track("u", "clicked", {"n": "unlucky"}))
        await anyio.wait_all_tasks_blocked()
        lucky = asyncio.create_task(userpilot.track("u", "clicked", {"n": "lucky"}))
        await anyio.wait_all_tasks_blocked()
        await receipt.outcome()
        unlucky.cancel()
        report = await userpilot.flush(60)
        with suppress(asyncio.CancelledError):
            await unlucky
        await asyncio.wait_for(lucky, 60)
        report = await userpilot.flush(60)

    accepted = ["first", "lucky"] if unlucky.cancelled() else ["first", "unlucky", "lucky"]
    assert accepted == markers(emulator)
    assert len(accepted) == report.statistics.delivered == judge.conservation(report.statistics)


# ── 45: those who wait for an outcome ──


@pytest.mark.virtual
@IN_EACH_WAY
@pytest.mark.parametrize("waiting_for", ["flush", "outcome"])
async def test_row_45_who_waits_for_an_outcome_may_be_cancelled_at_each_await_without_harm(
    how: str, waiting_for: str
) -> None:
    for number in range(1, 200):
        emulator = virtual_emulator(latency=1.0)
        async with running(client_of(emulator)) as userpilot:
            for n in range(5):
                receipt = await userpilot.track("u", "clicked", {"n": n})
            wait: dict[str, Any] = {"flush": userpilot.flush, "outcome": receipt.outcome}
            happened, _ = await cancelled_at(how, number, wait[waiting_for])
            later = await userpilot.track("u", "clicked", {"n": 5})
            outcome = await later.outcome(60)
            report = await userpilot.flush(60)

        judge.conservation(report.statistics)
        assert "delivered" == outcome.status
        assert list(range(6)) == markers(emulator)
        if not happened:
            break

    assert not happened
    assert number > 1, "it never waited: nothing was tested"


# ── 45: those who close ──
