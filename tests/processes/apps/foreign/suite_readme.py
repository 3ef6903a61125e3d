import httpx
import pytest
import pytest_asyncio

from userpilot_async import UserpilotClient
from userpilot_async.emulator import Emulator


@pytest.fixture
def emulator():
    return Emulator()


@pytest_asyncio.fixture
async def userpilot(emulator):
    transport = httpx.ASGITransport(emulator)
    async with UserpilotClient("any-key", base_url="https://emulator", transport=transport) as userpilot:
        yield userpilot


@pytest.mark.asyncio
async def test_an_export_is_tracked(userpilot, emulator):
    await userpilot.track("u1", "report_exported", {"format": "csv"})  # here goes the code under test
    await userpilot.flush(10)

    assert ["report_exported"] == [event.event_name for event in emulator.store.events]
