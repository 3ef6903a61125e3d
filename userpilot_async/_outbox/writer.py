"""The thread in which a durable outbox is read and written, so that the event loop waits for no disk and no network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

POLL = 0.25  # seconds between two looks at what others have done, and two tries for the lease


class Chores(Protocol):
    """What the thread does. None of these raises, but for a bug."""

    def begin(self) -> bool:
        """Open it; false if that is all."""
        ...

    def work(self) -> bool:
        """Write what has been collected, read what has been asked for; true if there is more of it."""
        ...

    def look(self) -> None:
        """See what others have done; every `POLL` seconds."""
        ...

    def end(self) -> None:
        """Close it."""
        ...

    def ended(self) -> None:
        """Say so."""
        ...


class WriterThread:
    """Runs chores until it is stopped; `wake` says that there is something to do."""

    def __init__(self, chores: Chores, failed: Callable[[BaseException], object]) -> None:
        self._chores = chores
        self._failed = failed
        self._calls: SimpleQueue[None] = SimpleQueue()
        self.runs = False
        """The thread has not ended."""
        self._awake = False
        self._stopping = False
        self._hurried = threading.Event()

    def start(self) -> None:
        """Begin."""
        # A daemon: where a disk never answers, the interpreter must be able to leave. What is written is whole, or not.
        thread = threading.Thread(target=self._run, name="userpilot-outbox", daemon=True)
        self.runs = True
        try:
            thread.start()
        except BaseException:  # there are too many; or whoever opens it next would wait for this one
            self.runs = False
            raise

    def wake(self) -> None:
        """Do not wait for the next look."""
        if not self._awake:
            self._awake = True
            self._calls.put(None)

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stopping = True
        self.wake()

    def hurry(self) -> None:
        """Do not wait for anybody any more."""
        self._hurried.set()

    def pause(self, seconds: float) -> bool:
        """Wait, in the thread; true if there is no more waiting."""
        return self._hurried.wait(seconds)

    def _run(self) -> None:
        try:
            self._guarded(self._live)
            self._guarded(self._chores.end)
        finally:
            self.runs = False
            self._chores.ended()

    def _live(self) -> None:
        if self._chores.begin():
            self._work()

    def _guarded(self, do: Callable[[], object]) -> None:
        """Whatever it raises is a bug: said where somebody listens, and no reason to leave the rest undone."""
        try:
            do()
        except BaseException as bug:
            self._failed(bug)

    def _work(self) -> None:
        look_at = time.monotonic() + POLL
        more = False
        while True:
            if not more:
                with suppress(Empty):
                    self._calls.get(timeout=max(0.0, look_at - time.monotonic()))
            self._awake = False
            stopping = self._stopping
            if time.monotonic() >= look_at:
                self._chores.look()
                look_at = time.monotonic() + POLL
            more = self._chores.work()
            if stopping and not more:
                return
