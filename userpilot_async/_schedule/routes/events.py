"""Events into requests: arrays of many, and arrays cut down until the event that spoils them is alone.

A refused array says nothing about which event was at fault. So its queues go back to the head of the line with the
order to travel in arrays of half its size: the same events form two smaller ones, side by side, and the half with the
culprit is refused again, until it is alone. All that has to be remembered for this is one number a queue, so it
survives whatever happens in between, and each user's order is kept as it always is: only a queue's head moves.
"""

from __future__ import annotations

import math

from ..._calls.outcome import NO_WORDS, Outcome, Words
from ..._calls.payload import waiting_body
from ..._protocol.backoff import Gate
from ..._protocol.verdict import Meaning, Verdict
from ..destination import Events
from ..key_queue import KeyQueue
from ..queues import Queues
from ..takeover import UnfinishedFile
from .context import RouteContext
from .route import EventBatch, Request

TRY_LARGER = 8  # arrays of the learned size, after which one of twice that size is tried
SUSPICIOUS = 2  # failures in a row of an array, after which it goes again in halves


class EventArrays:
    """Fills arrays from key queues, and learns what the server takes."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.max_bytes = events.max_bytes
        """Learned from 413s: what one array may hold."""
        self._fitting = 0

    def is_full(self, queues: Queues) -> bool:
        """So many events could go now that no array would linger for more; or one must not be filled any further."""
        first, most = queues.events.first(), self._events.most
        if first is not None and first.largest_array:
            return True
        return queues.waiting_events >= most and queues.events.have(most)

    def load(self, queues: Queues) -> tuple[EventBatch, bytes]:
        """Take the first events in line, as many as one request takes, and the request's body.

        Their queues are out of the line then. There must be one in it.
        """
        parts: list[tuple[KeyQueue, int]] = []
        bodies: list[bytes] = []
        most, room = self._events.most, self._tries_to_hold()
        while (queue := queues.events.first()) is not None:
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

    def taken(self, load: EventBatch) -> None:
        """The server has taken the array: its queues may travel in larger ones again."""
        for queue in load.queues:
            queue.taken(self._events.most)
        self._fitting += 1
        self.max_bytes = min(max(self.max_bytes, load.size), self._events.max_bytes)

    def refused(self, load: EventBatch) -> None:
        """An event spoils the array, and no answer says which."""
        for queue in load.queues:
            queue.refused(load.calls // 2)

    def too_large(self, load: EventBatch) -> None:
        """The server takes less at once, unless this array only tried."""
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


class EventRoute:
    """Sends events through the realtime endpoint, which dates them on their arrival."""

    name = "events"

    def __init__(self, context: RouteContext) -> None:
        self.gate = Gate()
        self._context = context
        self._queues = context.queues
        self._endpoint = context.destination.events.endpoint
        self._arrays = EventArrays(context.destination.events)

    def next(self, now: float) -> Request | float:
        """The next event or array to send, or when to ask again: arrays linger for others to fill them with."""
        first = self._queues.events.first()
        if first is None:
            return math.inf
        ripe = now if self._arrays.is_full(self._queues) else self._context.urgency.ripe_at(first.head_time, now)
        due = max(ripe, self._context.opens_at(self.gate, self._endpoint, now))
        if due > now:
            return due
        load, body = self._arrays.load(self._queues)
        return Request(self, self._endpoint, body, bucket=self._context.bucket(self._endpoint), load=load)

    def done(self, request: Request, verdict: Verdict, now: float) -> None:
        """Settle the events that were sent, or send them again: all of them, or in halves."""
        load, meaning = request.load, verdict.meaning
        if load is None:
            return
        completion, settings = self._context.completion, self._context.settings
        if meaning is Meaning.ACCEPTED:
            self._arrays.taken(load)
            completion.delivered(load.parts, load.size)
            for queue in load.queues:
                self._queues.come_back(queue)
            return
        ambiguous = meaning is Meaning.LOST or verdict.ambiguous
        self._queues.waiting_events += load.calls
        if meaning in (Meaning.INVALID, Meaning.TOO_LARGE) and load.calls > 1:
            (self._arrays.refused if meaning is Meaning.INVALID else self._arrays.too_large)(load)
            self._context.back_in_line(load.queues)
        elif meaning in (Meaning.INVALID, Meaning.TOO_LARGE):
            self._lose(load, Outcome("dead", meaning.value), verdict.words)
        elif ambiguous and settings.on_ambiguous == "drop" and not verdict.doubtful:
            self._lose(load, Outcome("dropped", "ambiguous"))
        else:
            completion.possible_duplicates += load.calls if ambiguous else 0
            # What fails again and again may be one event's fault, and the others must not die of its company.
            if load.calls > 1 and (verdict.doubtful or verdict.split or self._fails_again(load, meaning)):
                self._arrays.refused(load)
            self._context.send_again(load.queues, verdict, now)

    def _fails_again(self, load: EventBatch, meaning: Meaning) -> bool:
        if meaning in (Meaning.UNSENT, Meaning.LIMITED):
            return False
        return any(queue.failures >= SUSPICIOUS for queue in load.queues)

    def _lose(self, load: EventBatch, outcome: Outcome, words: Words = NO_WORDS) -> None:
        for queue, calls in load.parts:
            for _ in range(calls):
                self._context.completion.head(queue, outcome, words)
            self._queues.come_back(queue)

    def adopt(self, file: UnfinishedFile, now: float) -> None:
        """Nothing: no file is of this route."""

    def abandon(self) -> None:
        """Nothing: what is under way comes back to `done`."""
