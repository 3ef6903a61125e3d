"""``dedupe=`` as callers of a client use it: every call that takes it, a full queue, threads, lost calls, tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from threading import Thread
from typing import Any

import anyio
import pytest

from tests.harness.stage.loops import InProcess, client_of, virtual_emulator
from userpilot_async import (
    Identify,
    IdentifyCompany,
    InvalidCall,
    QueueFull,
    Receipt,
    Report,
    Settings,
    Track,
    UserpilotClient,
)
from userpilot_async._outbox import memory
from userpilot_async._outbox.accepted_keys import AcceptedKeys
from userpilot_async.emulator import Fault
from userpilot_async.parcelvoy import Alias, Device, ParcelvoyClient
from userpilot_async.testing import capture

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]
DEVICE = {"os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}

Call = Callable[[Any], Receipt | Awaitable[Receipt]]
USERPILOTS: dict[str, Call] = {
    "track": lambda one: one.track("u1", "paid", dedupe="evt_1"),
    "identify": lambda one: one.identify("u1", {"plan": "pro"}, dedupe="evt_1"),
    "identify_company": lambda one: one.identify_company("acme", dedupe="evt_1"),
    "track_nowait": lambda one: one.track_nowait("u1", "paid", dedupe="evt_1"),
    "identify_nowait": lambda one: one.identify_nowait("u1", dedupe="evt_1"),
    "identify_company_nowait": lambda one: one.identify_company_nowait("acme", dedupe="evt_1"),
    "enqueue track": lambda one: one.enqueue(Track("u1", "paid", dedupe="evt_1")),
    "enqueue identify": lambda one: one.enqueue(Identify("u1", dedupe="evt_1")),
    "enqueue company": lambda one: one.enqueue(IdentifyCompany("acme", dedupe="evt_1")),
}
PARCELVOYS: dict[str, Call] = {
    "track": lambda one: one.track("paid", external_id="e1", dedupe="evt_1"),
    "identify": lambda one: one.identify("e1", dedupe="evt_1"),
    "alias": lambda one: one.alias("a1", "e1", dedupe="evt_1"),
    "register_device": lambda one: one.register_device("d1", external_id="e1", **DEVICE, dedupe="evt_1"),
    "track_nowait": lambda one: one.track_nowait("paid", external_id="e1", dedupe="evt_1"),
    "identify_nowait": lambda one: one.identify_nowait("e1", dedupe="evt_1"),
    "alias_nowait": lambda one: one.alias_nowait("a1", "e1", dedupe="evt_1"),
    "register_device_nowait": lambda one: one.register_device_nowait("d1", external_id="e1", **DEVICE, dedupe="evt_1"),
    "enqueue": lambda one: one.enqueue(Device("d1", external_id="e1", **DEVICE, dedupe="evt_1")),
    "enqueue alias": lambda one: one.enqueue(Alias("a1", "e1", dedupe="evt_1")),
}


async def made(call: Call, client: Any) -> Receipt:
    receipt = call(client)
    return receipt if isinstance(receipt, Receipt) else await receipt


def balance(report: Report) -> tuple[int, int, int]:
    """Accepted, what that comes to, and duplicates."""
    s = report.statistics
    return s.accepted, s.delivered + s.dead + s.dropped + s.merged + s.pending, s.duplicates_refused


@pytest.mark.parametrize("call", USERPILOTS.values(), ids=USERPILOTS)
async def test_each_call_takes_a_key_and_tells_a_fact_once(call: Call) -> None:
    async with client_of(virtual_emulator()) as userpilot:
        first = await made(call, userpilot)
        others = [await made(each, userpilot) for each in USERPILOTS.values()]
        report = await userpilot.flush()

    assert (False, "delivered") == (first.is_duplicate, first.status)
    assert [(first.id, True, "merged")] * len(others) == [(one.id, one.is_duplicate, one.status) for one in others]
    assert (1, 1, len(others)) == balance(report)
    assert f"{len(others)} duplicates refused" in str(report)


@pytest.mark.parametrize("call", PARCELVOYS.values(), ids=PARCELVOYS)
async def test_each_call_of_parcelvoys_client_does_so_too(call: Call) -> None:
    emulator = virtual_emulator()
    client = ParcelvoyClient("pk_test", "https://parcelvoy.example", transport=InProcess(emulator))
    async with client as parcelvoy:
        first = await made(call, parcelvoy)
        others = [await made(each, parcelvoy) for each in PARCELVOYS.values()]
        report = await parcelvoy.flush()

    assert [(first.id, True)] * len(others) == [(one.id, one.is_duplicate) for one in others]
    assert (1, 1, len(others)) == balance(report)


async def test_a_fact_is_a_new_one_when_its_time_is_over_that_the_settings_say() -> None:
    emulator = virtual_emulator()
    async with client_of(emulator, dedupe_for=600.0) as userpilot:
        receipts = []
        for pause in (0.0, 590.0, 20.0):
            await anyio.sleep(pause)
            receipts.append(await userpilot.track("u1", "paid", dedupe="evt_1"))
            await userpilot.flush()

    assert [False, True, False] == [one.is_duplicate for one in receipts]
    assert 2 == len(emulator.store.events)


async def test_the_receipt_of_a_duplicate_waits_for_the_first() -> None:
    emulator = virtual_emulator()
    emulator.faults.add(Fault(path="/v1/track", status=503, times=1))
    async with client_of(emulator) as userpilot:
        await userpilot.track("u1", "paid", dedupe="evt_1")
        receipt = await userpilot.track("u1", "paid", dedupe="evt_1")
        before = receipt.status, receipt.reason
        with pytest.raises(TimeoutError):
            await receipt.outcome(0.0)
        outcome = await receipt.outcome(60.0)

    assert ("merged", None) == before
    assert outcome.row is not None
    assert ("merged", "delivered", "realtime") == (outcome.status, outcome.row.status, receipt.route)


# ── calls that are not accepted ──


@pytest.mark.parametrize("dedupe", ["", " ", 7, b"x", "x" * 256, ["x"]], ids=ascii)
@pytest.mark.parametrize("name", ["track", "identify_company", "track_nowait", "identify_nowait"])
async def test_what_is_no_key_is_an_invalid_call(name: str, dedupe: Any) -> None:
    arguments = ("u1", "paid") if "track" in name else ("u1",)
    async with client_of(virtual_emulator()) as userpilot:
        with pytest.raises(InvalidCall) as caught:
            await made(lambda one: getattr(one, name)(*arguments, dedupe=dedupe), userpilot)

    assert "dedupe" == caught.value.field


async def test_a_call_with_no_key_goes_to_on_dead_with_all_that_was_given() -> None:
    letters: list[Any] = []
    async with client_of(virtual_emulator(), on_dead=letters.append, on_invalid="dead") as userpilot:
        receipt = await userpilot.track("u1", "paid", dedupe="")

    assert ("dead", "invalid") == (receipt.status, receipt.reason)
    assert [("", "u1")] == [(one.arguments["dedupe"], one.arguments["user_id"]) for one in letters]


@pytest.mark.parametrize("when_full", ["drop_newest", "raise", "wait"])
async def test_a_call_that_finds_no_room_takes_no_key(when_full: Any) -> None:
    emulator = virtual_emulator()
    emulator.faults.add(Fault(path="/v1/track", status=503, times=2))
    async with client_of(emulator, max_queue_calls=1, when_full=when_full, max_wait=0.0) as userpilot:
        await userpilot.track("u1", "paid", dedupe="evt_1")
        try:
            refused = (await userpilot.track("u1", "paid", dedupe="evt_2")).reason
        except QueueFull:
            refused = "queue_full"
        await userpilot.flush()
        again = await userpilot.track("u1", "paid", dedupe="evt_2")

    assert ("queue_full", False, "delivered") == (refused, again.is_duplicate, again.status)


@pytest.mark.parametrize("when_full", ["drop_newest", "raise", "wait", "drop_oldest"])
@pytest.mark.parametrize("name", ["track", "track_nowait"])
async def test_a_duplicate_needs_no_room_where_the_key_is_known(when_full: Any, name: str) -> None:
    async with client_of(virtual_emulator(), max_queue_calls=1, when_full=when_full, max_wait=0.0) as userpilot:
        await userpilot.track("u1", "paid", dedupe="evt_1")
        receipt = await made(lambda one: getattr(one, name)("u1", "paid", dedupe="evt_1"), userpilot)
        report = await userpilot.flush()

    assert receipt.is_duplicate
    assert (1, 1, 1) == balance(report)
    assert {} == report.statistics.lost_by_reason


async def test_of_two_that_wait_for_room_with_one_key_one_is_held() -> None:
    emulator = virtual_emulator()
    receipts: list[Receipt] = []
    async with client_of(emulator, max_queue_calls=1) as userpilot, anyio.create_task_group() as tasks:

        async def tell(key: str) -> None:
            receipts.append(await userpilot.track("u1", "paid", dedupe=key))

        for key in ("evt_0", "evt_1", "evt_1"):
            tasks.start_soon(tell, key)

    assert 1 == sum(one.is_duplicate for one in receipts)
    assert 2 == len(emulator.store.events)


async def test_one_that_is_cancelled_while_it_waits_for_room_has_taken_no_key() -> None:
    emulator = virtual_emulator()
    emulator.faults.add(Fault(path="/v1/track", status=503, times=5))
    async with client_of(emulator, max_queue_calls=1, max_wait=None) as userpilot:
        await userpilot.track("u1", "paid")
        with anyio.move_on_after(0.1) as scope:
            await userpilot.track("u1", "paid", dedupe="evt_1")
        again = await userpilot.track("u1", "paid", dedupe="evt_1")

    assert scope.cancelled_caught
    assert (False, 2) == (again.is_duplicate, len(emulator.store.events))


# ── threads, and what is switched off ──


def in_thread(do: Callable[[], None]) -> None:
    thread = Thread(target=do)
    thread.start()
    thread.join()


async def test_calls_of_other_threads_have_keys_as_well() -> None:
    emulator = virtual_emulator()
    receipts: list[Receipt] = []
    async with client_of(emulator) as userpilot:
        in_thread(lambda: receipts.extend(userpilot.track_nowait("u1", "paid", dedupe="evt_1") for _ in range(3)))
        receipts.append(await userpilot.track("u1", "paid", dedupe="evt_1"))
        report = await userpilot.flush()

    assert [False, True, True, True] == [one.is_duplicate for one in receipts]
    assert ["delivered", "merged", "merged", "merged"] == [one.status for one in receipts]
    assert (1, 1, 3) == balance(report)


async def test_a_client_that_is_switched_off_checks_keys_and_keeps_none() -> None:
    async with UserpilotClient(disabled=True) as userpilot:
        receipts = [await userpilot.track("u1", "paid", dedupe="evt_1") for _ in range(2)]
        with pytest.raises(InvalidCall):
            await userpilot.track("u1", "paid", dedupe="")

    assert ["disabled"] * 2 == [one.reason for one in receipts]
    assert 0 == userpilot.statistics().duplicates_refused


async def test_a_test_sees_a_fact_once() -> None:
    receipts: list[Receipt] = []
    with capture() as captured:
        async with UserpilotClient() as userpilot:
            for _ in range(2):
                await userpilot.track("u1", "paid", {"amount": 1}, dedupe="evt_1")
                userpilot.track_nowait("u1", "paid", {"amount": 1}, dedupe="evt_1")
            keys = ("evt_1", "evt_2", "evt_2")
            in_thread(lambda: receipts.extend(userpilot.track_nowait("u1", "seen", dedupe=key) for key in keys))
            await captured.flush()

    assert [("paid", {"amount": 1}), ("seen", {})] == [
        (one.event_name, dict(one.metadata)) for one in captured.calls if isinstance(one, Track)
    ]


# ── the bound in memory ──


async def test_of_more_keys_than_memory_keeps_the_oldest_are_forgotten_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "AcceptedKeys", lambda forgets: AcceptedKeys(3, forgets))
    async with client_of(virtual_emulator()) as userpilot:
        for number in range(6):
            await userpilot.track("u1", "paid", dedupe=f"evt_{number}")
        known = [(await userpilot.track("u1", "paid", dedupe=f"evt_{number}")).is_duplicate for number in (5, 0)]

    assert [True, False] == known
    assert 1 == sum("keys of dedupe= are not kept in memory" in one.getMessage() for one in caplog.records)


async def test_settings_with_no_time_are_refused() -> None:
    with pytest.raises(ValueError, match="dedupe_for must be a finite number above 0"):
        Settings(dedupe_for=0)
