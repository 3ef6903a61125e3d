"""Row 66: callers are cancelled in the middle of a command, or give up, or lose its answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
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
    again_and_again,
    with_redis,
)
from tests.wire.outbox.test_outbox_callers import Ends
from userpilot_async import Receipt, UserpilotClient

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
IN_EACH_WAY = pytest.mark.parametrize(
    ("anyio_backend", "how"),
    [("asyncio", "natively"), ("asyncio", "wait_for"), ("asyncio", "scope"), ("trio", "scope")],
    indirect=["anyio_backend"],
)
SCRIPT = b"EVALSHA"


async def impatient(ends: Ends, userpilot: UserpilotClient, mark: str, how: str, patience: float) -> None:
    """Make a call, and have no more than so much patience."""
    if how == "scope":
        with anyio.move_on_after(patience):
            await ends.call(userpilot, mark)
    elif how == "wait_for":
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ends.call(userpilot, mark), patience)
    else:
        task = asyncio.create_task(ends.call(userpilot, mark))
        await asyncio.sleep(patience)
        task.cancel()
        await asyncio.wait({task})


def now_and_then() -> bool:
    """Not each time: whoever asks again as often as something is cut would never get through."""
    return random.SystemRandom().random() < 0.4


def judge_ends(ends: Ends, calls: int, books: Books) -> int:
    """Each call is held exactly once if its caller was told so, and not at all if he was told the contrary."""
    accepted = ends.returned | ends.said_so
    print(f"{len(ends.returned)} returned, {len(ends.said_so)} said so, {len(ends.cancelled)} cancelled")
    assert calls == len(accepted) + len(ends.cancelled)
    assert not accepted & ends.cancelled
    held = [mark for mark in books.held() if mark != "last"]
    assert len(held) == len(set(held)), "a call is held twice"
    assert set(held) <= accepted, f"cancelled, and held all the same: {sorted(set(held) - accepted)[:5]}"
    assert set(held) == accepted, f"accepted, and not held: {sorted(accepted - set(held))[:5]}"
    return len(accepted)


@pytest.mark.night
@IN_EACH_WAY
@pytest.mark.parametrize("weather", ["slow", "answers are cut"])
async def test_row_66_thousands_of_cancelled_calls_are_held_once_if_told_so_and_else_not_at_all(
    how: str, weather: str, own_redis: Start
) -> None:
    server = own_redis()
    books, ends, chance = Books(server), Ends(), random.Random(7)
    calls = 0
    async with free_of_leaks(within=5.0):
        with RedisProxy(server.port) as proxy:
            async with with_redis(proxy.url, max_wait=None) as userpilot:
                proxy.delay(0.01 if weather == "slow" else 0.002)

                def cut() -> None:
                    if weather == "answers are cut" and now_and_then():
                        proxy.cut_next_answer(SCRIPT)

                with again_and_again(cut, 0.3):
                    for round_ in count():
                        if round_ >= 20 and (weather == "slow" or proxy.cuts >= 3):
                            break
                        calls += 100
                        async with anyio.create_task_group() as callers:
                            for n in range(100):
                                patience = 0.001 if how == "wait_for" and n % 2 else 10 ** chance.uniform(-4.0, -0.5)
                                callers.start_soon(impatient, ends, userpilot, f"{round_}.{n}", how, patience)
                        if weather == "answers are cut" and round_ % 2 == 0:
                            await put(userpilot, [f"calm {round_}"])
                            ends.returned.add(f"calm {round_}")
                            calls += 1
                proxy.heal()
                await put(userpilot, ["last"])
                await wait_until(lambda: not userpilot.statistics().unpersisted)
                statistics = userpilot.statistics()
                cuts = proxy.cuts

    accepted = judge_ends(ends, calls, books)
    assert len(ends.cancelled) >= 50, "too few were cancelled: little was tested"
    assert len(ends.returned) >= 20, "too few got in: little was tested"
    if weather == "answers are cut":
        assert cuts >= 3, "no answer was cut: nothing was tested"
    assert accepted + 1 == statistics.accepted == books.balanced()["accepted"] == judge.conservation(statistics)


@IN_EACH_WAY
async def test_row_66_cancelled_calls_of_a_client_that_sends_are_delivered_if_and_only_if_told_so(
    how: str, own_redis: Start
) -> None:
    """With notes of the sender in the same commands; requests and answers are cut by turns."""
    server, emulator = own_redis(), an_emulator(latency=0.005)
    books, ends, chance = Books(server), Ends(), random.Random(7)
    with RedisProxy(server.port) as proxy:
        async with with_redis(proxy.url, emulator, max_wait=None) as userpilot:
            for round_ in count():
                if round_ >= 8 and proxy.cuts >= 4:
                    break
                (proxy.cut_next_answer if round_ % 2 else proxy.cut_next_request)(SCRIPT)
                async with anyio.create_task_group() as callers:
                    for n in range(40):
                        patience = 10 ** chance.uniform(-4.0, 0.0)
                        callers.start_soon(impatient, ends, userpilot, f"{round_}.{n}", how, patience)
            proxy.heal()
            await put(userpilot, ["last"])
            await sent(userpilot)
            report = await sent(userpilot)
            cuts = proxy.cuts

    accepted = ends.returned | ends.said_so | {"last"}
    print(f"{len(ends.returned)} returned, {len(ends.said_so)} said so, {len(ends.cancelled)} cancelled, {cuts} cuts")
    assert cuts >= 3, "nothing was cut: nothing was tested"
    # A call whose caller gave up while the answer was missing had perhaps gone out, and was told to be cancelled.
    marks = set(marks_at(emulator))
    judge.nothing_lost(accepted, marks)
    extra = marks - accepted
    assert extra <= ends.cancelled
    account = books.balanced()
    assert len(marks) == account["delivered"] == account["accepted"] == report.statistics.accepted
    assert judge.duplicates(marks_at(emulator), report.statistics.possible_duplicates) <= account["ambiguous"]
    print(f"{len(extra)} delivered although their callers had gone")


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
async def test_row_66_answers_are_never_crossed(own_redis: Start) -> None:
    """Two clients on one outbox, callers cancelled all the time: each receipt has the id of its own call."""
    server = own_redis()
    books, receipts, chance = Books(server), dict[str, Receipt](), random.Random(11)
    with RedisProxy(server.port) as proxy:
        proxy.delay(0.005)
        async with with_redis(proxy.url, max_wait=None) as one, with_redis(proxy.url, max_wait=None) as two:

            async def call(userpilot: UserpilotClient, mark: str) -> None:
                with anyio.move_on_after(10 ** chance.uniform(-4.0, -1.0)):
                    receipts[mark] = await userpilot.track("u", "clicked", {"mark": mark})

            for round_ in range(20):
                async with anyio.create_task_group() as callers:
                    for n in range(50):
                        callers.start_soon(call, one, f"one {round_}.{n}")
                        callers.start_soon(call, two, f"two {round_}.{n}")
            await put(one, ["last"])
            await put(two, ["last"])

    with server.client() as redis:
        entries = redis.xrange(books.key("log"))
    there = {mark: int(entry.partition(b"-")[0]) for (entry, _), mark in zip(entries, books.held(), strict=True)}
    assert len(receipts) > 100
    assert {mark: receipt.id for mark, receipt in receipts.items()} == {
        mark: call_id for mark, call_id in there.items() if mark != "last"
    }


# ── the answer of a put is lost ──


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
@pytest.mark.parametrize("lost", ["answer", "half an answer", "request"])
async def test_row_66_callers_see_a_call_whose_answer_was_lost_as_held_once(lost: str, own_redis: Start) -> None:
    server = own_redis()
    receipts: dict[str, Receipt] = {}
    with RedisProxy(server.port) as proxy:
        async with with_redis(proxy.url, max_wait=None) as userpilot:
            for n in range(3):
                if lost == "request":
                    proxy.cut_next_request(b"call %d" % n)
                else:
                    proxy.cut_next_answer(b"call %d" % n, answer_bytes=0 if lost == "answer" else 9)
                for mark in (f"call {n}", f"next {n}"):
                    receipts[mark] = await userpilot.track("u", "clicked", {"mark": mark})
            cuts, statistics = proxy.cuts, userpilot.statistics()

    assert 3 == cuts
    assert [0, 1, 2, 3, 4, 5] == [receipt.id for receipt in receipts.values()]
    assert list(receipts) == Books(server).held()
    assert 6 == statistics.accepted == Books(server).balanced()["accepted"]


@ON_ASYNCIO
async def test_row_66_a_call_is_taken_back_whose_caller_gave_up_before_its_answer_came(own_redis: Start) -> None:
    """Dropped, reason `outbox`, he was told: then it must not be delivered, nor be in the account twice."""
    server, emulator = own_redis(), an_emulator()
    books = Books(server)
    with RedisProxy(server.port) as proxy:
        async with with_redis(proxy.url, max_wait=0.8) as userpilot:
            await put(userpilot, ["before"])
            proxy.swallow_answers()
            begun = time.monotonic()
            receipt = await userpilot.track("u", "clicked", {"mark": "given up"})
            judge.within_bound(time.monotonic() - begun, 0.8 + 2.0)  # it can be taken back at the end of a try only
            assert ["before", "given up"] == books.held(), "the server never had it: nothing was tested"
            proxy.heal()
            await put(userpilot, ["after"])
            await wait_until(lambda: 3 == userpilot.statistics().accepted)
            statistics = userpilot.statistics()
            assert "outbox" == receipt.reason
        assert ["before", "after"] == books.held()
        account = books.balanced()
        assert (3, 1) == (account["accepted"], account["dropped:outbox"])
        assert 1 == statistics.dropped
        assert 3 == judge.conservation(statistics)
        async with with_redis(server.url, emulator) as userpilot:
            await sent(userpilot)

    assert ["before", "after"] == marks_at(emulator)


@ON_TRIO
async def test_row_66_a_call_that_had_gone_out_before_its_caller_gave_up_is_in_the_account_as_delivered(
    own_redis: Start,
) -> None:
    """Somebody else sent it: then it is delivered, and what its caller was told is one more that was dropped."""
    server, emulator = own_redis(), an_emulator()
    books = Books(server)
    with RedisProxy(server.port) as proxy:
        async with with_redis(server.url, emulator) as sender, with_redis(proxy.url, max_wait=0.8) as userpilot:
            await put(userpilot, ["before"])
            proxy.swallow_answers()
            receipt = await userpilot.track("u", "clicked", {"mark": "given up"})
            await wait_until(lambda: "given up" in marks_at(emulator))
            proxy.heal()
            await put(userpilot, ["after"])
            await sent(sender)
            await wait_until(lambda: 4 == sender.statistics().accepted == userpilot.statistics().accepted)
            await wait_until(lambda: 0 == userpilot.statistics().pending)
            statistics = userpilot.statistics()

    assert "outbox" == receipt.reason
    assert ["after", "before", "given up"] == sorted(marks_at(emulator))
    account = books.balanced()
    assert (4, 3, 1) == (account["accepted"], account["delivered"], account["dropped:outbox"])
    assert 4 == judge.conservation(statistics)


@ON_ASYNCIO
async def test_row_66_a_client_that_is_cancelled_while_it_closes_leaves_no_call_half_way(own_redis: Start) -> None:
    server = own_redis()
    books = Books(server)
    receipts: dict[int, Receipt] = {}
    with RedisProxy(server.port) as proxy:
        proxy.delay(0.003)
        async with free_of_leaks(within=8.0):
            for round_ in range(10):
                closes = asyncio.Event()

                async def use(round_: int = round_, closes: asyncio.Event = closes) -> None:
                    async with with_redis(proxy.url, max_wait=None) as userpilot:
                        for n in range(5):
                            receipts[round_ * 10 + n] = await userpilot.track("u", "c", {"mark": round_ * 10 + n})
                        closes.set()
                        await userpilot.aclose()

                task = asyncio.create_task(use())
                if round_ % 2:  # or somewhere on the way there
                    await closes.wait()
                await asyncio.sleep(0.003 * round_)
                task.cancel()
                await asyncio.wait({task})

    held = books.held()
    assert held, "it was always cancelled before it was open: nothing was tested"
    assert len(held) == len(set(held)) == books.balanced()["accepted"]
    assert set(receipts) <= set(held)
    assert len(set(held) - set(receipts)) <= 10, "more than the one call that was under way"
