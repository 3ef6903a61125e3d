"""The thread in which a durable outbox is read and written, so that the event loop waits for no disk and no network.

`WriterThread` says when, `StoreWorker` says what: the same for every `Store`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from .._errors.tree import OutboxError
from .._runtime.log import RateLimitedLog
from .batch import Batch
from .owner import Claim
from .store import Listener, Notify, NotNow, Store
from .window import Reading
from .write_queue import WriteQueue

POLL = 0.25  # seconds between two polls of what others have done, and two tries for the lease


class Work(Protocol):
    """The thread's work. No method raises, but for a bug."""

    def begin(self) -> bool:
        """Open the place; false if it is refused, and nothing is to be done."""
        ...

    def work(self, *, ends: bool) -> bool:
        """Write what has been collected, read what has been asked for; true if there is more of it to do now.

        ``ends``: all of it is to be done, and nothing is to be waited for.
        """
        ...

    def poll(self) -> None:
        """See what others have done, and to the lease; every `POLL` seconds."""
        ...

    def end(self) -> None:
        """Close the place, whatever was opened."""
        ...

    def ended(self) -> None:
        """Report that the thread has ended."""
        ...


class StoreWorker:
    """Works for one opening of an outbox: asks its store, and notifies its listener of what came of that."""

    def __init__(
        self, store: Store, claim: Claim, queue: WriteQueue, outbox: Listener, notify: Notify, log: RateLimitedLog
    ) -> None:
        self.store = store
        self._claim = claim
        self._queue = queue
        self._outbox = outbox
        self._notify = notify
        self._log = log
        self._batch: Batch | None = None  # which was taken, and is not written to its end
        self._last_read: Reading | None = None
        self._answers_again = f"{outbox.place} answers again"

    def begin(self) -> bool:
        """Open the store, and take the lease if it is free; false if the store refuses us."""
        try:
            self._notify(self._outbox.began, self.store.open(self._claim))
            self._lead()
        except OutboxError as error:
            self._notify(self._outbox.refused, error)
            return False
        except NotNow:  # the client is open all the same, and `poll` tries to find the store
            pass
        self._notify(self._outbox.opened)
        return True

    def poll(self) -> None:
        """See what others have done, and to the lease; of a sender with nothing to do, whether calls are missing.

        A place that cannot be read is no reason not to notice that the lease is lost.
        """
        self._log.flush_due()
        heard, led = self._tried(self._hear), self._tried(self._lead)
        if heard is False and led is False and self.store.leads:
            self._notify(self._outbox.polled, None)
            self._tried(self._reconcile)

    def _tried(self, do: Callable[[], bool]) -> bool | None:
        """The result of ``do``; ``None`` if the store fails."""
        try:
            return do()
        except OutboxError as error:
            self._warn(str(error))
        except NotNow:
            pass
        return None

    def _hear(self) -> bool:
        """Poll the store; true if others have done something."""
        now = self.store.poll()
        if now is not None:
            self._notify(self._outbox.polled, now)
        return now is not None

    def _lead(self) -> bool:
        """Take the lease if it is free, or keep it; true if it has just become ours."""
        led, lead = self.store.leads, self.store.lead()
        if led and not self.store.leads:
            self._notify(self._outbox.lost_lease)
        if lead is not None:
            self._notify(self._outbox.leads, lead)
        return lead is not None

    def _reconcile(self) -> bool:
        """Have the store compare calls and account, if calls are missing; true if some are to be read again."""
        read_to = self._outbox.misses_calls
        first = self.store.reconcile(read_to) if read_to is not None else None
        if first is not None:
            self._notify(self._outbox.overlooked, read_to, first)
        return first is not None

    def work(self, *, ends: bool) -> bool:
        """Write a batch, or a step of one, and read what the window asks for; true if there is more to write now.

        After a batch, those who waited for it go on first, and may have more for the next one: the loop wakes us then.
        """
        if not self.store.ready():
            return False
        try:
            more = self._has_batch() and self._write() and self._has_batch()
            if more and self._batch is None and not ends:
                more = self._queue.has_full_batch()
            self._read()
        except NotNow:
            return False
        # Not when a connection is there again: what is to be written may fail as it did before.
        self._log.over(logging.WARNING, self._answers_again)
        return more

    def _has_batch(self) -> bool:
        return self._batch is not None or self._queue.has_batch()

    def _take(self) -> Batch:
        if self._batch is None:
            self._batch = self._queue.next_batch()
        return self._batch

    def _write(self) -> bool:
        """Write what comes next; false if that failed."""
        if self._batch is not None:
            self._queue.take_up(self._batch)
        try:
            now = self.store.commit(self._take)
        except OutboxError as error:
            self._warn(str(error))
            batch, self._batch = self._take(), None
            self._queue.put_back_notes(batch)
            self._notify(self._outbox.failed, batch, error)
            return False
        except NotNow:
            if self._batch is not None:
                self._queue.park(self._batch)
                self._notify(self._outbox.tried, self._batch)
            raise
        batch = self._take()
        if now.noted:
            self._batch = None
        self._notify(self._outbox.written, batch, now)
        return True

    def _read(self) -> None:
        reading = self._outbox.reading
        if reading is None or reading is self._last_read:
            return
        try:
            read = self.store.read(reading)
        except OutboxError as error:
            self._warn(str(error))
        else:
            self._last_read = reading
            self._notify(self._outbox.arrived, reading, read)

    def _warn(self, message: str) -> None:
        self._log.warn(message, message)

    def end(self) -> None:
        """Close the store, whatever was opened."""
        self.store.close()

    def ended(self) -> None:
        """Report that the thread has ended, or those who wait for it would wait for ever."""
        self._log.close()
        self._notify(self._outbox.closed)


class WriterThread:
    """Does some work until it is stopped; `wake` says that there is something to do."""

    def __init__(self, work: Work, failed: Callable[[BaseException], object]) -> None:
        self._work = work
        self._failed = failed
        self._calls: SimpleQueue[None] = SimpleQueue()
        self.runs = False
        """The thread has not ended."""
        self._awake = False
        self._stopping = False
        self._expedited = threading.Event()

    def start(self) -> None:
        """Begin. Raises `RuntimeError` or `OSError` where the system has no thread left."""
        # A daemon: where a disk never answers, the interpreter must be able to leave. What is written is whole, or not.
        thread = threading.Thread(target=self._run, name="userpilot-outbox", daemon=True)
        self.runs = True
        try:
            thread.start()
        except BaseException:  # there are too many; or the next one to open it would wait for this one
            self.runs = False
            raise

    def wake(self) -> None:
        """Have the thread work now, and not at its next poll."""
        if not self._awake:
            self._awake = True
            self._calls.put(None)

    def stop(self) -> None:
        """Have the thread write what is left, and end."""
        self._stopping = True
        self.wake()

    def expedite(self) -> None:
        """Have the thread wait for no other process any more."""
        self._expedited.set()

    def pause(self, seconds: float) -> bool:
        """Wait so many seconds, in the thread; true if there is no more waiting."""
        return self._expedited.wait(seconds)

    def _run(self) -> None:
        try:
            self._guarded(self._live)
            self._guarded(self._work.end)
        finally:
            self.runs = False
            self._work.ended()

    def _live(self) -> None:
        if self._work.begin():
            self._go_on()

    def _guarded(self, do: Callable[[], object]) -> None:
        """Whatever ``do`` raises is a bug: reported to who listens, and no reason to leave the rest undone."""
        try:
            do()
        except BaseException as bug:
            self._failed(bug)

    def _go_on(self) -> None:
        poll_at = time.monotonic() + POLL
        more = False
        while True:
            if not more:
                with suppress(Empty):
                    self._calls.get(timeout=max(0.0, poll_at - time.monotonic()))
            self._awake = False
            stopping = self._stopping
            if time.monotonic() >= poll_at:
                self._work.poll()
                poll_at = time.monotonic() + POLL
            more = self._work.work(ends=stopping)
            if stopping and not more:
                return
