"""Events into requests: arrays of many, and arrays cut down until the event that spoils them is alone.

A refused array says nothing about which event was at fault. So its queues go back to the head of the line with the
order to travel in arrays of half its size: the same events form two smaller ones, side by side, and the half with the
culprit is refused again, until it is alone. All that has to be remembered for this is one number a queue, so it
survives whatever happens in between, and each user's order is kept as it always is: only a queue's head moves.
"""

from __future__ import annotations

from ..._calls.payload import waiting_body
from ..destination import Events
from ..key_queue import KeyQueue
from ..queues import Queues
from .route import EventBatch

TRY_LARGER = 8  # arrays of the learned size, after which one of twice that size is tried


class EventRoute:
    """Fills arrays from the key queues, and learns what the server takes."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.max_bytes = events.max_bytes
        """Learned from 413s: what one array may hold."""
        self._fitting = 0

    def ripe_at(self, queues: Queues, now: float, linger: float) -> float | None:
        """When the next array should go: now, if it would be full; later, if others may come to share it."""
        queue = queues.first_event()
        if queue is None:
            return None
        most = self._events.most
        if queue.largest_array or (queues.waiting_events >= most and queues.have_events(most)):
            return now
        return queue.head_time + linger

    def load(self, queues: Queues) -> tuple[EventBatch, bytes]:
        """Take the first events in line, as many as one request takes, and the request's body.

        Their queues are out of the line then. There must be one in it.
        """
        parts: list[tuple[KeyQueue, int]] = []
        bodies: list[bytes] = []
        most, room = self._events.most, self._tries_to_hold()
        while (queue := queues.first_event()) is not None:
            most = min(most, queue.largest_array or most)
            before = len(bodies)
            for call in queue.calls:
                if type(call) is not tuple or len(bodies) >= most:
                    break
                body = waiting_body(call)
                room -= len(body)
                if room < 0 and bodies:
                    most = 0
                    break
                bodies.append(body)
            if len(bodies) > before:
                parts.append((queue, len(bodies) - before))
                queues.send(queue)
            if len(bodies) >= most:
                break
        queues.waiting_events -= len(bodies)
        return EventBatch(parts, len(bodies), sum(map(len, bodies))), self._events.pack(bodies)

    def answered(self, load: EventBatch) -> None:
        """The server has taken it: its queues may travel in larger ones again."""
        for queue, _ in load.parts:
            queue.taken(self._events.most)
        self._fitting += 1
        self.max_bytes = min(max(self.max_bytes, load.size), self._events.max_bytes)

    def refused(self, load: EventBatch) -> None:
        """One of these events spoils it; nobody says which."""
        for queue, _ in load.parts:
            queue.refused(load.calls // 2)

    def too_large(self, load: EventBatch) -> None:
        """The server takes less at once, unless this one only tried."""
        self._fitting = 0
        if load.size <= self.max_bytes:
            # Half, not a byte less: the next array would be filled up to what was just refused, and be refused.
            self.max_bytes = max(1, load.size // 2)

    def _tries_to_hold(self) -> int:
        """Bytes for the next array; now and then more than fitted, for that may have been one event's fault."""
        if self._fitting < TRY_LARGER or self.max_bytes >= self._events.max_bytes:
            return self.max_bytes
        self._fitting = 0
        return min(self._events.max_bytes, 2 * self.max_bytes)
