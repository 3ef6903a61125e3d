"""A script leaves its block: with a limit it says what that cost and what to do, without one it loses nothing."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import anyio
import httpx
import pytest

from tests.harness.stage.calls import Log
from tests.harness.stage.log import losses_in
from tests.harness.stage.loops import client_of, running, virtual_emulator
from userpilot_async import Settings, UserpilotClient
from userpilot_async.emulator import Fault
from userpilot_async.parcelvoy import ParcelvoyClient, ParcelvoySettings

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


async def leaves_400_behind(client: UserpilotClient) -> Log:
    with Log() as log:
        async with running(client) as userpilot:
            for n in range(400):
                await userpilot.track(f"u{n}", "clicked", {"n": n})
    return log


async def test_a_script_of_400_events_is_told_what_to_do() -> None:
    client = client_of(virtual_emulator(latency=0.05))
    log = await leaves_400_behind(client)

    (line,) = log.said("dropped on close")
    dropped = client.statistics().dropped
    found = re.match(r"userpilot: (\d+) of 400 calls dropped on close: close_timeout=10 was too short, ", line)
    assert found is not None, line
    assert dropped == int(found[1]) >= 190
    needs = re.search(r"the rest needs (\d+) s at 600 a minute; flush first, raise close_timeout \(None: ", line)
    assert needs is not None, line
    assert dropped / 10 - 1 <= int(needs[1]) <= dropped / 10 + 2
    assert "or use an outbox" in line


async def test_a_timeout_given_to_aclose_is_named_as_such() -> None:
    client = client_of(virtual_emulator(latency=0.05))
    with Log() as log:
        async with running(client) as userpilot:
            for n in range(400):
                await userpilot.track(f"u{n}", "clicked", {"n": n})
            await userpilot.aclose(2.5)

    assert 1 == len(log.said("dropped on close: timeout=2.5 was too short, the rest needs "))


async def test_an_outage_is_named_as_the_cause() -> None:
    def down(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503)

    client = UserpilotClient("KEY", transport=httpx.MockTransport(down))
    log = await leaves_400_behind(client)

    (line,) = log.said("dropped on close")
    assert "400 of 400 calls dropped on close: close_timeout=10 was over, and the last request failed: https://" in line
    assert "503 on track; use an outbox, which keeps calls" in line
    assert "too short" not in line


async def test_a_refused_key_is_named_as_the_cause() -> None:
    emulator = virtual_emulator()
    emulator.faults.add(Fault(path="/v1/track", status=401, times=None))
    log = await leaves_400_behind(client_of(emulator))

    (line,) = log.said("dropped on close")
    assert "dropped on close: nothing could be sent: https://analytex.userpilot.io refuses the API key (401" in line


# ── without a limit ──


async def test_close_timeout_none_drains_to_the_end_and_says_how_far_it_is() -> None:
    client = client_of(virtual_emulator(latency=0.05), close_timeout=None)
    log = await leaves_400_behind(client)

    assert 400 == client.statistics().delivered
    lines = log.said("userpilot: closing: ")
    left = [int(line.split()[2]) for line in lines]
    assert 2 <= len(lines) <= 3
    assert sorted(left, reverse=True) == left
    assert re.search(
        r"closing: \d+ calls left to send, the rest needs \d+ s at 600 a minute; close_timeout=None", lines[0]
    )
    assert {} == losses_in(log)


async def test_a_timeout_given_to_aclose_wins() -> None:
    client = client_of(virtual_emulator(latency=0.05), close_timeout=None)
    with Log():
        async with running(client) as userpilot:
            for n in range(400):
                await userpilot.track(f"u{n}", "clicked", {"n": n})
            report = await userpilot.aclose(1.0)

    assert 1.0 <= report.elapsed <= 2.0
    assert report.statistics.dropped > 200


async def test_it_waits_out_an_outage_of_an_hour() -> None:
    def down_for_an_hour(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503 if anyio.current_time() < 3_600 else 202)

    client = UserpilotClient(
        "KEY", transport=httpx.MockTransport(down_for_an_hour), settings=Settings(close_timeout=None)
    )
    log = await leaves_400_behind(client)

    assert 400 == client.statistics().delivered
    assert "the last request failed: https://analytex.userpilot.io: 503 on track" in log.said("closing: ")[1]


async def test_calls_die_of_their_age_all_the_same_so_that_it_ends() -> None:
    emulator = virtual_emulator()
    emulator.faults.add(Fault(path="/v1/track", status=401, times=None))
    client = client_of(emulator, close_timeout=None, max_age=300.0)
    log = await leaves_400_behind(client)

    assert {"expired": 400} == client.statistics().lost_by_reason == losses_in(log)
    assert "; nothing is sent: https://analytex.userpilot.io refuses the API key" in log.said("closing: ")[1]


async def test_it_waits_for_a_job_of_the_servers_to_end() -> None:
    client = client_of(virtual_emulator(), close_timeout=None)
    with Log():
        async with running(client) as userpilot:
            for n in range(3_000):
                await userpilot.identify(f"u{n}", {"n": n})

    statistics = client.statistics()
    assert (3_000, 0) == (statistics.delivered, statistics.pending)


async def test_nothing_to_send_is_no_reason_to_stay() -> None:
    async with running(client_of(virtual_emulator(), close_timeout=None)):
        leaving = anyio.current_time()

    assert anyio.current_time() - leaving < 1.0


async def test_it_waits_until_on_dead_has_all_its_letters_and_says_so() -> None:
    taken: list[Any] = []

    async def slow(letter: Any) -> None:
        await anyio.sleep(5)
        taken.append(letter)

    client = client_of(virtual_emulator(), on_dead=slow, close_timeout=None, on_invalid="dead")
    with Log() as log:
        async with running(client) as userpilot:
            for _ in range(5):
                await userpilot.track("", "clicked")

    assert 5 == len(taken)
    assert 2 == len(log.said("closing: on_dead has not taken all lost calls yet"))


@ON_ASYNCIO
async def test_a_native_cancellation_ends_it_and_what_is_left_is_said() -> None:
    client = client_of(virtual_emulator(latency=0.05), close_timeout=None)

    async def script() -> None:
        async with client as userpilot:
            for n in range(400):
                await userpilot.track(f"u{n}", "clicked", {"n": n})

    with Log() as log:
        task = asyncio.create_task(script())
        await anyio.sleep(5)
        task.cancel()
        await asyncio.wait({task})

    assert task.cancelled()
    statistics = client.statistics()
    assert {"closed": 400 - statistics.delivered} == statistics.lost_by_reason == losses_in(log)
    assert "dropped on close: the close was cancelled after " in log.said("dropped on close")[0]


async def test_parcelvoys_client_has_it_too() -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        return httpx.Response(204)

    client = ParcelvoyClient(
        "KEY", "https://parcelvoy.test", transport=httpx.MockTransport(slow),
        settings=ParcelvoySettings(close_timeout=None, requests_per_minute=60, burst=1, max_events=1),
    )  # fmt: skip
    with Log() as log:
        async with client as parcelvoy:
            for n in range(30):
                await parcelvoy.track("clicked", external_id=f"u{n}")

    assert 30 == client.statistics().delivered
    assert "s at 60 a minute; close_timeout=None" in log.said("closing: ")[0]


async def test_it_does_not_wait_a_day_for_deletions_that_the_server_has_taken() -> None:
    """It carries them out without us, at 2:00 UTC; a call of a deleted person is waited for, as any is."""
    emulator = virtual_emulator()
    emulator.faults.add(Fault("day", path="/v1/users", job={"status_sequence": [["queued", 600], "completed"]}))
    client = client_of(emulator, close_timeout=None)
    async with running(client) as userpilot:
        await userpilot.track("u2", "clicked", {"n": 2})
        receipts = await userpilot.delete_users(["u1"])
        began = anyio.current_time()

    assert anyio.current_time() - began < 60.0
    assert (1, 1) == (client.statistics().delivered, client.statistics().submitted)
    assert "submitted" == receipts[0].status

    client = client_of(emulator, close_timeout=None)
    async with running(client) as userpilot:
        await userpilot.delete_users(["u1"])
        await userpilot.track("u1", "clicked", {"n": 1})

    assert anyio.current_time() - began > 600.0
    assert [2, 1] == [event.metadata["n"] for event in emulator.store.events]
