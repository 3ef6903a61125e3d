"""How calls end: answered, by a job's end, of age, for want of room, or because there is no more time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

from .._calls.outcome import DELETED, NO_WORDS, Outcome, Words
from .._calls.payload import (
    PackedEvent,
    PackedRow,
    event_id,
    packed_at,
    packed_event,
    packed_id,
    packed_key,
    packed_properties,
)
from .._calls.rows import Row, RowState
from .dedup import Dedup
from .file_endings import CHORES, FileEndings
from .job_slot import JobSlot
from .key_queue import KeyQueue
from .met_keys import MetKeys
from .posts import Deletion, Post
from .property_cache import PropertyCache
from .queue_state import UNDER_WAY, QueueState
from .queue_view import QueuedCall
from .queues import Queues
from .settlement import Settlements


class Completion:
    """Takes calls out of their queues, and writes down what became of them."""

    def __init__(self, queues: Queues, dedup: Dedup, settled: Settlements, *, repeats: bool = True) -> None:
        self._queues = queues
        self._dedup = dedup
        self._settled = settled
        self.files = FileEndings(queues, settled, self, repeats=repeats)
        """How rows leave files."""
        self.known: PropertyCache | None = None
        """Where to remember what was sent to the server of people."""
        self.met = MetKeys()
        """Keys of persons whom the server has met."""
        self.possible_duplicates = 0
        """Events that were sent again, none of them in a file before, and which the server may have had."""
        self._erasing: deque[tuple[KeyQueue, Deletion]] = deque()
        """Deletions before which calls may still wait."""

    def go_on(self, before: Completion) -> None:
        """Go on counting where that of an earlier schedule has stopped."""
        self.possible_duplicates = before.possible_duplicates
        self.files.possible_duplicates = before.files.possible_duplicates
        self.files.jobs_completed = before.files.jobs_completed

    def head(self, queue: KeyQueue, outcome: Outcome, words: Words = NO_WORDS) -> None:
        """The head of this queue has its outcome; ``words`` are what the server said of it."""
        if isinstance(queue.calls[0], Deletion):
            self._forget_person(queue)  # again: what was on its way has been remembered meanwhile
        self._leaves(queue.calls[0], outcome)
        self._settled.head(queue, outcome, words)

    def packed(self, kind: str, rows: Sequence[PackedRow], outcome: Outcome, words: Words = NO_WORDS) -> bool:
        """Packed rows of a kind have this outcome, and wait no more; true if each had to be unpacked for that."""
        known = self.known if kind == "user" and outcome.is_delivered else None
        if known is not None:
            for row in rows:
                known.learn(packed_key(row), packed_properties(row))
        self._settled.packed(kind, rows, outcome, words)
        return known is not None or not outcome.is_delivered

    def _leaves(self, call: QueuedCall, outcome: Outcome) -> None:
        """A call leaves its queue with this outcome: what others count and remember of it changes."""
        if self.met.are_awaited:
            self.met.ended((event_id(call),) if isinstance(call, tuple) else call.ids, delivered=outcome.is_delivered)
        if isinstance(call, Deletion):
            call.erases = False
        elif isinstance(call, Post):
            self._dedup.left(call, outcome)
        elif isinstance(call, tuple):
            self._queues.waiting_events -= 1
        elif self.known is not None and call.kind == "user" and outcome.is_delivered:
            self.known.learn(call.key, call.metadata)

    def delivered(self, parts: Iterable[tuple[KeyQueue, int]], size: int) -> None:
        """So many events at the heads of these queues, of so many bytes, have been delivered."""
        if self.met.are_awaited:
            parts = list(parts)
            heads = (call for queue, calls in parts for call in queue.calls[:calls])
            self.met.ended((event_id(call) for call in heads if isinstance(call, tuple)), delivered=True)
        self._settled.delivered(parts, size)

    def do_chores(self) -> bool:
        """Settle some of the rows that a job's or a company's end has left to settle; true if there are more."""
        filing = self.files.do_chores()
        erasing = self._erase(CHORES) if self._erasing else False
        return self._settled.follow(CHORES) or erasing or filing

    # ── a deletion drops what waits before it ──

    def erase(self, queue: KeyQueue, deletion: Deletion) -> None:
        """A deletion has come into this queue: what waits before it is dropped, a little with each `do_chores`."""
        self._erasing.append((queue, deletion))
        self._forget_person(queue)

    def _forget_person(self, queue: KeyQueue) -> None:
        if self.known is not None and queue.kind == "user":
            self.known.forget(queue.key)

    def _erase(self, at_most: int) -> bool:
        """Drop so many calls that wait before deletions; true if there are more."""
        while self._erasing and at_most > 0:
            queue, deletion = self._erasing[0]
            erased = queue.take_erased(deletion, at_most)
            for call in erased:
                self._leaves(call, DELETED)
                self._settled.call(call, DELETED)
            at_most -= max(len(erased), 1)
            if not erased:
                self._erasing.popleft()
                if queue.erased(deletion) is not None:
                    self._settled.again(deletion.ids[0], len(deletion.body), None)
                # One that is empty was forgotten when the deletion left it, and may have a namesake by now.
                if queue.calls and queue.place not in UNDER_WAY:
                    self._queues.head_left(queue)
        return bool(self._erasing)

    def deleting(self, queues: Iterable[KeyQueue], submitted: bool) -> None:
        """A job of the server carries out the deletions at these heads, or does so no more."""
        for queue in queues:
            head = queue.calls[0]
            if isinstance(head, Deletion):
                head.submitted = submitted
                self._settled.marks.append((head.ids[:1], submitted, 0))

    # ── calls leave unsent ──

    def expire(self, now: float, max_age: float) -> float:
        """Calls die of age, never of a number of attempts. When the next one will."""
        if self._queues.tidy(CHORES):
            return now
        limit = now - max_age
        if self._not_before <= limit:  # or each of many rows that go on merging would be looked at again and again
            self.give_up(limit, Outcome("dead", "expired"))
        return max(now + 1.0, self._not_before + max_age)

    @property
    def _not_before(self) -> float:
        row, event = self._queues.packed.oldest(), self._queues.events.packed.first
        since = packed_at(row[1]) if row is not None else math.inf
        return min(since, packed_at(event) if event is not None else math.inf, self._queues.expiry.not_before)

    def give_up(self, accepted_until: float, outcome: Outcome, at_most: int = 1_000) -> int:
        """The oldest calls that no request carries, up to this age, meet ``outcome``; how many."""
        given_up, waiting = 0, list[KeyQueue]()
        while given_up < at_most:
            queue = self._queues.expiry.oldest()
            if self._give_up_packed(accepted_until, outcome, before=queue):
                given_up += 1
                continue
            if queue is None or queue.head_time > accepted_until:
                break
            head = queue.calls[0]
            # A company row is not given up under its users: they would be lost with it.
            if queue.place is QueueState.SENDING or (
                isinstance(head, Row) and (head.state is RowState.BATCHED or head.awaited)
            ):
                self._queues.expiry.set_aside(queue)  # it is watched again when its head comes back
                continue
            known = queue.head_time
            if self._give_up(queue, outcome):
                given_up += 1
                self._queues.head_left(queue)
            elif queue.head_time <= known:  # it is for a call of another queue, which is as old
                self._queues.expiry.set_aside(queue)
                waiting.append(queue)
        for queue in waiting:
            self._queues.expiry.watch(queue)
        return given_up

    def _give_up_packed(self, accepted_until: float, outcome: Outcome, *, before: KeyQueue | None) -> bool:
        """Give up the oldest packed call that waits; false if there is none of this age, or ``before`` has an older."""
        (kind, row), event = self._queues.packed.oldest() or ("", None), self._queues.events.packed.first
        ages = [(packed_at(call), packed_id(call)) for call in (row, event) if call is not None]
        oldest = min(ages, default=(math.inf, math.inf))
        limit = (accepted_until, math.inf) if before is None else (before.head_time, before.head_id)
        if not ages or oldest > min(limit, (accepted_until, math.inf)):
            return False
        if event is not None and oldest == (packed_at(event), packed_id(event)):
            self._drop_packed(event, outcome)
        elif row is not None:
            self._queues.packed.take(kind, packed_key(row))
            self.packed(kind, (row,), outcome)
        return True

    def _drop_packed(self, event: PackedEvent, outcome: Outcome) -> None:
        self._queues.take_packed(event)
        call_id, _, said = packed_event(event)
        self._settled.unheld(call_id, said, outcome)

    def _give_up(self, queue: KeyQueue, outcome: Outcome) -> bool:
        """Give up the first call, not the posts in front of it that others need, here or in a queue that waits.

        Posts that no call stands for are as old as the first call that needs them: false if that is younger than was
        thought, or in another queue, and nothing is given up.
        """
        prefaces = queue.lift_prefaces()
        is_oldest = bool(queue.calls) and (not prefaces or queue.head_time <= prefaces[0].accepted_at)
        if is_oldest:
            head = queue.calls[0]
            if isinstance(head, Post) and head.needed:
                self._settled.given_up(head, outcome)
                prefaces.append(head)
                queue.take_head()
            else:
                self.head(queue, outcome)
        is_needed = queue.needed_from > -math.inf
        queue.lower_prefaces(prefaces)
        while not is_needed and queue.calls:
            self.head(queue, outcome)
        return is_oldest or not is_needed

    def abandon(self, outcome: Outcome, slots: Sequence[JobSlot]) -> Iterator[None]:
        """The end: everything that the server has not taken into a job meets ``outcome``, a call with each step."""
        while self.do_chores():
            yield from repeat(None, CHORES)
        running = [(kind, self._queues.packed.current(kind, row)) for slot in slots for kind, row in slot.submitted]
        for row in (row for slot in slots for row in slot.unsubmitted):
            while isinstance(row, Row) and row.events:
                self._settled.carried(row, outcome, CHORES)
                yield from repeat(None, CHORES)
        submitted = {id(row) for _, row in running}
        for kind, packed in self._queues.packed.take_all(submitted):
            self.packed(kind, (packed,), outcome)
            yield
        while (event := self._queues.events.packed.first) is not None:
            self._drop_packed(event, outcome)
            yield
        for queue in list(self._queues):
            queue.restore()
            staying = queue.take_submitted(submitted)
            while queue.calls:
                self.head(queue, outcome)
                yield
            if staying is not None:
                queue.put_head(staying)
            self._queues.come_back(queue)
        while self.do_chores():
            yield from repeat(None, CHORES)
        for kind, row in running:
            # A part of it is lost: so is the call.
            if isinstance(row, Row) and not row.settled and row.outcome is not None and not row.outcome.is_delivered:
                row.state = RowState.ANSWERED
                self._settled.close(row)
            yield from self.files.mark(kind, (row,), True)
