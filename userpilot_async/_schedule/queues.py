"""Where key queues wait for their turn: for an event, a realtime row, a file, or until a pause is over."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, count

from .._calls.payload import Key, PackedEvent, PackedRow, packed_event, packed_key
from .._calls.rows import FiledRow, Row, unpacked
from .event_line import EventLine
from .expiry import ExpiryHeap
from .identities import Identities
from .key_queue import KeyQueue
from .merging_rows import MergingRows
from .posts import Deletion
from .queue_state import UNDER_WAY, QueueState
from .settling import Settling


class Queues:
    """Every key queue that has calls, in the line that its state says, or in none. ``kinds`` are what keys are of.

    A key with a single row of one of the kinds that it ``packs``, or a single event if ``packs_events``, has no queue
    until it needs one: see `packed_rows`.
    """

    def __init__(
        self, kinds: Iterable[str], settling: Settling | None = None, packs: Iterable[str] = (), *,
        packs_events: bool = False,
    ) -> None:  # fmt: skip
        self.by_key: dict[str, dict[str, KeyQueue]] = {kind: {} for kind in kinds}
        """By what they are of, and by their key."""
        self.merging = MergingRows(self.by_key, packs)
        self.packed = self.merging.packed
        self.events = EventLine(self.by_key["user"], partial(self.queue, "user"))
        self.late: dict[str, KeyQueue] = {}
        """Those whose first event is late."""
        self.deleting: dict[str, dict[str, KeyQueue]] = {kind: {} for kind in self.by_key}
        """Those whose head is a deletion that may go, in the order in which they came."""
        self.waiting_events = 0
        """Events that wait in key queues, also in those whose turn it is not."""
        self.expiry = ExpiryHeap(self)
        self.settling = settling or Settling({})
        self._identities = {kind: Identities() for kind in self.by_key}
        self._packs_events = packs_events
        self._urgent: deque[KeyQueue] = deque()
        self._backing_off: list[tuple[float, int, KeyQueue]] = []
        self._tie = count()

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))

    def has(self, kind: str, key: str) -> bool:
        """Calls by this key wait, or are under way."""
        return key in self.by_key[kind] or self._has_packed(kind, key)

    def _has_packed(self, kind: str, key: str) -> bool:
        return self.packed.has(kind, key) or (kind == "user" and key in self.events.packed)

    @property
    def have_packed(self) -> bool:
        """Calls wait packed, or are packed in a file."""
        return bool(self.events.packed.number or len(self.packed))

    @property
    def are_empty(self) -> bool:
        """No call waits, and none is under way."""
        return not len(self) and not self.have_packed

    def __iter__(self) -> Iterator[KeyQueue]:
        return chain.from_iterable(queues.values() for queues in self.by_key.values())

    def queue(self, kind: str, key: Key) -> KeyQueue:
        """The queue of a person or company, new if there is none."""
        if isinstance(key, tuple):
            return self._joined(kind, *key)
        identities = self._identities[kind]
        if identities:
            key = identities.find(key)
        queues = self.by_key[kind]
        queue = queues.get(key)
        if queue is None:
            queue = queues[key] = KeyQueue(kind, key)
            if self._has_packed(kind, key):
                self._unpack(queue)
        return queue

    def _unpack(self, queue: KeyQueue) -> None:
        """Put the packed call of its key into a new queue."""
        event = self.events.unpacked(queue.key) if queue.kind == "user" else None
        waiting = self.packed.take(queue.kind, queue.key)
        if event is not None:
            queue.add(packed_event(event))
            queue.stand(QueueState.EVENTS)  # where the event stands in the line: see `EventLine`
            self.expiry.watch(queue)
        elif waiting is not None:
            queue.add(unpacked(queue.kind, waiting))
            self.came_in(queue)
        elif (filed := self.packed.take_filed(queue.kind, queue.key)) is not None:
            row = unpacked(queue.kind, filed)
            queue.rejoin_row(row)
            self.packed.unpacked(row)
            self.place(queue)

    def _joined(self, kind: str, first: str, *others: str) -> KeyQueue:
        """The queue of a person with several keys: from now on one, behind what waits under the other keys."""
        queue, queues, identities = self.queue(kind, first), self.by_key[kind], self._identities[kind]
        for key in map(identities.find, others):
            if key == queue.key:
                continue
            identities.join(key, queue.key, queues.__contains__)
            self.settling.joined(key, queue.key)
            before = queues.get(key)
            if before is not None:
                queue.follow(before)
                self.place(queue)
        return queue

    # ── into a line, and out of it ──

    def came_in(self, queue: KeyQueue) -> None:
        """A call was added to this queue."""
        if queue.place in (QueueState.IDLE, QueueState.MERGING, QueueState.PARKED):
            self.place(queue)
        self.expiry.watch(queue)

    def deletion_came_in(self, queue: KeyQueue, deletion: Deletion) -> None:
        """A deletion is to be added to this queue, and nothing before it goes any more."""
        queue.add_deletion(deletion)
        if queue.place not in UNDER_WAY:
            self.place(queue)
        self.expiry.watch(queue)

    def come_back(self, queue: KeyQueue, *, first: bool = False) -> None:
        """No request carries the head any more, or its pause is over; ``first`` puts it at the head of its line."""
        self._leave(queue)
        queue.come_back()
        self.place(queue, first=first)
        if queue.calls:
            self.expiry.watch(queue)

    def head_left(self, queue: KeyQueue) -> None:
        """The head of a queue that no request carries has left it, or has changed: it may belong elsewhere now."""
        if queue.calls:
            self.place(queue)
            self.expiry.watch(queue)
        elif not (self.settling.longest and queue.place is QueueState.BACKING_OFF):  # or what comes next would not wait
            self.come_back(queue)

    def place(self, queue: KeyQueue, *, first: bool = False) -> None:
        """Put a queue where its state says, if it is not there; forget it if it is idle."""
        state = queue.state
        if state is queue.place and state is not QueueState.IDLE:
            return
        self._leave(queue)
        queue.stand(state)
        if state is QueueState.EVENTS:
            self.events.join(queue, first=first)
        elif state is QueueState.URGENT:
            (self._urgent.appendleft if first else self._urgent.append)(queue)
        elif state is QueueState.MERGING:
            self.merging.queues[queue.kind][queue.key] = queue
        elif state is QueueState.LATE:
            self.late[queue.key] = queue
        elif state is QueueState.DELETION:
            self.deleting[queue.kind][queue.key] = queue
        elif state is QueueState.IDLE:
            self.by_key[queue.kind].pop(queue.key, None)
            follower = queue.alias.follower if queue.alias is not None else None
            if isinstance(follower, KeyQueue):
                follower.lead()
                self._move_on(follower)

    def _leave(self, queue: KeyQueue) -> None:
        place = queue.place
        if place is QueueState.MERGING:
            del self.merging.queues[queue.kind][queue.key]
        elif place is QueueState.LATE:
            del self.late[queue.key]
        elif place is QueueState.DELETION:
            del self.deleting[queue.kind][queue.key]
        elif place is QueueState.EVENTS:
            self.events.leave(queue)
        elif place is QueueState.URGENT and self._urgent and self._urgent[0] is queue:
            self._urgent.popleft()  # left there, it would be first again when it comes back

    def unblock(self, queue: KeyQueue) -> None:
        """The server has the file, or none is waited for any more: what a queue has behind it may go."""
        queue.submitted()
        self._move_on(queue)

    def _move_on(self, queue: KeyQueue) -> None:
        """Place a queue again if it was parked: one that is forgotten may have a namesake by now."""
        if queue.place is QueueState.PARKED:
            self.place(queue)

    def send(self, queue: KeyQueue) -> None:
        """A request carries the head of a queue, which leaves its line."""
        self._leave(queue)
        queue.send()

    def back_off(self, queue: KeyQueue, until: float) -> None:
        """The head has failed: the whole queue waits until then, or a later call would overtake it."""
        queue.back_off()
        heapq.heappush(self._backing_off, (until, next(self._tie), queue))
        if queue.calls:
            self.expiry.watch(queue)

    def hold(self, queue: KeyQueue, until: float) -> None:
        """Nothing of this queue goes until then, also what is only to come: the server is to settle what it has."""
        self._leave(queue)
        self.back_off(queue, until)

    def answered(self, queues: Iterable[KeyQueue], now: float) -> None:
        """A request with the heads of these queues has ended."""
        keys = (queue.key for queue in queues if queue.kind == "user")  # posts are of persons
        self.settling.answered(keys, self._identities["user"].find, now)

    def wake(self, now: float) -> float:
        """Bring back queues whose pause is over; the time at which the next one's is."""
        while self._backing_off:
            until, _, queue = self._backing_off[0]
            if until > now:
                return until
            heapq.heappop(self._backing_off)
            if queue.place is QueueState.BACKING_OFF:
                self.come_back(queue)  # not first: what fails for ever would be tried each time that one may be
        return math.inf

    # ── rows that may go on merging ──

    def packs(self, kind: str, key: Key, accepted_at: float) -> bool:
        """A row of this key, which says nothing of another, may wait packed: nothing else of it waits."""
        if not isinstance(key, str) or key in self.by_key[kind] or self._identities[kind]:
            return False
        return self.packed.takes(kind, key, accepted_at) and not (kind == "user" and key in self.events.packed)

    def packs_event(self, key: Key, accepted_at: float) -> bool:
        """An event of this key may wait packed: nothing else of it waits."""
        if not self._packs_events or not isinstance(key, str) or self.has("user", key):
            return False
        return not self.events.packed.number or accepted_at >= self.events.packed.newest

    def add_packed(self, event: PackedEvent) -> None:
        """Have an event wait in line that `packs_event` allows."""
        self.events.join_packed(event)
        self.waiting_events += 1

    def take_packed(self, event: PackedEvent) -> None:
        """Take out a packed event, which has its outcome."""
        self.events.packed.take(packed_key(event))
        self.waiting_events -= 1

    def first_merging(self, kind: str) -> KeyQueue:
        """The queue of the first row of a kind that may go on merging; there must be one."""
        first = self.merging.first(kind)
        return first if isinstance(first, KeyQueue) else self.queue(kind, packed_key(first))

    def file(self, kind: str, row: FiledRow) -> None:
        """A file carries this row, which could go on merging until now."""
        if not isinstance(row, Row):
            self.packed.file(kind, row)
            return
        queue = self.merging.queues[kind][row.key]
        queue.claim_row(row)
        self.place(queue)

    def unpack_filed(self, kind: str, packed: PackedRow) -> Row | None:
        """The row that a packed one has become, with a queue of its own; ``None`` if no file carries it any more."""
        if self.packed.is_filed(kind, packed):
            self.queue(kind, packed_key(packed))
        row = self.packed.current(kind, packed)
        return row if isinstance(row, Row) else None

    # ── whose turn it is ──

    def first_urgent(self) -> KeyQueue | None:
        """The queue whose row goes through the realtime endpoint next, because something waits behind it."""
        while self._urgent and self._urgent[0].place is not QueueState.URGENT:
            self._urgent.popleft()
        return self._urgent[0] if self._urgent else None

    def tidy(self, at_most: int) -> bool:
        """Forget queues that have left a line without saying so, so many at once; true if there may be more."""
        for _ in range(at_most):
            if not self._urgent or self._urgent[0].place is QueueState.URGENT:
                break
            self._urgent.popleft()
        else:
            return True
        return self.events.tidy(at_most) or self.expiry.tidy(at_most)
