"""The life of one deletion, from what the job list shows before it to the end of its job.

    BEFORE ──listed──▶ SUBMITTING ──taken──▶ RUNNING ──listed──▶ OVER

The server answers a deletion with a message, not with a job, and a deletion has no filename that it could be found by.
Source: docs.userpilot.com, "Delete Users and Companies", read 2026-10. So the job list is read before and after: a job
that deletes, and had not ended before, is ours, or that of an earlier try whose answer got lost: it would delete what
comes later. Another program's is waited for, too, and if it fails, ours goes again, which does no harm. One that never
ends is waited for once, and not again by the deletions after it. A server that never lists such a job is believed after
three looks.

`DeletionJob` is pure: it is handed ``now`` and verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from enum import Enum
from typing import Literal

from .job_list import Pages
from .jobs import LONGEST_PAUSE, SHORTEST_PAUSE, Job, JobStatus
from .verdict import Meaning, Verdict

MOST_PAGES = 5  # of the job list: a job that has just begun is among the newest
LOOKS = 3  # at a list without the job, until it is believed that the server lists no deletions
MISSES = 3  # in a row, of a list that the server answers with something else for
WORDS = ("delet", "eras", "remov", "forg")  # one of which the type of such a job has in it; the types are undocumented


class DeletionState(Enum):
    """Stages in the life of a deletion; the module's docstring draws the way from one to the next."""

    BEFORE = "before"
    SUBMITTING = "submitting"
    RUNNING = "running"
    OVER = "over"


End = Literal["completed", "failed", "overdue"]


class DeletionJob:
    """A deletion: make the step that `next` names, and hand `listed` or `taken` the answer, until there is an `end`.

    ``new_pages`` begins a walk through the job list; a job is believed in for ``timeout`` seconds, and those named
    ``hung`` not at all: an earlier deletion has waited for them for so long.
    """

    def __init__(self, new_pages: Callable[[], Pages], timeout: float, hung: Collection[str] = ()) -> None:
        self.state = DeletionState.BEFORE
        self.end: End | None = None
        """What became of it, once it is over."""
        self.hung = set(hung)
        """Jobs that are not believed in; those that ours was, or had to wait for, are if it is ``overdue``."""
        self._new_pages = new_pages
        self._timeout = timeout
        self._pages = new_pages()
        self._seen: list[Job] = []
        self._before: set[str] | None = None
        self._there_before: set[str] = set()
        self._watched: set[str] = set()
        self._running: set[str] = set()
        self._misses = self._looks = 0
        self._due = -math.inf
        self._begun_at = math.inf

    @property
    def query(self) -> str:
        """Of the page of the job list that is read next."""
        return self._pages.query

    def next(self, now: float) -> Literal["list", "submit"] | float:
        """The step to make now, or when to ask again."""
        if self.state is DeletionState.OVER:
            return math.inf
        if self._due > now:
            return self._due
        return "submit" if self.state is DeletionState.SUBMITTING else "list"

    def taken(self, now: float) -> None:
        """The server has taken the request."""
        self.state, self._begun_at = DeletionState.RUNNING, now
        self._look_again(now)

    def listed(self, verdict: Verdict, now: float) -> None:
        """Take in the answer to a request for a page of the job list."""
        if verdict.meaning is Meaning.ACCEPTED:
            self._misses = 0
            self._seen += self._pages.take_in(verdict.body, verdict.next_page)
            if self._pages.over or self._pages.read >= MOST_PAGES:
                self._read_whole(now)
        elif verdict.foreign or verdict.meaning in (Meaning.INVALID, Meaning.MISCONFIGURED):
            self._misses += 1
            if self._seen:  # how to ask for the next page was a guess
                self._read_whole(now)
            elif self._misses >= MISSES or verdict.status in (404, 405):
                self._unreadable(now)
        if now >= self._begun_at + self._timeout and self.end is None:
            self.hung |= self._running
            self._over("overdue")

    def _read_whole(self, now: float) -> None:
        seen, self._seen, self._pages = self._seen, [], self._new_pages()
        deletions = [job for job in seen if _deletes(job) and job.job_id not in self.hung]
        if self.state is DeletionState.BEFORE:
            self._before = {job.job_id for job in deletions if job.status.final}
            self._there_before = {job.job_id for job in deletions}
            self.state = DeletionState.SUBMITTING
            return
        ours = [job for job in deletions if self._is_ours(job)]
        self._watched |= {job.job_id for job in ours}
        self._running = {job.job_id for job in ours if not job.status.final}
        if any(job.status is JobStatus.FAILED for job in ours):
            self._over("failed")
        elif all(job.status.final for job in ours) and (self._watched - self._there_before or self._looks >= LOOKS):
            self._over("completed")  # not by an earlier one's end alone: ours may be about to be listed
        else:
            self._look_again(now)

    def _is_ours(self, job: Job) -> bool:
        if self._before is not None:
            return job.job_id not in self._before
        return not job.status.final or job.job_id in self._watched

    def _unreadable(self, now: float) -> None:
        """There is no list to be read: the server's word that it took the deletion has to do."""
        self._misses, self._pages = 0, self._new_pages()
        if self.state is DeletionState.BEFORE:
            self.state = DeletionState.SUBMITTING
        elif self._looks >= LOOKS:
            self._over("completed")
        else:
            self._look_again(now)

    def _look_again(self, now: float) -> None:
        self._due = now + min(SHORTEST_PAUSE * 2.0 ** min(self._looks, 10), LONGEST_PAUSE)
        self._looks += 1

    def _over(self, end: End) -> None:
        self.state, self.end = DeletionState.OVER, end


def _deletes(job: Job) -> bool:
    kind = (job.type or "").lower()
    return any(word in kind for word in WORDS)
