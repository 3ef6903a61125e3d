"""The life of one uploaded file, from its submission to the end of its job: the only place that knows how it goes on.

    SUBMITTING ──Submitted─────────────────▶ RUNNING ──Completed, Failed, Forgotten──▶ OVER
      │    ▲                                 ▲     │
      │    └──NotFound──┐   Submitted, Found │     │ Missing
      │                 │ ┌──────────────────┘     │
      ├──InDoubt──▶ SEARCHING ◀────────────────────┘
      │                 └──Forgotten──▶ OVER
      └──Refused──▶ OVER

There is no idempotency key on the wire. The unique filename is ours: after an ambiguous answer the job list is searched
for it before the file is submitted again; a list whose end was not seen is no word. A job that its id no longer knows
may still be in the list. `TRANSITIONS` is the drawing as a table, and the only way to another state; Busy and Postponed
leave a file in SUBMITTING, and Overdue leaves it where it is.

`FileJob` is pure: it is handed ``now`` and verdicts, and answers with effects. What they are good for is its owner's
matter: rows of a job slot (`_schedule.job_slot`), a journal on the disk (`imports._uploading`), a caller who waits
(`UserpilotAPI.wait_for_job`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import attrs

from .backoff import Pace
from .job_effects import (
    Busy,
    Completed,
    Effect,
    Failed,
    Forgotten,
    Found,
    InDoubt,
    JobStep,
    Missing,
    NotFound,
    Overdue,
    Postponed,
    Refused,
    Submitted,
)
from .job_list import Pages
from .jobs import Job, JobStatus, expected_duration, first_poll, next_poll
from .verdict import Meaning, Verdict

SEARCHES = (2.0, 10.0)  # seconds before each search for a lost submission; it may still be on its way in
LATE_SEARCH = 30.0  # and before one more, for what must not be doubled, or what a server needs time to read
LONGEST_JOB = 3_600.0  # seconds past its expected end that a job is believed in
# In a row, of one request: a job that its id does not know, a page that never comes, a list there is none of.
MISSES = 3
PACE = 3.0  # seconds a page until a list whose end was not seen is read again: a thirtieth of the budget
IN_FLIGHT = 60.0  # seconds; a server that took its last request so soon after a loss went down with that file

_PASSING = (Meaning.AGAIN, Meaning.UNSENT)  # what a server says when it is not well, and nothing else


class JobState(Enum):
    """Stages in the life of a file; the module's docstring draws the way from one to the next."""

    SUBMITTING = "submitting"
    SEARCHING = "searching"
    RUNNING = "running"
    OVER = "over"


TRANSITIONS: Mapping[JobState, Mapping[type[Effect], JobState]] = {
    JobState.SUBMITTING: {
        Submitted: JobState.RUNNING,
        InDoubt: JobState.SEARCHING,
        Refused: JobState.OVER,
        Busy: JobState.SUBMITTING,
        Postponed: JobState.SUBMITTING,
        NotFound: JobState.SUBMITTING,  # a JSON array has no name to be searched for
    },
    JobState.SEARCHING: {
        Submitted: JobState.RUNNING,
        NotFound: JobState.SUBMITTING,
        Found: JobState.RUNNING,
        Forgotten: JobState.OVER,
        Overdue: JobState.SEARCHING,
    },
    JobState.RUNNING: {
        Completed: JobState.OVER,
        Failed: JobState.OVER,
        Missing: JobState.SEARCHING,
        Forgotten: JobState.OVER,  # the server gave no id, and the list has the file no longer
        Overdue: JobState.RUNNING,
    },
    JobState.OVER: {},
}


# ── how it goes on ──


@attrs.frozen(kw_only=True)
class JobRules:
    """The differences between the owners of files: how long to search, and what to make of an answer."""

    timeout: float = LONGEST_JOB
    """Seconds that a file is searched for, and that a job is believed in past its expected end."""
    thorough: bool = False
    """The job list is searched again, later, before a file counts as lost."""
    list_optional: bool = False
    """Where there is no job list (404, 405) a file counts as lost: to submit it twice does no harm."""
    alone: bool = False
    """No gate stands before the requests, and this file is the only one under way: so limits are waited out here, and
    a 409 or a 5xx may hide that the file was taken, for which the job list is read once."""

    @property
    def searches(self) -> tuple[float, ...]:
        """Seconds before each search of the list for a file whose answer got lost."""
        return (*SEARCHES, LATE_SEARCH) if self.thorough else SEARCHES


class FileJob:
    """The life of a file: ask `next` what to do, and hand `done` the answer.

    ``filename`` is unique, and what the job list is searched for. ``rows`` are as the server counts them; 0 if that is
    not known. ``rules`` are its owner's, ``pace`` is shared by the owner's files, and ``new_pages`` begins a walk
    through the job list.
    """

    def __init__(
        self, filename: str, rows: int, rules: JobRules, pace: Pace, new_pages: Callable[[], Pages] = Pages
    ) -> None:
        self.filename = filename
        self.rows = rows
        self.state: JobState = JobState.SUBMITTING
        self.job: Job | None = None
        """The job as last seen."""
        self.named = True
        """The submission has the filename; a JSON array has none, and cannot be searched for."""
        self.lost: bool = False
        """An answer to the submission got lost."""
        self.unread: int = 0
        """Times in a row that the job list was not read to its end."""
        self.due: float = -math.inf
        """When the next step is to be made."""
        self._rules = rules
        self._pace = pace
        self._new_pages = new_pages
        self._pages = new_pages()
        self._searches = 0
        self._job_id = ""
        self._taken = False
        self._again_at = -math.inf  # when the file may be submitted again, if the search does not find it
        self._pauses = 0  # between the polls of the job so far
        self._misses = 0
        self._lost_at = self._running_since = math.inf
        self._give_up_at = math.inf
        self._unread_since = math.inf

    # ── where it begins, if not with its submission ──

    def search(self, now: float, at: float | None = None) -> None:
        """Begin in SEARCHING: the file was submitted, or about to be, and no answer is known.

        The first search is made ``at`` this time, or when a file may have come in.
        """
        self.lost, self.state = True, JobState.SEARCHING
        self._begin_search(now if at is None else at)
        self.due = self.due if at is None else at

    def watch(self, job_id: str, now: float, *, fresh: bool = False) -> None:
        """Begin in RUNNING: the server has taken the file as this job.

        The first poll is made at once, because the job may have ended long ago; in a second where it is ``fresh``. The
        job is believed in for as long as the server knows it.
        """
        self.state, self._taken, self._job_id, self._running_since = JobState.RUNNING, True, job_id, now
        self.due = now
        if fresh:
            self.due, self._pauses = now + next_poll(None, self.rows, 0.0, 0), 1

    # ── asking ──

    def next(self, now: float) -> JobStep | float:
        """The step that is due, or the time of the next one; ``inf`` when all is over."""
        if self.state is JobState.OVER:
            return math.inf
        if now < self.due:
            return self.due
        if self.state is JobState.SUBMITTING:
            return JobStep("submit")
        if self.state is JobState.SEARCHING or not self._job_id:
            return JobStep("search", query=self._pages.query)
        return JobStep("poll", self._job_id)

    def outlast(self, last_taken: float, now: float, max_age: float) -> None:
        """Postpone `Overdue` while nothing gets through: the server took a request at ``last_taken``, and none since.

        To send a file again before it can be searched for would double it. But no call waits for longer than
        ``max_age`` seconds.
        """
        if self.state is JobState.SEARCHING:
            since, is_silent = self._lost_at, last_taken < self._lost_at + IN_FLIGHT
        elif self.state is JobState.RUNNING:
            since, is_silent = self._running_since, last_taken < now - IN_FLIGHT
        else:
            return
        if is_silent:
            self._give_up_at = max(self._give_up_at, min(now + self._rules.timeout, since + max_age))

    # ── answers ──

    def done(self, step: JobStep, verdict: Verdict, now: float) -> list[Effect]:
        """Take in the answer to a step; what has become of the file by it, in order.

        Mostly one effect or none; two where an answer says two things at once, as a list does that shows a lost file's
        job at its end.
        """
        if step.what == "submit":
            return self._answered(verdict, now)
        if verdict.meaning is Meaning.ACCEPTED:
            self._pace.answered()
            if step.what == "search":
                return self._paged(verdict, now)
            self._misses = 0
            job = _job_in(verdict.body)
            return self._wait(None, now) if job is None else self.seen(job, now)
        if verdict.status == 404 and step.what == "poll":
            return self._unknown(now)
        return self._unanswered(step, verdict, now)

    def seen(self, job: Job, now: float) -> list[Effect]:
        """Take in the job as the server has shown it; what has become of the file by it."""
        self._job_id = job.job_id or self._job_id
        self.job = job = attrs.evolve(job, job_id=self._job_id)
        if job.status is JobStatus.COMPLETED:
            return [self._become(Completed(job))]
        if job.status is JobStatus.FAILED:
            return [self._become(Failed(job))]
        return self._wait(job, now)

    def _become(self, effect: Effect) -> Effect:
        self.state = TRANSITIONS[self.state][type(effect)]
        return effect

    def _wait(self, job: Job | None, now: float) -> list[Effect]:
        rows = self.rows or (job.total_rows if job is not None else None) or 0
        self.due = now + next_poll(job, rows, now - self._running_since, self._pauses)
        self._pauses += 1
        return self._overdue(now)

    def _answered(self, verdict: Verdict, now: float) -> list[Effect]:
        """Take in the answer to the submission."""
        meaning, lost = verdict.meaning, verdict.meaning is Meaning.LOST
        if meaning is Meaning.ACCEPTED:
            return [self._run(_job_in(verdict.body), now)]
        if lost and not self.named:
            self.due = self._pace.failed(verdict.delay, now)
            return [self._become(NotFound(lost=True))]
        if self.named and (lost or (meaning is Meaning.BUSY and self.lost)):
            self.lost = True
            self._begin_search(now)
            return [self._become(InDoubt())]
        if meaning in (Meaning.INVALID, Meaning.TOO_LARGE):
            return [self._become(Refused(meaning is Meaning.TOO_LARGE, verdict.words))]
        return self._not_taken(verdict, now)

    def _not_taken(self, verdict: Verdict, now: float) -> list[Effect]:
        """The submission is to be made again; but first the list is read, if the answer may hide that it worked."""
        effects: list[Effect]
        if verdict.meaning is Meaning.BUSY:
            self.due = self._pace.conflicted(verdict.delay, now)
            effects, search_at = [self._become(Busy(self.due))], now
        else:
            waits = verdict.meaning in _PASSING or self._rules.alone  # else the owner's gate does
            self.due = search_at = self._pace.failed(verdict.delay, now) if waits else now
            effects = [self._become(Postponed(self.due))]
        hides = verdict.meaning is Meaning.BUSY or (verdict.status is not None and verdict.status >= 500)
        if self._rules.alone and hides:
            self._again_at = self.due
            self._begin_search(search_at)
            self.due = search_at
            effects.append(self._become(InDoubt()))
        return effects

    def _begin_search(self, now: float) -> None:
        self._searches = self.unread = 0
        self._pages = self._new_pages()
        self._lost_at, self._give_up_at = now, now + self._rules.timeout
        self.due = now + self._rules.searches[0]

    def _run(self, job: Job | None, now: float) -> Effect:
        self._taken, self.job, self._job_id = True, job, job.job_id if job is not None else ""
        self._pace.taken()
        self._pauses, self._misses, self._searches = 1, 0, 0
        self._running_since, self.due = now, now + first_poll(self.rows)
        self._give_up_at = min(self._give_up_at, now + 2 * expected_duration(self.rows) + self._rules.timeout)
        return self._become(Submitted(job))

    def _paged(self, verdict: Verdict, now: float) -> list[Effect]:
        """Take in a page of the job list."""
        jobs = [job for job in self._pages.take_in(verdict.body, verdict.next_page) if job.filename == self.filename]
        if jobs:  # of two under one name, as after a loss, one that failed says nothing of the other
            found = next((job for job in jobs if job.status is not JobStatus.FAILED), jobs[0])
            return self._found(found, now)
        if self._pages.over:
            return self._walked(now)
        self.due = now
        return []

    def _found(self, job: Job, now: float) -> list[Effect]:
        self._pages, self.unread, self._searches, self._misses = self._new_pages(), 0, 0, 0
        if self.state is JobState.RUNNING:
            return self.seen(job, now)
        return [self._become(Found(job)) if self._taken else self._run(job, now), *self.seen(job, now)]

    def _walked(self, now: float) -> list[Effect]:
        """The list does not show the file, as far as it could be read."""
        pages, self._pages = self._pages, self._new_pages()
        if pages.whole or not (self.lost or self._taken):
            return self._searched(now)
        self._unread_since = self._unread_since if self.unread else now
        self.unread += 1
        self.due = max(self.due, now + max(next_poll(None, self.rows, 0.0, self.unread), PACE * pages.read))
        return self._overdue(now)

    def _searched(self, now: float) -> list[Effect]:
        """The server does not know of the file; but it may still be on its way in."""
        self._searches += 1
        self.unread = 0
        if (self.lost or self._taken) and self._searches < len(self._rules.searches):
            self.due = now + self._rules.searches[self._searches]
            return []
        if self._taken:
            return [self._become(Forgotten())]
        self.due, self._give_up_at = max(now, self._again_at), math.inf
        return [self._become(NotFound(self.lost))]

    def _unknown(self, now: float) -> list[Effect]:
        """Take in a 404 for the job's id."""
        self._misses += 1
        self.due = now + next_poll(None, self.rows, 0.0, self._misses)
        if self._misses < MISSES:
            return []
        self.job, self._searches, self._lost_at = None, 0, now
        return [self._become(Missing())]

    def _unanswered(self, step: JobStep, verdict: Verdict, now: float) -> list[Effect]:
        """A poll or a search came to nothing: it is made again."""
        self.due = self._pace.failed(verdict.delay, now)
        unknown = verdict.meaning in (Meaning.INVALID, Meaning.MISCONFIGURED)
        # Also where one page is never answered: a file that is worked off late shows on the first.
        if step.query and (unknown or self._pace.failures % MISSES == 0):
            self._pages.refused()
            return self._walked(now)
        if verdict.status in (404, 405) and self._pace.failures >= MISSES and self._rules.list_optional:
            return self._searched(now)
        return self._overdue(now, outage=True)

    def _overdue(self, now: float, *, outage: bool = False) -> list[Effect]:
        give_up_at = self._give_up_at
        if self.unread and math.isinf(give_up_at):  # a job that is believed in; but not on the word of no list at all
            give_up_at = self._unread_since + self._rules.timeout
        return [self._become(Overdue(outage))] if now >= give_up_at else []


def _job_in(body: Any) -> Job | None:
    return Job.from_wire(body) if isinstance(body, dict) else None
