"""`Settings(close_timeout=None)` with a file: all of it is sent before the script ends, and not left for the next."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from userpilot_async import Settings, UserpilotClient

pytestmark = pytest.mark.anyio


async def test_close_timeout_none_sends_all_that_is_in_a_file(tmp_path: Path) -> None:
    def takes(request: httpx.Request) -> httpx.Response:
        return httpx.Response(202)

    client = UserpilotClient(
        "KEY", outbox=f"sqlite:///{tmp_path}/events.db?durability=process", transport=httpx.MockTransport(takes),
        settings=Settings(close_timeout=None),
    )  # fmt: skip
    async with client as userpilot:
        for n in range(50):
            await userpilot.track(f"u{n}", "clicked")

    statistics = client.statistics()
    assert (50, 0) == (statistics.delivered, statistics.pending)
