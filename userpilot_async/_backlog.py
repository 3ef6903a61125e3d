"""The route for what comes too late: events as a file of the Import API, each dated with its own time.

The realtime endpoint dates an event on its arrival, and takes 600 a minute. So an event whose turn comes later than
``late_after`` would be booked at the wrong time, and a backlog of 100,000 would take three hours. Instead, a file takes
all that waits of each such person, up to the next change of company. While the file is on its way, nothing overtakes
it: the person's lane is held. Once the server has taken it, later events go on; a later identify waits for the job's
end, or the older row in the file could overwrite it.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from ._arrays import Arrays
from ._bucket import Bucket
from ._bulk import BulkSlot, SlotState
from ._coalesce import EVENT_HEAD, Row, RowState
from ._event import Waiting, body_of
from ._gate import Gate
from ._inheritance import UnfinishedFile
from ._lanes import Lane, Place
from ._lines import Lines

LONGEST = 20_000  # events of one person in a file: to take more at once would stop the loop for too long
MAX_LINES = 100_000  # of one file; imports document no limit, and this keeps what a failed job may double in bounds
LONGEST_LINGER = 15.0  # seconds that a file waits for a pause among new events
LONGEST_RESUME = 30.0  # seconds until the calls of a file that was taken over have to be there
SLICE = 200  # lanes looked at in one go
PAUSE = 1.0  # seconds after a look that found nothing to put into a file
SHORTEST_UPLOAD = 1.0  # seconds that a close must still have for a file to be begun
MAX_REMEMBERED = 16 * 1024 * 1024  # bytes, about, of what was said of people
FILE = "track"  # the kind of its files: of the calls that they are found again by


class Backlog:
    """Decides which events are late, and fills the import slot with them. ``wall`` is the calendar at the time 0."""

    def __init__(
        self, slot: BulkSlot, lines: Lines, arrays: Arrays, bucket: Bucket, gate: Gate, *,
        late_after: float, linger: float, wall: float,
    ) -> None:  # fmt: skip
        self.slot = slot
        self.gate = gate
        self.closed: str | None = None
        """Why this route is not taken any more."""
        self.shut = False
        """The key is refused everywhere, as far as is known: whether it may import shows when it is taken again."""
        self.latest = -math.inf
        """When the newest event came."""
        self.leave_by: float | None = None
        """When the client leaves, and what is left is lost."""
        self.resuming = False
        self._lines = lines
        self._arrays = arrays
        self._bucket = bucket
        self._late_after = late_after
        self._linger = linger
        self._wall = wall
        self._since = math.inf  # when a file was wanted first
        self._gathering: Iterator[Lane] | None = None
        self._everybody = False
        self._not_before = -math.inf
        self._rows: list[Row] = []
        self._room = self._lines_left = 0
        self._unfinished: Mapping[str, int] = {}
        self._last_call = -1
        self._confirmed = True
        self._known: OrderedDict[str, tuple[dict[str, Any], int]] = OrderedDict()
        self._known_size = 0

    # ── is it open? ──

    def close(self, why: str) -> None:
        """The server does not let us: everything goes the slow way."""
        self.closed, self._confirmed = why, False

    def heard(self, *, denied: bool) -> None:
        """Another endpoint has answered: if that refuses the key, too, nothing is known of this one."""
        if not self._confirmed:
            self._confirmed = True
            if denied:
                self.closed = None

    def _works(self, now: float) -> bool:
        if self.shut or self.closed is not None or (self.gate.failing and self.gate.opens_at(now) > now):
            return False
        if self.leave_by is None or self._gathering is not None:
            return True
        return self.slot.takes_rows(now) and self.leave_by - now >= SHORTEST_UPLOAD

    # ── what is late ──

    def wait(self, now: float) -> float:
        """How long it takes to send all events that wait, at the present budget."""
        return self._bucket.time_for(self._arrays.waiting, now)

    def _is_late(self, lane: Lane, now: float) -> bool:
        first = lane.first_event
        if first is None or first[0] <= lane.slow_until:
            return False
        _, accepted_at, event = first
        if not isinstance(event, bytes):
            return self._wall + now - event[1].timestamp() > self._late_after
        return now - accepted_at > self._late_after and self.slot.foreign_until <= now

    def sets_aside(self, lane: Lane, now: float) -> bool:
        """This lane's turn has come: it waits for a file instead, if it is too late, and files work."""
        if not self._works(now) or not self._is_late(lane, now):
            return False
        lane.late = True
        self._lines.file(lane)
        return True

    def release(self, now: float) -> bool:
        """Files do not work: some of those that wait for one go the slow way; true if there are more."""
        if not self._lines.late or self._works(now):
            return False
        for lane in list(islice(self._lines.late.values(), SLICE)):
            lane.late = False
            self._lines.file(lane)
        return bool(self._lines.late)

    def _is_too_much(self, now: float) -> bool:
        """So much waits that some of it would be late."""
        wait = self.wait(now)
        return wait > self._late_after or (self.leave_by is not None and wait > self.leave_by - now)

    def _ripe_at(self, now: float, hurry: bool) -> float:
        if not self._lines.late and not self._is_too_much(now):
            self._since = math.inf
            return math.inf
        self._since = min(self._since, now)
        if hurry:
            return now
        pause = max(self._since, self.latest) + self._linger
        return min(pause, self._since + max(self._linger, LONGEST_LINGER))

    # ── filling a file ──

    def fill_slot(self, now: float, hurry: bool, may_start: bool) -> float:
        """Begin a file if there is anything late, some lanes at a time; else say when there may be."""
        if self._gathering is not None:
            self._gather(now)
            return now
        if not self._works(now):
            return math.inf
        ripe = max(self._ripe_at(now, hurry), self._not_before)
        if ripe > now:
            return ripe
        if not self.slot.takes_rows(now):
            return self.slot.opens_at()
        if may_start:
            self._everybody = self._is_too_much(now)
            lanes = self._lines.lanes["user"] if self._everybody else self._lines.late
            self._gathering = iter(list(lanes.values()))
            self._rows, self._room, self._lines_left = [], self.slot.max_bytes, MAX_LINES
        return now

    def _gather(self, now: float) -> None:
        assert self._gathering is not None
        lanes = list(islice(self._gathering, SLICE))
        for lane in lanes:
            if self._room > 0 and self._lines_left > 0 and (self._everybody or lane.place is Place.LATE):
                self._take(lane)
        if len(lanes) == SLICE and self._room > 0 and self._lines_left > 0:
            return
        self._gathering, self._since = None, math.inf
        if self._rows:
            self.slot.start(FILE, self._rows)
        else:  # what is late is under way, or must go the slow way
            self._not_before = now + PAUSE

    def _take(self, lane: Lane) -> None:
        """All that waits of this person, as far as there is room, and no further than to the next row."""
        first = lane.first_event
        if lane.place not in (Place.TRACKS, Place.URGENT, Place.LATE) or first is None or lane.batched is not None:
            return
        if first[0] <= lane.slow_until:
            return
        start = 0 if lane.calls[0] is first else 1
        events: list[Waiting] = []
        for call in lane.calls[start : start + min(self._lines_left, LONGEST)]:
            if not isinstance(call, tuple):
                break
            self._room -= EVENT_HEAD + len(body_of(call[2]))
            if self._room < 0 and (events or self._rows):
                break
            events.append(call)
        if not events:
            return
        head = lane.calls[0]
        row = head if isinstance(head, Row) else _no_row(lane)
        del lane.calls[start : start + len(events)]
        row.events = events
        lane.batched, lane.held, lane.late = row, True, False
        lane.newest = None if lane.newest is row else lane.newest
        self._lines.take(lane, Place.PARKED)
        self._arrays.waiting -= len(events)
        self._lines_left -= len(events) + start
        self._rows.append(row)

    def abandon(self) -> None:
        """The end: what was being gathered is as if it had been in a file."""
        if self._gathering is not None:
            self._gathering = None
            self.slot.start(FILE, self._rows)

    # ── what is known of people ──

    def learn(self, user_id: str, metadata: Mapping[str, Any], size: int) -> None:
        """Remember what was said of somebody: a row of an import blanks what it leaves out."""
        known, before = self._known.pop(user_id, ({}, 0))
        known.update(metadata)
        self._known[user_id] = known, before + size
        self._known_size += size
        while self._known_size > MAX_REMEMBERED:
            self._known_size -= self._known.popitem(last=False)[1][1]

    def known(self, row: Row) -> Mapping[str, Any]:
        """All that is known of the person whose row this is."""
        known = self._known.get(row.key)
        return {**known[0], **row.metadata} if known is not None else row.metadata

    # ── taking over ──

    def resume(self, file: UnfinishedFile, now: float) -> None:
        """Take over a file whose calls are about to come in."""
        if not file.last_calls:
            return
        self.slot.resume(file.kind, file.filename, now + LONGEST_RESUME)
        self.resuming = True
        self._unfinished, self._last_call = file.last_calls, max(file.last_calls.values())

    def rejoins(self, lane: Lane, call: Waiting) -> bool:
        """This event is in the file, which had all that waited of a person up to one event: put it there again."""
        if not self._had(lane, call[0]):
            return False
        if lane.batched is None:
            self._rejoin(lane, _no_row(lane))
        assert lane.batched is not None
        if lane.batched.events is None:  # another file's
            return False
        lane.batched.events.append(call)
        return True

    def rejoins_row(self, lane: Lane, said: Row) -> Row | None:
        """The row in the file that says this; ``None`` if there is none, or it is not to be found again."""
        if not self._had(lane, said.said_by):
            return None
        row = lane.batched
        if row is not None and row.state is RowState.BATCHED and row.events is not None:
            call_id = said.ids[0] if said.ids else None
            row.take_in(call_id, said.metadata, said.fields, said.size, said.latest_at, said.said_by)
            return row
        if row is None and not lane.calls:
            said.state = RowState.BATCHED
            lane.calls.append(said)
            self._rejoin(lane, said)
            return said
        return None

    def _had(self, lane: Lane, call_id: int) -> bool:
        if self.slot.batch is None or self.slot.state is SlotState.SUBMITTING:
            self.resuming = False  # its time was over
        return self.resuming and call_id <= self._unfinished.get(lane.key, -1)

    def _rejoin(self, lane: Lane, row: Row) -> None:
        assert self.slot.batch is not None
        row.events = []
        self.slot.batch.rows.append(row)
        lane.batched, lane.held = row, True
        if lane.place is not Place.BUSY:
            self._lines.take(lane, Place.PARKED)

    def came_in(self, call_id: int, now: float) -> None:
        """So far have calls come in: if that is the file's end, it is looked for now."""
        if self.resuming and call_id >= self._last_call:
            self.resuming = False
            self.slot.resumed(now)


def _no_row(lane: Lane) -> Row:
    """For events of somebody of whom nothing is to be said: it stands for them, and makes no line."""
    return Row(lane.kind, lane.key, {}, None, array("Q"), 0.0, 0, state=RowState.ANSWERED)
