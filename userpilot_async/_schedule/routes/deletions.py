"""Deletions: those of many people in one request, and then nothing of them before its job has ended."""

from __future__ import annotations

import math
from itertools import islice

from ..._calls.outcome import DELIVERED, NO_WORDS, Outcome
from ..._calls.payload import Kind
from ..._calls.rows import Row, RowState
from ..._protocol.backoff import Gate
from ..._protocol.deletion_job import DeletionJob
from ..._protocol.verdict import Meaning, Verdict
from ..destination import Deletions
from ..key_queue import KeyQueue
from ..posts import Deletion
from ..takeover import UnfinishedFile
from .context import RouteContext
from .file_route import new_pages
from .route import Request


class DeletionRoute:
    """Sends deletions, one request after another; each one's queues are held until the job list shows its end."""

    name = "deletions"

    def __init__(self, context: RouteContext, deletions: Deletions) -> None:
        self.gate = Gate()
        self._context = context
        self._queues = context.queues
        self._to = deletions
        self._new_pages = new_pages(deletions, context.server)
        self._job: DeletionJob | None = None
        self._kind: Kind = ""
        """Of the keys that the job is about."""
        self._batch: list[KeyQueue] = []
        self._is_asking = False
        self._hung: set[str] = set()
        """Jobs of the server that have not ended in all the time that a job is believed in."""

    def next(self, now: float) -> Request | float:
        """The next step of a deletion, or when to ask again; begins one if any wait."""
        if self._is_asking:
            return math.inf
        if self._job is None or not (self._batch or self._queues.deleting[self._kind]):
            self._job = None
            ripe = self._begin(now)
            if ripe > now:
                return ripe
        step = self._job.next(now) if self._job is not None else math.inf
        if not isinstance(step, str):
            return step
        endpoint = self._to.listing if step == "list" else self._to.submit[self._kind]
        opens = self._context.opens_at(self.gate, endpoint, now)
        if opens > now:
            return opens
        self._is_asking = True
        request = Request(self, endpoint, bucket=self._context.bucket(endpoint))
        if step == "list":
            request.query = self._job.query if self._job is not None else ""
        else:
            self._load(request)
        return request

    def _begin(self, now: float) -> float:
        """Begin with a kind of which deletions wait and have lingered long enough; else when one will have."""
        earliest = math.inf
        for kind, waiting in self._queues.deleting.items():
            if not waiting:
                continue
            first = next(iter(waiting.values()))
            ripe = self._context.urgency.ripe_at(first.accepted_at, now)
            if ripe <= now:
                self._job = DeletionJob(self._new_pages, self._to.job_timeout, self._hung)
                self._kind = kind
                return now
            earliest = min(earliest, ripe)
        return earliest

    def _load(self, request: Request) -> None:
        waiting = self._queues.deleting[self._kind]
        first = next(iter(waiting.values()))
        most = first.largest_array or self._to.most
        self._batch = list(islice(waiting.values(), most))
        for queue in self._batch:
            self._queues.send(queue)
        request.body = self._to.body(self._kind, [queue.key for queue in self._batch])
        if self._to.unlink is not None and self._kind != "user":
            self._unlink()

    def _unlink(self) -> None:
        """Have what waits of people, and is older, name the companies no more: naming one makes it anew."""
        before = {queue.key: head.ids[-1] for queue in self._batch if isinstance(head := queue.calls[0], Deletion)}
        for queue in self._queues.by_key["user"].values():
            for call in queue.calls:
                if isinstance(call, Row) and call.state is RowState.WAITING and self._to.unlink is not None:
                    self._to.unlink(call, before)

    def done(self, request: Request, verdict: Verdict, now: float) -> None:
        """Take in a page of the job list, or the answer to a deletion."""
        self._is_asking = False
        if request.endpoint is self._to.listing:
            if self._job is not None:
                self._job.listed(verdict, now)
                self._carry_out(self._job, verdict, now)
        elif verdict.meaning is Meaning.ACCEPTED and self._job is not None:
            self._job.taken(now)
            self._context.completion.deleting(self._batch, True)
        else:
            self._refused(verdict, now)

    def _refused(self, verdict: Verdict, now: float) -> None:
        batch, self._batch, self._job = self._batch, [], None
        if verdict.meaning not in (Meaning.INVALID, Meaning.TOO_LARGE):
            self._context.send_again(batch, verdict, now)  # also if the answer got lost: to delete twice is to delete
        elif len(batch) == 1:
            self._settle(batch, Outcome("dead", verdict.meaning.value), verdict)
        else:
            for queue in batch:
                queue.refused(len(batch) // 2)
            self._context.back_in_line(batch)

    def _carry_out(self, job: DeletionJob, verdict: Verdict, now: float) -> None:
        """Do with the deletions what the end of their job means for them, if it has come."""
        if job.end is None:
            return
        batch, self._batch, self._job = self._batch, [], None
        self._hung = job.hung
        self._context.completion.deleting(batch, False)
        if job.end == "completed":
            self._settle(batch, DELIVERED, verdict)
            return
        if len(batch) > 1:  # one of them may spoil it for the others
            for queue in batch:
                queue.refused(len(batch) // 2)
        self._context.send_again(batch, verdict, now)

    def _settle(self, queues: list[KeyQueue], outcome: Outcome, verdict: Verdict) -> None:
        words = NO_WORDS if outcome.is_delivered else verdict.words
        for queue in queues:
            self._context.completion.head(queue, outcome, words)
            self._queues.come_back(queue)

    def adopt(self, file: UnfinishedFile, now: float) -> None:
        """Nothing: deletions have no file, and go again with another sender."""

    def abandon(self) -> None:
        """Nothing: a deletion that the server has taken is carried out without us."""
