"""Calls on their way out of a durable outbox: settled by its sender, and counted as held until that is recorded."""

from __future__ import annotations

from collections.abc import Callable

from .._schedule.settlement import Settlement
from .batch import Batch
from .write_queue import WriteQueue


class Outgoing:
    """The calls of one opening; ``wake`` wakes the thread, which records what became of them."""

    def __init__(self, queue: WriteQueue, wake: Callable[[], object]) -> None:
        self.calls = 0
        self.bytes = 0
        self._queue = queue
        self._wake = wake

    def settle(self, settlement: Settlement) -> None:
        """Have it written what became of calls, as soon as can be."""
        # A row without calls, made of what others say, takes no room there.
        freed = settlement.size if settlement.carriers or settlement.merged else 0
        self.bytes += freed
        self.calls += len(settlement.carriers) + len(settlement.merged)
        self._queue.note(lambda batch: batch.settle(settlement, freed))
        self._wake()

    def recorded(self, batch: Batch) -> None:
        """The calls that are settled in this batch have left, if they were on their way in this term."""
        if batch.term == self._queue.term:
            self.bytes -= batch.freed
            self.calls -= batch.leaving

    def clear(self) -> None:
        """Nothing is on its way any more: another term begins."""
        self.calls = self.bytes = 0
