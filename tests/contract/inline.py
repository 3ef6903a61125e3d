"""Outboxes without a loop and without a thread: for tests that do one thing after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import attrs
from anyio.abc import TaskGroup

from userpilot_async._calls.payload import Key, Kind, Payload
from userpilot_async._errors.tree import OutboxError
from userpilot_async._outbox.protocol import Opening, Outbox
from userpilot_async._outbox.session import Session
from userpilot_async._outbox.writer import StoreWorker
from userpilot_async._runtime import clocks
from userpilot_async._schedule.calendar import Calendar, Clocks
from userpilot_async.sqlite import SQLiteOutbox
from userpilot_async.sqlite._file import File
from userpilot_async.sqlite._store import SQLiteStore

T = TypeVar("T")


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that finds nothing to wait for; `AssertionError` if it waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise AssertionError(f"{coroutine!r} waits")


@attrs.define
class Client:
    """A client that opens an outbox: a clock to set, and what the outbox reported."""

    time: float = 0.0
    clocks: Callable[[], Clocks] = clocks.read
    key: str = "KEY"
    destination: str = "a server"
    changes: int = 0
    not_held: list[tuple[Kind, Key, Payload, OutboxError]] = attrs.field(factory=list)
    pairs: list[tuple[str, str]] = attrs.field(factory=list)

    def opening(self, max_calls: int = 10**9, max_bytes: int = 10**12, tasks: TaskGroup | None = None) -> Opening:
        """With room for all that a test may put, unless it says otherwise."""
        return Opening(
            max_calls=max_calls,
            max_bytes=max_bytes,
            destination=self.destination,
            fingerprint=lambda salt: f"{self.key} {salt.hex()}",
            now=lambda: self.time,
            calendar=Calendar(self.clocks, self.time),
            changed=self._changed,
            tasks=tasks or _NoTasks(),  # type: ignore[arg-type]  # all that is asked of it
            failed=lambda *call: self.not_held.append(call),
            learn_pairs=self.pairs.extend,
        )

    def _changed(self) -> None:
        self.changes += 1


class _NoTasks:
    """Where there is no loop, nothing goes on in it."""

    def start_soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Do nothing: no task is started here."""


def open_now(outbox: Outbox, opening: Opening | None = None) -> None:
    """Open an outbox that has no thread."""
    # Not `at_once`: it asks for the loop that it is opened in, though this one is gone before anybody calls it.
    asyncio.run(outbox.open(opening or Client().opening()))


class InlineWriter:
    """The work of the thread, done at once by the caller that wakes it."""

    def __init__(self, worker: StoreWorker) -> None:
        self.worker = worker
        self.runs = False
        self._working = False
        self._again = False

    def start(self) -> None:
        """Open the store, and write what waits."""
        self.runs = self.worker.begin()
        if self.runs:
            self.wake()
        else:
            self._end()

    def wake(self) -> None:
        """Work until there is no more. Called from within that work, it goes round once more."""
        self._again = True
        if self._working or not self.runs:
            return
        self._working = True
        try:
            while self._again:
                self._again = False
                while self.worker.work(ends=True):
                    pass
        finally:
            self._working = False

    def stop(self) -> None:
        """Write what is left, and close the file."""
        if self.runs:
            self.wake()
            self.runs = False
            self._end()

    def kill(self) -> None:
        """Do nothing any more, whatever is left."""
        self.runs = False

    def _end(self) -> None:
        self.worker.end()
        self.worker.ended()

    def expedite(self) -> None:
        """Do nothing: this writer never waits."""

    def pause(self, seconds: float) -> bool:
        """Fail the test: other processes hold the lock only while they work."""
        raise AssertionError("the file's lock was not given back")


_dead: list[File] = []


def bury_the_dead() -> None:
    """Close the connections of those that died: left to the garbage collector, Python 3.13 warns of them."""
    while _dead:
        _dead.pop().disconnect()


class Inline:
    """Written and read by whoever calls. With ``passes_on`` false, all that is taken was read."""

    passes_on = True
    writer: InlineWriter
    _worker: StoreWorker

    @property
    def store(self) -> Any:
        """The store that the thread would use."""
        return self._worker.store

    def _new_writer(self, worker: StoreWorker, failed: Callable[[BaseException], object]) -> Any:
        self.writer = InlineWriter(worker)
        return self.writer

    def _new_session(self) -> Session:
        session: Session = super()._new_session()  # type: ignore[misc]  # of the outbox that this is mixed into
        # At once; what a function raises goes to the test.
        session.notify = lambda function, *arguments: function(*arguments)  # type: ignore[method-assign]
        session.call_behind = lambda function: function()  # type: ignore[method-assign]
        if not self.passes_on:
            session._pass_on = lambda batch, now: None  # type: ignore[method-assign]
        return session

    def poll(self) -> None:
        """Do what the thread does every quarter of a second."""
        self.writer.worker.poll()
        self.writer.wake()


class InlineOutbox(Inline, SQLiteOutbox):
    """An outbox in a file, without a thread."""

    wall = staticmethod(clocks.wall)
    steady = staticmethod(clocks.steady)
    boot = staticmethod(clocks.boot_here)
    """The clocks by which calls are dated, and tokens come back."""

    def _new_session(self) -> Session:
        session = super()._new_session()
        session.steady = self.steady
        return session

    def _new_store(self) -> SQLiteStore:
        file = File(
            self.path, self._durability, pause=self._pause, wall=self.wall, steady=self.steady, boot=self.boot,
            warn=self._warn,
        )  # fmt: skip
        return SQLiteStore(file, may_send=self._may_send, learn=self._session.learn_pairs)

    def die(self) -> None:
        """As the process would: nothing more is written, and the operating system takes its locks back."""
        file: File = self.store.file
        self.writer.kill()
        self._in_use = False
        file.let_go_of_locks()
        _dead.append(file)
