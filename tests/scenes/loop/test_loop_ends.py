"""A loop, or a process, that ends or splits at an awkward moment, with nobody to close the client."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings

import httpx
import pytest

from tests.harness.stage.loops import KEY, client_of, virtual_emulator
from userpilot_async import ClientClosed, Settings, UserpilotClient

pytestmark = pytest.mark.anyio
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


def accepted(_: httpx.Request) -> httpx.Response:
    return httpx.Response(202)


def client(**options: object) -> UserpilotClient:
    settings = Settings(on_invalid="dead")
    return UserpilotClient(KEY, transport=httpx.MockTransport(accepted), settings=settings, **options)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("user", ["u", ""], ids=["a request", "a letter"])
def test_row_86_a_client_forgotten_in_run_leaves_no_coroutine_that_was_never_awaited(user: str) -> None:
    async def main() -> None:
        forgotten = await client(on_dead=lambda letter: None).start()
        for _ in range(3):
            await forgotten.track(user, "clicked")

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        asyncio.run(main())
        gc.collect()

    assert [] == [str(one.message) for one in warned if one.category is RuntimeWarning]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_row_86_a_close_under_way_when_the_loop_is_shut_down_does_not_wait_for_tasks_that_are_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = client()

    async def main() -> None:
        async def fixture():  # type: ignore[no-untyped-def]  # it is forgotten, and the loop finishes it
            async with opened:
                await opened.track("u", "clicked")
                yield

        await anext(fixture())

    began = asyncio.new_event_loop().time()
    asyncio.run(main())
    took = asyncio.new_event_loop().time() - began
    statistics = opened.statistics()

    assert took < 5.0  # `close_timeout` is 10
    assert 1 == statistics.delivered + statistics.dropped
    assert statistics.dropped == sum(record.levelno == logging.WARNING for record in caplog.records)


@pytest.mark.virtual
@ON_ASYNCIO
async def test_row_86_of_two_starts_at_once_one_opens_it_and_the_other_is_told() -> None:
    opened = client_of(virtual_emulator())
    first, second = await asyncio.gather(opened.start(), opened.start(), return_exceptions=True)
    await opened.track("u", "clicked")
    report = await opened.aclose()

    assert first is opened
    assert "already been entered" in str(second)
    assert 1 == report.statistics.delivered


@pytest.mark.parametrize("outbox", [None, "file"])
@ON_ASYNCIO
async def test_row_86_a_client_closed_while_it_starts_does_not_open(outbox: str | None, tmp_path: object) -> None:
    opened = client(outbox=None if outbox is None else f"sqlite:///{tmp_path}/events.db")
    before = asyncio.all_tasks()
    starting = asyncio.create_task(opened.start())
    await asyncio.sleep(0)
    await opened.aclose()
    with pytest.raises(ClientClosed):
        await starting
    with pytest.raises(ClientClosed):
        opened.track_nowait("u", "clicked")

    assert before == asyncio.all_tasks()
