"""A bug of our own: it is logged with its traceback, ends the sending, and is raised where the client is left."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from tests.harness import judge
from tests.harness.stage.loops import client_of, virtual_emulator
from userpilot_async import Settings, UserpilotClient
from userpilot_async._schedule.schedule import Schedule
from userpilot_async._settings import WhenFull

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]


class Bug(Exception):
    """What a mistake in the schedule might raise."""


def break_on(method: str, client: UserpilotClient) -> None:
    """From now on this method of the client's schedule raises."""

    def broken(*arguments: Any, **options: Any) -> Any:
        raise Bug(method)

    setattr(client._sender.schedule, method, broken)


METHODS = ["next", "add_all", "done"]


@pytest.mark.parametrize("method", METHODS)
async def test_a_bug_in_the_schedule_is_logged_with_its_traceback_and_raised_where_the_client_is_left(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Bug, match=method):
        async with client_of(virtual_emulator()) as userpilot:
            break_on(method, userpilot)
            await userpilot.track("u", "clicked")
            await anyio.sleep(60)
            await userpilot.track("u", "clicked again")
            report = await userpilot.aclose()

    (record,) = [record for record in caplog.records if record.exc_info]
    assert logging.ERROR == record.levelno
    assert record.getMessage().startswith("userpilot: ")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Bug)
    assert 2 == judge.conservation(report.statistics)
    assert 0 == report.statistics.pending


@pytest.mark.parametrize("when_full", ["wait", "drop_oldest", "drop_newest"])
@pytest.mark.parametrize("method", METHODS)
async def test_after_a_bug_neither_a_call_nor_a_flush_raises_and_none_of_them_waits(
    method: str, when_full: WhenFull
) -> None:
    began = anyio.current_time()
    settings = {"max_queue_calls": 5, "max_wait": 10.0, "when_full": when_full}
    with pytest.raises(Bug):
        async with client_of(virtual_emulator(), **settings) as userpilot:
            break_on(method, userpilot)
            for n in range(10):
                await userpilot.track("u", "clicked", {"n": n})
                await anyio.sleep(0.1)
            report = await userpilot.flush()
            took = anyio.current_time() - began

    assert not report.complete
    assert 2.0 > took
    assert 10 == judge.conservation(report.statistics)
    assert {"queue_full"} == set(report.statistics.lost_by_reason)


async def test_a_bug_cancels_no_task_of_the_application() -> None:
    finished = []

    async def works_on() -> None:
        await anyio.sleep(100)
        finished.append(True)

    with pytest.raises(Bug):
        async with client_of(virtual_emulator()) as userpilot:
            break_on("next", userpilot)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(works_on)
                await userpilot.track("u", "clicked")

    assert [True] == finished


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_client_that_was_started_raises_the_bug_from_aclose() -> None:
    userpilot = await client_of(virtual_emulator()).start()
    break_on("next", userpilot)
    await userpilot.track("u", "clicked")
    with pytest.raises(Bug):
        await userpilot.aclose()


async def test_requests_under_way_when_the_schedule_breaks_are_broken_off(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Bug):
        async with client_of(virtual_emulator(latency=30.0)) as userpilot:
            for n in range(5):
                await userpilot.track(f"u{n}", "clicked")
            await anyio.sleep(1)
            break_on("next", userpilot)
            await userpilot.track("u", "clicked")
            await anyio.sleep(1)
            report = await userpilot.aclose()

    assert 6 == judge.conservation(report.statistics)
    assert isinstance(userpilot._sender.schedule, Schedule)
    assert Settings().close_timeout > report.elapsed
