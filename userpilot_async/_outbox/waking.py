"""When a durable outbox's thread is woken for calls whose callers wait for them: not for each, but for all at once."""

from __future__ import annotations

from collections.abc import Callable

from .batch import Batch
from .write_queue import WriteQueue


class Waking:
    """Collects callers in front of the thread. ``behind`` calls something in the loop behind all tasks that are due.

    Callers who were woken together may each await another call at once: those calls go in one batch, and not the first
    alone, whose commit all others would wait for. A caller who was alone need wait for no others.
    """

    def __init__(
        self, queue: WriteQueue, wake: Callable[[], object], behind: Callable[[Callable[[], None]], object]
    ) -> None:
        self._queue = queue
        self._wake = wake
        self._behind = behind
        self._is_alone = False  # the last caller was, and no other one came meanwhile
        self.is_due = False
        """The thread is going to be woken."""

    def wake_soon(self) -> None:
        """Have the thread see what there is to do when the tasks that are due have had their turn.

        While it writes, what comes in goes with the next batch, and so with the calls of those who wait for this one.
        """
        if self._is_alone:
            self._is_alone = False
            self._now()
        else:
            self._wake_behind()

    def _wake_behind(self) -> None:
        if not self.is_due:
            self.is_due = True
            self._behind(self._now)

    def _now(self) -> None:
        self.is_due = False
        if not self._queue.is_writing:
            self._wake()

    def let_go(self, batch: Batch) -> None:
        """A batch has come to its end: calls that came in since are next, when those who waited for it have gone on.

        What else there is has woken the thread itself, and a note that was not taken is tried again at the next poll.
        """
        if self._queue.let_go(batch):
            self._is_alone = False
            self._wake_behind()
        elif batch.puts:
            self._is_alone = len(batch.puts) == 1
