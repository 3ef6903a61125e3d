"""A close that drops thousands of calls leaves turns of the loop to others, and drops all of them in any case."""

from __future__ import annotations

from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from tests.harness import judge
from tests.harness.stage.loops import client_of, virtual_emulator
from userpilot_async._delivery.shutdown import DROPPED

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

CALLS = 3_000


@pytest.mark.parametrize("kind", ["track", "identify"])
async def test_between_two_turns_of_the_loop_a_close_drops_no_more_than_some_calls(kind: str) -> None:
    pending: list[int] = []
    async with client_of(virtual_emulator(latency=1_000.0)) as userpilot:

        async def watch() -> None:
            await userpilot._sender.wait_settled()
            while not userpilot._shutdown.ended:
                pending.append(userpilot.statistics().pending)
                await anyio.lowlevel.checkpoint()

        for n in range(CALLS):
            await (userpilot.track(f"u{n}", "clicked") if kind == "track" else userpilot.identify(f"u{n}", {"n": n}))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            report = await userpilot.aclose(timeout=0.1)

    assert CALLS == judge.conservation(report.statistics)
    assert {"closed": CALLS} == dict(report.statistics.lost_by_reason)
    assert 2 * DROPPED >= max(before - after for before, after in pairwise(pending))
    assert CALLS // DROPPED // 2 <= len(pending)


async def test_a_close_that_is_cancelled_while_it_drops_calls_drops_the_rest_at_once() -> None:
    seen: list[int] = []
    async with client_of(virtual_emulator(latency=1_000.0)) as userpilot:
        for n in range(CALLS):
            await userpilot.track(f"u{n}", "clicked")
        with anyio.CancelScope() as closing:

            async def cancel() -> None:
                await userpilot._sender.wait_settled()
                while userpilot.statistics().dropped < 2 * DROPPED:
                    await anyio.lowlevel.checkpoint()
                seen.append(userpilot.statistics().pending)
                closing.cancel()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel)
                await userpilot.aclose(timeout=0.1)
        statistics = userpilot.statistics()

    assert 0 < seen[0] < CALLS
    assert 0 == statistics.pending
    assert CALLS == judge.conservation(statistics)
