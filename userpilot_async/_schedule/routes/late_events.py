"""The route for what comes too late: events as a file of the Import API, each dated with its own time.

The realtime endpoint dates an event on its arrival, and takes 600 a minute. So an event whose turn comes later than
``late_after`` would be booked at the wrong time, and a backlog of 100,000 would take three hours. Instead, a file takes
all that waits of each such person, up to the next change of company. While the file is on its way, nothing overtakes
it: the person's queue is held. Once the server has taken it, later events go on; a later identify waits for the job's
end, or the older row in the file could overwrite it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice

from ..._calls.payload import WaitingEvent, event_id, occurred_at
from ..._calls.rows import Row, RowState
from ..._protocol.rate_limit import Bucket
from ..calendar import Calendar
from ..job_slot import JobSlot, SlotState
from ..key_queue import KeyQueue, QueueState
from ..property_cache import PropertyCache
from ..queues import Queues
from ..takeover import UnfinishedFile
from .import_breaker import ImportBreaker
from .import_file import ImportFileBuilder

LONGEST_LINGER = 15.0  # seconds that a file waits for a pause among new events
LONGEST_RESUME = 30.0  # seconds until the calls of a file that was taken over have to be there
SLICE = 200  # queues released in one go
LONGEST_FLIGHT = 2.0  # seconds that a file waits for requests under way, whose people have more in line
PATIENCE = 60.0  # seconds that what is late waits while files do not go: then it goes the slow way
MOST_PATIENCE = 900.0  # the same for who said when it happened
RELEASE = 5.0  # seconds between two looks for whom to let go the slow way
PAUSE = 1.0  # seconds after a look that found nothing to put into a file
SHORTEST_UPLOAD = 1.0  # seconds that a close must still have for a file to be begun
FILE = "track"  # the kind of its files: of the calls that they are found again by


class LateEventRoute:
    """Decides which events are late, and fills the import slot with them."""

    def __init__(
        self, slot: JobSlot, queues: Queues, bucket: Bucket, *,
        wanted: bool, late_after: float, linger: float, calendar: Calendar,
    ) -> None:  # fmt: skip
        self.slot = slot
        self.trust = ImportBreaker(wanted)
        self.latest = -math.inf
        """When the newest event came."""
        self.leave_by: float | None = None
        """When the client leaves, and what is left is lost."""
        self.resuming = False
        """The calls of a file that was taken over are coming in."""
        self.known = PropertyCache()
        self._queues = queues
        self._bucket = bucket
        self._late_after = late_after
        self._linger = linger
        self._calendar = calendar
        self._since = math.inf  # when a file was wanted first
        self._gathering: ImportFileBuilder | None = None
        self._not_before = -math.inf
        self._releasing: Iterator[KeyQueue] | None = None
        self._release_at = -math.inf
        self._unfinished: Mapping[str, int] = {}
        self._last_call = -1

    # ── what is late ──

    def _works(self, now: float, patience: float) -> bool:
        """A file may be waited for, if none goes for no longer than this."""
        if not self.trust.holds(now, patience) or self.slot.foreign_until > now + patience:
            return False
        if self.leave_by is None or self._gathering is not None:
            return True
        return self.slot.takes_rows(now) and self.leave_by - now >= SHORTEST_UPLOAD

    def _is_late(self, queue: KeyQueue, now: float) -> bool:
        """Its first event would be dated wrongly by now: by the calendar, which goes on while the machine sleeps.

        Who said when it happened waits longer for files to work.
        """
        first = queue.first_event
        if first is None or queue.goes_in_realtime:
            return False
        _, accepted_at, event = first
        given = occurred_at(event)
        if given is None:
            happened, patience = self._calendar.date(accepted_at), PATIENCE
        else:
            happened, patience = given.timestamp(), MOST_PATIENCE
        return self._calendar.date(now) - happened > self._late_after and self._works(now, patience)

    def sets_aside(self, queue: KeyQueue, now: float) -> bool:
        """This queue's turn has come: it waits for a file instead, if it is too late."""
        if not self.trust.wanted or not self._is_late(queue, now):
            return False
        queue.set_aside()
        self._queues.place(queue)
        return True

    def release(self, now: float) -> float:
        """When files do not work, those that wait for one go the slow way, some at a time; when to look again."""
        if not self._queues.late or self._works(now, PATIENCE):
            self._releasing = None
            return math.inf
        if self._releasing is None:
            if now < self._release_at:
                return self._release_at
            self._releasing, self._release_at = iter(list(self._queues.late.values())), now + RELEASE
        queues = list(islice(self._releasing, SLICE))
        for queue in queues:
            if queue.place is QueueState.LATE and not self._is_late(queue, now):
                queue.let_through()
                self._queues.place(queue)
        if len(queues) == SLICE:
            return now
        self._releasing = None
        return self._release_at

    def _is_too_much(self, now: float) -> bool:
        """So much waits that some of it would be late."""
        wait = self._bucket.time_for(self._queues.waiting_events, now)  # at the present budget
        return wait > self._late_after or (self.leave_by is not None and wait > self.leave_by - now)

    def _ripe_at(self, now: float, hurry: bool) -> float:
        if not self._queues.late and not self._is_too_much(now):
            self._since = math.inf
            return math.inf
        self._since = min(self._since, now)
        if hurry:
            return now
        pause = max(self._since, self.latest) + self._linger
        return min(pause, self._since + max(self._linger, LONGEST_LINGER))

    # ── filling a file ──

    def fill_slot(self, now: float, hurry: bool, may_start: bool) -> float:
        """Begin a file if there is anything late, and go on filling it; else say when there may be."""
        if self._gathering is not None:
            return self._go_on(self._gathering, now)
        self.slot.resubmits = self.trust.is_open(now)
        if not self.trust.is_open(now) or (self.leave_by is not None and not self._works(now, math.inf)):
            return math.inf
        ripe = max(self._ripe_at(now, hurry), self._not_before)
        if ripe > now:
            return ripe
        if not self.slot.takes_rows(now):
            return self.slot.opens_at()
        if may_start:
            late_only = not self._is_too_much(now)
            queues = self._queues.late if late_only else self._queues.by_key["user"]
            self._gathering = ImportFileBuilder(
                self._queues, queues.values(), self.slot.max_bytes, self.slot.max_lines, late_only=late_only
            )
        return now

    def _go_on(self, gathering: ImportFileBuilder, now: float) -> float:
        patience = LONGEST_FLIGHT if self.leave_by is None else min(LONGEST_FLIGHT, (self.leave_by - now) / 4)
        due = gathering.go_on(now, patience)
        if due is not None:
            return due
        self._gathering, self._since = None, math.inf
        if gathering.rows:
            self.slot.start(FILE, gathering.rows, gathering.lines)
        else:  # what is late is under way, or must go the slow way
            self._not_before = now + PAUSE
        return now

    def abandon(self) -> None:
        """The end: what was being gathered is as if it had been in a file."""
        if self._gathering is not None:
            self._gathering.end()
            self.slot.start(FILE, self._gathering.rows, self._gathering.lines)
            self._gathering = None

    # ── taking over ──

    def resume(self, file: UnfinishedFile, now: float) -> None:
        """Take over a file whose calls are about to come in."""
        if not file.last_calls:
            return
        self.slot.resume(file.kind, file.filename, now + LONGEST_RESUME)
        self.resuming = True
        self._unfinished, self._last_call = file.last_calls, max(file.last_calls.values())

    def rejoins(self, queue: KeyQueue, call: WaitingEvent) -> bool:
        """This event is in the file, which had all that waited of a person up to one event: put it there again."""
        if not self._had(queue, event_id(call)):
            return False
        row = queue.claimed_row
        if row is None:
            row = self._rejoin(queue)
        if row.events is None:  # another file's
            return False
        row.events.append(call)
        if self.slot.batch is not None:
            self.slot.batch.lines += 1
        return True

    def rejoins_row(self, queue: KeyQueue, said: Row) -> Row | None:
        """The row in the file that says this; ``None`` if there is none, or it is not to be found again."""
        if not self._had(queue, said.said_by):
            return None
        row = queue.claimed_row
        if row is not None and row.state is RowState.BATCHED and row.events is not None:
            row.absorb(said)
            return row
        if row is None and not queue.calls:
            return self._rejoin(queue, said)
        return None

    def _had(self, queue: KeyQueue, call_id: int) -> bool:
        if self.slot.batch is None or self.slot.state is SlotState.SUBMITTING:
            self.resuming = False  # its time was over
        return self.resuming and call_id <= self._unfinished.get(queue.key, -1)

    def _rejoin(self, queue: KeyQueue, said: Row | None = None) -> Row:
        row = queue.rejoin_events(said)
        assert self.slot.batch is not None
        self.slot.batch.rows.append(row)
        self._queues.place(queue)
        return row

    def came_in(self, call_id: int, now: float) -> None:
        """So far have calls come in: if that is the file's end, it is looked for now."""
        if self.resuming and call_id >= self._last_call:
            self.resuming = False
            self.slot.resumed(now)
