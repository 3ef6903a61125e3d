"""The kit under pytest-asyncio in strict mode: clients in tests and in fixtures, and no way to a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from userpilot_async import ConfigurationError, UserpilotAPI, UserpilotClient
from userpilot_async.parcelvoy import ParcelvoyClient
from userpilot_async.testing import Capture, EmulatorServer, capture

made_at_import = UserpilotAPI()
MAKERS = [UserpilotClient, UserpilotAPI, ParcelvoyClient, lambda: made_at_import]


async def tell(client: Any, n: int = 1) -> None:
    if isinstance(client, ParcelvoyClient):
        await client.track("clicked", external_id="u1", data={"n": n})
    else:
        await client.track("u1", "clicked", {"n": n})


@pytest.mark.asyncio
@pytest.mark.parametrize("make", MAKERS)
async def test_a_client_in_a_test(userpilot: Capture, make: Any) -> None:
    async with make() as client:
        await tell(client)
        userpilot.assert_tracked("u1", "clicked", n=1)
        await userpilot.flush()

        assert 1 == len(userpilot.events) + len(userpilot.store.parcelvoy.events)


@pytest_asyncio.fixture(params=[UserpilotClient, ParcelvoyClient])
async def client(request: pytest.FixtureRequest, userpilot: Capture) -> AsyncIterator[Any]:
    async with request.param() as client:
        yield client
    assert userpilot.events or userpilot.store.parcelvoy.events


@pytest.mark.asyncio
async def test_a_client_in_a_fixture(client: Any, userpilot: Capture) -> None:
    await asyncio.gather(*(tell(client, n) for n in range(10)))

    assert list(range(10)) == sorted((getattr(call, "metadata", None) or call.data)["n"] for call in userpilot.calls)


@pytest.mark.asyncio
async def test_a_client_without_the_kit_does_not_open() -> None:
    with pytest.raises(ConfigurationError, match="take the fixture `userpilot`"):
        await UserpilotClient("a-real-key", region="eu").start()


@pytest.mark.asyncio
async def test_a_lost_call_is_found() -> None:
    with pytest.raises(AssertionError, match="1 call was lost"), capture() as userpilot:
        userpilot.fail(status=400)
        async with UserpilotClient() as client:
            await tell(client)


@pytest.mark.asyncio
async def test_a_server_in_a_thread_is_let_be() -> None:
    async with EmulatorServer() as server, UserpilotClient("KEY", base_url=server.url) as client:
        await tell(client)
        await client.flush()

        assert ["clicked"] == [event.event_name for event in server.store.events]
