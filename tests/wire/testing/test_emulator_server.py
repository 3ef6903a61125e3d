"""The emulator on a port of this machine, in a thread, for whatever is not in this process."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest

from userpilot_async import UserpilotClient
from userpilot_async.emulator import Emulator, Fault
from userpilot_async.testing import EmulatorServer

pytestmark = pytest.mark.anyio


async def test_a_client_reaches_it_by_its_url_and_its_store_is_here() -> None:
    others = set(threading.enumerate())
    async with EmulatorServer(speed=1_000) as server:
        server.faults.add(Fault(path="/v1/track", status=503))
        async with UserpilotClient("KEY", base_url=server.url) as client:
            await client.track("u1", "paid")

        assert [503, 202] == [request.status for request in server.store.requests]
        assert ["paid"] == [event.event_name for event in server.store.events]
        assert server.url in repr(server)
    assert "userpilot-emulator" not in [thread.name for thread in threading.enumerate() if thread not in others]
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


async def test_each_key_has_a_store_of_its_own() -> None:
    async with EmulatorServer() as server:
        for key in ("A", "B"):
            async with UserpilotClient(key, base_url=server.url) as client:
                await client.track(f"of {key}", "paid")

        assert [["of A"], ["of B"]] == [[one.user_id for one in server.store_of(key).events] for key in ("A", "B")]
        with pytest.raises(LookupError, match="store_of"):
            _ = server.store


def test_it_starts_and_stops_without_a_block_and_starts_again() -> None:
    server = EmulatorServer(emulator := Emulator())
    first = server.start().url
    with pytest.raises(RuntimeError, match="is running"):
        server.start()
    server.stop()
    server.stop()
    with server:
        assert 200 == httpx.get(f"{server.url}/__emulator__/events").status_code

    assert first.startswith("http://127.0.0.1:")
    assert emulator is server.emulator


def test_a_port_that_is_taken_is_an_error_here() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        EmulatorServer(port=taken.getsockname()[1]).start()


def test_an_emulator_that_is_given_takes_no_options() -> None:
    with pytest.raises(TypeError, match="has its options"):
        EmulatorServer(Emulator(), speed=2)
