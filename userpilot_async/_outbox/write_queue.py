"""Batches between the event loop, which collects them, and the writer's thread, which writes them; and their lock.

A batch is *collecting* (the last of the line), *waiting* behind the one that is written, *in hand* while the thread
writes it, or *parked* until the next try: a place that is away has not taken it, or may have.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence

from .batch import Batch, Put

MOST_PUTS = 1_000  # calls written in one transaction


class WriteQueue:
    """The batches, which both threads touch, under the lock. ``most_at_once``: bytes of the calls of one batch."""

    def __init__(self, most_at_once: float = math.inf) -> None:
        # A signal handler, or a finaliser, may put a call while this very thread holds it.
        self.lock: threading.RLock = threading.RLock()
        self.term: int = 0
        """How often the lease was lost; what an earlier sender has noted is worth nothing."""
        self._most_at_once = most_at_once
        self._waiting = deque([Batch()])
        self._in_hand: Batch | None = None
        self._parked: Batch | None = None

    # ── for the loop ──

    def put(self, put: Put) -> Batch:
        """Add a call to a batch that has room for it; that batch."""
        with self.lock:
            batch = self._waiting[-1]
            if len(batch.puts) >= MOST_PUTS or (batch.puts and batch.size + put.size > self._most_at_once):
                batch = Batch(self.term)
                self._waiting.append(batch)
            batch.puts.append(put)
            batch.size += put.size
        return batch

    def note(self, add: Callable[[Batch], object]) -> Batch:
        """Have ``add`` put something else into the batch that is collecting; that batch."""
        with self.lock:
            batch = self._waiting[-1]
            add(batch)
        return batch

    def withdraw(self, put: Put, batch: Batch) -> bool:
        """Take a call back; false if the thread has its batch in hand, or is done with it."""
        with self.lock:
            if batch is self._parked and not batch.done.past:
                put.withdrawn = True
            elif batch in self._waiting:
                batch.puts.remove(put)
            else:
                return False
        return True

    def withdraw_unawaited(self) -> Sequence[Put]:
        """Take back all calls that no caller waits for, but those of the batch in hand; these calls."""
        with self.lock:
            batches = [batch for batch in self.batches() if batch is not self._in_hand and not batch.done.past]
            puts = [put for batch in batches for put in batch.puts if not put.withdrawn and not put.awaited]
            for put in puts:
                put.withdrawn = True
        return puts

    def open_puts(self) -> Sequence[Put]:
        """All calls of which it is not known yet what becomes of them."""
        with self.lock:
            return [put for one in self.batches() if not one.done.past for put in one.puts if not put.withdrawn]

    def batches(self) -> list[Batch]:
        """All batches that are to be written, or being written, the oldest first."""
        with self.lock:
            return [batch for batch in (self._in_hand, self._parked, *self._waiting) if batch is not None]

    def let_go(self, batch: Batch) -> bool:
        """A batch has come to its end; true if calls wait to be taken by the thread."""
        with self.lock:
            if self._in_hand is batch:  # the thread may have taken the next one already
                self._in_hand = None
            return any(batch.puts for batch in self._waiting)

    def begin_term(self, term: int) -> None:
        """Collect in a batch of a new term from now on."""
        with self.lock:
            self.term = term
            self._waiting.append(Batch(term))

    # ── for either ──

    @property
    def is_writing(self) -> bool:
        """The thread has a batch in hand."""
        return self._in_hand is not None

    def has_batch(self) -> bool:
        """A batch waits with something in it."""
        with self.lock:
            if len(self._waiting) == 1:
                return not self._waiting[0].is_empty()
            return not all(batch.is_empty() for batch in tuple(self._waiting))  # a copy, as a signal may add one

    # ── for the thread ──

    def has_full_batch(self) -> bool:
        """A batch waits to which nothing is added any more."""
        with self.lock:
            return len(self._waiting) > 1

    def next_batch(self) -> Batch:
        """Take what has been collected, to be written now."""
        with self.lock:
            while len(self._waiting) > 1 and self._waiting[0].is_empty():
                self._waiting.popleft()
            batch = self._in_hand = self._waiting.popleft()
            if not self._waiting:
                self._waiting.append(Batch(self.term))
            return batch

    def put_back_notes(self, batch: Batch) -> None:
        """Write the notes of a batch that has failed with the next one."""
        with self.lock:
            self._waiting[0].take_in(batch)

    def park(self, batch: Batch) -> None:
        """Let calls of a batch be withdrawn until it is tried again."""
        with self.lock:
            self._in_hand, self._parked = None, batch

    def take_up(self, batch: Batch) -> None:
        """Try a batch again: no call is taken back any more, and those taken back before are not in it."""
        with self.lock:
            self._in_hand, self._parked = batch, None
            batch.puts = [put for put in batch.puts if not put.withdrawn]
