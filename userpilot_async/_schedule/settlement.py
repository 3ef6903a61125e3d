"""Outcomes of calls, written down by the schedule for the sender to carry on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import attrs

from .._calls.outcome import DELETED, DELIVERED, NO_WORDS, Outcome, Words
from .._calls.payload import (
    Event,
    PackedRow,
    WaitingEvent,
    body_of,
    event_id,
    packed_id,
    packed_size,
    waiting_body,
)
from .._calls.rows import Row, RowState, unpacked
from .destination import Call, Destination
from .key_queue import KeyQueue
from .posts import Post
from .queue_view import QueuedCall

MARKED = 1_000  # calls marked at once


@attrs.frozen
class Settlement:
    """Calls that have their outcome, with those that were merged into them."""

    carriers: Sequence[int]
    """The ids that stand for all of it in the account: one, or the events of an array, or packed rows, that were
    delivered together; none for a row made of what others' identifies say, or a post that another call needs.
    """
    merged: Sequence[int]
    """Ids that share the carrier's outcome."""
    outcome: Outcome
    size: int
    """Bytes of the queue that are free again."""
    undelivered: Event | Row | Post | None
    """The event, row or post itself, unless it was delivered."""
    words: Words = NO_WORDS
    """The server's own words about it, if it was refused."""
    riders: Sequence[int] = ()
    """Calls that are not settled, although the server has what they say of this row: of the company, while
    the user's own row waits, or the other way round.
    """

    @property
    def detail(self) -> str:
        """The same as one text, with the ids that the vendor's support asks for."""
        return str(self.words)

    def call(self, destination: Destination) -> Call:
        """The call as one would make it again. Raises `ValueError` for what was delivered, which is not kept."""
        if isinstance(self.undelivered, Row):
            return destination.row_call(self.undelivered)
        if isinstance(self.undelivered, Post):
            return destination.call_of(self.undelivered.kind, "", self.undelivered.body)
        if self.undelivered is None:
            raise ValueError("what was delivered is not kept")
        return destination.call_of("track", "", self.undelivered)


class Settlements:
    """Collects until the sender takes."""

    def __init__(self) -> None:
        self.done: list[Settlement] = []
        self.merged: list[int] = []
        """Ids whose calls went into a later one, and cost no room any more."""
        self.freed = 0
        """Bytes that merging gave back; below 0 where a row grew."""
        self.marks: list[tuple[Sequence[int], bool, int]] = []
        """Ids that a job of the server holds now (``True``), or holds no more, and the bytes of events among them."""
        self.forgotten: list[str] = []
        """Files, all of whose calls have been settled, or go another way."""
        self._waves: deque[tuple[list[Row], Outcome]] = deque()

    def head(self, queue: KeyQueue, outcome: Outcome, words: Words = NO_WORDS) -> None:
        """The head of this queue has its outcome; it leaves the queue."""
        head = queue.calls[0]
        queue.pop()
        self.call(head, outcome, words)

    def call(self, head: QueuedCall, outcome: Outcome, words: Words = NO_WORDS) -> None:
        """A call that was in a queue has its outcome."""
        if isinstance(head, Row):
            head.state, head.words = RowState.ANSWERED, words
            self._part(head, outcome)
            if not head.settled:  # its own part is done with, also for the next sender: only its companies are left
                self.done.append(Settlement((), (), DELIVERED, 0, head, riders=list(head.ids)))
        elif isinstance(head, Post):
            size = len(head.body) if head.ids else 0
            self.done.append(Settlement(head.ids[:1], head.ids[1:], outcome, size, head, words))
        else:
            call_id, _, event = head
            self.done.append(Settlement((call_id,), (), outcome, len(body_of(event)), event, words))

    def packed(self, kind: str, rows: Sequence[PackedRow], outcome: Outcome, words: Words = NO_WORDS) -> None:
        """Packed rows of a kind have their outcome."""
        if outcome.is_delivered:
            self.done.append(Settlement(list(map(packed_id, rows)), (), outcome, sum(map(packed_size, rows)), None))
            return
        for row in rows:
            self.call(unpacked(kind, row), outcome, words)

    def unheld(self, call_id: int, event: Event, outcome: Outcome) -> None:
        """An event has its outcome before it came into a queue."""
        self.done.append(Settlement((call_id,), (), outcome, len(body_of(event)), event))

    def given_up(self, post: Post, outcome: Outcome) -> None:
        """The calls that a post stands for have this outcome, and it stays: others need it."""
        ids, post.ids = post.ids, []
        self.done.append(Settlement(ids[:1], ids[1:], outcome, len(post.body), attrs.evolve(post, ids=ids)))

    def refused(self, call_id: int, call: Event | Row | Post, size: int, outcome: Outcome, words: Words) -> None:
        """A call of so many bytes has its outcome before it came into a queue, and ``words`` say why."""
        self.done.append(Settlement((call_id,), (), outcome, size, call, words))

    def carried(self, row: Row, outcome: Outcome, at_most: int | None = None) -> None:
        """The events that went in a file together with a row have their outcome; the first ones, if there are many."""
        events = (row.events or [])[:at_most]
        row.events = (row.events or [])[len(events) :]
        self._mark(events, False)
        if outcome.is_delivered:
            size = sum(len(waiting_body(event)) for event in events)
            self.done.append(Settlement([call_id for call_id, _, _ in events], (), outcome, size, None))
        else:
            for call_id, _, event in events:
                self.unheld(call_id, event, outcome)

    def delivered(self, parts: Iterable[tuple[KeyQueue, int]], size: int) -> None:
        """So many events at the heads of these queues, of so many bytes, have been delivered."""
        ids: list[int] = []
        for queue, events in parts:
            ids += [event_id(call) for call in queue.calls[:events] if isinstance(call, tuple)]
            queue.pop(events)
        self.done.append(Settlement(ids, (), DELIVERED, size, None))

    def again(self, call_id: int, size: int, outcome: Outcome | None) -> None:
        """A call says what another has said, where once is enough; ``outcome`` is what became of that, if it has."""
        self.merged.append(call_id)
        self.freed += size
        if outcome is not None:
            self.done.append(Settlement((), (call_id,), outcome, 0, None))

    def follow(self, at_most: int) -> bool:
        """Settle so many rows whose company's properties have their outcome; true if there are more."""
        while self._waves and at_most:
            riders, outcome = self._waves[0]
            if riders:
                self._part(riders.pop(), outcome)
                at_most -= 1
            else:
                self._waves.popleft()
        return bool(self._waves)

    def close(self, row: Row) -> None:
        """Settle a row with what is known of its parts."""
        row.settled = True
        outcome = row.outcome or DELIVERED
        riders = [call_id for rider in row.riders or () for call_id in row.said_with(rider)]
        self.done.append(Settlement(row.ids[-1:], row.ids[:-1], outcome, row.size, row, row.words, riders))
        if row.riders:
            # A user's identify that says something of a deleted company, too, goes without that.
            said = DELIVERED if outcome is DELETED else outcome
            self._waves.append((list(reversed(row.riders)), said))

    def _part(self, row: Row, outcome: Outcome) -> None:
        """A part of a row is answered: itself, or a company's properties that came with it.

        A row is delivered when all of its parts are, and lost as soon as it is itself answered and one of them is. One
        that a deletion drops stays until its companies have what it says of them: no other call stands for that.
        """
        if row.settled:
            return
        if row.outcome is None or row.outcome.is_delivered:
            row.outcome = outcome
        row.open_parts -= 1
        is_lost = row.state is RowState.ANSWERED and not row.outcome.is_delivered and row.outcome is not DELETED
        if not row.open_parts or is_lost:
            self.close(row)

    def marked(self, rows: Iterable[Row], submitted: bool) -> Iterator[int]:
        """The server has taken these rows into a job, or the job came to nothing. Gives the number of calls marked."""
        for row in rows:
            for start in range(0, len(row.events or ()), MARKED):
                yield self._mark((row.events or [])[start : start + MARKED], submitted)
            if row.state is RowState.BATCHED:
                self.marks.append((row.ids[-1:], submitted, 0))
                for rider in row.riders or ():
                    if rider.state is RowState.ANSWERED and not rider.settled:
                        self.marks.append((rider.ids[-1:], submitted, 0))
            yield 1

    def _mark(self, events: Sequence[WaitingEvent], submitted: bool) -> int:
        size = sum(len(waiting_body(event)) for event in events)
        self.marks.append(([call_id for call_id, _, _ in events], submitted, size))
        return len(events)
