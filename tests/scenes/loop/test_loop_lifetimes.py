"""Row 86: opened in one task, left in another, as fixtures, test cases, hooks and notebooks do. On asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest

from tests.harness import judge, run_virtual
from tests.harness.stage.loops import KEY, cancel_all_other_tasks, client_of, markers, virtual_emulator
from userpilot_async import ClientClosed, ClientNotOpen, MemoryOutbox, UserpilotAPI, UserpilotClient
from userpilot_async._outbox.protocol import Opening
from userpilot_async.emulator import Emulator
from userpilot_async.parcelvoy import ParcelvoyClient

pytestmark = pytest.mark.anyio

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
ON_TRIO = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)


async def in_a_task_of_its_own(work: Callable[[], Awaitable[Any]]) -> Any:
    """What ``work()`` gives, in a task that has ended when this returns."""

    async def run() -> Any:
        return await work()

    return await asyncio.create_task(run())


@pytest.mark.virtual
@ON_ASYNCIO
@pytest.mark.parametrize("by", ["async with", "start and aclose"])
async def test_row_86_a_client_opened_in_one_task_used_in_another_and_left_in_a_third_delivers(by: str) -> None:
    client = client_of(emulator := virtual_emulator())
    start, leave = (client.start, client.aclose)
    if by == "async with":
        start, leave = client.__aenter__, lambda: client.__aexit__(None, None, None)  # type: ignore[assignment]

    assert await in_a_task_of_its_own(start) is client
    await in_a_task_of_its_own(lambda: client.track("u", "clicked", {"n": 1}))
    await in_a_task_of_its_own(leave)

    assert [1] == markers(emulator)
    with pytest.raises(ClientClosed):
        await client.track("u", "clicked", {"n": 2})


@pytest.mark.virtual
@ON_ASYNCIO
async def test_row_86_leaving_in_another_task_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    client = await client_of(virtual_emulator()).start()
    await client.track("u", "clicked")
    await in_a_task_of_its_own(client.aclose)

    assert before == asyncio.all_tasks()


@ON_ASYNCIO
async def test_row_86_parcelvoys_client_and_the_plain_api_start_and_stop_in_whatever_task() -> None:
    emulator = Emulator()
    transport = httpx.ASGITransport(emulator)
    parcelvoy = ParcelvoyClient(KEY, "https://emulator", transport=transport)
    api = UserpilotAPI(KEY, base_url="https://emulator", transport=transport)
    for opened in (parcelvoy, api):
        await in_a_task_of_its_own(opened.start)
    await in_a_task_of_its_own(lambda: parcelvoy.track("clicked", external_id="u"))
    await in_a_task_of_its_own(lambda: api.track("u", "clicked"))
    for opened in (parcelvoy, api):
        await in_a_task_of_its_own(opened.aclose)

    assert (1, 1) == (len(emulator.store.events), len(emulator.store.parcelvoy.events))


@pytest.mark.virtual
@ON_ASYNCIO
async def test_row_86_an_opening_that_is_cancelled_leaves_nothing_open() -> None:
    before = asyncio.all_tasks()
    client = client_of(virtual_emulator())
    opening = asyncio.create_task(client.start())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])

    assert opening.cancelled()
    assert before == asyncio.all_tasks()


@pytest.mark.virtual
@ON_ASYNCIO
async def test_row_86_an_outbox_that_cannot_be_opened_is_the_callers_error_and_leaves_no_task() -> None:
    emulator = virtual_emulator()
    async with client_of(emulator) as first:
        before = asyncio.all_tasks()
        second = client_of(emulator)
        second._outbox = first._outbox
        with pytest.raises(ValueError, match="in use by another client"):
            await second.start()

        assert before == asyncio.all_tasks()


def test_row_86_cancelled_tasks_whose_opener_has_ended_are_said_and_the_account_is_complete(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What `asyncio.run` does to a client that was started in a task which is over."""

    async def scene() -> None:
        client = client_of(virtual_emulator())
        await in_a_task_of_its_own(client.start)
        await client.track("u", "clicked")
        with pytest.warns(ResourceWarning, match="was not closed: 1 accepted call"):
            cancel_all_other_tasks()
            await asyncio.sleep(1)
        with pytest.raises(ClientClosed, match="lost its tasks"):
            await client.track("u", "clicked")
        report = await client.aclose()
        assert 1 == judge.conservation(report.statistics) == report.statistics.dropped

    run_virtual(scene)
    assert 1 == sum("was not closed" in record.getMessage() for record in caplog.records)


@pytest.mark.virtual
@ON_TRIO
@pytest.mark.parametrize("make", [lambda: client_of(virtual_emulator()), lambda: UserpilotAPI(KEY)])
async def test_row_86_on_trio_start_says_what_to_do(make: Callable[[], UserpilotClient | UserpilotAPI]) -> None:
    with pytest.raises(ClientNotOpen, match="`async with`"):
        await make().start()


@pytest.mark.virtual
async def test_row_86_what_the_application_raises_inside_travels_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with client_of(emulator := virtual_emulator()) as userpilot:
            await userpilot.track("u", "clicked", {"n": 1})
            await anyio.sleep(1)
            raise KeyError("mine")

    assert [1] == markers(emulator)


@pytest.mark.virtual
async def test_row_86_an_opening_that_is_cancelled_at_its_very_end_takes_no_calls() -> None:
    """Else they would wait in a client whose tasks are gone."""
    client, api = client_of(virtual_emulator()), UserpilotAPI(KEY)
    for opened in (client, api):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await opened.__aenter__()

    with pytest.raises(ClientClosed, match="lost its tasks"):
        await client.track("u", "clicked")
    with pytest.raises(ClientClosed, match="tasks were cancelled"):
        await api.jobs()


@pytest.mark.virtual
@ON_ASYNCIO
async def test_row_86_of_two_tasks_that_start_a_client_at_once_one_does_and_it_works() -> None:
    client = client_of(emulator := virtual_emulator())
    first, second = await asyncio.gather(client.start(), client.start(), return_exceptions=True)
    await client.track("u", "clicked", {"n": 1})
    await client.aclose()

    assert (client, [1]) == (first, markers(emulator))
    assert isinstance(second, RuntimeError)


@pytest.mark.virtual
@ON_ASYNCIO
async def test_row_86_a_client_that_is_closed_while_it_opens_stays_closed() -> None:
    class Slow(MemoryOutbox):
        async def open(self, opening: Opening) -> None:
            await anyio.sleep(1)
            await super().open(opening)

    before = asyncio.all_tasks()
    client = client_of(virtual_emulator())
    client._outbox = Slow()
    opening = asyncio.create_task(client.start())
    await asyncio.sleep(0.5)
    await client.aclose()
    with pytest.raises(ClientClosed):
        await opening
    with pytest.raises(ClientClosed):
        await client.track("u", "clicked")

    assert before == asyncio.all_tasks()


def test_row_86_the_plain_api_of_a_client_that_lost_its_tasks_says_so() -> None:
    async def scene() -> None:
        client = client_of(virtual_emulator())
        await in_a_task_of_its_own(client.start)
        cancel_all_other_tasks()
        await asyncio.sleep(1)
        with pytest.raises(ClientClosed, match="tasks were cancelled"):
            await client.api.jobs()
        await client.aclose()

    run_virtual(scene)
