"""A clock that only moves when told, and clients that talk to an emulator in the same process."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from userpilot_async.emulator import Emulator

# 09:50:00 UTC on 2020-09-23: the minute whose end is the reset of the vendor's sample, 1600854660000.
MINUTE_BEGINS = 1_600_854_600.0


class Clock:
    """Seconds since the epoch; `clock.now += 60` is a minute later."""

    def __init__(self) -> None:
        self.now = MINUTE_BEGINS

    def __call__(self) -> float:
        return self.now


def client_of(emulator: Emulator, path: str = "", **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(emulator)
    return httpx.AsyncClient(transport=transport, base_url=f"https://emulator{path}", headers=headers)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> Emulator:
    return Emulator(clock=clock, seed=1)


@pytest.fixture
def connect() -> Callable[..., httpx.AsyncClient]:
    """Make a client of an emulator, with the headers that Userpilot requires."""

    def connect(emulator: Emulator, key: str = "KEY") -> httpx.AsyncClient:
        return client_of(emulator, **{"Authorization": f"Token {key}", "X-API-Version": "2020-09-22"})

    return connect


@pytest.fixture
def client(emulator: Emulator, connect: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return connect(emulator)


@pytest.fixture
def connect_parcelvoy() -> Callable[..., httpx.AsyncClient]:
    """Make a client of an emulator's other API, with a `Bearer` key and no version."""

    def connect_parcelvoy(emulator: Emulator, key: str = "pk_KEY") -> httpx.AsyncClient:
        return client_of(emulator, "/api/client", Authorization=f"Bearer {key}")

    return connect_parcelvoy


@pytest.fixture
def parcelvoy(emulator: Emulator, connect_parcelvoy: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return connect_parcelvoy(emulator)


@pytest.fixture
def file_of() -> Callable[..., dict[str, Any]]:
    """Make the multipart field that uploads rows as NDJSON."""

    def file_of(*rows: dict[str, Any], filename: str = "rows.ndjson") -> dict[str, Any]:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return {"file": (filename, content)}

    return file_of


@pytest.fixture
def load(
    client: httpx.AsyncClient, clock: Clock, emulator: Emulator, file_of: Callable[..., dict[str, Any]]
) -> Callable[..., Awaitable[None]]:
    """Import rows, and let the clock go on until their job has ended."""

    async def load(*rows: dict[str, Any]) -> None:
        answer = await client.post("/v1/imports", files=file_of(*rows))
        assert 200 == answer.status_code, answer.text
        clock.now += 60
        emulator.advance()

    return load
