"""The life of one deletion, from what the job list shows before it to the end of its job.

    BEFORE ──looked──▶ SUBMITTING ──taken──▶ RUNNING ──looked──▶ OVER

The server answers a deletion with a message, not with a job, and a deletion has no filename that it could be found by.
It carries deletions out once a day, at 2:00 UTC, and takes one request every two seconds. Source: docs.userpilot.com,
"Delete Users and Companies", read 2026-11. So the job list is read before and after. The first new jobs that delete are
ours, or another program's, which does no harm. Those that had not ended before are waited for, too: they may be of an
earlier try whose answer got lost, and would delete what comes later. One that never ends is waited for once, and not
again by the deletions after it. A server that never lists such a job is believed after three looks.

`DeletionJob` and `ListWalk` are pure: they are handed ``now`` and verdicts. One walk through the list serves all
deletions that are under way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set
from enum import Enum
from typing import Literal

from .job_list import Pages
from .jobs import LONGEST_PAUSE, SHORTEST_PAUSE, Job, JobStatus
from .verdict import Meaning, Verdict

MOST_PAGES = 5  # of the job list, if no job further back is waited for: one that has just begun is among the newest
LONGEST_LOOK = 300.0  # seconds between two looks: the server works once a day
SPACING = 2.0  # seconds between two requests that delete
LOOKS = 3  # at a list without a job, until it is believed that the server lists it no more, or lists no deletions
MISSES = 3  # in a row, of a list that the server answers with something else for
WORDS = ("delet", "eras", "remov", "forg")  # one of which the type of such a job may have in it: it is undocumented
OTHER_WORDS = ("bulk", "identif", "import", "export")  # which the types of others have in them


Listed = Literal["unreadable"] | Mapping[str, JobStatus]
"""The deletions that a walk through the list has shown: their status, by the id of the job."""


class ListWalk:
    """The way through the newest pages of the job list: ask for `query`, and hand `listed` the answer."""

    def __init__(self, new_pages: Callable[[], Pages]) -> None:
        self._new_pages = new_pages
        self._pages = new_pages()
        self._seen: list[Job] = []
        self._misses = 0

    @property
    def query(self) -> str:
        """The query of the page that is read next."""
        return self._pages.query

    def listed(self, verdict: Verdict, awaited: Callable[[], Collection[str]] = tuple) -> Listed | None:
        """Take in a page: the deletions on all pages, if it was the last; ``None``: ask on.

        A list that the server answers with something else for is ``unreadable``; one that cannot be had at present is
        asked for again. The walk goes beyond `MOST_PAGES` until it has come to all jobs that are ``awaited``: one that
        is further back has not gone.
        """
        if verdict.meaning is Meaning.ACCEPTED:
            self._misses = 0
            self._seen += self._pages.take_in(verdict.body, verdict.next_page)
            return self._begin_anew() if self._pages.over or self._shows(awaited) else None
        if not verdict.foreign and verdict.meaning not in (Meaning.INVALID, Meaning.MISCONFIGURED):
            return None
        if self._seen:  # how to ask for the next page was a guess
            return self._begin_anew()
        self._misses += 1
        if self._misses < MISSES and verdict.status not in (404, 405):
            return None
        self._misses = 0
        return "unreadable"

    def _shows(self, awaited: Callable[[], Collection[str]]) -> bool:
        """The pages so far are enough, and have all jobs that are waited for."""
        return self._pages.read >= MOST_PAGES and {job.job_id for job in self._seen}.issuperset(awaited())

    def _begin_anew(self) -> Mapping[str, JobStatus]:
        seen, self._seen, self._pages = self._seen, [], self._new_pages()
        return {job.job_id: job.status for job in seen if _deletes(job)}


class DeletionState(Enum):
    """Stages in the life of a deletion; the module's docstring draws the way from one to the next."""

    BEFORE = "before"
    SUBMITTING = "submitting"
    RUNNING = "running"
    OVER = "over"


End = Literal["completed", "failed", "overdue"]


class DeletionJob:
    """A deletion: hand `looked` what each walk through the list has shown, until there is an `end`.

    Its job is believed in for ``timeout`` seconds, and those named ``hung`` not at all: an earlier deletion has waited
    for them for so long.
    """

    def __init__(self, timeout: float, hung: Collection[str] = ()) -> None:
        self.state = DeletionState.BEFORE
        self.end: End | None = None
        """What became of it, once it is over."""
        self.due = -math.inf
        """When the list is to be looked at."""
        self.waits_for: set[str] = set()
        """Jobs in the list that have to end first."""
        self._timeout = timeout
        self._hung = hung
        self._known: Set[str] | None = None
        self._open: set[str] = set()
        self._ours: set[str] = set()
        self._missing: Counter[str] = Counter()
        self._looks = 0
        self._begun_at = math.inf
        self._soonest = math.inf
        """When a look that another deletion needs serves this one, too."""

    def taken(self, now: float) -> None:
        """The server has taken the request."""
        self.state, self._begun_at = DeletionState.RUNNING, now
        self._look_again(now)

    @property
    def awaited(self) -> set[str]:
        """Jobs that have to end before it is over, unless they are missing in the list for good."""
        return {job_id for job_id in self._open | self._ours if self._missing[job_id] < LOOKS}

    def looked(self, deletions: Listed, now: float) -> None:
        """Take in the deletions that the list has; one that is ``unreadable`` leaves the server's word for them."""
        if self.state is DeletionState.BEFORE:
            self.state = DeletionState.SUBMITTING
            if deletions != "unreadable":
                self._known = deletions.keys()
                self._open = {one for one, status in deletions.items() if not status.final}.difference(self._hung)
        elif self.state is DeletionState.RUNNING and now >= self._soonest:
            self._take_in({} if deletions == "unreadable" else deletions, now)

    def _take_in(self, deletions: Mapping[str, JobStatus], now: float) -> None:
        seen = deletions
        if self._hung:
            seen = {job_id: status for job_id, status in deletions.items() if job_id not in self._hung}
        if not self._ours and self._known is not None:
            self._ours = seen.keys() - self._known
        elif not self._ours:
            self._ours = {job_id for job_id, status in seen.items() if not status.final}
        if self._ours:
            self._known = None  # hundreds of ids: many deletions may be under way, each for a day
        self._missing.update((self._open | self._ours) - seen.keys())
        waited_for = self.awaited
        self.waits_for = {job_id for job_id in waited_for & seen.keys() if not seen[job_id].final}
        if any(seen.get(job_id) is JobStatus.FAILED for job_id in self._ours):
            self._over("failed")
        elif not self.waits_for and waited_for <= seen.keys() and (self._ours or self._looks >= LOOKS):
            self._over("completed")
        elif now >= self._begun_at + self._timeout:
            self._over("overdue")
        else:
            self._look_again(now)

    def _look_again(self, now: float) -> None:
        pause = min(SHORTEST_PAUSE * 2.0 ** min(self._looks, 10), LONGEST_PAUSE)
        pause = min(max(pause, (now - self._begun_at) / 10), LONGEST_LOOK)
        self._soonest, self.due = now + pause / 2, now + pause
        self._looks += 1

    def _over(self, end: End) -> None:
        self.state, self.end, self.due = DeletionState.OVER, end, math.inf


def _deletes(job: Job) -> bool:
    """Only a deletion has no file, and a type that names nothing else."""
    kind = (job.type or "").lower()
    if any(word in kind for word in WORDS):
        return True
    return not job.filename and bool(kind) and not any(word in kind for word in OTHER_WORDS)
