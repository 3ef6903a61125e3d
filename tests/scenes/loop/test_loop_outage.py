"""What a user hears of an outage: one line when it begins, one when it ends, and the statistics in between."""

from __future__ import annotations

import logging

import anyio
import httpx
import pytest

from userpilot_async import UserpilotClient

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]


async def test_an_outage_is_said_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    """A wrong port looks just like it: without a word one would look for the calls in the wrong place."""

    def down_for_ten_minutes(request: httpx.Request) -> httpx.Response:
        if anyio.current_time() < 600:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(202)

    transport = httpx.MockTransport(down_for_ten_minutes)
    with caplog.at_level(logging.WARNING, logger="userpilot_async"):
        async with UserpilotClient("KEY", base_url="http://127.0.0.1:1", transport=transport) as userpilot:
            for n in range(20):
                await userpilot.track(f"u{n}", "clicked")
            await anyio.sleep(300)
            during = userpilot.statistics().outage
            await anyio.sleep(400)
            after = userpilot.statistics()

    assert during == "http://127.0.0.1:1: ConnectError on track"
    assert (None, 20) == (after.outage, after.delivered)
    assert [
        f"userpilot: requests fail, 20 calls wait and are sent again: {during}; if that lasts, see whether the server"
        " is up, and the URL right",
        "userpilot: http://127.0.0.1:1 answers again, and takes calls",
    ] == [record.getMessage() for record in caplog.records]
