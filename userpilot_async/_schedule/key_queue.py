"""One lane for each person and each company: its calls in the order of acceptance, and where it queues."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import attrs

from .._calls.payload import Kind, WaitingEvent, event_accepted_at
from .._calls.rows import Row, RowState


@attrs.define(eq=False, slots=True)
class Post:
    """A call that goes alone, as it is: nothing merges into it, and nothing overtakes it."""

    kind: Kind
    ids: list[int]
    """The first one carries it in the account; others said the same again, where once is enough."""
    accepted_at: float
    body: bytes
    lost: bool = False
    """An answer to it got lost: the server may have it."""


class QueueState(Enum):
    """Where a lane queues. It is in one place at a time."""

    NOWHERE = "nowhere"
    BUSY = "busy"  # a request carries its head
    ASLEEP = "asleep"  # its head failed, and is due again later
    PARKED = "parked"  # its head waits for a file to be settled, or for another lane to empty
    PATIENT = "patient"  # its head is a row that may go on merging
    URGENT = "urgent"  # its head is a row with something waiting behind it, or a post
    TRACKS = "tracks"  # its head is a track
    LATE = "late"  # its first track would be dated wrongly by now: it waits for a file of the Import API


@attrs.define(eq=False, slots=True)
class KeyQueue:
    """Order within it is kept by one rule: only its head moves."""

    kind: str
    key: str
    place: QueueState = QueueState.NOWHERE
    calls: list[WaitingEvent | Row | Post] = attrs.field(factory=list)
    newest: Row | None = None
    """The last row in `calls`, while others may merge into it."""
    batched: Row | None = None
    """A row of this lane that a file carries. A later row waits for the file's end, or the older one
    could overwrite it; a track need not."""
    held: bool = False
    """Nothing of it goes before the server has taken the file that has its first calls: they would be overtaken."""
    late: bool = False
    """Its first track came to its turn too late."""
    slow_until: int = -1
    """Events up to this one go through the realtime endpoint, however late: no file with them was worked off."""
    returned: Sequence[WaitingEvent] = ()
    """Events that no file carries any more. They go in front as soon as no request carries what is there."""
    attempts: int = 0
    """Failures in a row of the head."""
    within: int = 0
    """The largest array that its head should go out in, because a larger one was refused; 0 for any."""
    in_ages: bool = False
    behind: int = 0
    """So many lanes of the same person, from before that was known, have to empty first; nothing comes into them."""
    follower: KeyQueue | None = None
    """The other way round: the lane that waits for this one."""

    def proper_place(self) -> QueueState:
        """Where a lane that is neither busy nor asleep belongs."""
        if not self.calls:
            return QueueState.PARKED if self.batched is not None or self.behind else QueueState.NOWHERE
        if self.behind or self.held:
            return QueueState.PARKED
        if self.late and self.first_event is not None:
            return QueueState.LATE
        head = self.calls[0]
        if type(head) is tuple:
            return QueueState.TRACKS
        if not isinstance(head, Row):
            return QueueState.URGENT
        if self.batched is not None:
            if self.batched.is_blank and head.fields is None:
                return (
                    QueueState.URGENT
                )  # nothing in the file could overwrite it, or be booked on another company for it
            # Behind a row in a file: a track may go, once that row has been repeated in realtime.
            behind_is_track = len(self.calls) > 1 and not isinstance(self.calls[1], Row)
            return QueueState.URGENT if head is self.batched and behind_is_track else QueueState.PARKED
        return QueueState.URGENT if head.alone or len(self.calls) > 1 else QueueState.PATIENT

    def head_time(self) -> float:
        """When its head was accepted; of a row, the newest call in it."""
        head = self.calls[0]
        if isinstance(head, tuple):
            return event_accepted_at(head)
        return head.latest_at if isinstance(head, Row) else head.accepted_at

    def pop_heads(self, number: int = 1) -> None:
        """So many calls at its head have been answered."""
        if self.calls[0] is self.newest:
            self.newest = None
        del self.calls[:number]  # a short list nearly always; 100,000 long it costs 20 µs, at 10 a second
        self.attempts = 0

    @property
    def first_event(self) -> WaitingEvent | None:
        """The track at its head, or right behind the row there."""
        for call in self.calls[:2]:
            if isinstance(call, tuple):
                return call
            if not isinstance(call, Row) or call.state is not RowState.WAITING:
                break
        return None

    def open_row(self) -> Row | None:
        """The row that others may merge into, if there is one; it may lie before tracks."""
        row = self.newest
        return row if row is not None and row.state is RowState.WAITING else None
