"""The kit under anyio's own plugin of pytest, on asyncio and on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from userpilot_async import UserpilotClient, blocking
from userpilot_async.testing import Capture

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def client(userpilot: Capture) -> AsyncIterator[UserpilotClient]:
    async with UserpilotClient() as client:
        yield client
    assert userpilot.users


async def test_a_client_in_a_fixture(client: UserpilotClient, userpilot: Capture) -> None:
    await client.identify("u1", {"plan": "pro"})

    userpilot.assert_identified("u1", plan="pro")


async def test_jobs_and_outages_take_no_time(client: UserpilotClient, userpilot: Capture) -> None:
    userpilot.fail("/v1/users/bulk_identify", status=503, times=3)
    for n in range(200):
        await client.identify(f"u{n}", {"n": n})
    await userpilot.flush()

    assert 200 == len(userpilot.users)
    assert [200] == [job.total_rows for job in userpilot.store.jobs]


def test_without_a_loop(userpilot: Capture) -> None:
    with blocking(UserpilotClient(), "trio") as client:
        client.track("u1", "paid")
        userpilot.flush_blocking()

        assert ["paid"] == [event.event_name for event in userpilot.events]
