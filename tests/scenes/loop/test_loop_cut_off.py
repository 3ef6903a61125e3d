"""A client whose sending has ended before the client is left: nobody waits in vain, and the log says why.

On trio a client's tasks live where it was opened, so a scope around it that is cancelled ends them.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from tests.harness import judge, run_virtual
from tests.harness.stage.loops import KEY
from userpilot_async import Settings, UserpilotClient

pytestmark = pytest.mark.anyio

ON_TRIO = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)


class Silent(httpx.AsyncBaseTransport):
    """A server that never answers."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep(math.inf)
        raise AssertionError("unreachable")


def silent_client(*, on_dead: Any = None, **settings: Any) -> UserpilotClient:
    return UserpilotClient(KEY, transport=Silent(), on_dead=on_dead, settings=Settings(**settings))


@pytest.mark.virtual(deadlock_after=60.0)
@ON_TRIO
@pytest.mark.filterwarnings("ignore:a UserpilotClient was not closed")
@pytest.mark.parametrize("close_timeout", [10.0, None])
async def test_a_client_in_a_cancelled_scope_is_left_at_once_and_says_why(
    close_timeout: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    dead: list[Any] = []
    client = silent_client(on_dead=dead.append, close_timeout=close_timeout)
    with anyio.CancelScope() as scope:
        async with client:
            for number in range(3):
                await client.track(f"u{number}", "clicked")
            scope.cancel()
            left_at = anyio.current_time()
            await anyio.lowlevel.checkpoint()

    assert 1.0 > anyio.current_time() - left_at
    assert 3 == judge.conservation(client.statistics()) == client.statistics().dropped == len(dead)
    assert "tasks had been cancelled" in caplog.records[-1].getMessage()


@pytest.mark.filterwarnings("ignore:a UserpilotClient was not closed")
@pytest.mark.parametrize("why", ["a bug", "its tasks were cancelled"])
def test_who_waits_for_room_or_for_an_outcome_goes_on_when_nothing_is_sent_any_more(why: str) -> None:
    """Or a script with ``max_wait=None`` would never come to leave its client, and be told."""

    async def scene() -> None:
        client = silent_client(max_queue_calls=1, max_wait=None)
        await asyncio.create_task(client.start())
        held = await client.track("u", "clicked")
        waiting = [asyncio.create_task(client.track("u", "clicked")), asyncio.create_task(held.outcome())]
        await asyncio.sleep(1)
        if why == "a bug":
            client._sender.end_with(RuntimeError("a bug of ours"))
        else:
            for task in asyncio.all_tasks() - {asyncio.current_task(), *waiting}:
                task.cancel()
        await asyncio.wait(waiting, timeout=5)

        assert ["dropped", "pending"] == [task.done() and task.result().status for task in waiting]
        with suppress(RuntimeError):  # the bug
            await client.aclose(1)
        assert 2 == judge.conservation(client.statistics())

    run_virtual(scene)


@pytest.mark.virtual
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_letters_that_a_cancelled_close_has_left_are_delivered_by_the_next_one() -> None:
    dead: list[Any] = []

    async def slow(call: Any) -> None:
        await asyncio.sleep(1)
        dead.append(call)

    client = await silent_client(on_dead=slow, close_timeout=8.0).start()
    for _ in range(3):
        await client.track("u", "clicked")
    with anyio.move_on_after(0.2):
        await client.aclose(0.0)
    report = await client.aclose()

    assert (3, 0) == (len(dead), report.statistics.on_dead_failures)


@pytest.mark.filterwarnings("ignore:a UserpilotClient was not closed")
def test_a_client_whose_loop_was_shut_down_is_closed_in_the_next_one_and_the_account_is_complete() -> None:
    client = silent_client()

    async def leave_open() -> None:
        await client.start()
        await client.track("u", "clicked")
        await asyncio.sleep(1)

    run_virtual(leave_open)
    reports = [run_virtual(client.aclose) for _ in range(2)]

    assert [1, 1] == [judge.conservation(report.statistics) for report in reports]
    assert 1 == client.statistics().dropped
