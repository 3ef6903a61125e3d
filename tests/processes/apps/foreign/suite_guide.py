import httpx
import pytest
import pytest_asyncio

from userpilot_async import UserpilotClient
from userpilot_async.emulator import Emulator

URL = "https://emulator"  # any name: nothing leaves the process


@pytest.fixture
def emulator():
    return Emulator()


@pytest_asyncio.fixture
async def userpilot(emulator):
    transport = httpx.ASGITransport(emulator)
    userpilot = UserpilotClient("KEY", base_url=URL, transport=transport)
    async with userpilot:
        yield userpilot


@pytest.mark.asyncio
async def test_an_export_is_tracked(userpilot, emulator):
    # Here goes the code under test.
    await userpilot.track("u1", "report_exported", {"format": "csv"})
    await userpilot.flush(10)

    names = [event.event_name for event in emulator.store.events]
    assert ["report_exported"] == names
