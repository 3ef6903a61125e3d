"""When rows become a file, and what the job slot wants done about it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..._calls.rows import MAX_ROWS, Row, RowState, cut
from ..._protocol.jobs import expected_duration
from ..destination import Files
from ..job_batch import Batch
from ..job_slot import JobSlot, SlotState
from ..key_queue import KeyQueue
from ..queues import Queues
from ..takeover import UnfinishedFile

LONGEST_RESUME = 30.0  # seconds until the rows of a file that was taken over have to be there
LONGEST_LINGER = 15.0  # seconds that a file waits for a pause in the updates; 10,000 rows take the server 333


class BulkRoute:
    """Fills the slot from the key queues. Without ``files`` it never does, and knows when a row has lingered enough."""

    def __init__(self, files: Files | None, slot: JobSlot, queues: Queues, linger: float, now: float) -> None:
        self._files = files
        self._slot = slot
        self._queues = queues
        self._linger = linger
        self.latest = dict.fromkeys(queues.by_key, now)
        """When the newest identify came, by what it is of."""
        self._filed_at = dict.fromkeys(queues.by_key, -math.inf)
        self.resuming: Batch | None = None
        """A file that was taken over, while its rows come in."""
        self._unfinished: UnfinishedFile | None = None
        self._last_call = -1

    def resume(self, file: UnfinishedFile, now: float) -> None:
        """Take over a file whose rows are about to come in."""
        if self._files is None or file.kind not in self._files.submit or not file.last_calls:
            return
        self.resuming = self._slot.resume(file.kind, file.filename, now + LONGEST_RESUME)
        self._unfinished, self._last_call = file, max(file.last_calls.values())

    def rejoins(self, queue: KeyQueue, said: Row) -> Row | None:
        """The row in the file that a call is part of, with what it says in it; ``None`` if it is of none.

        A file had all that waited of a user up to one call. Where something lies before that now, the row is none of
        the file's any more, and is sent again.
        """
        file, batch = self._unfinished, self.resuming
        assert file is not None
        assert batch is not None
        if self._slot.batch is not batch or self._slot.state is SlotState.SUBMITTING:
            self.resuming = None  # its time was over
        elif queue.kind == batch.kind and said.said_by <= file.last_calls.get(queue.key, -1):
            row = queue.claimed_row
            if row is not None and row.state is RowState.BATCHED:
                row.absorb(said)
                return row
            if row is None and not queue.calls:
                queue.rejoin_row(said)
                batch.rows.append(said)
                batch.lines += 1
                self._queues.came_in(queue)
                return said
        return None

    def came_in(self, call_id: int, now: float) -> None:
        """So far have calls come in: if that is the file's end, it is looked for now."""
        if self.resuming is not None and call_id >= self._last_call:
            self.resuming = None
            self._slot.resumed(now)

    def takes(self, waiting: Mapping[str, KeyQueue]) -> bool:
        """So many of a kind go as a file."""
        return self._files is not None and len(waiting) > self._files.threshold

    def ripe_at(self, queue: KeyQueue, now: float, hurry: int) -> float:
        """When its head has lingered long enough for others to merge with."""
        head = queue.calls[0]
        assert isinstance(head, Row)
        return now if hurry else head.accepted_at + self._linger

    def _file_ripe_at(self, kind: str, waiting: Mapping[str, KeyQueue], now: float, hurry: int) -> float:
        """A file waits for updates to pause, because the job will take so much longer; but not for ever."""
        first = self.ripe_at(next(iter(waiting.values())), now, hurry)
        if first > now or hurry:
            return first
        linger = min(LONGEST_LINGER, expected_duration(len(waiting)) / 10)
        return min(self.latest[kind] + self._linger, first + linger)

    def fill_slot(self, now: float, hurry: int, may_start: bool) -> float:
        """Start a file if there are rows enough; else say when there may be."""
        earliest = math.inf
        for kind in sorted(self._files.submit if self._files else (), key=self._filed_at.__getitem__):
            waiting = self._queues.merging[kind]
            if not self.takes(waiting):
                continue
            ripe = self._file_ripe_at(kind, waiting, now, hurry)
            if ripe > now:
                earliest = min(earliest, ripe)
            elif not self._slot.takes_rows(now):
                earliest = min(earliest, self._slot.opens_at())
            elif not may_start:
                earliest = now
            else:
                self._start(kind, waiting, now)
        return earliest

    def _start(self, kind: str, waiting: Mapping[str, KeyQueue], now: float) -> None:
        heads = (queue.calls[0] for queue in waiting.values())
        rows = cut((row for row in heads if isinstance(row, Row)), MAX_ROWS, self._slot.max_bytes)
        self._slot.start(kind, rows, len(rows))
        for row in rows:
            queue = waiting[row.key]
            queue.claim_row(row)
            self._queues.place(queue)
        self._filed_at[kind] = now
