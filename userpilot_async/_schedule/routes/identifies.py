"""Identifies and posts, one a request: what does not go in a file."""

from __future__ import annotations

import math

from ..._calls.outcome import DELIVERED, NO_WORDS, Outcome
from ..._calls.rows import Row, RowState
from ..._protocol.backoff import Gate
from ..._protocol.verdict import Meaning, Verdict
from ..destination import Endpoint
from ..key_queue import KeyQueue
from ..posts import Post
from ..takeover import UnfinishedFile
from .bulk import LONGEST_LINGER, BulkRoute
from .context import RouteContext
from .route import Request


class IdentifyRoute:
    """Sends urgent heads first, and rows that have lingered long enough; ``bulk`` may take those instead."""

    name = "identifies"

    def __init__(self, context: RouteContext, bulk: BulkRoute | None) -> None:
        self.gate = Gate()
        self._context = context
        self._queues = context.queues
        self._to = context.destination
        self._bulk = bulk

    def next(self, now: float) -> Request | float:
        """The next row or post to send, or when to ask again."""
        earliest = self._hold_early(now)
        urgent = self._queues.first_urgent()
        if urgent is not None:
            opens = self._context.opens_at(self.gate, self._endpoint_of(urgent), now)
            if opens > now:
                return min(earliest, opens)
            if not self._is_patience_over(now):
                return self._send(urgent)
        for kind in self._queues.merging:
            if self._bulk is not None and self._bulk.takes(self._queues.merging.number(kind), now):
                continue
            opens = self._context.opens_at(self.gate, self._to.rows[kind], now)
            due = max(opens, self._context.urgency.ripe_at(self._queues.merging.since(kind), now))
            if due <= now:
                return self._send(self._queues.first_merging(kind))
            earliest = min(earliest, due)
        return earliest if urgent is None else self._send(urgent)

    def _hold_early(self, now: float) -> float:
        """Posts whose turn has come before the server has settled what went before them wait; until when the first."""
        settling, earliest = self._queues.settling, math.inf
        while settling.longest and (queue := self._queues.first_urgent()) is not None:
            head = queue.calls[0]
            due = settling.due(head.kind, queue.key) if isinstance(head, Post) else now
            if due <= now:
                break
            self._queues.hold(queue, due)
            earliest = min(earliest, due)
        return earliest

    def _is_patience_over(self, now: float) -> bool:
        """A row that nothing waits behind has waited so long that it goes before one with an event behind it."""
        since = map(self._queues.merging.since, self._queues.merging)
        ripe_at = self._context.urgency.ripe_at
        return any(ripe_at(accepted_at, now) + LONGEST_LINGER <= now for accepted_at in since)

    def _endpoint_of(self, queue: KeyQueue) -> Endpoint:
        head = queue.calls[0]
        return self._to.posts[head.kind] if isinstance(head, Post) else self._to.rows[queue.kind]

    def _send(self, queue: KeyQueue) -> Request:
        head, endpoint = queue.calls[0], self._endpoint_of(queue)
        self._queues.send(queue)
        if isinstance(head, Row) and head.state is RowState.WAITING:
            head.state = RowState.SENDING
        body = self._to.row_body(head) if isinstance(head, Row) else head.body  # type: ignore[union-attr]  # no event
        return Request(self, endpoint, body, bucket=self._context.bucket(endpoint), queue=queue, head=head)

    def done(self, request: Request, verdict: Verdict, now: float) -> None:
        """Settle the row or post that was sent, or send it again."""
        queue, head = request.queue, request.head
        if queue is None:
            return
        if not queue.calls or queue.calls[0] is not head:
            self._queues.come_back(queue)  # a job's end has settled the row while it was being repeated
            return
        outcome = self._outcome(head, verdict)
        if outcome is not None:
            words = NO_WORDS if outcome is DELIVERED else verdict.words
            self._context.completion.head(queue, outcome, words)
            kind = head.kind if isinstance(head, Post) and outcome is DELIVERED else ""
            over = self._queues.settling.over(kind, now)
            if over > now:
                self._queues.hold(queue, over)
            else:
                self._queues.come_back(queue)
            return
        if isinstance(head, Row) and head.state is RowState.SENDING:
            head.state = RowState.WAITING
        self._context.send_again([queue], verdict, now)

    def _outcome(self, head: object, verdict: Verdict) -> Outcome | None:
        """The final outcome that this answer means for a row or post, or ``None`` if it goes again.

        An identify twice is the same identify, so one whose answer got lost always goes again.
        """
        meaning = verdict.meaning
        if meaning is Meaning.ACCEPTED:
            return DELIVERED
        if isinstance(head, Post):
            if meaning is Meaning.INVALID and head.lost and head.kind in self._to.once:
                return DELIVERED  # what is done once is refused the second time: the lost answer was a yes
            # A 500 may have come after the deed.
            head.lost = head.lost or verdict.ambiguous or meaning in (Meaning.LOST, Meaning.AGAIN)
        return Outcome("dead", meaning.value) if meaning in (Meaning.INVALID, Meaning.TOO_LARGE) else None

    def adopt(self, file: UnfinishedFile, now: float) -> None:
        """Nothing: no file is of this route."""

    def abandon(self) -> None:
        """Nothing: what is under way comes back to `done`."""
