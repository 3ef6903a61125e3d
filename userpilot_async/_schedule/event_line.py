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

    def join(self, queue: KeyQueue, *, first: bool = False) -> None:
        """Put a queue at the end of the line, or at its head."""
        (self._line.appendleft if first else self._line.append)(queue)

    def join_packed(self, event: PackedEvent) -> None:
        """Put an event at the end of the line whose key has no other call."""
        self.packed.add(event)
        self._line.append(event)

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
                return queue
            line.popleft()
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
            self._line.popleft()
        return True

    def _is_due(self, turn: KeyQueue | PackedEvent) -> bool:
        if isinstance(turn, KeyQueue):
            return turn.place is QueueState.EVENTS
        queue = self._users.get(packed_key(turn))
        return queue.place is QueueState.EVENTS if queue is not None else self.packed.has(turn)
