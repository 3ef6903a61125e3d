"""Deletions: those of many people in one request, and then nothing of them before its job has ended.

Several jobs may be under way, for a server works them off once a day. One request is made at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import attrs

from ..._calls.outcome import DELIVERED, NO_WORDS, Outcome
from ..._calls.payload import Kind, has_fields, packed_key
from ..._calls.rows import Row, RowState
from ..._protocol.backoff import Gate
from ..._protocol.deletion_job import SPACING, DeletionJob, DeletionState, ListWalk
from ..._protocol.verdict import Meaning, Verdict
from ..destination import Deletions
from ..key_queue import KeyQueue
from ..posts import Deletion
from ..takeover import UnfinishedFile
from .context import RouteContext
from .file_route import new_pages
from .route import Request

UNLINKED = 500  # steps in one go: about half a millisecond of the application's loop
AT_ONCE = 10  # calls of one person that are a step


@attrs.define(eq=False)
class DeletionBatch:
    """Deletions of one kind that share a request, once they are in it, and a job."""

    kind: Kind
    """The kind of the keys."""
    job: DeletionJob
    queues: list[KeyQueue] = attrs.field(factory=list)
    unlinking: Iterator[None] | None = None
    """The rest of the rows that may name a company of the batch; ``None`` before the batch is chosen."""
    newest: Mapping[str, int] = attrs.field(factory=dict)
    """The newest call of each deletion, by its key."""


class DeletionRoute:
    """Sends deletions; the queues of each batch are held until the job list shows its end."""

    name = "deletions"

    def __init__(self, context: RouteContext, deletions: Deletions) -> None:
        self.gate = Gate()
        self._context = context
        self._queues = context.queues
        self._to = deletions
        self._walk = ListWalk(new_pages(deletions, context.server))
        self._next_batch: DeletionBatch | None = None
        """Those that are sent next; they are chosen when the request is made."""
        self._running: list[DeletionBatch] = []
        self._is_asking = False
        self._next_submit = -math.inf
        self._hung: set[str] = set()
        """Jobs of the server that have not ended in all the time that a job is believed in."""

    def next(self, now: float) -> Request | float:
        """The next request: a deletion, or a page of the job list; or when to ask again."""
        if self._is_asking:
            return math.inf
        batch = self._next_batch
        if batch is None or not self._queues.deleting[batch.kind]:
            self._next_batch = batch = None
        ripe = self._begin(now) if batch is None else now
        batch = self._next_batch
        if batch is not None and batch.job.state is DeletionState.SUBMITTING:
            endpoint = self._to.submit[batch.kind]
            opens = max(self._context.opens_at(self.gate, endpoint, now), self._next_submit)
            if opens > now:
                return opens
            return self._submit(batch) if self._unlink(batch) else now
        look = min((one.job.due for one in self._running), default=math.inf)
        due = now if batch is not None else look
        opens = max(due, self._context.opens_at(self.gate, self._to.listing, now)) if due < math.inf else math.inf
        return self._look() if opens <= now else min(opens, ripe) if batch is None else opens

    def _begin(self, now: float) -> float:
        """Begin a batch of a kind of which deletions wait and have lingered long enough; else when one will have."""
        earliest = math.inf
        for kind, waiting in self._queues.deleting.items():
            if not waiting:
                continue
            first = next(iter(waiting.values()))
            ripe = self._context.urgency.ripe_at(first.accepted_at, now)
            if len(waiting) < self._to.most and not self._context.urgency.expedited:
                # The more are under way, the longer for others: one by one, they would be 40,000 jobs a day.
                ripe = max(ripe, self._next_submit + SPACING * (len(self._running) - 1))
            if ripe <= now:
                self._next_batch = DeletionBatch(kind, DeletionJob(self._to.job_timeout, self._hung))
                return now
            earliest = min(earliest, ripe)
        return earliest

    def _look(self) -> Request:
        self._is_asking = True
        endpoint = self._to.listing
        return Request(self, endpoint, query=self._walk.query, bucket=self._context.bucket(endpoint))

    def _submit(self, batch: DeletionBatch) -> Request:
        self._is_asking = True
        for queue in batch.queues:
            self._queues.send(queue)
        endpoint, body = self._to.submit[batch.kind], self._to.body(batch.kind, [queue.key for queue in batch.queues])
        return Request(self, endpoint, body, bucket=self._context.bucket(endpoint))

    def _unlink(self, batch: DeletionBatch) -> bool:
        """Have what waits of people, and is older, name deleted companies no more: naming one makes it anew.

        A little at a time, for all people may have something that waits; true when it is done, and the batch may go.
        """
        waiting = self._queues.deleting[batch.kind]
        if batch.unlinking is None:
            first = next(iter(waiting.values()))
            batch.queues = list(islice(waiting.values(), first.largest_array or self._to.most))
            batch.newest = _newest(batch.queues)
            batch.unlinking = iter(()) if batch.kind == "user" else self._unlinked(batch.newest)
        if any(True for _ in islice(batch.unlinking, UNLINKED - 1, UNLINKED)):
            return False
        if batch.newest != _newest(queue for queue in batch.queues if waiting.get(queue.key) is queue):
            batch.unlinking = None  # one was given up meanwhile, or said again: from the beginning
        return batch.unlinking is not None

    def _unlinked(self, companies: Mapping[str, int]) -> Iterator[None]:
        unlink = self._to.unlink
        if unlink is None:
            return
        packed = self._queues.packed
        for number, row in enumerate(packed.all_of("user")):
            if has_fields(row) and packed.waits("user", row):
                self._queues.queue("user", packed_key(row))
            if not number % AT_ONCE:
                yield
        for queue in list(self._queues.by_key["user"].values()):
            for number, call in enumerate(list(queue.calls)):
                if isinstance(call, Row) and call.state is RowState.WAITING:
                    unlink(call, companies)
                if not number % AT_ONCE:
                    yield

    def done(self, request: Request, verdict: Verdict, now: float) -> None:
        """Take in a page of the job list, or the answer to a deletion."""
        self._is_asking = False
        if request.endpoint is self._to.listing:
            self._looked(verdict, now)
            return
        self._next_submit = now + SPACING
        batch, self._next_batch = self._next_batch, None
        if batch is None:
            return
        if verdict.meaning is Meaning.ACCEPTED:
            batch.job.taken(now)
            self._running.append(batch)
            self._context.completion.deleting(batch.queues, True)
        else:
            self._refused(batch.queues, verdict, now)

    def _looked(self, verdict: Verdict, now: float) -> None:
        deletions = self._walk.listed(verdict, self._awaited)
        if deletions is None:
            return
        if self._next_batch is not None:
            self._next_batch.job.looked(deletions, now)
        for batch in list(self._running):
            batch.job.looked(deletions, now)
            if batch.job.end is not None:
                self._running.remove(batch)
                self._end(batch, verdict, now)

    def _awaited(self) -> set[str]:
        return set().union(*(batch.job.awaited for batch in self._running))

    def _end(self, batch: DeletionBatch, verdict: Verdict, now: float) -> None:
        """Do with deletions what the end of their job means for them."""
        self._context.completion.deleting(batch.queues, False)
        if batch.job.end == "completed":
            self._settle(batch.queues, DELIVERED, verdict)
            return
        if batch.job.end == "overdue":
            self._hung |= batch.job.waits_for
        if len(batch.queues) > 1:  # one of them may spoil it for the others
            for queue in batch.queues:
                queue.refused(len(batch.queues) // 2)
        self._context.send_again(batch.queues, verdict, now)

    def _refused(self, queues: list[KeyQueue], verdict: Verdict, now: float) -> None:
        if verdict.meaning not in (Meaning.INVALID, Meaning.TOO_LARGE):
            self._context.send_again(queues, verdict, now)  # also if the answer got lost: to delete twice is to delete
        elif len(queues) == 1:
            self._settle(queues, Outcome("dead", verdict.meaning.value), verdict)
        else:
            for queue in queues:
                queue.refused(len(queues) // 2)
            self._context.back_in_line(queues)

    def _settle(self, queues: list[KeyQueue], outcome: Outcome, verdict: Verdict) -> None:
        words = NO_WORDS if outcome.is_delivered else verdict.words
        for queue in queues:
            self._context.completion.head(queue, outcome, words)
            self._queues.come_back(queue)

    def adopt(self, file: UnfinishedFile, now: float) -> None:
        """Nothing: deletions have no file, and go again with another sender."""

    def abandon(self) -> None:
        """Nothing: a deletion that the server has taken is carried out without us."""


def _newest(queues: Iterable[KeyQueue]) -> dict[str, int]:
    return {queue.key: head.ids[-1] for queue in queues if isinstance(head := queue.calls[0], Deletion)}
