"""Filling a file of the Import API: a person's pending identify, and the events behind it.

A backlog may be 100,000 events of one person, or of 100,000. So this is done a little at a time, between other things.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat

from ..._calls.payload import WaitingEvent, waiting_body
from ..._calls.rows import EVENT_HEAD, Row, RowState
from ..key_queue import KeyQueue
from ..queue_state import QueueState
from ..queues import Queues

CHUNK = 500  # events taken out of a queue at once
WEIGHT = 5  # events are as much work as one queue
SLICE = 100  # queues visited in one go
FREE = (QueueState.EVENTS, QueueState.URGENT, QueueState.LATE, QueueState.BACKING_OFF)


class ImportFileBuilder:
    """A file in the making: of events in ``queues``, of all or of the late ones only (``late_only``)."""

    def __init__(
        self, all_queues: Queues, queues: Iterable[KeyQueue], max_bytes: int, max_lines: int, *, late_only: bool
    ) -> None:
        self.rows: list[Row] = []
        self.lines = 0
        """So many lines does the file have."""
        self._queues = all_queues
        self._room = max_bytes
        self._max_lines = max_lines
        self._late_only = late_only
        self._busy: list[KeyQueue] = []
        self._work = self._gather(list(queues))
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
        if now < self._wait_until and any(queue.place is QueueState.SENDING for queue in self._busy):
            return self._wait_until
        came_back, self._busy = self._busy, []
        self._work = self._gather(came_back, wait=False)
        return now

    def end(self) -> None:
        """Let the queues go on that were waited for."""
        for queue in self._busy:
            self._queues.unblock(queue)

    def _gather(self, queues: Iterable[KeyQueue], *, wait: bool = True) -> Iterator[None]:
        for queue in queues:
            if not wait:
                self._queues.unblock(queue)  # and take it at once, before something of it goes
            if self._room <= 0 or self.lines >= self._max_lines:
                if wait:
                    return
                continue
            if queue.place is QueueState.SENDING and wait and not self._late_only:
                queue.reserve()  # when its request comes back, nothing else goes
                self._busy.append(queue)
            elif queue.place in FREE and (queue.place is QueueState.LATE or not self._late_only):
                yield from self._take(queue)
            yield

    def _take(self, queue: KeyQueue) -> Iterator[None]:
        """All that waits of this person, as far as there is room, and no further than to the next row."""
        first = queue.first_event
        if first is None or queue.goes_in_realtime or queue.claimed_row is not None:
            return
        if self.rows and self._room < EVENT_HEAD + len(waiting_body(first)):
            self._room = 0
            return
        row = queue.claim_events()
        self._queues.place(queue)
        self.rows.append(row)
        if row.state is RowState.BATCHED:
            self.lines += 1
            self._room -= row.size + EVENT_HEAD
        while chunk := self._chunk(queue.events_to_claim(CHUNK), row):
            queue.move_to_file(chunk)
            self._queues.waiting_events -= len(chunk)
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
