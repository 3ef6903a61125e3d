"""Which calls go into a durable outbox together, and when its thread waits for the loop: with the thread it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import attrs
import pytest

from tests.contract.inline import InlineOutbox, at_once, open_now
from tests.contract.test_outbox_threads import LONGEST, NO_ROOM, hold, opened, until
from userpilot_async import OutboxError
from userpilot_async._outbox import write_queue, writer
from userpilot_async.sqlite import SQLiteOutbox

pytestmark = pytest.mark.anyio

# trio has no order among tasks that are due.
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


@attrs.define
class Watched:
    """An outbox whose thread does nothing unless it is woken, and writes when it may."""

    outbox: SQLiteOutbox
    may_write: Event = attrs.field(factory=Event)
    begun: list[int] = attrs.field(factory=list)
    """How many calls are in each batch that was taken."""
    woken: list[int] = attrs.field(factory=list)
    """How many calls waited each time that the thread was woken."""
    refuses: bool = False
    """The place takes nothing."""

    def watch(self) -> None:
        store: Any = self.outbox._worker.store  # type: ignore[union-attr]  # it is open
        commit = store.commit

        def watched(take: Any) -> Any:
            self.begun.append(len(take().puts))
            assert self.may_write.wait(LONGEST)
            if self.refuses:
                raise OutboxError("it takes nothing")
            return commit(take)

        store.commit = watched
        thread: Any = self.outbox._writer
        wake = thread.wake

        def woken() -> None:
            self.woken.append(self.waiting)
            wake()

        thread.wake = woken

    @property
    def waiting(self) -> int:
        """Calls that nobody has taken yet."""
        return sum(len(batch.puts) for batch in self.outbox._session.queue._waiting)


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(writer, "POLL", 3_600.0)
    outbox = SQLiteOutbox(tmp_path / "host" / "events.db", durability="process", sender=False)
    async with opened(outbox):
        watched = Watched(outbox)
        watched.watch()
        yield watched
        watched.may_write.set()


@ON_ASYNCIO
async def test_callers_who_go_on_together_are_in_one_batch(watched: Watched) -> None:
    watched.may_write.set()

    async def track() -> None:
        for number in range(3):
            await hold(watched.outbox, "u1", number)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(track)

    assert [20, 20, 20] == watched.woken == watched.begun


@ON_ASYNCIO
async def test_callers_who_waited_for_a_batch_are_in_the_next_one_with_those_who_came_meanwhile(
    watched: Watched,
) -> None:
    async def track(calls: int) -> None:
        for number in range(calls):
            await hold(watched.outbox, "u1", number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(track, 2)
        await until(lambda: watched.begun)
        for _ in range(19):
            tasks.start_soon(track, 1)
        await until(lambda: watched.waiting == 19)
        watched.may_write.set()

    assert [1, 20] == watched.woken == watched.begun


@ON_ASYNCIO
async def test_a_call_that_nobody_waits_for_is_written_while_the_loop_stands_still(watched: Watched) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold, watched.outbox)
        await until(lambda: watched.begun)
        receipt = watched.outbox.put("track", "u1", b"1", 1, 0.0)
        watched.may_write.set()
        stands_until = Event()
        store: Any = watched.outbox._worker.store  # type: ignore[union-attr]  # it is open
        commit = store.commit

        def noticed(take: Any) -> Any:
            stands_until.set()
            return commit(take)

        store.commit = noticed
        came = stands_until.wait(LONGEST)  # and nothing is awaited

    await until(lambda: receipt.id >= 0)
    assert came
    assert [1, 1] == watched.begun


@ON_ASYNCIO
async def test_a_note_that_is_not_taken_is_tried_again_at_the_next_poll_and_not_at_once(watched: Watched) -> None:
    watched.may_write.set()
    watched.refuses = True
    session, ends = watched.outbox._session, list[bool]()
    failed = session.failed

    def noticed(*arguments: Any) -> None:
        failed(*arguments)
        ends.append(session.waking.is_due)

    session.failed = noticed  # type: ignore[method-assign]
    watched.outbox.refuse(NO_ROOM)
    await until(lambda: ends)
    watched.refuses = False

    assert [False] == ends


@pytest.fixture
def worked(tmp_path: Path) -> Iterator[InlineOutbox]:
    """An outbox into which a call comes whenever it has written something, and whose thread works when it is told."""
    outbox = InlineOutbox(tmp_path / "host" / "events.db")
    open_now(outbox)
    outbox.writer.runs = False
    outbox.put("track", "u1", b"1", 1, 0.0)
    commit = outbox.store.commit

    def and_one_more(take: Any) -> Any:
        now = commit(take)
        outbox.put("track", "u1", b"1", 1, 0.0)
        return now

    outbox.store.commit = and_one_more
    yield outbox
    outbox.store.commit = commit
    outbox.writer.runs = True
    at_once(outbox.aclose())


def test_after_a_batch_the_thread_waits_for_the_loop_unless_it_ends(worked: InlineOutbox) -> None:
    worker = worked.writer.worker

    assert not worker.work(ends=False)
    assert 1 == len(worked._session.queue.open_puts())
    assert worker.work(ends=True)


def test_after_a_batch_the_thread_does_not_wait_where_the_next_one_is_full(
    worked: InlineOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, "MOST_PUTS", 1)
    worked.put("track", "u1", b"1", 1, 0.0)

    assert worked.writer.worker.work(ends=False)
