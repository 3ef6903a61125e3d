"""Row 61: Redis is not there when the client opens, goes away in the middle, comes and goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.harness import free_of_leaks, judge
from tests.harness.redis_proxy import RedisProxy
from tests.harness.stage.log import losses_in
from tests.harness.stage.loops import wait_until
from tests.harness.stage.outbox_files import an_emulator, marks_at, put, sent
from tests.harness.stage.redis_scenes import ON_ASYNCIO, Books, Log, in_order, marks_judged, took, with_redis
from userpilot_async import QueueFull, Receipt, UserpilotClient

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
OPENS_WITHIN = 5.0  # seconds: a command's deadline, and slack


async def collect(receipts: dict[Any, Receipt], userpilot: UserpilotClient, user: str, mark: Any) -> None:
    receipts[mark] = await userpilot.track(user, "clicked", {"mark": mark})


async def track_while(
    userpilot: UserpilotClient, over: anyio.Event, receipts: dict[Any, Receipt], users: int = 4, pause: float = 0.01
) -> None:
    """Users who go on clicking, each one call after the other."""

    async def use(number: int) -> None:
        n = 0
        while not over.is_set():
            await collect(receipts, userpilot, f"u{number}", f"u{number}.{n}")
            n += 1
            await anyio.sleep(pause)

    async with anyio.create_task_group() as tasks:
        for number in range(users):
            tasks.start_soon(use, number)


# ── at start ──


async def test_row_61_a_client_opens_without_redis_and_its_calls_wait_until_it_comes(own_redis: Start) -> None:
    server, emulator = own_redis(), an_emulator()
    server.stop()
    receipts: dict[Any, Receipt] = {}
    async with free_of_leaks():
        with Log() as log:
            begun = time.monotonic()
            async with with_redis(server.url, emulator, max_wait=None) as userpilot:
                judge.within_bound(time.monotonic() - begun, OPENS_WITHIN)
                async with anyio.create_task_group() as callers:
                    for n in range(20):
                        callers.start_soon(collect, receipts, userpilot, f"u{n % 3}", n)
                    await wait_until(lambda: 20 == userpilot.statistics().unpersisted)
                    assert {} == receipts, "a call returned that is held nowhere"
                    assert 0 == userpilot.statistics().accepted
                    server.start()
                report = await sent(userpilot)

    assert 1 == len(log.said("does not answer")), log.lines
    assert 20 == report.statistics.accepted == report.statistics.delivered
    assert {"delivered"} == {receipt.status for receipt in receipts.values()}
    assert list(range(20)) == sorted(marks_at(emulator))
    assert 20 == Books(server).balanced()["delivered"]


@ON_ASYNCIO
async def test_row_61_a_call_that_redis_does_not_take_within_max_wait_is_dropped_and_told_of(own_redis: Start) -> None:
    server, emulator = own_redis(), an_emulator()
    server.stop()
    letters: list[Any] = []

    async def on_dead(letter: Any) -> None:
        letters.append(letter)

    with Log() as log:
        async with with_redis(server.url, emulator, on_dead=on_dead, max_wait=0.8) as userpilot:
            receipts: dict[Any, Receipt] = {}
            for mark in range(3):
                judge.within_bound(await took(collect(receipts, userpilot, "u", mark)), 0.8)
            assert {"outbox"} == {receipt.reason for receipt in receipts.values()}
            await wait_until(lambda: 3 == len(letters))
            statistics = userpilot.statistics()
            assert 3 == judge.conservation(statistics) == statistics.dropped
            server.start()
            await wait_until(lambda: 3 == Books(server).account()["dropped:outbox"])  # it is there again
            await put(userpilot, ["fresh"])
            report = await sent(userpilot)

    assert ["fresh"] == marks_at(emulator)
    assert {"outbox": 3} == report.statistics.lost_by_reason
    assert {"outbox"} == {letter.reason for letter in letters}
    account = Books(server).balanced()
    assert (4, 3, 1) == (account["accepted"], account["dropped:outbox"], account["delivered"])
    judge.one_line_per_reason((at, line.lstrip("0123456789 ")) for at, line in log.lines)


@ON_ASYNCIO
async def test_row_61_without_redis_a_caller_who_wants_exceptions_gets_one(own_redis: Start) -> None:
    server = own_redis()
    server.stop()
    async with with_redis(server.url, an_emulator(), max_wait=0.6, when_full="raise") as userpilot:
        begun = time.monotonic()
        with pytest.raises(QueueFull, match="did not take the call within"):
            await userpilot.track("u", "clicked", {"mark": 1})
        judge.within_bound(time.monotonic() - begun, 0.6)
        statistics = userpilot.statistics()
        assert (0, 0) == (statistics.accepted, statistics.unpersisted)


# ── in the middle ──


@ON_ASYNCIO
async def test_row_61_nothing_is_lost_when_redis_is_killed_in_the_middle_and_comes_back(own_redis: Start) -> None:
    """Redis syncs its file before each answer. Users go on clicking meanwhile, and their calls take a little longer."""
    server, emulator = own_redis(durable=True), an_emulator(latency=0.01)
    receipts: dict[Any, Receipt] = {}
    with Log() as log:
        async with with_redis(server.url, emulator, max_wait=None, lease_ttl=30.0) as userpilot:
            over = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(track_while, userpilot, over, receipts)
                for round_ in range(1, 4):
                    await wait_until(lambda n=60 * round_: len(emulator.store.events) >= n)
                    server.kill()
                    await wait_until(lambda: 4 <= userpilot.statistics().unpersisted)
                    held = len(receipts)
                    server.start()
                    await wait_until(lambda n=held + 20: len(receipts) >= n)
                over.set()
            report = await sent(userpilot)
            ambiguous = userpilot.statistics().possible_duplicates

    assert 1 == len(log.said("does not answer")), log.lines
    assert 0 == report.statistics.outbox_resets
    assert {"delivered"} == {receipt.status for receipt in receipts.values()}
    doubles = marks_judged(emulator, set(receipts), ambiguous)
    assert in_order(emulator) == len(receipts) == Books(server).balanced()["delivered"]
    print(f"{len(receipts)} calls, {doubles} of them twice, {ambiguous} ambiguous")


@ON_ASYNCIO
async def test_row_61_a_redis_that_comes_and_goes_takes_each_call_once(own_redis: Start) -> None:
    server, emulator = own_redis(), an_emulator()
    receipts: dict[Any, Receipt] = {}
    with RedisProxy(server.port) as proxy:
        async with with_redis(proxy.url, emulator, max_wait=None) as userpilot:
            over = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(track_while, userpilot, over, receipts, 10, 0.001)
                await wait_until(lambda: len(receipts) > 50)
                before = proxy.connections
                proxy.flap(up=0.3, down=0.2)
                await wait_until(lambda: proxy.connections > before + 5, 30)
                proxy.heal()
                over.set()
            await sent(userpilot)
            ambiguous = userpilot.statistics().possible_duplicates

    marks_judged(emulator, set(receipts), ambiguous)
    assert in_order(emulator) == len(receipts) == Books(server).balanced()["accepted"]


# ── with a fallback ──


@ON_ASYNCIO
@pytest.mark.parametrize("how", ["down at start", "refused in the middle", "silent in the middle"])
async def test_row_61_with_a_fallback_calls_return_at_once_and_are_put_when_redis_is_back(
    how: str, own_redis: Start
) -> None:
    server, emulator = own_redis(), an_emulator()
    receipts: dict[Any, Receipt] = {}
    if how == "down at start":
        server.stop()
    with RedisProxy(server.port) as proxy, Log() as log:
        async with with_redis(proxy.url, emulator, fallback="memory", max_wait=5.0, timeout=0.5) as userpilot:
            if how != "down at start":
                await put(userpilot, ["before"])
                await sent(userpilot)
                proxy.refuse() if how == "refused in the middle" else proxy.black_hole()
            with anyio.fail_after(5):
                await userpilot.track("u", "clicked", {"mark": -1})  # perhaps before anybody has noticed
                await wait_until(lambda: bool(log.said("does not answer")))
            begun = time.monotonic()
            for mark in range(500):
                receipts[mark] = await userpilot.track("u", "clicked", {"mark": mark})
            took_all = time.monotonic() - begun
            statistics = userpilot.statistics()
            assert 501 == statistics.unpersisted
            assert (how != "down at start") == statistics.accepted == judge.conservation(statistics)
            assert {"pending"} == {receipt.status for receipt in receipts.values()}
            if how == "down at start":
                server.start()
            proxy.heal()
            await sent(userpilot)
            await wait_until(lambda: not userpilot.statistics().unpersisted)
            report = await sent(userpilot)

    assert took_all <= 1.0, "500 calls waited for something"
    assert {"delivered"} == {receipt.status for receipt in receipts.values()}
    assert ["before"] * (how != "down at start") + list(range(-1, 500)) == marks_at(emulator)
    assert report.statistics.accepted == Books(server).balanced()["delivered"]


@ON_ASYNCIO
async def test_row_61_what_a_fallback_holds_is_bounded_by_max_queue_bytes(own_redis: Start) -> None:
    server, emulator = own_redis(), an_emulator()
    server.stop()
    limit = 20_000
    settings: dict[str, Any] = {"max_queue_bytes": limit, "when_full": "drop_newest"}
    async with with_redis(server.url, emulator, fallback="memory", **settings) as userpilot:
        receipts = [await userpilot.track("u", "clicked", {"mark": n, "filler": "x" * 900}) for n in range(100)]
        statistics = userpilot.statistics()
        assert 0 < statistics.unpersisted < 100
        assert limit >= statistics.waiting_bytes
        assert {"queue_full": 100 - statistics.unpersisted} == statistics.lost_by_reason
        judge.conservation(statistics)
        held = [n for n, receipt in enumerate(receipts) if receipt.status == "pending"]
        server.start()
        await wait_until(lambda: not userpilot.statistics().unpersisted)
        report = await sent(userpilot)

    assert held == marks_at(emulator)
    assert 100 == report.statistics.accepted == Books(server).balanced()["accepted"]
    assert len(held) == report.statistics.delivered


@ON_ASYNCIO
async def test_row_61_calls_that_a_fallback_still_holds_at_the_end_are_said_to_be_lost(own_redis: Start) -> None:
    """A process that ends takes its memory with it: that must not happen without a word."""
    server = own_redis()
    server.stop()
    letters: list[Any] = []
    with Log() as log:
        async with with_redis(
            server.url, an_emulator(), fallback="memory", on_dead=letters.append, close_timeout=0.5
        ) as userpilot:
            receipts = [await userpilot.track("u", "clicked", {"mark": n}) for n in range(5)]
            judge.within_bound(await took(userpilot.aclose()), 0.5)
            statistics = userpilot.statistics()

    assert (5, {"outbox": 5}, 0) == (statistics.dropped, statistics.lost_by_reason, statistics.unpersisted)
    assert 5 == judge.conservation(statistics)
    await wait_until(lambda: all(receipt.status != "pending" for receipt in receipts), 5)
    assert {("dropped", "outbox")} == {(receipt.status, receipt.reason) for receipt in receipts}
    assert {"outbox": 5} == losses_in(log), log.lines
