"""The primary ends for good, and its replica becomes the primary: with all there was, or without the last of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.harness import judge
from tests.harness.postgres_server import HOST, USER, PostgresServer, Replica
from tests.harness.stage.loops import wait_until
from tests.harness.stage.outbox_files import an_emulator, marks_at, put, sent
from tests.harness.stage.postgres_scenes import Books, with_postgres
from tests.harness.stage.redis_scenes import ON_ASYNCIO, Log
from tests.processes.redis.test_redis_outages import collect
from userpilot_async import Receipt, UserpilotClient
from userpilot_async.emulator import Emulator

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
SPENT = 90.0  # seconds for which nobody knows what was sent
FEW_AT_ONCE: dict[str, Any] = {"track_per_minute": 600, "burst": 5}


class Pair:
    """A primary and its replica, a new outbox there, and a URL that has both hosts."""

    def __init__(self, own_postgres: Start) -> None:
        self.primary: PostgresServer = own_postgres()
        url = self.primary.new_outbox()
        self.name = url.partition("name=")[2]
        self.replica: Replica = own_postgres(Replica, primary=self.primary)
        hosts = f"{HOST}:{self.primary.port},{HOST}:{self.replica.port}"
        self.url = f"postgresql://{USER}@{hosts}/postgres?name={self.name}"

    def confirm(self) -> None:
        """Have the replica confirm each commit from now on."""
        self.primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.run("SELECT pg_reload_conf()")
        self.replica.catch_up()

    @property
    def books(self) -> Books:
        """Of the new primary."""
        return Books(self.replica, self.name)


async def lose_the_last(pair: Pair, userpilot: UserpilotClient, producer: UserpilotClient) -> tuple[Any, Any, Any]:
    """A failover to a replica that lacks the last calls: those it has, those it lacks, and those put after it."""
    kept = await put(userpilot, [f"kept.{n}" for n in range(40)], users=1)
    pair.replica.catch_up()
    pair.replica.cut()
    gone = await put(userpilot, [f"gone.{n}" for n in range(40)], users=1)
    gone += await put(producer, [f"gone.{n}" for n in range(40, 80)], users=1)
    delivered = userpilot.statistics().delivered
    await wait_until(lambda: userpilot.statistics().delivered > delivered)  # the replica never hears of that
    late: dict[Any, Receipt] = {}
    async with anyio.create_task_group() as callers:
        pair.primary.stop("immediate")
        for n in range(10):
            callers.start_soon(collect, late, (userpilot, producer)[n % 2], "v", n)
        await wait_until(lambda: 10 == userpilot.statistics().unpersisted + producer.statistics().unpersisted)
        pair.replica.promote()
    for one in (userpilot, producer):
        await wait_until(lambda one=one: 1 == one.statistics().outbox_resets)  # type: ignore[misc]
    return kept, gone, late


def claimed(receipts: list[Receipt], prefix: str, emulator: Emulator) -> None:
    """What is said to be delivered has arrived; nothing is said to be anything else than that, waiting or unknown."""
    arrived = {mark for mark in marks_at(emulator) if str(mark).startswith(prefix)}
    said = {(receipt.status, receipt.reason) for receipt in receipts}
    assert said <= {("delivered", None), ("pending", None), ("dropped", "unknown")}
    assert sum(receipt.status == "delivered" for receipt in receipts) <= len(arrived)


@ON_ASYNCIO
async def test_row_89_calls_that_the_replica_never_got_are_said_to_be_lost_and_others_wait(own_postgres: Start) -> None:
    pair, emulator = Pair(own_postgres), an_emulator()
    with Log() as log:
        async with (
            with_postgres(pair.url, emulator, **FEW_AT_ONCE, max_wait=None, close_timeout=0.2) as userpilot,
            with_postgres(pair.url, max_wait=None) as producer,
        ):
            kept, gone, late = await lose_the_last(pair, userpilot, producer)
            told = userpilot.statistics()
            judge.conservation(told)

            assert {"dropped"} == {receipt.status for receipt in gone[40:]}
            assert {"pending"} == {receipt.status for receipt in late.values()}
            assert len({receipt.id for receipt in (*kept, *gone, *late.values())}) == 130
            claimed(kept, "kept", emulator)
            claimed(gone, "gone", emulator)
            assert 0 == told.track_budget
    account = pair.books.balanced()

    assert 2 == len(log.said("has lost calls: ")), log.lines
    assert (1, 50) == (account["resets"], account["accepted"])


@pytest.mark.night
@ON_ASYNCIO
async def test_row_89_after_a_failover_that_lost_calls_all_that_is_there_is_delivered(own_postgres: Start) -> None:
    """When the tokens that may have been spent have come back: what was delivered before, perhaps again."""
    pair, emulator = Pair(own_postgres), an_emulator()
    async with (
        with_postgres(pair.url, emulator, **FEW_AT_ONCE, max_wait=None) as userpilot,
        with_postgres(pair.url, max_wait=None) as producer,
    ):
        kept, gone, late = await lose_the_last(pair, userpilot, producer)
        await sent(userpilot, SPENT + 60.0)
        ambiguous = userpilot.statistics().possible_duplicates
        await wait_until(lambda: {"delivered"} == {receipt.status for receipt in late.values()})

    account, arrived = pair.books.balanced(), marks_at(emulator)
    judge.nothing_lost([*(f"kept.{n}" for n in range(40)), *range(10)], arrived)
    assert {"delivered"} == {receipt.status for receipt in kept}
    claimed(gone, "gone", emulator)
    judge.duplicates(arrived, ambiguous)
    assert ambiguous <= account["ambiguous"] <= 41
    assert (1, 50, 50) == (account["resets"], account["accepted"], account["delivered"])


@pytest.mark.night
@ON_ASYNCIO
async def test_row_89_with_a_replica_that_confirms_nothing_is_lost_and_its_client_has_waited_for_it(
    own_postgres: Start,
) -> None:
    """One client knows both hosts; the other one only the replica, which takes no writes until it is promoted."""
    pair, emulator = Pair(own_postgres), an_emulator(latency=0.01)
    pair.confirm()
    early: dict[Any, Receipt] = {}
    with Log() as log:
        async with (
            with_postgres(pair.url, emulator, max_wait=None, concurrency=1) as userpilot,
            with_postgres(f"{pair.replica.url}?name={pair.name}", max_wait=None) as waiting,
            anyio.create_task_group() as callers,
        ):
            callers.start_soon(collect, early, waiting, "w", 0)
            await wait_until(lambda: bool(log.said("cannot serve us at present (it takes no writes")))
            receipts = await put(userpilot, [f"u.{n}" for n in range(100)], users=1)
            pair.primary.stop("immediate")
            pair.replica.promote()
            receipts += await put(userpilot, [f"u.{n}" for n in range(100, 150)], users=1)
            await wait_until(lambda: 1 == len(early))
            report = await sent(userpilot)
            ambiguous = userpilot.statistics().possible_duplicates

    arrived, account = marks_at(emulator), pair.books.balanced()
    judge.nothing_lost([*(f"u.{n}" for n in range(150)), 0], arrived)
    assert {"delivered"} == {receipt.status for receipt in (*receipts, *early.values())}
    assert (151, 151, 0) == (report.statistics.delivered, account["delivered"], report.statistics.outbox_resets)
    judge.duplicates(arrived, ambiguous)
