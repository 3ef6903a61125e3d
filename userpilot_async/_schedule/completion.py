"""How calls end: answered, by a job's end, of age, for want of room, or because there is no more time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat

from .._calls.outcome import DELETED, NO_WORDS, Outcome, Words
from .._calls.payload import event_id
from .._calls.rows import Row, RowState
from .dedup import Dedup
from .job_batch import JobEffect
from .job_slot import JobSlot
from .key_queue import KeyQueue
from .met_keys import MetKeys
from .posts import Deletion, Post
from .property_cache import PropertyCache
from .queue_state import UNDER_WAY, QueueState
from .queue_view import QueuedCall
from .queues import Queues
from .settlement import Settlements

WEIGHT = 10  # events of a file are as much work as one row
_CHORES = 200  # rows settled in one go: about half a millisecond of the application's loop


class Completion:
    """Takes calls out of their queues, and writes down what became of them."""

    def __init__(self, queues: Queues, dedup: Dedup, settled: Settlements, *, repeats: bool = True) -> None:
        self._queues = queues
        self._dedup = dedup
        self._settled = settled
        self._repeats = repeats  # what the server may have had goes again; else it is given up
        self.known: PropertyCache | None = None
        """Where to remember what was sent to the server of people."""
        self.met = MetKeys()
        """Keys of persons whom the server has met."""
        self.possible_duplicates = 0
        """Events that were sent again, and which the server may have had."""
        self.jobs_completed = 0
        self._erasing: deque[tuple[KeyQueue, Deletion]] = deque()
        """Deletions before which calls may still wait."""
        self._chores: Iterator[None] = iter(())
        self._chores_waiting = False

    def go_on(self, before: Completion) -> None:
        """Go on counting where that of an earlier schedule has stopped."""
        self.possible_duplicates, self.jobs_completed = before.possible_duplicates, before.jobs_completed

    def head(self, queue: KeyQueue, outcome: Outcome, words: Words = NO_WORDS) -> None:
        """The head of this queue has its outcome; ``words`` are what the server said of it."""
        if isinstance(queue.calls[0], Deletion):
            self._forget_person(queue)  # again: what was on its way has been remembered meanwhile
        self._leaves(queue.calls[0], outcome)
        self._settled.head(queue, outcome, words)

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

    # ── rows leave the job slot ──

    def carry_out(self, effect: JobEffect, delivered: Outcome, over: str = "") -> None:
        """Rows have come into a job, or out of one, which delivers them as ``delivered``.

        ``over`` is the name of their file, if no slot has it any more.
        """
        self.jobs_completed += effect.delivered
        outcome = delivered if effect.delivered else Outcome("dead", effect.dead) if effect.dead else None
        if effect.submitted:
            self._chores = chain(self._chores, self._submit(effect.submitted))
        if effect.withdrawn:
            self._chores = chain(self._chores, self._withdraw(effect.withdrawn))
        if effect.repeated:
            self._chores = chain(self._chores, self._repeat(effect.repeated))
        if effect.ended:
            self._chores = chain(self._chores, self._end(effect.ended, outcome, effect.words))
        if over:
            self._chores = chain(self._chores, self._forget(over))
        work = effect.withdrawn or effect.repeated or effect.submitted or effect.ended or over
        self._chores_waiting = self._chores_waiting or bool(work)

    def _forget(self, filename: str) -> Iterator[None]:
        """Only now: until all that was in it is settled, another sender has to find it."""
        self._settled.forgotten.append(filename)
        yield

    def _withdraw(self, rows: Iterable[Row]) -> Iterator[None]:
        """The job came to nothing; it may have worked off some of the events."""
        for row in rows:
            for calls in self._settled.marked((row,), False):
                yield from repeat(None, 1 + calls // WEIGHT)
        yield from self._repeat(rows)

    def _repeat(self, rows: Iterable[Row]) -> Iterator[None]:
        """Rows go again, although the server may have had them. An identify twice is the same identify."""
        for row in rows:
            while row.events and not self._repeats:
                yield from self._carry(row, Outcome("dropped", "ambiguous"))
            self.possible_duplicates += len(row.events or ())
            yield

    def _carry(self, row: Row, outcome: Outcome) -> Iterator[None]:
        yield from repeat(None, min(len(row.events or ()) // WEIGHT, _CHORES))
        self._settled.carried(row, outcome, WEIGHT * _CHORES)

    def _submit(self, rows: Iterable[Row]) -> Iterator[None]:
        """The server has them: what is accepted later may go."""
        for row in rows:
            for calls in self._settled.marked((row,), True):
                yield from repeat(None, calls // WEIGHT)
            queue = self._queues.by_key[row.kind][row.key]
            if queue.is_blocked:
                self._queues.unblock(queue)
            yield

    def _end(self, rows: Iterable[Row], outcome: Outcome | None, words: Words) -> Iterator[None]:
        for row in rows:
            queue = self._queues.by_key[row.kind][row.key]  # not `Queues.queue`, which knows who has become whom
            while row.events and outcome is not None:
                yield from self._carry(row, outcome)
            self._queues.waiting_events += len(row.events or ())
            queue.release(row)
            if row.state is RowState.BATCHED and outcome is not None:
                self.head(queue, outcome, NO_WORDS if outcome.is_delivered else words)
            elif row.state is RowState.BATCHED:
                queue.reopen(row)
            if queue.place not in UNDER_WAY:
                self._queues.head_left(queue)  # which keeps its turn, if it has one
            elif queue.calls:
                self._queues.expiry.watch(queue)
            yield

    def do_chores(self) -> bool:
        """Settle some of the rows that a job's or a company's end has left to settle; true if there are more."""
        if self._chores_waiting:
            self._chores_waiting = sum(1 for _ in islice(self._chores, _CHORES)) == _CHORES
            if not self._chores_waiting:
                self._chores = iter(())
        erasing = self._erase(_CHORES) if self._erasing else False
        return self._settled.follow(_CHORES) or erasing or self._chores_waiting

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
        if self._queues.tidy(_CHORES):
            return now
        limit = now - max_age
        self.give_up(limit, Outcome("dead", "expired"))
        oldest = self._queues.expiry.oldest()
        return max(now + 1.0, oldest.head_time + max_age) if oldest is not None else math.inf

    def give_up(self, accepted_until: float, outcome: Outcome, at_most: int = 1_000) -> int:
        """The oldest calls that no request carries, up to this age, meet ``outcome``; how many."""
        given_up, waiting = 0, list[KeyQueue]()
        while given_up < at_most:
            queue = self._queues.expiry.oldest()
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

    def abandon(self, outcome: Outcome, slots: Sequence[JobSlot]) -> None:
        """The end: everything that the server has not taken into a job meets ``outcome``."""
        while self.do_chores():
            pass
        running = [row for slot in slots for row in slot.submitted]
        for row in (row for slot in slots for row in slot.unsubmitted):
            self._settled.carried(row, outcome)
        submitted = {id(row) for row in running}
        for queue in list(self._queues):
            queue.restore()
            staying = queue.take_submitted(submitted)
            while queue.calls:
                self.head(queue, outcome)
            if staying is not None:
                queue.put_head(staying)
            self._queues.come_back(queue)
        while self.do_chores():
            pass
        for row in running:
            # A part of it is lost: so is the call.
            if not row.settled and row.outcome is not None and not row.outcome.is_delivered:
                row.state = RowState.ANSWERED
                self._settled.close(row)
        for _ in self._settled.marked(running, True):
            continue
