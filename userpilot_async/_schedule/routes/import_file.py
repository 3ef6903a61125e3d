"""Filling a file of the Import API: a person's pending identify, and the events behind it.

A backlog may be 100,000 events of one person, or of 100,000. So this is done a little at a time, between other things.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat

from ..._calls.payload import WaitingEvent, event_id, waiting_body
from ..._calls.rows import EVENT_HEAD, Row, RowState
from ..key_queue import KeyQueue, QueueState
from ..queues import Queues
from .events import EventRoute

CHUNK = 500  # events taken out of a lane at once
WEIGHT = 5  # events are as much work as one lane
SLICE = 100  # lanes looked at in one go
FREE = (QueueState.TRACKS, QueueState.URGENT, QueueState.LATE, QueueState.ASLEEP)


class ImportFileBuilder:
    """One file: ``lanes`` are whose events may be in it, ``late_only`` those of them that are late."""

    def __init__(
        self, lines: Queues, arrays: EventRoute, lanes: Iterable[KeyQueue], max_bytes: int, max_lines: int, *,
        late_only: bool,
    ) -> None:  # fmt: skip
        self.rows: list[Row] = []
        self.lines = 0
        """So many lines does the file have."""
        self._lines = lines
        self._arrays = arrays
        self._room = max_bytes
        self._max_lines = max_lines
        self._late_only = late_only
        self._busy: list[KeyQueue] = []
        self._work = self._gather(list(lanes))
        self._wait_until = 0.0

    def go_on(self, now: float, patience: float) -> float | None:
        """Do a little; when to go on, or ``None`` when the file is complete.

        People with a request under way are waited for ``patience`` seconds at most.
        """
        if sum(1 for _ in islice(self._work, SLICE)) == SLICE:
            return now
        if not self._busy:
            return None
        self._wait_until = self._wait_until or now + patience
        if now < self._wait_until and any(lane.place is QueueState.BUSY for lane in self._busy):
            return self._wait_until
        came_back, self._busy = self._busy, []
        self._work = self._gather(came_back, wait=False)
        return now

    def end(self) -> None:
        """Those that were waited for may go on."""
        for lane in self._busy:
            self._lines.let_go(lane)

    def _gather(self, lanes: Iterable[KeyQueue], *, wait: bool = True) -> Iterator[None]:
        for lane in lanes:
            if not wait:
                self._lines.let_go(lane)  # and take it at once, before something of it goes
            if self._room <= 0 or self.lines >= self._max_lines:
                if wait:
                    return
                continue
            if lane.place is QueueState.BUSY and wait and not self._late_only:
                lane.held = True  # when its request comes back, nothing else goes
                self._busy.append(lane)
            elif lane.place in FREE and (lane.place is QueueState.LATE or not self._late_only):
                yield from self._take(lane)
            yield

    def _take(self, lane: KeyQueue) -> Iterator[None]:
        """All that waits of this person, as far as there is room, and no further than to the next row."""
        first = lane.first_event
        if first is None or event_id(first) <= lane.slow_until or lane.batched is not None:
            return
        if self.rows and self._room < EVENT_HEAD + len(waiting_body(first)):
            self._room = 0
            return
        head = lane.calls[0]
        row = head if isinstance(head, Row) else no_row(lane)
        start = 0 if head is first else 1
        if start:
            row.state = RowState.BATCHED
        row.events = []
        lane.batched, lane.held, lane.late = row, True, False
        lane.newest = None if lane.newest is row else lane.newest
        self._lines.take(lane, QueueState.PARKED)
        self.rows.append(row)
        self.lines += start
        self._room -= start * (row.size + EVENT_HEAD)
        while chunk := self._chunk(lane.calls[start : start + CHUNK], row):
            row.events += chunk
            del lane.calls[start : start + len(chunk)]
            self._arrays.waiting -= len(chunk)
            self.lines += len(chunk)
            yield from repeat(None, len(chunk) // WEIGHT)

    def _chunk(self, calls: Sequence[object], row: Row) -> list[WaitingEvent]:
        chunk: list[WaitingEvent] = []
        for call in calls:
            if type(call) is not tuple or self.lines + len(chunk) >= self._max_lines:
                break
            size = EVENT_HEAD + len(waiting_body(call))
            if size > self._room and (row.events or chunk):
                self._room = 0
                break
            self._room -= size
            chunk.append(call)
        return chunk


def no_row(lane: KeyQueue) -> Row:
    """For events of somebody of whom nothing is to be said: it stands for them, and makes no line."""
    return Row(lane.kind, lane.key, {}, None, array("Q"), 0.0, 0, state=RowState.ANSWERED)
