"""One lane for each user and each company: its calls in the order of acceptance, and where it queues."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Literal, Union

import attrs

from ._coalesce import Kind, Row, RowState
from ._values import Value

Facts = tuple[dict[str, Value], Union[dict[str, Value], None], int]
"""What an identify says: its properties, its company with ``id``, its size in bytes."""

Event = Union[bytes, tuple[bytes, datetime]]
"""What a track says: the body of its request, ready to go; with the time it happened, if the caller knew it."""

Ticket = tuple[int, float, Kind, str, Union[Event, Facts]]
"""An accepted call: its id, when it was accepted (schedule's clock), its kind, whose it is, and what it says.

An exact tuple, not a class: one whose items are plain is dropped by the garbage collector from what it walks,
and 100,000 of anything that it does walk stop the event loop for 9 ms.
"""


Waiting = tuple[int, float, Event]
"""A track in its lane: its id, when it was accepted, and what it says. The lane knows whose it is: a backlog is
100,000 of these, and a second copy of the user's id in each would be a sixth of its memory.
"""


def body_of(event: Event) -> bytes:
    """The request's body, without the time, for which ``/v1/track`` has no field."""
    return event if isinstance(event, bytes) else event[0]


class Place(Enum):
    """Where a lane queues. It is in one place at a time."""

    NOWHERE = "nowhere"
    BUSY = "busy"  # a request carries its head
    ASLEEP = "asleep"  # its head failed, and is due again later
    PARKED = "parked"  # its head waits for a file to be settled
    PATIENT = "patient"  # its head is a row that may go on merging
    URGENT = "urgent"  # its head is a row with something waiting behind it
    TRACKS = "tracks"  # its head is a track


@attrs.define(eq=False, slots=True)
class Lane:
    """Order within it is kept by one rule: only its head moves."""

    kind: Literal["user", "company"]
    key: str
    place: Place = Place.NOWHERE
    calls: list[Waiting | Row] = attrs.field(factory=list)
    newest: Row | None = None
    """The last row in `calls`, while others may merge into it."""
    batched: Row | None = None
    """A row of this lane that a file carries. A later row waits for the file's end, or the older one
    could overwrite it; a track need not."""
    attempts: int = 0
    """Failures in a row of the head."""
    in_ages: bool = False

    def proper_place(self) -> Place:
        """Where a lane that is neither busy nor asleep belongs."""
        if not self.calls:
            return Place.PARKED if self.batched is not None else Place.NOWHERE
        head = self.calls[0]
        if not isinstance(head, Row):
            return Place.TRACKS
        if self.batched is not None:
            # Behind a row in a file: a track may go, once that row has been repeated in realtime.
            behind_is_track = len(self.calls) > 1 and not isinstance(self.calls[1], Row)
            return Place.URGENT if head is self.batched and behind_is_track else Place.PARKED
        return Place.URGENT if head.alone or len(self.calls) > 1 else Place.PATIENT

    def head_time(self) -> float:
        """When its head was accepted; of a row, the newest call in it."""
        head = self.calls[0]
        return head.latest_at if isinstance(head, Row) else head[1]

    def pop_head(self) -> None:
        """The head has been answered."""
        head = self.calls.pop(0)  # a short list nearly always; 100,000 long it costs 20 µs, at 10 a second
        self.attempts = 0
        if head is self.newest:
            self.newest = None

    def merges(self, facts: Facts) -> Row | None:
        """The row that may take these facts in, if there is one.

        It may lie before tracks: an identify moves ahead of them, but only if it does not move the user to
        another company, because every event is booked on the user's company of the moment.
        """
        row = self.newest
        if row is None or row.state is not RowState.WAITING:
            return None
        company = facts[1]
        if company is not None and company["id"] != row.company_id and self.calls[-1] is not row:
            return None
        return row if row.has_room_for(facts[0]) else None
