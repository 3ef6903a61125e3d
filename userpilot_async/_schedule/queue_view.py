"""A key queue as others may read it: its calls, what stands beside them, and the state that follows from both."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from .._calls.payload import WaitingEvent, event_accepted_at, event_id
from .._calls.rows import Row, RowState
from .posts import Deletion, Post
from .queue_state import LATE, UNDER_WAY, FileClaim, Lateness, QueueState, Retry

QueuedCall = WaitingEvent | Row | Post


@attrs.frozen
class Alias:
    """Where the queue stands among those of other keys of the same person."""

    behind: int = 0
    """So many queues, from before the keys were known for one person's, have to empty first; none gets new calls."""
    follower: QueueView | None = None
    """The other way round: the queue that waits for this one to empty."""


@attrs.define(eq=False, slots=True)
class QueueView:
    """The calls of one key in the order of their acceptance, and their state. `KeyQueue` changes them."""

    kind: str
    key: str
    calls: list[QueuedCall] = attrs.field(factory=list)
    place: QueueState = QueueState.IDLE
    """The state by which `Queues` has placed it; it lags behind `state` until it is placed again."""
    open_row: Row | None = None
    """The last row in ``calls``, while others may merge into it whenever it waits."""
    claim: FileClaim | None = None
    lateness: Lateness | None = None
    retry: Retry | None = None
    alias: Alias | None = None
    erasing: int = 0
    """So many deletions have come in whose earlier calls are being dropped."""
    watched: bool = False
    """The queue stands in the heap of what expires next."""
    only_events: bool = True
    """Nothing else was ever in it: whoever counts what waits need not look at each call."""

    @property
    def state(self) -> QueueState:
        """The state that follows from the calls, and from what has happened to the head."""
        if self.place in UNDER_WAY:
            return self.place
        calls, claim = self.calls, self.claim
        is_behind = self.alias is not None and self.alias.behind > 0
        if not calls:
            is_in_file = claim is not None and claim.row is not None
            return QueueState.PARKED if is_in_file or is_behind else QueueState.IDLE
        if is_behind or (claim is not None and claim.blocks):
            return QueueState.PARKED
        if self.lateness is LATE and self.first_event is not None:
            return QueueState.LATE
        head = calls[0]
        if isinstance(head, Deletion):
            return QueueState.PARKED if claim is not None and claim.row is not None else QueueState.DELETION
        if self.erasing:
            return QueueState.PARKED
        if type(head) is tuple:
            return QueueState.EVENTS
        if not isinstance(head, Row):
            return QueueState.URGENT
        if claim is not None and claim.row is not None:
            if claim.row.is_blank and head.fields is None:
                # Nothing in the file could overwrite it, or be booked on another company for it.
                return QueueState.URGENT
            # Behind a row in a file: an event may go, once that row has been repeated in realtime.
            event_waits = len(calls) > 1 and not isinstance(calls[1], Row | Deletion)
            return QueueState.URGENT if head is claim.row and event_waits else QueueState.PARKED
        return QueueState.URGENT if head.alone or len(calls) > 1 else QueueState.MERGING

    @property
    def head_time(self) -> float:
        """When the head was accepted; of a row, when the newest call in it was. There must be one."""
        head = self.calls[0]
        if isinstance(head, tuple):
            return event_accepted_at(head)
        return head.latest_at if isinstance(head, Row) else head.accepted_at

    @property
    def head_id(self) -> int:
        """The head's call, of a row the newest in it; -1 for a post that no call stands for. There must be one."""
        head = self.calls[0]
        if isinstance(head, tuple):
            return event_id(head)
        return head.said_by if isinstance(head, Row) else max(head.ids, default=-1)

    @property
    def accepted_at(self) -> float:
        """When the head was accepted; of a row, when the oldest call in it was. There must be one."""
        head = self.calls[0]
        return event_accepted_at(head) if isinstance(head, tuple) else head.accepted_at

    @property
    def first_event(self) -> WaitingEvent | None:
        """The event at the head, or right behind the row there."""
        for call in self.calls[:2]:
            if isinstance(call, tuple):
                return call
            if not isinstance(call, Row) or call.state is not RowState.WAITING:
                break
        return None

    @property
    def waiting_row(self) -> Row | None:
        """The row that others may merge into now, if there is one; it may lie before events."""
        row = self.open_row
        return row if row is not None and row.state is RowState.WAITING else None

    @property
    def claimed_row(self) -> Row | None:
        """The row that a file carries, or that stands for the events in one."""
        return self.claim.row if self.claim is not None else None

    @property
    def is_blocked(self) -> bool:
        """Nothing may go before the server has taken a file."""
        return self.claim is not None and self.claim.blocks

    @property
    def given_back(self) -> Sequence[WaitingEvent]:
        """Events that go in front as soon as no request carries the head."""
        return self.claim.given_back if self.claim is not None else ()

    @property
    def is_late(self) -> bool:
        """The first event came to its turn too late."""
        return self.lateness is LATE

    @property
    def goes_in_realtime(self) -> bool:
        """The first event goes through the realtime endpoint, however late it is."""
        first, last = self.first_event, self.lateness.realtime_until if self.lateness is not None else None
        return first is not None and last is not None and event_id(first) <= last

    @property
    def failures(self) -> int:
        """Failures of the head in a row."""
        return self.retry.failures if self.retry is not None else 0

    @property
    def largest_array(self) -> int:
        """Events of the largest array that the head should go out in; 0 for any."""
        return self.retry.largest_array if self.retry is not None else 0

    @property
    def carries_head(self) -> bool:
        """A request or a file carries the head."""
        return self.place is QueueState.SENDING or getattr(self.calls[0], "state", None) is RowState.BATCHED

    @property
    def needed_from(self) -> float:
        """When the first call here was accepted, or in the next queue that waits for this one; -inf: there is none."""
        if self.calls:
            return self.head_time
        follower = self.alias.follower if self.alias is not None else None
        return follower.needed_from if follower is not None else -math.inf
