"""Rows 51 and 52: what the application's own callbacks and logging handlers may do to the client."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

from tests.harness import judge
from tests.harness.stage.loops import client_of, markers, running, virtual_emulator
from userpilot_async import ClientClosed, UserpilotClient
from userpilot_async.emulator import Emulator, Fault

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)

POISON = Fault(name="poison", path="/v1/track", body_contains='"poison"', status=400, times=None)


def poisoned() -> Any:
    """An emulator that refuses the events named "poison"."""
    emulator = virtual_emulator()
    emulator.faults.add(POISON)
    return emulator


async def track_both_kinds(userpilot: UserpilotClient, pairs: int = 5) -> None:
    for n in range(pairs):
        await userpilot.track(f"u{n}", "poison", {"n": n})
        await userpilot.track(f"u{n}", "clicked", {"n": n})


# ── 51: raises ──


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_row_51_an_on_dead_that_raises_is_counted_and_said_once_and_gets_the_next_letter(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    letters: list[Any] = []

    def raises(letter: Any) -> None:
        letters.append(letter)
        raise RuntimeError("the dead letter office is closed")

    async def raises_later(letter: Any) -> None:
        await anyio.sleep(0.1)
        raises(letter)

    emulator = poisoned()
    async with running(client_of(emulator, on_dead=raises_later if is_async else raises)) as userpilot:
        await track_both_kinds(userpilot)
        report = await userpilot.flush(10)
        await anyio.sleep(10)

        assert 5 == userpilot.statistics().on_dead_failures
    assert [0, 1, 2, 3, 4] == sorted(markers(emulator))
    assert ["invalid"] * 5 == [letter.reason for letter in letters]
    assert {"invalid": 5} == report.statistics.lost_by_reason
    assert 10 == judge.conservation(report.statistics)
    said = [record.getMessage() for record in caplog.records if "on_dead raised" in record.getMessage()]
    assert 1 == len(said)
    assert said[0].startswith("userpilot: on_dead raised RuntimeError; ")
    assert "the dead letter office" not in caplog.text


async def _asks_a_task_that_is_cancelled(letter: Any) -> None:
    asked = asyncio.ensure_future(asyncio.sleep(1))
    asked.cancel()
    await asked


@ON_ASYNCIO
async def test_row_51_an_on_dead_that_awaits_a_cancelled_task_gets_the_next_letter_all_the_same() -> None:
    letters: list[Any] = []

    async def raises_cancelled(letter: Any) -> None:
        letters.append(letter)
        await _asks_a_task_that_is_cancelled(letter)

    emulator = poisoned()
    async with running(client_of(emulator, on_dead=raises_cancelled)) as userpilot:
        await track_both_kinds(userpilot)
        await userpilot.flush(10)
        await anyio.sleep(10)

        assert 5 == len(letters)
    assert [0, 1, 2, 3, 4] == sorted(markers(emulator))


@ON_ASYNCIO
async def test_row_51_an_on_dead_that_awaits_a_cancelled_task_is_counted_as_failed() -> None:
    async with running(client_of(poisoned(), on_dead=_asks_a_task_that_is_cancelled)) as userpilot:
        await track_both_kinds(userpilot)
        await userpilot.flush(10)
        await anyio.sleep(10)

        assert 5 == userpilot.statistics().on_dead_failures


# ── 51: blocks ──


async def test_row_51_an_on_dead_that_never_returns_stops_neither_deliveries_nor_flush_nor_close() -> None:
    async def blocks(letter: Any) -> None:
        await anyio.sleep_forever()

    emulator = poisoned()
    client = client_of(emulator, on_dead=blocks, close_timeout=3.0)
    async with running(client) as userpilot:
        await track_both_kinds(userpilot)
        report = await userpilot.flush(10)
        closing = anyio.current_time()

    judge.within_bound(anyio.current_time() - closing, 3.0)
    assert report.complete
    assert [0, 1, 2, 3, 4] == sorted(markers(emulator))
    assert 10 == judge.conservation(client.statistics())


async def test_row_51_an_on_dead_slower_than_the_losses_costs_bounded_memory_and_counts_what_it_misses() -> None:
    async def slow(letter: Any) -> None:
        await anyio.sleep(3_600)

    client = client_of(virtual_emulator(), on_dead=slow, on_invalid="dead", close_timeout=1.0)
    async with running(client) as userpilot:
        for _ in range(10_200):
            userpilot.track_nowait("", "clicked")
        await anyio.sleep(1)

        assert 10_200 == userpilot.statistics().dead
        assert 190 <= userpilot.statistics().on_dead_failures <= 200


# ── 51: calls the client ──


@pytest.mark.parametrize("calls", ["track", "enqueue", "flush", "aclose"])
async def test_row_51_an_on_dead_may_call_the_client(calls: str) -> None:
    answers: list[Any] = []
    emulator = poisoned()

    async def calls_back(letter: Any) -> None:
        if calls == "track":
            answers.append(await userpilot.track("mourner", "clicked", {"n": f"about {letter.call.metadata['n']}"}))
        elif calls == "enqueue" and len(answers) < 3:
            answers.append(await userpilot.enqueue(letter.call))
        elif calls == "flush":
            answers.append(await userpilot.flush(5))
        elif calls == "aclose":
            answers.append(await userpilot.aclose(5))

    client = client_of(emulator, on_dead=calls_back, close_timeout=5.0)
    async with running(client) as userpilot:
        await track_both_kinds(userpilot)
        if calls != "aclose":
            assert (await userpilot.flush(10)).complete
        await anyio.sleep(30)
        closing = anyio.current_time()

    judge.within_bound(anyio.current_time() - closing, 5.0)
    statistics = client.statistics()
    judge.conservation(statistics)
    assert 0 == statistics.pending
    assert 0 == statistics.on_dead_failures
    assert {"track": 15, "enqueue": 13, "flush": 10, "aclose": 10}[calls] == statistics.accepted
    assert {0, 1, 2, 3, 4} <= set(markers(emulator))
    if calls == "track":
        assert {f"about {n}" for n in range(5)} <= set(markers(emulator))
    if calls == "flush":
        assert all(report.complete for report in answers)


async def test_row_51_an_on_dead_that_tracks_while_the_client_closes_is_told_so_and_the_close_ends() -> None:
    refused: list[str] = []

    async def tracks_again(letter: Any) -> None:
        try:
            await userpilot.enqueue(letter.call)
        except ClientClosed as error:
            refused.append(str(error))

    emulator = virtual_emulator(latency=60.0)
    client = client_of(emulator, on_dead=tracks_again, close_timeout=1.0)
    async with running(client) as userpilot:
        for n in range(5):
            await userpilot.track("u", "clicked", {"n": n})
        closing = anyio.current_time()

    judge.within_bound(anyio.current_time() - closing, 1.0)
    assert 5 == len(refused)
    assert {"closed": 5} == client.statistics().lost_by_reason
    assert 5 == judge.conservation(client.statistics())


async def test_row_51_every_call_a_close_gives_up_reaches_on_dead() -> None:
    letters: list[Any] = []
    client = client_of(virtual_emulator(latency=60.0), on_dead=letters.append, close_timeout=1.0)
    async with running(client) as userpilot:
        for n in range(500):
            await userpilot.track(f"u{n}", "clicked", {"n": n})

    assert set(range(500)) == {letter.call.metadata["n"] for letter in letters}
    assert {"closed"} == {letter.reason for letter in letters}


# ── 51: makes each lost call again ──

MOST = 1_000  # letters, after which a test's callback gives in: it would go round for ever, and no clock would go on


def again_by_awaiting(letters: list[Any], client: Callable[[], UserpilotClient]) -> Any:
    async def on_dead(letter: Any) -> None:
        letters.append(letter)
        if len(letters) < MOST:
            await client().enqueue(letter.call)

    return on_dead


def again_at_once(letters: list[Any], client: Callable[[], UserpilotClient]) -> Any:
    def on_dead(letter: Any) -> None:
        letters.append(letter)
        if len(letters) < MOST:
            client().track_nowait(letter.call.user_id, letter.call.event_name, letter.call.metadata)

    return on_dead


def again_in_a_task(letters: list[Any], client: Callable[[], UserpilotClient]) -> Any:
    tasks: set[Any] = set()

    async def soon(letter: Any) -> None:
        await asyncio.sleep(0.01)
        with suppress(ClientClosed):
            await client().enqueue(letter.call)

    def on_dead(letter: Any) -> None:
        letters.append(letter)
        if len(letters) < MOST:
            task = asyncio.get_running_loop().create_task(soon(letter))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    return on_dead


def again_from_a_thread(letters: list[Any], client: Callable[[], UserpilotClient]) -> Any:
    """As `asyncio.to_thread` does, but waited for: a clock that jumps does not see threads."""

    def on_dead(letter: Any) -> None:
        letters.append(letter)
        if len(letters) < MOST:
            arguments = (letter.call.user_id, letter.call.event_name, letter.call.metadata)
            run = contextvars.copy_context().run
            thread = threading.Thread(target=run, args=(_if_open, client().track_nowait, *arguments))
            thread.start()
            thread.join()

    return on_dead


def _if_open(track: Callable[..., Any], *arguments: Any) -> None:
    with suppress(ClientClosed):
        track(*arguments)


AGAIN = pytest.mark.parametrize("again", [again_by_awaiting, again_at_once], ids=["awaits", "at once"])
FULL: dict[str, Any] = {"max_queue_calls": 5, "when_full": "drop_newest", "close_timeout": 3.0}


@asynccontextmanager
async def full(again: Any, letters: list[Any], **settings: Any) -> AsyncIterator[tuple[UserpilotClient, Emulator]]:
    """A client of a server that is away, whose queue has room for five of eight calls."""
    emulator = virtual_emulator()
    emulator.faults.add(Fault(name="away", path="/v1/track", status=503, times=None))
    client = client_of(emulator, on_dead=again(letters, lambda: client), **{**FULL, **settings})
    async with running(client):
        for n in range(8):
            client.track_nowait(f"u{n}", "clicked", {"n": n})
        yield client, emulator


@AGAIN
@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest"])
async def test_row_51_an_on_dead_that_makes_each_lost_call_again_does_not_go_round_at_full_speed(
    again: Any, when_full: Any
) -> None:
    letters: list[Any] = []
    async with full(again, letters, when_full=when_full) as (client, _):
        await anyio.sleep(600)

        # Three at once; one after 1, 2, 4, 8, 16 and 32 s; then one a minute.
        assert 12 <= len(letters) <= 20
        statistics = client.statistics()
        # Three wait for their turn.
        assert {"queue_full": len(letters) + 3} == statistics.lost_by_reason
        assert 5 + len(letters) + 3 == judge.conservation(statistics)


@ON_ASYNCIO
@pytest.mark.parametrize("again", [again_in_a_task, again_from_a_thread], ids=["task", "thread"])
async def test_row_51_calls_that_a_task_or_thread_of_on_dead_makes_do_not_go_round_at_full_speed(again: Any) -> None:
    letters: list[Any] = []
    async with full(again, letters) as (client, _):
        await anyio.sleep(600)

        assert 12 <= len(letters) <= 24
        judge.conservation(client.statistics())


@AGAIN
async def test_row_51_calls_made_again_arrive_when_there_is_room_again(again: Any) -> None:
    letters: list[Any] = []
    async with full(again, letters) as (client, emulator):
        await anyio.sleep(100)
        emulator.faults.remove("away")
        await anyio.sleep(200)

        assert set(range(8)) == set(markers(emulator))
        assert 0 == client.statistics().pending
        judge.conservation(client.statistics())


@AGAIN
async def test_row_51_a_letter_that_on_dead_has_not_caused_does_not_wait(again: Any) -> None:
    letters: list[Any] = []
    async with full(again, letters, on_invalid="dead") as (client, _):
        await anyio.sleep(100)
        before = len(letters)
        client.track_nowait("other", "clicked", {"n": "other"})
        await anyio.sleep(0.1)

        assert ["other"] == [letter.call.user_id for letter in letters[before:]]


@AGAIN
async def test_row_51_a_close_waits_for_no_pause(again: Any) -> None:
    """And what it finds waiting is delivered all the same, to a client that takes no calls any more."""
    letters: list[Any] = []
    async with full(again, letters) as (client, _):
        await anyio.sleep(100)
        closing = anyio.current_time()

    judge.within_bound(anyio.current_time() - closing, 3.0)
    statistics = client.statistics()
    judge.conservation(statistics)
    assert statistics.dropped == len(letters)
    assert 0 == statistics.pending


async def test_row_51_an_on_dead_whose_own_call_is_invalid_does_not_go_round_at_full_speed() -> None:
    letters: list[Any] = []

    def reports(letter: Any) -> None:
        letters.append(letter)
        if len(letters) < MOST:
            client.track_nowait("", "call_lost")

    client = client_of(virtual_emulator(), on_dead=reports, on_invalid="dead")
    async with running(client) as userpilot:
        await userpilot.track("", "clicked")
        await anyio.sleep(600)

        assert 10 <= len(letters) <= 20
        assert len(letters) + 1 == judge.conservation(userpilot.statistics())


# ── 52 ──


class RaisingHandler(logging.Handler):
    """Fails in `emit` itself, where `logging.raiseExceptions` does not help."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.asked += 1
        raise RuntimeError("the log collector is away")


@pytest.fixture
def raising_handler() -> Iterator[RaisingHandler]:
    handler, logger = RaisingHandler(), logging.getLogger("userpilot_async")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_row_52_a_logging_handler_that_raises_costs_no_call(raising_handler: RaisingHandler) -> None:
    def raises(letter: Any) -> None:
        raise RuntimeError

    emulator = poisoned()
    emulator.faults.add(Fault(path="/v1/identify", status=401, times=1))
    client = client_of(emulator, on_dead=raises, on_invalid="dead", max_queue_calls=20, when_full="drop_newest")
    async with running(client) as userpilot:
        await track_both_kinds(userpilot)
        await userpilot.track("", "clicked")  # a line in the middle of the caller's own call
        for _ in range(30):
            userpilot.track_nowait("full", "clicked", {"n": "full"})
        report = await userpilot.flush(10)
        await userpilot.identify("u")
        await anyio.sleep(200)

    statistics = client.statistics()
    assert raising_handler.asked >= 4, "too few lines were logged to mean anything"
    assert report.complete
    assert {0, 1, 2, 3, 4} <= set(markers(emulator))
    assert {"u"} == set(emulator.store.users)
    assert {"invalid", "queue_full"} == set(statistics.lost_by_reason)
    judge.conservation(statistics)
    judge.losses_have_reasons(statistics.dead + statistics.dropped, statistics.lost_by_reason)


async def test_row_52_a_logging_handler_that_tracks_every_line_does_not_go_round_in_circles() -> None:
    class Tracks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            userpilot.track_nowait("", "line_logged")
            userpilot.track_nowait("logger", "line_logged", {"n": record.getMessage()})

    handler, logger = Tracks(), logging.getLogger("userpilot_async")
    emulator = poisoned()
    async with running(client_of(emulator, on_invalid="dead")) as userpilot:
        logger.addHandler(handler)
        try:
            await track_both_kinds(userpilot)
            report = await userpilot.flush(10)
        finally:
            logger.removeHandler(handler)

    assert report.complete
    assert {0, 1, 2, 3, 4} <= set(markers(emulator))
    judge.conservation(report.statistics)


# ── I12 ──


async def test_the_line_about_a_close_says_how_many_calls_were_lost(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="userpilot_async"):
        async with running(client_of(virtual_emulator(latency=60.0), close_timeout=1.0)) as userpilot:
            for n in range(5):
                await userpilot.track("u", "clicked", {"n": n})

    (line,) = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert line.startswith("userpilot: 5 of 5 calls dropped on close: close_timeout=1 was too short, ")
    assert "has not answered since the close began; raise close_timeout, or use an outbox" in line


async def test_losses_are_one_line_in_thirty_seconds_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    emulator = poisoned()
    caplog.set_level(logging.INFO, logger="userpilot_async")
    lines: list[tuple[float, str]] = []

    class Stamped(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((anyio.current_time(), record.getMessage().partition("reason ")[2].partition(":")[0]))

    handler, logger = Stamped(), logging.getLogger("userpilot_async")
    logger.addHandler(handler)
    try:
        async with running(client_of(emulator, on_invalid="dead")) as userpilot:
            for _ in range(300):
                await userpilot.track("u", "poison")
                await userpilot.track("", "clicked")
                await anyio.sleep(1)
            await userpilot.flush(10)
    finally:
        logger.removeHandler(handler)

    assert 1 == judge.one_line_per_reason(lines)
    assert len(lines) >= 10
