"""A bug of ours in the writer's thread, or in what it tells the loop: said once, loudly, and nobody waits for ever."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from tests.contract.inline import Client
from userpilot_async import OutboxError
from userpilot_async._calls.outcome import Outcome
from userpilot_async._outbox.durable import DurableOutbox
from userpilot_async._outbox.writer import StoreWorker
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.redis import RedisOutbox
from userpilot_async.sqlite import SQLiteOutbox

pytestmark = pytest.mark.anyio

LONGEST = 20.0  # seconds until it is clear that somebody waits for ever
NO_ROOM = Outcome("dropped", "queue_full")


class OurBug(Exception):
    """An exception that the code does not foresee."""


def broken(*_: object, **__: object) -> Any:
    raise OurBug("here")


@attrs.define
class Scene:
    """An outbox, open, and who opened it."""

    outbox: SQLiteOutbox
    client: Client

    async def bug_comes(self) -> None:
        with anyio.fail_after(LONGEST):
            while self.outbox.bug is None:
                self.outbox._session.wake()
                await anyio.sleep(0.002)

    async def thread_ends(self) -> None:
        with anyio.fail_after(LONGEST):
            while not self.outbox._session.is_closed.past:
                await anyio.sleep(0.002)

    async def hold(self) -> Any:
        with anyio.fail_after(LONGEST):
            return await self.outbox.hold("track", "u1", b"{}", 2, anyio.current_time(), None)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(tmp_path / "events.db") as scene:
        yield scene


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Scene]:
    """An open client, closed in the end, which must not take long."""
    outbox, client = SQLiteOutbox(path, durability="process"), Client()
    async with anyio.create_task_group() as tasks:
        await outbox.open(client.opening(tasks=tasks))
        yield Scene(outbox, client)
        with anyio.fail_after(LONGEST):
            await outbox.aclose()
        tasks.cancel_scope.cancel()


def in_chore(name: str) -> Callable[[Scene, pytest.MonkeyPatch], None]:
    return lambda scene, patch: patch.setattr(scene.outbox._worker, name, broken)


def in_told(name: str) -> Callable[[Scene, pytest.MonkeyPatch], None]:
    return lambda scene, patch: patch.setattr(scene.outbox._session, name, broken)


BUGS: dict[str, Callable[[Scene, pytest.MonkeyPatch], None]] = {
    "the thread, at work": in_chore("work"),
    "the thread, looking": in_chore("poll"),
    "the thread, writing": in_chore("_write"),
    "the loop, hearing of a batch": in_told("written"),
    "the loop, letting go of a batch": in_told("_pass_on"),
    "the loop, learning the account": in_told("_learn"),
    "the loop, that others listen to": in_told("_changed"),
}


async def with_bug(scene: Scene, patch: pytest.MonkeyPatch, bug: str) -> None:
    """Plant a bug that the thread, or the loop, meets: with a call to be written, at the latest."""
    BUGS[bug](scene, patch)
    scene.outbox.put("track", "u1", b"{}", 2, 0.0)
    scene.outbox.refuse(NO_ROOM)
    await scene.bug_comes()


@pytest.mark.parametrize("bug", BUGS)
async def test_a_bug_is_said_once_with_its_traceback(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bug: str
) -> None:
    await with_bug(scene, monkeypatch, bug)
    await scene.thread_ends()
    with pytest.raises(OutboxError):
        await scene.hold()
    said = [record for record in caplog.records if record.levelno >= logging.ERROR]

    assert isinstance(scene.outbox.bug, OurBug)
    assert ["userpilot_async"] == [record.name for record in said]
    assert said[0].getMessage().startswith("userpilot: ")
    assert said[0].exc_info is not None and scene.outbox.bug is said[0].exc_info[1]
    assert not scene.outbox.sends


@pytest.mark.parametrize("bug", BUGS)
async def test_after_a_bug_nobody_waits_and_no_call_raises_the_bug_itself(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    await with_bug(scene, monkeypatch, bug)
    with pytest.raises(OutboxError, match="met a bug of this library; see the log") as raised:
        await scene.hold()
    outbox = scene.outbox

    assert outbox.bug is raised.value.__cause__
    assert outbox.has_room(2), "a caller would wait for room"
    with anyio.fail_after(LONGEST):
        await scene.thread_ends()
        outbox.refuse(NO_ROOM)
        await outbox.recorded()
        assert not await outbox.send_log.sending(RequestNote("track", []))
        await outbox.aclose()
        await outbox.recorded()


@pytest.mark.parametrize("bug", BUGS)
async def test_after_a_bug_each_call_is_accounted_for(scene: Scene, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    outbox, ledger = scene.outbox, scene.outbox.ledger
    await scene.hold()
    await with_bug(scene, monkeypatch, bug)
    await scene.thread_ends()
    receipt = outbox.put("track", "u2", b"{}", 2, 0.0)
    refused = outbox.refuse(NO_ROOM)

    assert ("dropped", "outbox") == (receipt.status, receipt.reason)
    assert ("dropped", "queue_full") == (refused.status, refused.reason)
    assert (0, 0) == (outbox.unheld, outbox._session.incoming.bytes)
    assert ledger.accepted == ledger.pending + sum(ledger.losses().values())
    assert "u2" in [key for _, key, _, _ in scene.client.not_held]


async def test_who_waits_when_the_bug_comes_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    async def wait() -> None:
        with pytest.raises(OutboxError, match="met a bug"):
            await scene.hold()
        told.append("hold")

    async def wait_recorded() -> None:
        await scene.outbox.recorded()
        told.append("recorded")

    async def note() -> None:
        assert not await scene.outbox.send_log.sending(RequestNote("track", []))
        told.append("sending")

    monkeypatch.setattr(scene.outbox._worker, "_write", broken)
    monkeypatch.setattr(scene.outbox._worker, "poll", lambda: None)
    with anyio.fail_after(LONGEST):
        async with anyio.create_task_group() as tasks:
            for waiter in (wait, note, wait_recorded):
                tasks.start_soon(waiter)

    assert ["hold", "recorded", "sending"] == sorted(told)


async def test_a_bug_at_the_end_of_the_thread_keeps_nobody_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    end = scene.outbox._worker.end

    def end_badly() -> None:
        end()  # a file that stays open would be told of in another test, whenever it is collected
        broken()

    monkeypatch.setattr(scene.outbox._worker, "end", end_badly)
    with anyio.fail_after(LONGEST):
        await scene.outbox.aclose()

    assert isinstance(scene.outbox.bug, OurBug)
    assert 1 == len([record for record in caplog.records if record.levelno >= logging.ERROR])


@pytest.mark.parametrize("where", ["begin", "_lead"])
async def test_a_bug_at_the_opening_is_an_outbox_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """And the next opening does not wait for the thread that met it."""
    with monkeypatch.context() as patched:
        patched.setattr(StoreWorker, where, broken)
        outbox = SQLiteOutbox(tmp_path / "events.db")
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(LONGEST), pytest.raises(OutboxError, match="met a bug") as raised:
                await outbox.open(Client().opening(tasks=tasks))
            tasks.cancel_scope.cancel()
    assert isinstance(raised.value.__cause__, OurBug)

    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(LONGEST):
            await outbox.open(Client().opening(tasks=tasks))
            await outbox.aclose()
        tasks.cancel_scope.cancel()
    assert outbox.bug is None


async def test_where_no_thread_can_be_started_opening_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    outbox = SQLiteOutbox(tmp_path / "events.db")
    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", refuse)
        async with anyio.create_task_group() as tasks:
            with pytest.raises(OutboxError, match="no thread can be started"):
                await outbox.open(Client().opening(tasks=tasks))
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(LONGEST):
            await outbox.open(Client().opening(tasks=tasks))
            await outbox.aclose()
        tasks.cancel_scope.cancel()


async def test_a_handler_that_raises_keeps_nobody_waiting(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the application's own")

    handler, logger = Broken(), logging.getLogger("userpilot_async")
    logger.addHandler(handler)
    try:
        await with_bug(scene, monkeypatch, "the thread, writing")
        await scene.thread_ends()
        with pytest.raises(OutboxError):
            await scene.hold()
    finally:
        logger.removeHandler(handler)


async def test_a_bug_in_the_thread_of_an_outbox_in_redis_is_the_same(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outbox, client = RedisOutbox(redis_url, max_calls=1, fallback="memory"), Client()
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(LONGEST):
            await outbox.open(client.opening(tasks=tasks))
            monkeypatch.setattr(outbox._worker, "work", broken)
            waiting = outbox.put("track", "u1", b"{}", 2, 0.0)
            while not outbox._session.is_closed.past:
                await anyio.sleep(0.002)
            receipt = outbox.put("track", "u2", b"{}", 2, 0.0)
            with pytest.raises(OutboxError, match="met a bug of this library"):
                await outbox.hold("track", "u3", b"{}", 2, 0.0, None)
            await outbox.recorded()
            await outbox.aclose()
        tasks.cancel_scope.cancel()

    assert isinstance(outbox.bug, OurBug)
    assert {"outbox"} == {waiting.reason, receipt.reason}
    assert outbox.has_room(2)
    assert ["u1", "u2"] == [key for _, key, _, _ in client.not_held]
    assert 1 == len([record for record in caplog.records if record.levelno >= logging.ERROR])


def test_the_sender_meets_the_bug_itself() -> None:
    """The sender ends with the bug, and says where it met it; `bug` is raised where the client is left."""
    outbox = DurableOutbox(sender=True, max_bytes=10)
    assert outbox.bug is None
    outbox._session.bug.met = OurBug()
    with pytest.raises(OurBug):
        outbox.take(10)
    assert isinstance(outbox.bug, OurBug)
