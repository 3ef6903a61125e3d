"""Row 63: Redis starts again without what it had, is emptied, or set back; and forgets its scripts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.harness import judge, length
from tests.harness.redis_proxy import RedisProxy
from tests.harness.redis_server import Replica
from tests.harness.stage.loops import wait_until
from tests.harness.stage.outbox_files import an_emulator, marks_at, put, sent
from tests.harness.stage.redis_scenes import ON_ASYNCIO, Books, Log, in_order, marks_judged, with_redis
from userpilot_async import Receipt
from userpilot_async.emulator import Emulator

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
IN_EACH_WAY = pytest.mark.parametrize("way", ["restarted", "flushed", "set back"])
SPENT = 90.0  # seconds for which nobody knows what the sender before has sent
SLACK = 8.0  # and for the rest, on a machine that others use
REALLY: dict[str, Any] = {"track_per_minute": 600, "identify_per_minute": 600, "burst": 100}


class Reset:
    """A way to lose what Redis holds. What it is set back to, it was before this is made."""

    def __init__(self, server: Any, way: str) -> None:
        self._server, self._way = server, way
        self._before = server.snapshot() if way == "set back" else b""

    def __call__(self) -> None:
        if self._way == "restarted":
            self._server.restart(keep=False)
        elif self._way == "flushed":
            self._server.flushall()
        else:
            self._server.restore(self._before)


def stamps(emulator: Emulator) -> list[float]:
    return [one.stamp for one in emulator.store.requests if one.path == "/v1/track"]


async def settled(receipts: list[Receipt]) -> None:
    await wait_until(lambda: all(receipt.status != "pending" for receipt in receipts))


@IN_EACH_WAY
async def test_row_63_calls_that_redis_lost_are_said_to_be_lost_and_the_budget_to_be_spent(
    way: str, own_redis: Start
) -> None:
    server, emulator = own_redis(), an_emulator()
    with Log() as log:
        async with with_redis(server.url, emulator, **{**REALLY, "burst": 5}, close_timeout=0.2) as userpilot:
            reset = Reset(server, way)
            receipts = await put(userpilot, [f"u.{n}" for n in range(200)], users=1)
            waits: list[str] = []

            async def wait_for_one() -> None:
                outcome = await receipts[-1].outcome(20)
                waits.append(f"{outcome.status} {outcome.reason}")

            async def wait_for_all() -> None:
                await userpilot.flush()
                waits.append("flushed")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_for_one)
                tasks.start_soon(wait_for_all)
                await wait_until(lambda: 5 <= userpilot.statistics().delivered < 100)
                reset()
                await settled(receipts)
                with anyio.move_on_after(2):
                    while len(waits) < 2:
                        await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
            told = userpilot.statistics()
            before = len(emulator.store.events)
            fresh = await put(userpilot, ["fresh.1", "fresh.2"], users=1)
            await wait_until(lambda: 2 == judge.conservation(userpilot.statistics()))

            assert 1 == told.outbox_resets
            assert 0 == userpilot.statistics().track_budget
            assert 1 == len([line for line in log.said("has lost calls") if line]), log.lines
            assert {"dropped unknown", "flushed"} == set(waits)
            delivered = [receipt for receipt in receipts if receipt.status == "delivered"]
            lost = [receipt for receipt in receipts if receipt.reason == "unknown"]
            assert 200 == len(delivered) + len(lost)
            assert 5 <= len(delivered) <= before, "said to be delivered, but was not"
            assert ["pending"] * 2 == [receipt.status for receipt in fresh]
            assert "Command #" not in "".join(line for _, line in log.lines), log.lines

    account = Books(server).balanced()
    assert ["fresh.1", "fresh.2"] == Books(server).held()
    assert (2, 1) == (account["accepted"], account["resets"])
    errors = [line for _, line in log.lines if "has lost calls" in line]
    assert 1 == len(errors)
    assert len(emulator.store.events) - before <= 8, "it went on to send"


@pytest.mark.skipif(length.CHOSEN != "soak", reason="takes two minutes: LENGTH=soak")
@ON_ASYNCIO
async def test_row_63_when_everything_was_lost_new_calls_are_delivered_within_the_limit(own_redis: Start) -> None:
    """Three outboxes at once, because this takes as long as the vendor's window: 600 in any 60 s, and everybody lives.

    500 requests have gone when it happens, and as many would go at once by a budget that knew nothing of them.
    """
    results: dict[str, str] = {}

    async def one(way: str) -> None:
        server, emulator = own_redis(), an_emulator()
        async with with_redis(server.url, emulator, **{**REALLY, "burst": 500}) as userpilot:
            reset = Reset(server, way)
            receipts = await put(userpilot, [f"{n}.{n}" for n in range(550)], users=50)
            await wait_until(lambda: len(emulator.store.events) >= 500)
            reset()
            last = time.time()
            await settled(receipts)
            fresh = await put(userpilot, [f"{n}.{1_000 + n}" for n in range(300)], users=50)
            report = await userpilot.flush(SPENT + 60)
        assert report.complete, (way, report)
        assert {"delivered"} == {receipt.status for receipt in fresh}
        worst = judge.requests_in_any_minute(stamps(emulator))
        events = emulator.store.events
        alive = judge.alive_again(
            last, [e.stamp for e in events if int(e.metadata["mark"].partition(".")[2]) >= 1_000], SPENT + SLACK
        )
        assert 0 == twice_among_fresh(emulator)
        assert 300 <= Books(server).balanced()["delivered"]
        results[way] = f"{worst.count} in a minute, alive after {alive:.1f} s"

    async with anyio.create_task_group() as ways:
        for way in ("restarted", "flushed", "set back"):
            ways.start_soon(one, way)

    print(results)
    assert 3 == len(results)


def twice_among_fresh(emulator: Emulator) -> int:
    marks = [mark for mark in marks_at(emulator) if int(mark.partition(".")[2]) >= 1_000]
    return len(marks) - len(set(marks))


async def sixty_more(emulator: Emulator) -> None:
    """Wait until the server has so many more events than now, however many those are."""
    before = len(emulator.store.events)
    await wait_until(lambda: len(emulator.store.events) >= before + 60)


@ON_ASYNCIO
@pytest.mark.parametrize("way", ["set back", "by a replica that lagged"])
async def test_row_63_what_is_sent_again_after_a_set_back_is_counted_and_is_no_lost_call(
    way: str, own_redis: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had been delivered since comes back, and goes once more; what only waited goes once."""
    monkeypatch.setattr("userpilot_async.redis._lease.LOST_TOKEN", 0.0)  # this is not about the budget
    master, emulator = own_redis(), an_emulator(latency=0.02)
    replica = own_redis(Replica, master=master) if way != "set back" else None
    with Log() as log, RedisProxy(master.port) as proxy:
        async with with_redis(proxy.url, emulator, concurrency=2, lease_ttl=60.0, max_wait=None) as userpilot:
            await put(userpilot, [f"u{n % 5}.{n}" for n in range(300)], users=5)
            if replica is not None:
                replica.wait_synced()
                with replica.client() as promoted:  # it hears nothing from here on
                    promoted.replicaof("no", "one")
                await sixty_more(emulator)
                master.kill()
                proxy.upstream_port = replica.port
            else:
                reset = Reset(master, way)
                await sixty_more(emulator)
                reset()
            report = await userpilot.flush(30)
            seen = userpilot.statistics()

    assert report.complete
    doubles = marks_judged(emulator, {f"u{n % 5}.{n}" for n in range(300)}, seen.possible_duplicates)
    assert 50 <= doubles <= seen.possible_duplicates <= doubles + 10, (doubles, seen.possible_duplicates)
    assert (0, []) == (seen.outbox_resets, log.said("has lost calls")), log.lines
    assert 1 == len(log.said("no call that waited is lost")), log.lines


@ON_ASYNCIO
async def test_row_63_of_several_clients_each_says_so_and_one_counts(own_redis: Start) -> None:
    server, emulator = own_redis(), an_emulator()
    with Log() as log:
        async with (
            with_redis(server.url, emulator, **{**REALLY, "burst": 1}, close_timeout=0.2) as first,
            with_redis(server.url, emulator, close_timeout=0.2) as second,
            with_redis(server.url, close_timeout=0.2) as third,
        ):
            clients = (first, second, third)
            receipts = [receipt for one in clients for receipt in await put(one, range(30))]
            server.flushall()
            await settled(receipts)
            for one in clients:
                await put(one, ["fresh"])
            await wait_until(lambda: all(1 == one.statistics().outbox_resets for one in clients))
            await wait_until(lambda: all(3 == judge.conservation(one.statistics()) for one in clients))
            assert {"delivered", "dropped"} == {receipt.status for receipt in receipts}
            assert 1 == [one.statistics().is_sender for one in clients].count(True)
            account = Books(server).balanced()

    assert 3 == len(log.said("has lost calls")), log.lines
    assert (3, 1) == (account["accepted"], account["resets"])


@ON_ASYNCIO
async def test_row_63_one_reset_after_the_other_ends_no_client_and_each_is_counted(own_redis: Start) -> None:
    server, emulator = own_redis(durable=True), an_emulator()
    with Log() as log:
        async with with_redis(server.url, emulator, **REALLY, close_timeout=0.2) as userpilot:
            for number in range(1, 6):
                receipts = await put(userpilot, range(5))
                server.restart(keep=False)
                await settled(receipts)
                await wait_until(lambda number=number: number == userpilot.statistics().outbox_resets)
            await put(userpilot, ["fresh"])
            assert 1 == judge.conservation(userpilot.statistics())

    Books(server).balanced()
    assert 1 == len(log.said("has lost calls")), "one line in 30 s"


@pytest.mark.parametrize("durable", [True, False], ids=["by its file", "by a snapshot in order"])
async def test_row_63_a_restart_that_keeps_everything_is_no_reset(durable: bool, own_redis: Start) -> None:
    server, emulator = own_redis(durable=durable), an_emulator()
    with Log() as log:
        async with with_redis(server.url, emulator, lease_ttl=60.0, max_wait=None) as userpilot:
            receipts = []
            for round_ in range(3):
                receipts += await put(userpilot, [f"u.{round_ * 20 + n}" for n in range(20)], users=1)
                await sent(userpilot)
                server.restart(keep=True)
            receipts += await put(userpilot, ["u.60"], users=1)
            report = await sent(userpilot)

    assert 0 == report.statistics.outbox_resets
    assert not log.said("has lost calls"), log.lines
    assert 61 == report.statistics.delivered == in_order(emulator)
    assert {"delivered"} == {receipt.status for receipt in receipts}
    marks_judged(emulator, {f"u.{n}" for n in range(61)}, report.statistics.possible_duplicates)


@ON_ASYNCIO
async def test_row_63_scripts_that_are_flushed_are_loaded_again_without_a_word(own_redis: Start) -> None:
    server, emulator = own_redis(), an_emulator()
    with Log() as log:
        async with with_redis(server.url, emulator) as userpilot:
            for round_ in range(20):
                server.script_flush()
                await put(userpilot, [f"u.{round_ * 10 + n}" for n in range(10)], users=1)
                server.script_flush()
                await sent(userpilot)
            report = await sent(userpilot)
            with server.client() as redis:
                misses = redis.info("errorstats").get("errorstat_NOSCRIPT", {"count": 0})["count"]

    assert misses >= 20, "scripts were not missed: nothing was tested"
    assert [] == log.lines
    assert [f"u.{n}" for n in range(200)] == marks_at(emulator)
    assert 200 == report.statistics.delivered == Books(server).balanced()["delivered"]
    assert (0, 0) == (report.statistics.outbox_resets, report.statistics.possible_duplicates)


EACH_KEY = (
    "account", "log", "news", "lease", "requests", "spent", "files", "sent", "parts", "lost", "pairs", "about",
)  # fmt: skip


@pytest.mark.night
@ON_ASYNCIO
async def test_row_63_keys_that_somebody_deletes_one_by_one_never_end_the_application(own_redis: Start) -> None:
    """Whatever is missing: it goes on, the account balances in the end, and new calls are delivered or wait."""
    server = own_redis()
    for key in EACH_KEY:
        server.flushall()
        store = (emulator := an_emulator()).store
        async with with_redis(server.url, emulator, max_wait=3.0, close_timeout=0.2, lease_ttl=1.0) as userpilot:
            await put(userpilot, range(20))
            with server.client() as redis:
                deleted = redis.delete(Books(server).key(key))
            with anyio.fail_after(15):
                fresh = (await put(userpilot, ["fresh"]))[0]
                if key not in ("about", "account"):  # after which the budget is unknown
                    await wait_until(lambda s=store: "fresh" == s.events[-1].metadata["mark"], 10)
            statistics = userpilot.statistics()
            print(key, deleted, fresh.status, statistics)
        judge.conservation(statistics)
