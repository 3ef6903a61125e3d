"""The kit under pytest-asyncio in auto mode, with an application of aiohttp's and pytest-aiohttp's client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from userpilot_async import UserpilotClient
from userpilot_async.testing import Capture


@pytest.fixture
async def visitor(userpilot: Capture, aiohttp_client: Any) -> Any:
    async def opened(app: web.Application) -> AsyncIterator[None]:
        async with UserpilotClient() as client:
            app["client"] = client
            yield

    async def pay(request: web.Request) -> web.Response:
        await request.app["client"].track(request.match_info["user"], "paid", {"amount": 49})
        return web.Response()

    app = web.Application()
    app.cleanup_ctx.append(opened)
    app.router.add_post("/{user}", pay)
    return await aiohttp_client(app)


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
async def test_a_request_is_tracked(visitor: Any, userpilot: Capture) -> None:
    assert 200 == (await visitor.post("/u1")).status

    userpilot.assert_tracked("u1", "paid", amount=49)
    await userpilot.flush()
    assert ["u1"] == [event.user_id for event in userpilot.events]
