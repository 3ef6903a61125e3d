"""Rows in bulk: when enough of them wait they become a file, and the file a job of the server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from ..._calls.outcome import BY_BULK
from ..._calls.rows import MAX_ROWS, FiledRow, Row, RowState, cut, size_waiting
from ..._protocol.jobs import expected_duration
from ..destination import Files
from ..job_batch import Batch, JobEffect, Step
from ..job_slot import JobSlot
from ..key_queue import KeyQueue
from ..queues import Queues
from ..takeover import UnfinishedFile
from .context import RouteContext
from .file_route import FileRoute, new_pages

LONGEST_LINGER = 15.0  # seconds that a file waits for a pause in the updates; 10,000 rows take the server 333


SLICE = 1_000  # rows put into a file in one go: half a millisecond of the application's loop


class BulkFileBuilder:
    """A file in the making, of rows of a ``kind`` that nothing waits behind: about ``max_bytes`` of them at most."""

    def __init__(self, queues: Queues, kind: str, max_bytes: int) -> None:
        self.kind = kind
        self.rows: list[FiledRow] = []
        self._queues = queues
        self._room = max_bytes

    def go_on(self) -> bool:
        """Take some more rows; true when the file is complete."""
        most, least = min(SLICE, MAX_ROWS - len(self.rows)), 0 if self.rows else 1
        rows = cut(self._queues.merging.in_order(self.kind), most, self._room, least)
        for row in rows:
            self._queues.file(self.kind, row)
        self.rows += rows
        self._room -= sum(map(size_waiting, rows))
        return len(rows) < most or len(self.rows) == MAX_ROWS


class BulkRoute(FileRoute):
    """Fills files with rows that nothing waits behind; the kinds take turns at the one job slot."""

    name = "files"
    delivers = BY_BULK

    def __init__(self, context: RouteContext, files: Files) -> None:
        slot = JobSlot(
            context.filename, context.chance, files.job_timeout, takes_arrays=bool(files.arrays),
            new_pages=new_pages(files, context.server),
        )  # fmt: skip
        super().__init__(context, files, slot, files.poll)
        self._bulk = files
        self._filed_at = dict.fromkeys(files.submit, -math.inf)
        self._gathering: BulkFileBuilder | None = None

    def takes(self, rows: int, now: float) -> bool:
        """So many of a kind go as a file, unless another's job holds the slot, or bulk does not work."""
        is_shut = self.slot.foreign_until > now or self.gate.opens_at(now) > now
        return rows > self._bulk.threshold and not is_shut

    def fill_slot(self, now: float, *, may_start: bool) -> float:
        """Start a file if there are rows enough; else say when there may be."""
        if self._gathering is not None:
            if self._gathering.go_on():
                self._start(self._gathering, now)
            return now
        earliest = math.inf
        for kind in sorted(self._bulk.submit, key=self._filed_at.__getitem__):
            if self._queues.merging.number(kind) <= self._bulk.threshold:
                continue
            ripe = self._ripe_at(kind, now)
            if ripe > now:
                earliest = min(earliest, ripe)
            elif not self.slot.takes_rows(now):
                earliest = min(earliest, self.slot.opens_at())
            elif not may_start:
                earliest = now
            else:
                self._gathering = BulkFileBuilder(self._queues, kind, self.slot.max_bytes)
                return now
        return earliest

    def _ripe_at(self, kind: str, now: float) -> float:
        """A file waits for updates to pause, because the job will take so much longer; but not for ever."""
        urgency = self._context.urgency
        first = urgency.ripe_at(self._queues.merging.since(kind), now)
        if first > now or urgency.expedited:
            return first
        linger = min(LONGEST_LINGER, expected_duration(self._queues.merging.number(kind)) / 10)
        return min(urgency.newest.get(kind, -math.inf) + urgency.linger, first + linger)

    def _start(self, gathered: BulkFileBuilder, now: float) -> None:
        self.slot.start(gathered.kind, gathered.rows, len(gathered.rows))
        self._filed_at[gathered.kind] = now
        self._gathering = None

    def lines_of(self, batch: Batch) -> Iterator[bytes]:
        """The rows of a file, a line each."""
        return map(partial(self._bulk.line, batch.kind), batch.rows)

    def array_of(self, step: Step) -> str:
        """Rows go as an array where the server has refused them as a file."""
        return self._bulk.arrays[step.batch.kind] if step.form == "array" else ""

    def heard(self, step: Step, effect: JobEffect, now: float) -> None:
        """Nothing: the slot knows all that matters."""

    def abandon(self) -> None:
        """The end: what was being gathered is as if it had been in a file."""
        if self._gathering is not None:
            self._start(self._gathering, -math.inf)

    def is_ours(self, file: UnfinishedFile) -> bool:
        """A file of rows of some kind."""
        return file.kind in self._bulk.submit

    def rejoin_row(self, queue: KeyQueue, row: Row) -> Row | None:
        """Where something lies before the row that a file had, it is none of the file's any more."""
        batch = self.had(queue, row.said_by)
        if batch is None or queue.kind != batch.kind:
            return None
        in_file = queue.claimed_row
        if in_file is not None and in_file.state is RowState.BATCHED:
            in_file.absorb(row)
            return in_file
        if in_file is None and not queue.calls:
            queue.rejoin_row(row)
            batch.rows.append(row)
            batch.lines += 1
            self._queues.came_in(queue)
            return row
        return None
