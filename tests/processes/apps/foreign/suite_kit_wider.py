"""The kit under pytest-asyncio, with clients of a wider scope than a test, in loops that stand still between tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from userpilot_async import UserpilotClient
from userpilot_async.testing import Capture


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(userpilot_session: Capture) -> AsyncIterator[UserpilotClient]:
    async with UserpilotClient() as client:
        yield client


@pytest.mark.asyncio(loop_scope="module")
class TestOfTheModule:
    @pytest.mark.parametrize("n", [1, 2])
    async def test_calls_are_those_of_the_test(self, client: UserpilotClient, userpilot: Capture, n: int) -> None:
        await client.track("u1", "clicked", {"n": n})

        assert n == userpilot.assert_tracked("u1", "clicked").metadata["n"]
        assert 1 == len(userpilot.calls)

    async def test_what_is_not_flushed_is_at_its_end(self, client: UserpilotClient, userpilot: Capture) -> None:
        await client.identify("u1", {"plan": "pro"})

    async def test_and_is_gone_from_the_next(self, client: UserpilotClient, userpilot: Capture) -> None:
        await userpilot.flush()

        assert {} == userpilot.users
