"""The line of events: whose turn it is, of key queues with an event at their head, and of packed events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from .._calls.payload import PackedEvent, packed_key
from .key_queue import KeyQueue
from .packed_calls import PackedCalls
from .queue_state import QueueState


class EventLine:
    """Queues take turns, so one user's 100,000 events starve no other. ``users`` are all queues of people by key.

    A queue leaves the line without saying so, when its state changes. A packed event whose key has got a queue, by
    ``unpack``, stands in the line for that.
    """

    def __init__(self, users: Mapping[str, KeyQueue], unpack: Callable[[str], KeyQueue]) -> None:
        self.packed = PackedCalls[PackedEvent]()
        """Events of people who have no queue: each is in the line."""
        self._users = users
        self._unpack = unpack
        self._line: deque[KeyQueue | PackedEvent] = deque()
        self._standing: dict[str, PackedEvent] = {}
        # By key: the packed event that stands in the line for the queue that it was put into.

    def join(self, queue: KeyQueue, *, first: bool = False) -> None:
        """Put a queue at the end of the line, or at its head."""
        (self._line.appendleft if first else self._line.append)(queue)
        self._forget_many()

    def join_packed(self, event: PackedEvent) -> None:
        """Put an event at the end of the line whose key has no other call."""
        self.packed.add(event)
        self._line.append(event)
        self._forget_many()

    def unpacked(self, key: str) -> PackedEvent | None:
        """Take out the packed event of a key, if there is one, for a queue, which it stands for in the line."""
        event = self.packed.take(key)
        if event is not None:
            self._standing[key] = event
        return event

    def leave(self, queue: KeyQueue) -> None:
        """Take out a queue that is first: left there, it would be first again when it comes back."""
        if self._line and self._line[0] is queue:
            self._line.popleft()

    def first(self) -> KeyQueue | None:
        """The queue whose event is next."""
        line = self._line
        while line:
            turn = line[0]
            if self._is_due(turn):
                line[0] = queue = turn if isinstance(turn, KeyQueue) else self._unpack(packed_key(turn))
                self._standing.pop(queue.key, None)
                return queue
            self._forget_first()
        return None

    def have(self, number: int) -> bool:
        """So many events, about, could go now."""
        for turn in self._line:
            if self._is_due(turn):
                number -= len(turn.calls) if isinstance(turn, KeyQueue) else 1
                if number <= 0:
                    return True
        return False

    def tidy(self, at_most: int) -> bool:
        """Forget those in front who have left, so many at once; true if there may be more."""
        for _ in range(at_most):
            if not self._line or self._is_due(self._line[0]):
                return False
            self._forget_first()
        return True

    def _forget_many(self) -> None:
        """Forget all who have left, where they are more than those who stand here: seldom, and not for each call."""
        if len(self._line) > 2 * (len(self._users) + self.packed.number) + 1_000:
            due = dict.fromkeys(map(id, self._line))
            self._line = deque(turn for turn in self._line if self._is_due(turn) and due.pop(id(turn), turn) is None)
            gone = self._standing.keys() - {packed_key(turn) for turn in self._line if not isinstance(turn, KeyQueue)}
            for key in gone:
                del self._standing[key]

    def _forget_first(self) -> None:
        turn = self._line.popleft()
        if not isinstance(turn, KeyQueue) and self._standing.get(packed_key(turn)) is turn:
            del self._standing[packed_key(turn)]

    def _is_due(self, turn: KeyQueue | PackedEvent) -> bool:
        if isinstance(turn, KeyQueue):
            return turn.place is QueueState.EVENTS
        queue = self._users.get(packed_key(turn)) if self._standing.get(packed_key(turn)) is turn else None
        return queue.place is QueueState.EVENTS if queue is not None else self.packed.has(turn)
