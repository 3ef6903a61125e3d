"""Row 62: Redis answers slowly, byte by byte, or not at all; and what was held on the way arrives late."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import anyio
import pytest

from tests.harness import free_of_leaks, judge
from tests.harness.redis_proxy import RedisProxy
from tests.harness.stage.loops import wait_until
from tests.harness.stage.outbox_files import an_emulator, marks_at, put, sent
from tests.harness.stage.redis_scenes import (
    ON_ASYNCIO,
    ON_TRIO,
    Books,
    in_order,
    marks_judged,
    took,
    with_redis,
)
from userpilot_async import Receipt

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
OPENS_WITHIN = 8.0  # seconds; no bound is promised, but it must not be the server's to choose


def become(proxy: RedisProxy, weather: str) -> None:
    if weather == "slow":
        proxy.delay(0.3)
    elif weather == "black hole":
        proxy.black_hole()
    elif weather == "mute":
        proxy.swallow_answers()
    else:
        proxy.drip(0.02)


@ON_ASYNCIO
@pytest.mark.parametrize("weather", ["slow", "black hole", "mute", "drip"])
async def test_row_62_nothing_takes_longer_than_its_bound_and_nothing_is_lost_or_doubled(
    weather: str, own_redis: Start
) -> None:
    server, emulator = own_redis(), an_emulator()
    receipts: list[Receipt] = []
    bounds: list[tuple[float, float]] = []
    max_wait = 3.0 if weather == "slow" else 1.0  # which a few answers of 0.3 s do not use up

    async with free_of_leaks(within=8.0):
        with RedisProxy(server.port) as proxy:
            async with with_redis(proxy.url, emulator, max_wait=max_wait, timeout=0.8, lease_ttl=4.0) as userpilot:
                await put(userpilot, [f"u.{n}" for n in range(20)], users=1)
                await sent(userpilot)
                become(proxy, weather)

                async def impatient(mark: str) -> None:
                    begun = time.monotonic()
                    receipts.append(await userpilot.track("u", "clicked", {"mark": mark}))
                    bounds.append((time.monotonic() - begun, max_wait))

                for round_ in range(2):
                    async with anyio.create_task_group() as callers:
                        for n in range(10):
                            callers.start_soon(impatient, f"later.{round_ * 10 + n}")
                bounds.append((await took(userpilot.flush(0.5)), 0.5))
                bounds.append((await took(userpilot.aclose(0.5)), 0.5))
            proxy.heal()
            async with with_redis(server.url, emulator, lease_ttl=4.0) as userpilot:
                await wait_until(lambda: userpilot.statistics().is_sender, 15)
                await put(userpilot, ["fresh"])
                report = await sent(userpilot)

    for took_it, bound in bounds:
        judge.within_bound(took_it, bound)
    outcomes = {receipt.reason or receipt.status for receipt in receipts}
    assert outcomes <= ({"pending", "delivered"} if weather == "slow" else {"outbox", "pending", "delivered"}), outcomes
    marks = [mark for mark in marks_at(emulator) if str(mark).startswith("later")]
    gone = sum(receipt.status == "dropped" for receipt in receipts)
    print(f"{outcomes}, {len(marks)} delivered, {gone} dropped, possible {report.statistics.possible_duplicates}")
    Books(server).balanced()
    assert 20 - gone <= len(set(marks)), "a call that was accepted was not delivered"
    judge.duplicates(marks_at(emulator), report.statistics.possible_duplicates)


@ON_TRIO
async def test_row_62_a_client_opens_in_time_although_redis_drips(own_redis: Start) -> None:
    """A socket's deadline begins anew with each byte. With a byte every 0.1 s, INFO alone would take minutes."""
    server = own_redis()
    with RedisProxy(server.port) as proxy:
        proxy.drip(0.1)
        begun = time.monotonic()
        with anyio.move_on_after(20) as late:
            async with with_redis(proxy.url, an_emulator(), max_wait=0.5, timeout=0.5) as userpilot:
                judge.within_bound(time.monotonic() - begun, OPENS_WITHIN)
                judge.within_bound(await took(userpilot.track("u", "clicked", {"mark": 1})), 0.5)
                judge.within_bound(await took(userpilot.aclose(0.5)), 0.5)
        proxy.heal()

    assert not late.cancelled_caught, "it had not opened after 20 s"


@ON_ASYNCIO
async def test_row_62_a_client_opens_in_time_in_front_of_a_black_hole(own_redis: Start) -> None:
    server, emulator = own_redis(), an_emulator()
    with RedisProxy(server.port) as proxy:
        proxy.black_hole()
        begun = time.monotonic()
        async with with_redis(proxy.url, emulator, max_wait=None) as userpilot:
            judge.within_bound(time.monotonic() - begun, OPENS_WITHIN)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(put, userpilot, ["a", "b"])
                await wait_until(lambda: 1 == userpilot.statistics().unpersisted)
                proxy.heal()
            await sent(userpilot)

    assert ["a", "b"] == marks_at(emulator)


@ON_ASYNCIO
async def test_row_62_the_lease_is_not_kept_by_a_client_whose_opening_never_came_back(own_redis: Start) -> None:
    """All commands of a client that has gone arrive late. Nobody may be kept from sending for longer than a lease."""
    server, emulator = own_redis(), an_emulator()
    with RedisProxy(server.port) as proxy:
        proxy.swallow_answers()
        async with with_redis(proxy.url, emulator, timeout=0.3, lease_ttl=2.0, close_timeout=0.1):
            pass
        proxy.heal(late=True)
        async with with_redis(server.url, emulator, lease_ttl=2.0) as userpilot:
            await wait_until(lambda: userpilot.statistics().is_sender, 4.0)
            await put(userpilot, ["fresh"])
            await sent(userpilot)

    assert ["fresh"] == marks_at(emulator)


@pytest.mark.parametrize(("anyio_backend", "sends"), [("asyncio", False), ("trio", True)], indirect=["anyio_backend"])
async def test_row_62_commands_that_arrive_late_after_a_partition_change_nothing(sends: bool, own_redis: Start) -> None:
    """What a client asked before it gave up arrives when it has long asked again: the account is exact, by id, too."""
    server, emulator = own_redis(), an_emulator()
    receipts: dict[str, Receipt] = {}
    with RedisProxy(server.port) as proxy:
        options = {"timeout": 0.3, "lease_ttl": 20.0, "max_wait": None}
        async with with_redis(proxy.url, emulator if sends else None, **options) as userpilot:
            for round_ in range(4):
                over = anyio.Event()

                async def use(number: int, round_: int = round_, over: anyio.Event = over) -> None:
                    n = 0
                    while not over.is_set():
                        mark = f"{round_}-{number}.{n}"
                        receipts[mark] = await userpilot.track(f"{round_}-{number}", "clicked", {"mark": mark})
                        n += 1

                async with anyio.create_task_group() as users:
                    for number in range(8):
                        users.start_soon(use, number)
                    enough = len(receipts) + 40
                    await wait_until(lambda enough=enough: len(receipts) >= enough)
                    proxy.black_hole()
                    connections = proxy.connections
                    await wait_until(lambda c=connections: proxy.connections >= c + 2)  # it gave up, and asked again
                    proxy.heal(late=True)
                    enough = len(receipts) + 40
                    await wait_until(lambda enough=enough: len(receipts) >= enough)
                    over.set()
            if sends:
                await sent(userpilot)
            ambiguous = userpilot.statistics().possible_duplicates
            statistics = userpilot.statistics()

    account = Books(server).balanced()
    assert len(receipts) == statistics.accepted == account["accepted"] == judge.conservation(statistics)
    if sends:
        marks_judged(emulator, set(receipts), ambiguous)
        in_order(emulator)
    else:
        assert sorted(receipts) == sorted(Books(server).held()), "held twice, or not at all"
    ids = [receipt.id for receipt in receipts.values()]
    assert len(ids) == len(set(ids))


@ON_ASYNCIO
async def test_row_62_connections_that_are_cut_all_the_time_lose_and_double_nothing(own_redis: Start) -> None:
    server, emulator = own_redis(), an_emulator()
    with RedisProxy(server.port) as proxy:
        async with with_redis(proxy.url, emulator, max_wait=None) as userpilot:

            async def use(number: int) -> None:
                for n in range(30):
                    await userpilot.track(f"u{number}", "clicked", {"mark": f"u{number}.{n}"})

            proxy.cut_answers_after(count(2_000, 997))  # later each time: the largest answer comes through
            with anyio.fail_after(60):
                async with anyio.create_task_group() as users:
                    for number in range(10):
                        users.start_soon(use, number)
            proxy.heal()
            await sent(userpilot)
            ambiguous = userpilot.statistics().possible_duplicates

    assert proxy.cuts >= 3, "hardly any connection was cut in the middle of an answer: little was tested"
    marks_judged(emulator, {f"u{number}.{n}" for number in range(10) for n in range(30)}, ambiguous)
    assert 300 == in_order(emulator) == Books(server).balanced()["delivered"]
