"""Rows 48 and 87: calls from other threads, with loops of their own or without, also while the client closes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI

from tests.harness import judge
from tests.harness.stage.calls import Log
from tests.harness.stage.log import losses_in
from tests.harness.stage.loops import KEY, InProcess, client_of, markers, running, threads, virtual_emulator, wait_until
from userpilot_async import (
    ClientClosed,
    DeadCall,
    InvalidCall,
    QueueFull,
    Receipt,
    Settings,
    UserpilotClient,
    WrongLoop,
)

pytestmark = pytest.mark.anyio

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
THREADS = 64


class Silent(httpx.AsyncBaseTransport):
    """A server that never answers, so that everything stays pending."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError


def silent_client(*, on_dead: Any = None, **settings: Any) -> UserpilotClient:
    return UserpilotClient(
        KEY, transport=Silent(), on_dead=on_dead, settings=Settings(**{"close_timeout": 0.0, **settings})
    )


def in_a_thread(function: Callable[[], Any]) -> Any:
    """What it gives in a thread of its own, while this one, and the loop in it, stands still."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(30)


async def joined(join: Callable[[], None]) -> None:
    """As `join`, while the loop goes on."""
    await anyio.to_thread.run_sync(join)


# ── taken ──


@pytest.mark.parametrize("name", ["track_nowait", "identify_nowait", "identify_company_nowait"])
async def test_row_48_a_call_from_another_thread_is_taken_and_delivered(name: str) -> None:
    emulator = virtual_emulator()
    async with running(client_of(emulator)) as userpilot:
        arguments = ("u", "clicked", {"n": 1}) if name == "track_nowait" else ("u", {"n": 1})
        receipt = in_a_thread(lambda: getattr(userpilot, name)(*arguments))
        assert ("pending", -1, 1) == (receipt.status, receipt.id, userpilot.statistics().unpersisted)

        assert "delivered" == (await receipt.outcome(10)).status
        assert (0, 1) == (receipt.id, userpilot.statistics().accepted)
        assert 0 == userpilot.statistics().unpersisted


async def test_row_48_a_call_from_a_thread_that_runs_another_loop_is_taken() -> None:
    async def elsewhere(backend: str) -> Receipt:
        return userpilot.track_nowait("u", "clicked", {"n": backend})

    emulator = virtual_emulator()
    async with running(client_of(emulator)) as userpilot:
        for backend in ("asyncio", "trio"):
            await anyio.to_thread.run_sync(lambda backend=backend: anyio.run(elsewhere, backend, backend=backend))
        assert (await userpilot.flush(10)).complete

    assert ["asyncio", "trio"] == markers(emulator)


def test_row_48_a_call_in_the_loops_own_thread_between_two_runs_of_it_is_taken() -> None:
    emulator = virtual_emulator()
    client = client_of(emulator)
    loop = asyncio.new_event_loop()
    opened = asyncio.Event()

    async def stays_open(closing: asyncio.Event) -> None:
        async with client:
            opened.set()
            await closing.wait()

    closing = asyncio.Event()
    staying = loop.create_task(stays_open(closing))
    loop.run_until_complete(opened.wait())
    receipt = client.track_nowait("u", "clicked", {"n": 1})
    closing.set()
    loop.run_until_complete(staying)
    loop.close()

    assert ("delivered", [1]) == (receipt.status, markers(emulator))


async def test_row_48_a_def_endpoint_and_a_background_task_of_fastapi_may_track() -> None:
    emulator = virtual_emulator()
    app = FastAPI()

    @app.post("/{n}")
    def export(n: int, background: BackgroundTasks) -> None:
        background.add_task(userpilot.track_nowait, "u", "clicked", {"n": n + 100})
        userpilot.track_nowait("u", "clicked", {"n": n})

    web = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")
    async with running(client_of(emulator)) as userpilot, web:
        answers = [await web.post(f"/{n}") for n in range(5)]

    assert [200] * 5 == [answer.status_code for answer in answers]
    assert [0, 100, 1, 101, 2, 102, 3, 103, 4, 104] == markers(emulator)


async def test_row_48_an_invalid_call_is_refused_in_its_own_thread_and_counts_nowhere() -> None:
    async with running(silent_client()) as userpilot:
        with pytest.raises(InvalidCall, match="user_id"):
            in_a_thread(lambda: userpilot.track_nowait("", "clicked"))
        assert (0, 0) == (userpilot.statistics().accepted, userpilot.statistics().unpersisted)


async def test_row_48_an_invalid_call_goes_to_on_dead_in_the_loop_if_the_settings_say_so() -> None:
    letters: list[DeadCall] = []
    async with running(silent_client(on_dead=letters.append, on_invalid="dead")) as userpilot:
        receipt = in_a_thread(lambda: userpilot.track_nowait("", "clicked"))
        assert ("dead", "invalid", []) == (receipt.status, receipt.reason, letters)
        assert "dead" == (await receipt.outcome()).status
        assert (await userpilot.flush(10)).complete

        assert {"invalid": 1} == userpilot.statistics().lost_by_reason
        await wait_until(lambda: bool(letters))
    assert ["user_id"] == [letter.error.field for letter in letters if letter.error is not None]


@pytest.mark.parametrize("durability", ["power", "process"])
async def test_row_48_calls_from_threads_are_held_in_a_file(durability: str, tmp_path: Any) -> None:
    outbox = f"sqlite:///{tmp_path}/events.db?durability={durability}"
    emulator = virtual_emulator()
    client = UserpilotClient(KEY, transport=InProcess(emulator), outbox=outbox)
    async with running(client) as userpilot:
        receipts = in_a_thread(lambda: [userpilot.track_nowait("u", "clicked", {"n": n}) for n in range(20)])
        assert (await userpilot.flush(10)).complete

        assert ["delivered"] * 20 == [receipt.status for receipt in receipts]
        assert list(range(20)) == [receipt.id for receipt in receipts] == markers(emulator)


async def test_row_48_a_new_event_name_of_many_threads_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    """524,288 bytes fit: 1,024 names of 512."""
    names = [f"{n:0>4}" + "\N{MUSICAL SYMBOL G CLEF}" * 127 for n in range(1_024)]

    async with running(silent_client()) as userpilot:
        with threads(8, lambda _: [userpilot.track_nowait("u", name) for name in names]) as join:
            await joined(join)
        assert "512 KB" not in caplog.text
        with threads(8, lambda _: [userpilot.track_nowait("u", f"other {n}") for n in range(100)]) as join:
            await joined(join)

    assert 1 == caplog.text.count("512 KB")


# ── order ──


async def test_row_48_calls_of_one_thread_keep_their_order() -> None:
    receipts: list[list[Receipt]] = [[] for _ in range(8)]

    def work(thread: int) -> None:
        for n in range(2_000):
            receipts[thread].append(userpilot.track_nowait(f"u{n % 3}", "clicked", {"n": n}))

    async with running(silent_client()) as userpilot:
        with threads(8, work) as join:
            await joined(join)
        await userpilot.flush(0)
        await wait_until(lambda: not userpilot.statistics().unpersisted)

    ids = [[receipt.id for receipt in ofs] for ofs in receipts]
    assert all(sorted(ofs) == ofs for ofs in ids)
    assert list(range(16_000)) == sorted(call_id for ofs in ids for call_id in ofs)


async def test_row_48_an_awaited_call_goes_behind_what_its_thread_has_put_before() -> None:
    """A thousand are more than the loop takes in one go."""

    def work() -> list[Receipt]:
        receipts = [userpilot.track_nowait("u", "clicked", {"n": n}) for n in range(1_000)]
        return [*receipts, anyio.from_thread.run(userpilot.track, "u", "clicked", {"n": 1_000})]

    async with running(silent_client()) as userpilot:
        receipts = await anyio.to_thread.run_sync(work)

    assert list(range(1_001)) == [receipt.id for receipt in receipts]


async def test_row_48_a_call_of_the_loops_own_goes_behind_what_other_threads_have_put_before() -> None:
    async with running(silent_client()) as userpilot:
        before = in_a_thread(lambda: [userpilot.track_nowait("u", "clicked", {"n": n}) for n in range(1_000)])
        last = userpilot.track_nowait("u", "clicked", {"n": 1_000})
        awaited = await userpilot.track("u", "clicked", {"n": 1_001})

    assert list(range(1_002)) == [receipt.id for receipt in (*before, last, awaited)]


@ON_ASYNCIO
async def test_row_48_the_loop_takes_what_came_in_slices() -> None:
    """So that it is not held for a tenth of a second by ten thousand calls at once."""
    seen: list[int] = []
    async with running(silent_client()) as userpilot:
        in_a_thread(lambda: [userpilot.track_nowait("u", "clicked", {"n": n}) for n in range(2_000)])
        while userpilot.statistics().unpersisted:
            seen.append(userpilot.statistics().unpersisted)
            await anyio.sleep(0)

    steps = [before - after for before, after in zip(seen, [*seen[1:], 0], strict=True)]
    assert 250 >= max(steps)


# ── the limits ──


@pytest.mark.parametrize("when_full", ["wait", "drop_newest"])
async def test_row_48_what_is_on_its_way_counts_against_the_queue(when_full: Any) -> None:
    letters: list[DeadCall] = []
    async with running(silent_client(max_queue_calls=10, when_full=when_full, on_dead=letters.append)) as userpilot:
        await userpilot.track("u", "clicked", {"n": -1})
        receipts = in_a_thread(lambda: [userpilot.track_nowait("u", "clicked", {"n": n}) for n in range(50)])
        assert ["pending"] * 9 + ["dropped"] * 41 == [receipt.status for receipt in receipts]
        assert 50 == userpilot.statistics().unpersisted
        await wait_until(lambda: not userpilot.statistics().unpersisted and len(letters) == 41)

        statistics = userpilot.statistics()
        assert (51, 10, {"queue_full": 41}) == (statistics.accepted, statistics.pending, statistics.lost_by_reason)
        assert 51 == judge.conservation(statistics)
    assert list(range(9, 50)) == [letter.call.metadata["n"] for letter in letters[:41] if letter.call is not None]
    assert list(range(51)) == sorted([0, *(receipt.id for receipt in receipts)])


async def test_row_48_bytes_on_their_way_count_against_the_queue() -> None:
    async with running(silent_client(max_queue_bytes=1_000)) as userpilot:
        receipts = in_a_thread(lambda: [userpilot.track_nowait("u", "clicked", {"text": "x" * 300}) for _ in range(9)])

    assert ["queue_full"] * 7 == [receipt.reason for receipt in receipts if receipt.reason != "closed"]


async def test_row_48_a_call_larger_than_the_queue_fits_into_an_empty_one() -> None:
    async with running(silent_client(max_queue_bytes=100)) as userpilot:
        large, after = in_a_thread(
            lambda: [userpilot.track_nowait("u", "clicked", {"text": "x" * 300}) for _ in range(2)]
        )
        assert ("pending", "dropped") == (large.status, after.status)


async def test_row_48_a_full_queue_raises_in_the_calling_thread_if_the_settings_say_so() -> None:
    async with running(silent_client(max_queue_calls=10, when_full="raise")) as userpilot:
        in_a_thread(lambda: [userpilot.track_nowait("u", "clicked") for _ in range(10)])
        with pytest.raises(QueueFull, match="10 calls wait"):
            in_a_thread(lambda: userpilot.track_nowait("u", "clicked"))
        await userpilot.flush(0)

        assert (10, 10) == (userpilot.statistics().accepted, userpilot.statistics().pending)


async def test_row_48_the_oldest_make_room_if_the_settings_say_so() -> None:
    letters: list[DeadCall] = []
    settings: dict[str, Any] = {"max_queue_calls": 10, "when_full": "drop_oldest", "burst": 1}
    async with running(silent_client(on_dead=letters.append, **settings)) as userpilot:
        await userpilot.track("u", "clicked", {"n": -1})
        receipts = in_a_thread(lambda: [userpilot.track_nowait("u", "clicked", {"n": n}) for n in range(50)])
        await userpilot.flush(0)
        await wait_until(lambda: not userpilot.statistics().unpersisted)

        statistics = userpilot.statistics()
        assert (51, 10) == (statistics.accepted, statistics.pending)
        assert {"queue_full": 41} == statistics.lost_by_reason
        assert ["queue_full"] * 40 + [None] * 10 == [receipt.reason for receipt in receipts]
        await wait_until(lambda: len(letters) == 41)
    assert list(range(-1, 40)) == sorted(letter.call.metadata["n"] for letter in letters[:41] if letter.call)


async def test_row_48_refused_calls_without_number_are_counted_in_bounded_memory() -> None:
    """A loop that stands still while a thread puts more than anybody can keep."""
    async with running(silent_client(max_queue_calls=1)) as userpilot:
        receipts = in_a_thread(lambda: [userpilot.track_nowait("u", "clicked") for _ in range(10_500)])
        assert 10_000 == len(userpilot._inbox.refused)
        assert 10_500 == userpilot.statistics().unpersisted
        await wait_until(lambda: not userpilot.statistics().unpersisted)

        statistics = userpilot.statistics()
        assert (10_500, {"queue_full": 10_499}) == (statistics.accepted, statistics.lost_by_reason)
        assert ["queue_full"] * 10_499 == [receipt.reason for receipt in receipts[1:]]


# ── closing ──


@pytest.mark.parametrize("when_full", ["wait", "drop_oldest", "raise"])
async def test_row_87_what_64_threads_put_while_the_client_closes_is_refused_or_accounted_for(when_full: Any) -> None:
    receipts: list[list[Receipt]] = [[] for _ in range(THREADS)]

    def work(thread: int) -> None:
        n = 0
        while True:
            try:
                receipts[thread].append(userpilot.track_nowait(f"u{thread}", "clicked", {"n": n}))
            except ClientClosed as error:
                assert "is closed" in str(error)
                return
            except QueueFull:
                pass
            n += 1

    userpilot = silent_client(when_full=when_full, max_queue_calls=5_000)
    async with running(userpilot):
        with threads(THREADS, work) as join:
            await wait_until(lambda: userpilot.statistics().accepted > 3_000)
            report = await userpilot.aclose()
            assert report.complete
            join()

    statistics = userpilot.statistics()
    assert sum(map(len, receipts)) == statistics.accepted == judge.conservation(statistics)
    assert (0, 0) == (statistics.pending, statistics.unpersisted)
    assert {"dropped"} == {receipt.status for ofs in receipts for receipt in ofs}
    report_again = await userpilot.aclose()
    assert report_again.statistics.accepted == statistics.accepted


async def test_row_87_a_flush_waits_for_what_threads_have_put_before() -> None:
    emulator = virtual_emulator()
    async with running(client_of(emulator)) as userpilot:
        in_a_thread(lambda: [userpilot.track_nowait(f"u{n}", "clicked", {"n": n}) for n in range(20)])
        report = await userpilot.flush(10)

    assert (True, 20) == (report.complete, report.statistics.delivered)


async def test_row_87_a_flush_without_time_says_that_calls_are_still_on_their_way() -> None:
    async with running(silent_client()) as userpilot:
        in_a_thread(lambda: [userpilot.track_nowait("u", "clicked") for _ in range(1_000)])
        report = await userpilot.flush(0)

    assert (False, 1_000) == (report.complete, report.remaining)


async def test_row_87_a_close_drains_what_threads_have_put_before() -> None:
    emulator = virtual_emulator()
    async with running(client_of(emulator)) as userpilot:
        receipts = in_a_thread(lambda: [userpilot.track_nowait("u", "clicked", {"n": n}) for n in range(20)])

    assert ["delivered"] * 20 == [receipt.status for receipt in receipts]
    assert list(range(20)) == markers(emulator)


async def test_row_87_the_account_balances_in_every_snapshot_that_any_thread_takes() -> None:
    stop = Event()

    def look(_: int) -> None:
        while not stop.is_set():
            judge.conservation(userpilot.statistics())

    def put(_: int) -> None:
        for n in range(500):
            userpilot.track_nowait("u", "clicked", {"n": n})

    async with running(silent_client(max_queue_calls=1_000)) as userpilot:
        with threads(2, look) as join_looking:
            with threads(4, put) as join:
                await joined(join)
            await wait_until(lambda: not userpilot.statistics().unpersisted)
            stop.set()
            await joined(join_looking)

        assert 2_000 == userpilot.statistics().accepted


def test_row_47_a_call_from_a_thread_after_the_loop_has_ended_says_so() -> None:
    """Trio does not end before the client has: `tests/rules/runtime/test_inbox.py`."""

    async def opened() -> None:
        await client.__aenter__()

    client = silent_client()
    asyncio.run(opened())

    with pytest.raises(ClientClosed, match="lost its tasks"):
        in_a_thread(lambda: client.track_nowait("u", "clicked"))
    assert (0, 0) == (client.statistics().accepted, client.statistics().unpersisted)


def test_row_47_calls_that_a_loop_left_behind_when_it_ended_are_said_and_accounted_for() -> None:
    async def opened() -> None:
        await client.__aenter__()
        await anyio.wait_all_tasks_blocked()

    client = silent_client()
    loop = asyncio.SelectorEventLoop()  # on any other, nothing can take away what comes too late
    loop.run_until_complete(opened())
    receipt = in_a_thread(lambda: client.track_nowait("u", "clicked"))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    client._sender.before_end = lambda: None  # it has ended before the call came
    with pytest.warns(ResourceWarning, match="1 accepted calls|1 calls of other threads"):
        loop._ready.clear()  # type: ignore[attr-defined]  # what `loop.close` does with calls that have come too late
        loop.close()
        with pytest.raises(ClientClosed, match="event loop ended"):
            in_a_thread(lambda: client.track_nowait("u", "clicked"))

    statistics = client.statistics()
    assert (1, 1, 0) == (statistics.accepted, statistics.pending, statistics.unpersisted)
    with pytest.raises(ClientClosed, match="event loop has ended"):
        receipt.wait(10)
    client._sender.closed = client._ended = True  # said already


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_row_88_calls_of_threads_that_found_no_room_are_counted_out_though_nobody_closes_the_client() -> None:
    """The interpreter ends, and the loop has never looked at what it refused in its last moment."""

    async def opened() -> None:
        await client.__aenter__()
        await anyio.wait_all_tasks_blocked()

    client = silent_client(max_queue_calls=2, when_full="drop_newest")
    loop = asyncio.new_event_loop()
    with Log() as log:
        log._now = lambda: 0.0  # lines come without a loop, too
        loop.run_until_complete(opened())
        in_a_thread(lambda: [client.track_nowait("u", "clicked") for _ in range(5)])
        client._give_up_if_open()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
        loop.close()

    assert {"queue_full": 3} == client.statistics().lost_by_reason == losses_in(log)


# ── receipts ──


async def test_a_plain_thread_waits_for_what_becomes_of_its_call() -> None:
    emulator = virtual_emulator()
    async with running(client_of(emulator)) as userpilot:
        outcome = await anyio.to_thread.run_sync(lambda: userpilot.track_nowait("u", "clicked", {"n": 1}).wait(10))

    assert ("delivered", [1]) == (outcome.status, markers(emulator))


async def test_a_plain_thread_waits_for_the_row_that_took_its_call_in() -> None:
    async with running(client_of(virtual_emulator())) as userpilot:
        outcomes = await anyio.to_thread.run_sync(
            lambda: [receipt.wait(10) for receipt in [userpilot.identify_nowait("u", {"n": n}) for n in range(2)]]
        )

    assert ["merged", "delivered"] == [outcome.status for outcome in outcomes]
    assert outcomes[0].row == outcomes[1]


async def test_many_threads_wait_for_one_call() -> None:
    emulator = virtual_emulator()
    seen: list[str] = []
    async with running(client_of(emulator)) as userpilot:
        receipt = userpilot.track_nowait("u", "clicked", {"n": 1})
        with threads(16, lambda _: seen.append(receipt.wait(10).status)) as join:
            await joined(join)

    assert ["delivered"] * 16 == seen


async def test_waiting_in_a_thread_ends_after_its_timeout() -> None:
    async with running(silent_client()) as userpilot:
        with pytest.raises(TimeoutError):
            await anyio.to_thread.run_sync(lambda: userpilot.track_nowait("u", "clicked").wait(0.01))


async def test_waiting_in_a_thread_ends_when_the_client_closes() -> None:
    userpilot = silent_client()
    outcomes: list[Any] = []
    async with running(userpilot):
        receipt = userpilot.track_nowait("u", "clicked")
        with threads(2, lambda _: outcomes.append(receipt.wait(30))) as join:
            await wait_until(lambda: bool(userpilot._outbox.ledger.pages._watchers))
            await userpilot.aclose()
            join()

    assert [("dropped", "closed")] * 2 == [(outcome.status, outcome.reason) for outcome in outcomes]
    assert "dropped" == in_a_thread(receipt.wait).status == (await receipt.outcome()).status


async def test_waiting_in_the_clients_own_loop_is_refused_and_says_what_to_do() -> None:
    async with running(silent_client()) as userpilot:
        for receipt in (await userpilot.track("u", "clicked"), in_a_thread(lambda: userpilot.track_nowait("u", "e"))):
            with pytest.raises(WrongLoop, match=r"await receipt\.outcome\(\)"):
                receipt.wait(1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_receipt_awaited_in_another_loop_says_what_to_do(backend: str) -> None:
    async with running(silent_client()) as userpilot:
        for receipt in (await userpilot.track("u", "clicked"), in_a_thread(lambda: userpilot.track_nowait("u", "e"))):
            with pytest.raises(WrongLoop, match=r"receipt\.wait\(\)"):
                await anyio.to_thread.run_sync(lambda r=receipt: anyio.run(r.outcome, 1, backend=backend))


# ── the errors ──


@pytest.mark.parametrize("name", ["track", "identify", "identify_company", "flush", "aclose"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_row_48_the_refusal_of_an_awaited_call_from_another_loop_says_what_to_do(name: str, backend: str) -> None:
    arguments = {"track": ("u", "clicked"), "identify": ("u",), "identify_company": ("acme",)}.get(name, ())

    async def elsewhere(call: Callable[..., Any], *arguments: object) -> None:
        await call(*arguments)

    async with running(silent_client()) as userpilot:
        await userpilot.track("u", "clicked")
        call = getattr(userpilot, name)
        with pytest.raises(WrongLoop, match="another event loop or thread, where 1 calls are pending") as caught:
            await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere, call, *arguments, backend=backend))
        assert 1 == userpilot.statistics().accepted

    assert all(way in str(caught.value) for way in ("_nowait", "anyio.from_thread.run", "a client for this loop"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_row_49_a_receipt_of_the_parent_process_does_not_keep_a_child_waiting(tmp_path: Any) -> None:
    async def scene() -> str:
        async with running(silent_client()) as userpilot:
            receipt = await userpilot.track("u", "clicked")
            child = os.fork()
            if child == 0:
                try:
                    in_a_thread(lambda: receipt.wait(30))
                except ClientClosed as error:
                    (tmp_path / "said").write_text(str(error))
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            return (tmp_path / "said").read_text()

    logging.getLogger("asyncio").setLevel(logging.WARNING)
    assert "parent process" in asyncio.run(scene())


def test_row_87_threads_and_a_real_server(emulator_url: str) -> None:
    """Sockets and a process of its own; FastAPI's own threads are above."""

    async def scene() -> Any:
        async with UserpilotClient(KEY, base_url=emulator_url) as userpilot:
            with threads(8, lambda t: [userpilot.track_nowait(f"u{t}", "e", {"n": n}) for n in range(10)]) as join:
                await joined(join)
            return await userpilot.flush(30)

    report = asyncio.run(scene())

    assert (True, 80) == (report.complete, report.statistics.delivered)
