"""The route for what comes too late: events as a file of the Import API, each dated with its own time.

The realtime endpoint dates an event on its arrival, and takes 600 a minute. So an event whose turn comes later than
``late_after`` would be booked at the wrong time, and a backlog of 100,000 would take three hours. Instead, a file takes
all that waits of each such person, up to the next change of company. While the file is on its way, nothing overtakes
it: the person's queue is blocked. Once the server has taken it, later events go on; a later identify waits for the
job's end, or the older row in the file could overwrite it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

from ..._calls.outcome import BY_IMPORT
from ..._calls.payload import WaitingEvent, event_id, occurred_at
from ..._calls.rows import Row, RowState
from ..destination import Imports
from ..job_batch import Batch, JobEffect, SlotState, Step
from ..job_slot import JobSlot
from ..key_queue import KeyQueue
from ..property_cache import PropertyCache
from ..queue_state import QueueState
from ..takeover import UnfinishedFile
from .context import RouteContext
from .file_route import FileRoute, new_pages
from .import_breaker import ImportBreaker
from .import_file import ImportFileBuilder
from .route import Request

LONGEST_LINGER = 15.0  # seconds that a file waits for a pause among new events
SLICE = 200  # queues set aside, or let through, in one go
LONGEST_FLIGHT = 2.0  # seconds that a file waits for requests under way, whose people have more in line
PATIENCE = 60.0  # seconds that what is late waits while files do not go: then it goes the slow way
MOST_PATIENCE = 900.0  # the same for an event whose caller said when it happened
RELEASE = 5.0  # seconds between two searches for users to let go the slow way
PAUSE = 1.0  # seconds after a search that found nothing to put into a file
SHORTEST_UPLOAD = 1.0  # seconds that a close must still have for a file to be begun
FILE = "track"  # the kind of its files: of the calls that they are found again by


class LateEventRoute(FileRoute):
    """Decides which events are late, and fills the import slot with them."""

    name = "imports"
    delivers = BY_IMPORT

    def __init__(self, context: RouteContext, imports: Imports, breaker: ImportBreaker) -> None:
        slot = JobSlot(
            context.filename, context.chance, imports.job_timeout, idempotent=False,
            repeats=context.settings.on_ambiguous == "send", new_pages=new_pages(imports, context.server),
        )  # fmt: skip
        super().__init__(context, imports, slot, imports.submit)
        self.breaker = breaker
        self.known = PropertyCache()
        """What was sent to the server of people: an import may blank what it leaves out."""
        self._imports = imports
        self._bucket = context.bucket(context.destination.events.endpoint)
        self._urgency = context.urgency
        self._calendar = context.calendar
        self._since = math.inf  # when a file was wanted first
        self._gathering: ImportFileBuilder | None = None
        self._not_before = -math.inf
        self._releasing: Iterator[KeyQueue] | None = None
        self._release_at = -math.inf

    def next(self, now: float) -> Request | float:
        """The next step of a file's life, or when to ask again; meanwhile those go that need not wait any longer."""
        if not self.breaker.wanted and self.slot.state is SlotState.FREE:
            return math.inf
        release = self.release(now)
        if release <= now:
            return now
        found = super().next(now)
        return found if isinstance(found, Request) else min(release, found)

    def heard(self, step: Step, effect: JobEffect, now: float) -> None:
        """A file has come to the server, or to nothing."""
        if effect.withdrawn or (step.what == "submit" and not effect.submitted):
            self.breaker.failed(now)
        elif effect.submitted:
            self.breaker.went()

    def lines_of(self, batch: Batch) -> Iterator[bytes]:
        """A person's properties, all that are known, and the events behind them."""
        known, date, lines = self.known, self._calendar.date, self._imports.lines
        rows = (row for row in batch.rows if isinstance(row, Row))  # each is: such files carry none that are packed
        return (line for row in rows for line in lines(row, known.of(row), date))

    # ── what is late ──

    @property
    def _is_paused(self) -> bool:
        """The key is refused everywhere, as far as is known: whether it may import shows when it is taken again."""
        return self._context.health.paused is not None

    def _works(self, now: float, patience: float) -> bool:
        """A file may be waited for, if none goes for no longer than this."""
        if self._is_paused or not self.breaker.holds(now, patience) or self.slot.foreign_until > now + patience:
            return False
        if self._urgency.leave_by is None or self._gathering is not None:
            return True
        return self.slot.takes_rows(now) and self._urgency.leave_by - now >= SHORTEST_UPLOAD

    def _is_late(self, queue: KeyQueue, now: float) -> bool:
        """The first event would be dated wrongly by now: by the calendar, which goes on while the machine sleeps.

        An event whose caller said when it happened waits longer for files to work.
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
        return self._calendar.date(now) - happened > self._imports.late_after and self._works(now, patience)

    def set_late_aside(self, now: float) -> bool:
        """Queues whose turn has come, and is too late, wait for a file instead; true if more may be among the next."""
        for _ in range(SLICE):
            turns = (self._queues.events.first(), self._queues.first_urgent())
            if not any(queue is not None and self.sets_aside(queue, now) for queue in turns):
                return False
        return True

    def sets_aside(self, queue: KeyQueue, now: float) -> bool:
        """The turn of this queue has come: it waits for a file instead, if that is too late."""
        if not self.breaker.wanted or not self._is_late(queue, now):
            return False
        queue.set_aside()
        self._queues.place(queue)
        return True

    def release(self, now: float) -> float:
        """When files do not work, those that wait for one go the slow way, some at a time; when to search again."""
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
        return wait > self._imports.late_after or self._urgency.ends_within(wait, now)

    def _ripe_at(self, now: float) -> float:
        if not self._queues.late and not self._is_too_much(now):
            self._since = math.inf
            return math.inf
        self._since = min(self._since, now)
        if self._urgency.expedited:
            return now
        pause = max(self._since, self._urgency.newest.get(FILE, -math.inf)) + self._urgency.linger
        return min(pause, self._since + max(self._urgency.linger, LONGEST_LINGER))

    # ── filling a file ──

    def fill_slot(self, now: float, *, may_start: bool) -> float:
        """Begin a file if there is anything late, and go on filling it; else say when there may be."""
        if self._gathering is not None:
            return self._go_on(self._gathering, now)
        self.slot.resubmits = is_open = not self._is_paused and self.breaker.is_open(now)
        if not is_open or (self._urgency.leave_by is not None and not self._works(now, math.inf)):
            return math.inf
        ripe = max(self._ripe_at(now), self._not_before)
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
        left = self._urgency.leave_by - now if self._urgency.leave_by is not None else math.inf
        due = gathering.go_on(now, min(LONGEST_FLIGHT, left / 4))
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

    def is_ours(self, file: UnfinishedFile) -> bool:
        """A file of events is this route's."""
        return file.kind == FILE

    def rejoin_event(self, queue: KeyQueue, event: WaitingEvent) -> bool:
        """Put an event back into the file that is taken over; false if it is not in there."""
        batch = self.had(queue, event_id(event))
        if batch is None:
            return False
        row = queue.claimed_row
        if row is None:
            row = self._rejoin(batch, queue)
        if row.events is None:  # another file's
            return False
        row.events.append(event)
        batch.lines += 1
        return True

    def rejoin_row(self, queue: KeyQueue, row: Row) -> Row | None:
        """A person's row goes into a file of events together with these, if nothing lies before it."""
        batch = self.had(queue, row.said_by) if queue.kind == "user" else None
        if batch is None:
            return None
        in_file = queue.claimed_row
        if in_file is not None and in_file.state is RowState.BATCHED and in_file.events is not None:
            in_file.absorb(row)
            return in_file
        return self._rejoin(batch, queue, row) if in_file is None and not queue.calls else None

    def _rejoin(self, batch: Batch, queue: KeyQueue, row: Row | None = None) -> Row:
        in_file = queue.rejoin_events(row)
        batch.rows.append(in_file)
        self._queues.place(queue)
        return in_file
