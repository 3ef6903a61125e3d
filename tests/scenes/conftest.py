"""An emulator in the same process, on the clock of the test's own loop, and an API on the other end of the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from userpilot_async import UserpilotAPI
from userpilot_async.emulator import ConnectionCut, Emulator

# 09:50:00 UTC on 2020-09-23: the minute whose end is the reset of the vendor's sample, 1600854660000.
MINUTE_BEGINS = 1_600_854_600.0


class Cable(httpx.AsyncBaseTransport):
    """The wire to an emulator in process: a connection cut there is a `ReadError` here."""

    def __init__(self, emulator: Emulator) -> None:
        self.requests: list[httpx.Request] = []
        self.refusals = 0
        """So many connections are refused before one is made."""
        self.in_flight = 0
        self.most_in_flight = 0
        self._far_end = httpx.ASGITransport(emulator)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.refusals:
            self.refusals -= 1
            raise httpx.ConnectError("connection refused", request=request)
        await request.aread()  # or the content of a file could not be looked at afterwards
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._far_end.handle_async_request(request)
        except ConnectionCut as cut:
            raise httpx.ReadError("the connection ended", request=request) from cut
        finally:
            self.in_flight -= 1


@pytest.fixture
def emulator() -> Emulator:
    """An emulator whose minutes and jobs go by the loop's clock, which a `virtual` test makes jump.

    A key and its successor find one account.
    """
    return Emulator(clock=lambda: MINUTE_BEGINS + anyio.current_time(), seed=1, account_per_key=False)


@pytest.fixture
def cable(emulator: Emulator) -> Cable:
    return Cable(emulator)


@pytest.fixture
def new_api(cable: Cable) -> Callable[..., UserpilotAPI]:
    """Make an API, not open yet, that talks to the emulator."""

    def new_api(api_key: Any = "KEY", **options: Any) -> UserpilotAPI:
        return UserpilotAPI(api_key, base_url="https://emulator", transport=cable, **options)

    return new_api
