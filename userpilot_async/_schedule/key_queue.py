"""The waiting calls of one ordering key, a person's or a company's: in which state they are, and all that changes it.

Order within a key is kept by one rule: only the head of its queue moves. So the state follows from the first calls,
from what a file has of them, and from what happened to the head before. `KeyQueue.state` derives it:

      ┌──────┐ add   ┌─ MERGING  one row, which later ones may merge into ──────┐
      │ IDLE │ ────▶ ├─ URGENT   a row with calls behind it, or a post          ├─ send ─▶ SENDING
      └──────┘       ├─ EVENTS   an event ──────────────────────────────────────┘             │
         ▲           │    │  ▲                                        come_back: answered ◀───┤
         │           │    │  │ let_through                                                    │ back_off: failed
         │      set_aside ▼  │                                       come_back: due again ◀───▼
         │           ├─ LATE     a late event, which waits for a file                    BACKING_OFF
         │           │
         │           └─ PARKED   something has to happen elsewhere first: a file that has its head or its first events
         └─ empty ───┘           (claim_row, claim_events, reserve ─▶ submitted ─▶ release), or the queue of another
                                 key of the same person, which has to empty (follow ─▶ lead)

Only the methods of `KeyQueue` write to it. What stands beside the calls is ``None`` nearly always.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from .._calls.payload import WaitingEvent, event_accepted_at, event_id
from .._calls.rows import Row, RowState
from .post import Post as Post
from .queue_state import LATE, UNDER_WAY, FileClaim, Lateness, QueueState, Retry

QueuedCall = WaitingEvent | Row | Post


@attrs.frozen
class Alias:
    """Where the queue stands among those of other keys of the same person."""

    behind: int = 0
    """So many queues, from before the keys were known for one person's, have to empty first; none gets new calls."""
    follower: KeyQueue | None = None
    """The other way round: the queue that waits for this one to empty."""


@attrs.define(eq=False, slots=True)
class KeyQueue:
    """The calls of one key in the order of their acceptance, and their state: see the module."""

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
    watched: bool = False
    """The queue stands in the heap of what expires next."""

    # ── what it is ──

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
        if type(head) is tuple:
            return QueueState.EVENTS
        if not isinstance(head, Row):
            return QueueState.URGENT
        if claim is not None and claim.row is not None:
            if claim.row.is_blank and head.fields is None:
                # Nothing in the file could overwrite it, or be booked on another company for it.
                return QueueState.URGENT
            # Behind a row in a file: an event may go, once that row has been repeated in realtime.
            event_waits = len(calls) > 1 and not isinstance(calls[1], Row)
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

    # ── calls come and go ──

    def add(self, call: QueuedCall) -> None:
        """Take a call in, behind all others. Rows that come later may merge into a row, but into none before a post."""
        self.calls.append(call)
        if type(call) is not tuple:
            self.open_row = call if isinstance(call, Row) else None

    def send(self) -> QueuedCall:
        """A request carries the head now; the head. `Queues.send` also takes the queue out of its line."""
        self.place = QueueState.SENDING
        return self.calls[0]

    def pop(self, number: int = 1) -> None:
        """So many calls at the head have their outcome: they leave, and what comes next has not failed yet."""
        head = self.calls[0]
        if head is self.open_row:
            self.open_row = None
        del self.calls[:number]  # a short list nearly always; 100,000 long it costs 20 µs, at 10 a second
        if isinstance(head, Row) and self.calls and self.head_time < head.latest_at:
            self.watched = False  # the heap knows it as younger than it is: later calls merged ahead of this one
        if self.retry is not None:
            self._learn(0, self.retry.largest_array)

    def failed(self, failures: int) -> None:
        """The head has failed so often in a row, alone or in company."""
        self._learn(failures, self.largest_array)

    def refused(self, events: int) -> None:
        """An array with the head was refused: it goes again in one of at most so many events."""
        self._learn(self.failures, events)

    def taken(self, most: int) -> None:
        """An array of the learned size was taken: one of twice that size may go, or any, if that is ``most``."""
        if self.retry is not None and self.retry.largest_array:
            twice = 2 * self.retry.largest_array
            self._learn(self.retry.failures, twice if twice < most else 0)

    def _learn(self, failures: int, largest_array: int) -> None:
        self.retry = Retry(failures, largest_array) if failures or largest_array else None

    def back_off(self) -> None:
        """The head failed: the whole queue waits, or a later call would overtake it."""
        self.restore()  # or another file would take the head during the pause, ahead of what was given back
        self.place = QueueState.BACKING_OFF

    def come_back(self) -> None:
        """No request carries the head any more, or its pause is over: the calls say again where the queue belongs."""
        if self.claim is not None:
            self.restore()
        self.place = QueueState.IDLE

    def restore(self) -> None:
        """Put events in front that no file carries any more."""
        if self.claim is not None and self.claim.given_back:
            self._put_in_front(0, self.claim.given_back)
            self._claim(self.claim._replace(given_back=()))

    # ── files ──

    def claim_row(self, row: Row) -> None:
        """A file carries the row at the head from now on."""
        row.state = RowState.BATCHED
        self.claim = FileClaim(row)
        self.open_row = None

    def claim_events(self) -> Row:
        """A file carries the head, if it is a row, and the events that `move_to_file` takes; the row, or a stand-in."""
        head = self.calls[0]
        if isinstance(head, Row):
            head.state = RowState.BATCHED
        row = head if isinstance(head, Row) else Row.blank(self.kind, self.key)
        row.events = []
        self._block(row)
        self._on_time()
        if row is self.open_row:
            self.open_row = None
        return row

    def events_to_claim(self, at_most: int) -> Sequence[QueuedCall]:
        """The next calls behind the row of a file, so many at most: events, up to the next row or post."""
        start = self._behind_claim()
        return self.calls[start : start + at_most]

    def move_to_file(self, events: Sequence[WaitingEvent]) -> None:
        """A file carries these events, the first ones of `events_to_claim`."""
        row, start = self.claimed_row, self._behind_claim()
        if row is not None and row.events is not None:
            row.events += events
            del self.calls[start : start + len(events)]

    def _behind_claim(self) -> int:
        return 1 if self.calls and self.calls[0] is self.claimed_row else 0

    def rejoin_row(self, row: Row) -> None:
        """A file that was taken over carries this row, which has just come in; the queue is empty."""
        row.state = RowState.BATCHED
        self.calls.append(row)
        self.claim = FileClaim(row)

    def rejoin_events(self, row: Row | None = None) -> Row:
        """A file that was taken over carries events, behind this row, if there is one; the row, or a stand-in."""
        if row is None:
            row = Row.blank(self.kind, self.key)
        else:
            row.state = RowState.BATCHED
            self.calls.append(row)
        row.events = []
        self._block(row)
        return row

    def reserve(self) -> None:
        """A file waits for the request with the head: after that, nothing goes before the file has the rest."""
        self._claim((self.claim or FileClaim())._replace(blocks=True))

    def submitted(self) -> None:
        """The server has the file, or none waits any more: what was accepted later may go."""
        if self.claim is not None:
            self._claim(self.claim._replace(blocks=False))

    def release(self, row: Row) -> None:
        """No file carries this row any more. Those of its events that have no outcome wait in front of all again."""
        self.claim = None
        if not row.events:
            return
        events, row.events = row.events, None
        heads = bool(self.calls) and self.calls[0] is row
        if self.place is QueueState.SENDING and not heads:
            self.claim = FileClaim(given_back=events)
        else:
            self._put_in_front(1 if heads else 0, events)
        self._on_time()  # others at the head were late
        if row.alone:
            self.lateness = Lateness(realtime_until=event_id(events[-1]))

    def reopen(self, row: Row) -> None:
        """The row at the head, which a file had, waits again; others may merge into it if only events are behind it."""
        row.state = RowState.SENDING if self.place is QueueState.SENDING else RowState.WAITING
        if all(isinstance(call, tuple) for call in self.calls[1:]):
            self.open_row = row

    def _block(self, row: Row) -> None:
        """A file has the first events: a pause of the head means nothing any more."""
        self.claim = FileClaim(row, blocks=True)
        if self.place is QueueState.BACKING_OFF:
            self.place = QueueState.IDLE

    def _claim(self, claim: FileClaim) -> None:
        self.claim = claim if claim.row is not None or claim.blocks or claim.given_back else None

    def _put_in_front(self, start: int, events: Sequence[WaitingEvent]) -> None:
        self.calls[start:start] = events
        self.watched = False  # the heap knows it as younger than it is now

    # ── late events ──

    def set_aside(self) -> None:
        """The first event is late: it waits for a file."""
        self.lateness = LATE

    def let_through(self) -> None:
        """The first event need not wait for a file any longer."""
        self._on_time()

    def _on_time(self) -> None:
        if self.is_late:
            self.lateness = None

    # ── several keys of a person ──

    def follow(self, before: KeyQueue) -> None:
        """Wait until the queue of another key of the same person is empty."""
        alias = self.alias or Alias()
        self.alias = attrs.evolve(alias, behind=alias.behind + 1)
        before.alias = attrs.evolve(before.alias or Alias(), follower=self)

    def lead(self) -> None:
        """A queue that had to empty first is empty."""
        if self.alias is not None:
            alias = attrs.evolve(self.alias, behind=self.alias.behind - 1)
            self.alias = alias if alias.behind or alias.follower is not None else None

    # ── where it stands ──

    def stand(self, place: QueueState) -> None:
        """`Queues` has placed the queue by this state, or has taken it out of its line."""
        self.place = place

    def watch(self, watched: bool) -> None:
        """The heap of what expires next has taken it in, or has let it go."""
        self.watched = watched

    # ── the end ──

    def take_head(self) -> QueuedCall:
        """Take the head out, without an outcome; `put_head` puts it back."""
        return self.calls.pop(0)

    def put_head(self, call: QueuedCall) -> None:
        """Put back what `take_head` has taken."""
        self.calls.insert(0, call)

    def lift_prefaces(self) -> list[Post]:
        """Take out the posts in front that no call stands for; `lower_prefaces` puts them back."""
        lifted: list[Post] = []
        while self.calls and isinstance(head := self.calls[0], Post) and head.is_preface:
            lifted.append(head)
            del self.calls[0]
        return lifted

    def lower_prefaces(self, lifted: list[Post]) -> None:
        """Put posts in front, where a call needs them: each is as old as that."""
        for post in lifted:
            post.accepted_at = max(post.accepted_at, self.needed_from)
        self.calls[:0] = lifted

    @property
    def needed_from(self) -> float:
        """When the first call here was accepted, or in the next queue that waits for this one; -inf: there is none."""
        if self.calls:
            return self.head_time
        follower = self.alias.follower if self.alias is not None else None
        return follower.needed_from if follower is not None else -math.inf
