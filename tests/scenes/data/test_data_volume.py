"""Rows 75, 76, 78, 79: too many names, a changing dict, calls as fast as possible, one hot user."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from tests.harness import Resources, judge
from tests.harness.stage.loops import client_of, markers, running, virtual_emulator
from userpilot_async import QueueFull
from userpilot_async.emulator import Fault

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

MB = 1024 * 1024


# ── 75 ──


async def test_row_75_event_names_beyond_512_kb_are_sent_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    emulator = virtual_emulator()
    async with running(client_of(emulator, close_timeout=0.0)) as userpilot:
        for n in range(6_000):
            await userpilot.track("u", f"{n:0>250}", {"n": n})
        await anyio.sleep(30)

        assert 6_000 == userpilot.statistics().accepted
        assert {} == userpilot.statistics().lost_by_reason
    lines = [record for record in caplog.records if "512 KB" in record.getMessage()]
    assert [logging.WARNING] == [record.levelno for record in lines]
    assert len(markers(emulator)) > 100


async def test_row_75_the_same_names_again_and_again_are_no_reason_for_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(client_of(virtual_emulator(), close_timeout=0.0)) as userpilot:
        for n in range(6_000):
            await userpilot.track("u", f"{n % 100:0>250}")

    assert not [record for record in caplog.records if "512 KB" in record.getMessage()]


# ── 76 ──


@pytest.mark.parametrize("when", ["at once", "while the call waits for room"])
@pytest.mark.parametrize("text", ["as it was", "wie es wär"])
async def test_row_76_what_the_caller_does_to_its_dicts_after_the_call_changes_nothing(when: str, text: str) -> None:
    emulator = virtual_emulator(latency=1.0)
    metadata: dict[str, Any] = {"n": text, "removed": None}
    company: dict[str, Any] = {"id": "acme", "name": text}

    def spoil() -> None:
        metadata.clear()
        metadata.update(n="spoilt", added=[object()])
        company.clear()
        company.update(id="spoilt")

    async def calls() -> None:
        await userpilot.identify("u", metadata, company=company)
        if when == "at once":
            await userpilot.track("u", "clicked", metadata)

    async def track() -> None:
        await userpilot.track("u", "clicked", metadata)

    full = {"max_queue_calls": 1} if when != "at once" else {}
    async with running(client_of(emulator, max_wait=None, **full)) as userpilot:
        if when == "at once":
            await calls()
            spoil()
        else:
            await userpilot.track("other", "clicked", {"n": 0})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(calls)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(track)
                await anyio.wait_all_tasks_blocked()
                spoil()
        report = await userpilot.flush(60)

    assert report.complete
    assert {"n": text} == emulator.store.users["u"].properties
    assert "acme" == emulator.store.users["u"].company_id
    assert {"name": text} == emulator.store.companies["acme"].properties
    assert [{"n": text, "removed": None}] == [e.metadata for e in emulator.store.events if e.user_id == "u"]


# ── 78 ──

MANY = 150_000


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest", "raise"])
async def test_row_78_calls_as_fast_as_possible_into_a_full_queue_cost_bounded_memory_and_all_are_counted(
    when_full: str,
) -> None:
    emulator = virtual_emulator()
    settings = {"when_full": when_full, "max_queue_calls": 1_000, "max_queue_bytes": 200_000, "close_timeout": 0.0}
    refused = most_waiting = 0
    client = client_of(emulator, **settings)
    async with running(client) as userpilot:
        metadata = {"format": "csv", "rows": 1_024, "plan": "pro", "n": 0}
        for n in range(MANY):
            if n == 10_000:
                before = Resources.now().memory_bytes
            metadata["n"] = n
            try:
                await userpilot.track(f"u{n % 500}", "report_exported", metadata)
            except QueueFull:
                refused += 1
            if not n % 500:
                most_waiting = max(most_waiting, userpilot.statistics().waiting_bytes)
        grown = Resources.now().memory_bytes - before
    statistics = client.statistics()

    assert most_waiting <= 200_000
    assert grown <= 10 * MB, "each call's 170 bytes would make 23 MB"
    assert MANY - refused == judge.conservation(statistics)
    judge.losses_have_reasons(statistics.dropped, statistics.lost_by_reason)
    judge.nothing_lost(range(statistics.delivered), range(len(markers(emulator))))
    if when_full == "raise":
        assert refused > MANY / 2
        assert {"closed"} == set(statistics.lost_by_reason)
    else:
        assert 0 == refused
        assert statistics.lost_by_reason["queue_full"] > MANY / 2


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest"])
async def test_row_78_what_is_kept_of_a_flood_is_what_the_settings_say(when_full: str) -> None:
    emulator = virtual_emulator()
    async with running(client_of(emulator, when_full=when_full, max_queue_calls=50)) as userpilot:
        for n in range(10_000):
            userpilot.track_nowait("u", "clicked", {"n": n})
        report = await userpilot.flush(60)

    kept = list(range(50)) if when_full == "drop_newest" else list(range(9_950, 10_000))
    assert report.complete
    assert kept == markers(emulator)


async def test_row_78_a_hundred_producers_that_wait_for_room_get_everything_delivered_in_order() -> None:
    emulator = virtual_emulator()
    most_waiting = 0
    async with running(client_of(emulator, when_full="wait", max_wait=None, max_queue_calls=50)) as userpilot:

        async def produce(who: int) -> None:
            nonlocal most_waiting
            for n in range(30):
                await userpilot.track(f"u{who}", "clicked", {"n": n})
                statistics = userpilot.statistics()
                most_waiting = max(most_waiting, statistics.pending)

        async with anyio.create_task_group() as tasks:
            for who in range(100):
                tasks.start_soon(produce, who)
        report = await userpilot.flush(600)

    assert report.complete
    assert most_waiting <= 50
    assert 3_000 == judge.conservation(report.statistics) == report.statistics.delivered
    judge.per_user_order((event.user_id, event.metadata["n"]) for event in emulator.store.events)
    judge.requests_in_any_minute(requested.stamp for requested in emulator.store.requests)


async def test_row_78_calls_that_wait_for_room_in_vain_return_within_max_wait_and_are_counted() -> None:
    emulator = virtual_emulator()
    emulator.faults.add(Fault(status=503, times=None))
    took = []
    async with running(
        client_of(emulator, when_full="wait", max_wait=5.0, max_queue_calls=10, close_timeout=0.0)
    ) as userpilot:

        async def produce(n: int) -> None:
            started = anyio.current_time()
            await userpilot.track("u", "clicked", {"n": n})
            took.append(anyio.current_time() - started)

        async with anyio.create_task_group() as tasks:
            for n in range(200):
                tasks.start_soon(produce, n)

        statistics = userpilot.statistics()
        judge.within_bound(max(took), 5.0)
        assert {"queue_full": 190} == statistics.lost_by_reason
        assert 200 == judge.conservation(statistics)


# ── 79 ──


async def test_row_79_one_hot_user_with_100_000_events_does_not_starve_the_others() -> None:
    emulator = virtual_emulator(latency=0.1)
    async with running(client_of(emulator, max_queue_calls=200_000, close_timeout=0.0)) as userpilot:
        for n in range(100_000):
            userpilot.track_nowait("hot", "clicked", {"n": n})
        await anyio.sleep(60)
        asked = anyio.current_time()
        receipts = [await userpilot.track(f"u{n}", "clicked", {"n": n}) for n in range(10)]
        receipts += [await userpilot.identify(f"u{n}", {"n": n}) for n in range(10)]
        for receipt in receipts:
            assert "delivered" == (await receipt.outcome(60)).status
        took = anyio.current_time() - asked
        statistics = userpilot.statistics()

    assert took <= 5.0
    assert 100_020 == judge.conservation(statistics)
    hot = [event.metadata["n"] for event in emulator.store.events if event.user_id == "hot"]
    assert list(range(len(hot))) == hot
    assert len(hot) >= 600
