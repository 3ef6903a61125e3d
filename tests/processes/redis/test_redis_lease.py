"""Row 64: the lease is lost while its holder sends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import emulator_thread, judge
from tests.harness.redis_proxy import RedisProxy
from tests.harness.stage.loops import wait_until
from tests.harness.stage.outbox_files import an_emulator, marks_at, put
from tests.harness.stage.redis_scenes import ON_ASYNCIO, Books, Log, in_order, marks_judged, with_redis
from tests.processes.programs.outbox_host import told_by, wait_for, wait_told
from tests.processes.programs.redis_host import judge_machines, now, redis_host, sending_of
from userpilot_async import UserpilotClient

Start = Callable[..., Any]
TTL = 1.5
TAKEOVER = TTL + 2.0  # seconds
QUICK = {"track_per_minute": 6_000, "identify_per_minute": 6_000, "flush_interval": 0.2, "bulk_threshold": 5}


async def everything_sent(emulator: Any, books: Books, count: int, within: float = 20.0) -> None:
    await wait_until(lambda: count <= len(set(marks_at(emulator))) and not books.held(), within)


async def sends(userpilot: UserpilotClient, within: float = TAKEOVER) -> float:
    """Until it does; how long that took."""
    begun = now()
    await wait_until(lambda: userpilot.statistics().is_sender, within)
    return now() - begun


@pytest.mark.night
def test_row_64_a_holder_that_was_stopped_for_longer_than_the_lease_changes_nothing_when_it_goes_on(
    tmp_path: Path, own_redis: Start
) -> None:
    with (
        emulator_thread("--rate-limit", "6000", "--latency", "0.05", "--speed", "20") as url,
        redis_host(
            tmp_path, url, own_redis(), users=3, pause=0.03, people=8, settings=QUICK, outbox={"lease_ttl": TTL}
        ) as one,
    ):
        pair = [one.start("w0"), one.start("w1", backend="trio")]
        one.ready(*pair)
        took = []
        for _ in range(2):
            first = wait_for(one.holding, "somebody sends")
            [second] = [worker for worker in pair if worker is not first]
            wait_told(url, "events", len(told_by(url, "events")) + 20)
            stopped = now()
            one.freeze(first)
            wait_for(lambda w=second: sending_of(w), "the other one sends", TTL + 5)
            took.append((sending_of(second) or 0.0) - stopped)
            wait_told(url, "events", len(told_by(url, "events")) + 20)
            one.thaw(first)
            wait_for(lambda w=first: sending_of(w) is None, "the first one notices")
            wait_told(url, "events", len(told_by(url, "events")) + 20)
            assert second is one.holding()
        for worker in pair:
            assert len([note for note in worker.notes("sends") if note[0] == "1"]) >= 1, "it never was the sender again"
        one.drain(settings=QUICK)
        seen = judge_machines(one, limit=6_000)

    print(f"taken over after {', '.join(f'{seconds:.2f} s' for seconds in took)}; {seen}")
    judge.happened(seen, "holders stopped", "jobs", "ambiguous")
    assert 2 == seen["holders stopped"]
    assert TAKEOVER >= max(took)


def test_row_64_a_holder_that_is_killed_is_succeeded_within_the_lease(tmp_path: Path, own_redis: Start) -> None:
    with (
        emulator_thread("--rate-limit", "6000", "--latency", "0.05", "--speed", "20") as url,
        redis_host(tmp_path, url, own_redis(), settings=QUICK, outbox={"lease_ttl": TTL}) as one,
    ):
        one.ready(*[one.start(f"w{number}") for number in range(3)])
        took = []
        for _ in range(2):
            first = wait_for(one.holding, "somebody sends")
            wait_told(url, "events", len(told_by(url, "events")) + 20)
            killed = now()
            one.kill(first)
            second = wait_for(lambda: next((w for w in one.living if sending_of(w)), None), "another sends", TTL + 5)
            took.append((sending_of(second) or 0.0) - killed)
        one.drain(settings=QUICK)
        seen = judge_machines(one, limit=6_000)

    print(f"taken over after {', '.join(f'{seconds:.2f} s' for seconds in took)}; {seen}")
    assert 2 == seen["holders killed"]
    assert TAKEOVER >= max(took)


@pytest.mark.night
@pytest.mark.anyio
@ON_ASYNCIO
async def test_row_64_a_holder_that_is_cut_off_from_redis_stops_sending_and_another_goes_on(own_redis: Start) -> None:
    """The holder's requests go on meanwhile; their outcomes cannot be noted, and must not be when it is back."""
    server, emulator = own_redis(), an_emulator(latency=0.1)
    books = Books(server)
    marks: set[str] = set()
    with RedisProxy(server.port) as one, RedisProxy(server.port) as other, Log() as log:
        async with (
            with_redis(one.url, emulator, lease_ttl=TTL, max_wait=None) as first,
            with_redis(other.url, emulator, lease_ttl=TTL, max_wait=None) as second,
        ):

            async def track(userpilot: UserpilotClient, count: int) -> None:
                new = [f"u{n % 10}.{n}" for n in range(len(marks), len(marks) + count)]
                marks.update(new)
                await put(userpilot, new)

            # And back: the old one can become the sender again.
            for holder, proxy, heir in ((first, one, second), (second, other, first)):
                assert holder.statistics().is_sender
                assert not heir.statistics().is_sender
                await track(heir, 200)
                enough = len(marks) - 150
                await wait_until(lambda n=enough: len(set(marks_at(emulator))) >= n)
                proxy.black_hole()
                print(f"taken over after {await sends(heir):.2f} s")
                await wait_until(lambda h=holder: not h.statistics().is_sender)
                proxy.heal(late=True)
                await track(holder, 50)
                await everything_sent(emulator, books, len(marks))
            await wait_until(lambda: 500 == second.statistics().delivered == first.statistics().delivered)
            ambiguous = max(first.statistics().possible_duplicates, second.statistics().possible_duplicates)
            statistics = second.statistics()

    assert log.said("could not keep the lease")
    account = books.balanced()
    assert 500 == account["accepted"] == account["delivered"] == judge.conservation(statistics)
    doubles = marks_judged(emulator, marks, account["ambiguous"])
    assert account["ambiguous"] <= ambiguous
    in_order(emulator)
    print(f"{doubles} twice, {account['ambiguous']} ambiguous")


@pytest.mark.night
@pytest.mark.anyio
@ON_ASYNCIO
async def test_row_64_redis_stands_still_for_longer_than_the_lease(own_redis: Start) -> None:
    server, emulator = own_redis(), an_emulator(latency=0.1)
    books = Books(server)
    async with (
        with_redis(server.url, emulator, lease_ttl=TTL, max_wait=None) as first,
        with_redis(server.url, emulator, lease_ttl=TTL, max_wait=None) as second,
    ):
        for round_ in range(2):
            await put(second, [f"u{n % 10}.{round_ * 1_000 + n}" for n in range(100)])
            await wait_until(lambda n=round_ * 100 + 20: len(set(marks_at(emulator))) >= n)
            server.pause()
            await wait_until(lambda: not (first.statistics().is_sender or second.statistics().is_sender), TTL + 1)
            began = now()
            await wait_until(lambda b=began: now() > b + TTL)  # until the lease is over for sure, by any clock
            server.resume()
            await wait_until(lambda: first.statistics().is_sender or second.statistics().is_sender, TAKEOVER)
        await everything_sent(emulator, books, 200)

    account = books.balanced()
    assert 200 == account["accepted"] == account["delivered"]
    marks_judged(emulator, {f"u{n % 10}.{r * 1_000 + n}" for r in range(2) for n in range(100)}, account["ambiguous"])
    in_order(emulator)


@pytest.mark.anyio
@ON_ASYNCIO
@pytest.mark.parametrize("how", ["deleted", "taken"])
async def test_row_64_what_a_holder_notes_after_its_term_has_no_effect(how: str, own_redis: Start) -> None:
    """Requests are under way when the lease is gone: the next holder has to take them for sent, not for delivered."""
    server, emulator = own_redis(), an_emulator(latency=0.8)
    books = Books(server)
    async with with_redis(server.url, emulator, lease_ttl=TTL, burst=5, concurrency=5) as userpilot:
        await put(userpilot, [f"{n}.{n}" for n in range(20)], users=20)
        await wait_until(lambda: 5 <= len(emulator.store.requests))
        with server.client() as redis:
            redis.delete(books.key("lease"))
            if how == "taken":
                redis.hset(books.key("about"), "fence", 70)
                redis.set(books.key("lease"), "70 foreign {}", px=60_000)
        if how == "taken":
            await wait_until(lambda: not userpilot.statistics().is_sender)
            sent_by_then = len(emulator.store.events)
            await wait_until(lambda: 5 <= len(emulator.store.events))
            await put(userpilot, ["20.20"])  # so that it has written something since
            assert 0 == books.account()["delivered"], "it noted what it was not to note any more"
            assert sent_by_then <= len(emulator.store.events) <= 10
            assert "70 foreign {}" == books.lease()
            before = len(emulator.store.requests)
            await put(userpilot, [f"21.{n}" for n in range(21, 30)], users=1)
            assert before == len(emulator.store.requests), "it sends without the lease"
            with server.client() as redis:
                redis.delete(books.key("lease"))
            await sends(userpilot)
            assert books.lease().startswith("71 "), "the fence went back"
        count = 30 if how == "taken" else 20
        await everything_sent(emulator, books, count)
        account = books.balanced()
        statistics = userpilot.statistics()

    assert count == account["delivered"] == judge.conservation(statistics)
    if how == "taken":
        assert account["ambiguous"] >= 5, "requests were under way, and nobody counted them"
    judge.duplicates(marks_at(emulator), account["ambiguous"])
    assert account["ambiguous"] <= statistics.possible_duplicates
