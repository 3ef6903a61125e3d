"""The waiting calls of one ordering key, a person's or a company's: in which state they are, and all that changes it.

Order within a key is kept by one rule: only the head of its queue moves. So the state follows from the first calls,
from what a file has of them, and from what happened to the head before. `QueueView.state` derives it:

      ┌──────┐ add   ┌─ MERGING  one row, which later ones may merge into ──────┐
      │ IDLE │ ────▶ ├─ URGENT   a row with calls behind it, or a post          ├─ send ─▶ SENDING
      └──────┘       ├─ DELETION a deletion, which goes with others             │             │
         ▲           ├─ EVENTS   an event ──────────────────────────────────────┘             │
         │           │    │  ▲                                        come_back: answered ◀───┤
         │           │    │  │ let_through                                                    │ back_off: failed
         │      set_aside ▼  │                                       come_back: due again ◀───▼
         │           ├─ LATE     a late event, which waits for a file                    BACKING_OFF
         │           │
         │           └─ PARKED   something has to happen elsewhere first: a file that has its head or its first events
         └─ empty ───┘           (claim_row, claim_events, reserve ─▶ submitted ─▶ release), the queue of another key
                                 of the same person, which has to empty (follow ─▶ lead), or what a deletion drops
                                 (add ─▶ take_erased ─▶ erased)

Only the methods of `KeyQueue` write to it. What stands beside the calls is ``None`` nearly always.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import attrs

from .._calls.payload import WaitingEvent, event_id
from .._calls.rows import Row, RowState
from .posts import Deletion, Post, dropped_by
from .queue_state import LATE, FileClaim, Lateness, QueueState, Retry
from .queue_view import Alias, QueuedCall, QueueView


@attrs.define(eq=False, slots=True)
class KeyQueue(QueueView):
    """The calls of one key, and all that changes them: see the module."""

    # ── calls come and go ──

    def add(self, call: QueuedCall) -> None:
        """Take a call in, behind all others. Rows that come later may merge into a row, but into none before a post."""
        self.calls.append(call)
        if type(call) is not tuple:
            self.only_events = False
            self.open_row = call if isinstance(call, Row) else None

    def add_deletion(self, deletion: Deletion) -> None:
        """Take a deletion in: `take_erased` gives what waits before it, and nothing of that goes any more."""
        self.add(deletion)
        self.let_through()
        self.erasing += 1

    def take_erased(self, deletion: Deletion, at_most: int) -> Sequence[QueuedCall]:
        """Take out the first calls before a deletion that neither a request nor a file carries, so many at most."""
        if not deletion.erases:
            return ()
        if self.claim is not None and (given_back := self.claim.given_back):
            self._claim(self.claim._replace(given_back=given_back[at_most:]))
            return given_back[:at_most]
        dropped = dropped_by(deletion, self.calls, at_most, carried=int(self.carries_head))
        taken = self.calls[dropped]
        del self.calls[dropped]
        return taken

    def erased(self, deletion: Deletion) -> Deletion | None:
        """All that waited before a deletion is dropped, or it has left the queue itself.

        The deletion right before it, if that was not sent yet: both are one now, and share an outcome.
        """
        self.erasing -= 1
        if not deletion.erases:
            return None
        deletion.erases = False
        at = self.calls.index(deletion)
        before = self.calls[at - 1] if at > int(self.carries_head) else None
        if not isinstance(before, Deletion):
            return None
        before.ids, before.accepted_at = before.ids + deletion.ids, deletion.accepted_at
        del self.calls[at]
        return before

    def take_submitted(self, rows: Container[int]) -> QueuedCall | None:
        """Take out the head if the server has it in a job: one of these ``rows``, by `id`, or a deletion."""
        head = self.calls[0] if self.calls else None
        submitted = head.submitted if isinstance(head, Deletion) else id(head) in rows
        return self.take_head() if submitted else None

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
        self.add(row)
        self.claim, self.open_row = FileClaim(row), None

    def rejoin_events(self, row: Row | None = None) -> Row:
        """A file that was taken over carries events, behind this row, if there is one; the row, or a stand-in."""
        if row is None:
            row = Row.blank(self.kind, self.key)
        else:
            row.state = RowState.BATCHED
            self.add(row)
            self.open_row = None
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
