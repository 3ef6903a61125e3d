"""The one job slot: a file of rows from its submission to its settlement.

    FREE ──start──▶ SUBMITTING ──202──▶ RUNNING ──completed──▶ FREE
      ▲                 │                  └──failed──▶ once more, then halves, then small rests in realtime
      │                 ├──answer lost──▶ SEARCHING ──found──▶ RUNNING
      │                 │                     └──not there──▶ SUBMITTING, under the same filename
      └──409, 429, 5xx, network: the rows go back and merge on────┘

There is no idempotency key on the wire. The unique filename is ours: after an ambiguous answer the job list
is searched for it before the file is submitted again; a list whose end was not seen is no word.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any

import attrs

from .._calls.rows import MAX_FILE_BYTES, Row, RowState, halves
from .._protocol.backoff import backoff
from .._protocol.file_job import Batch, Forms, JobEffect, Step
from .._protocol.job_list import Pages
from .._protocol.jobs import Job, JobStatus, expected_duration, first_look, next_look
from .._protocol.verdict import Meaning, Verdict

SMALL_REST = 16  # rows: below this, one realtime request a row finds the culprit sooner than further jobs
SEARCH_PAUSES = (2.0, 10.0)  # seconds before each look for a lost submission; it may still be on its way in
LATE_SEARCH = 30.0  # and before one more, for what must not be doubled
MAX_LINES = 100_000  # of a file of events; imports document no limit, and this bounds what a failed job may double
MOST_LOSSES = 2  # submissions of a file that came to nothing, before smaller ones are tried
LONGEST_SULK = 1_800.0  # seconds until the next one, when even those come to nothing
BUSY_FIRST, BUSY_LONGEST = 5.0, 30.0  # seconds to wait after a 409, doubling
TRY_LARGER = 8  # files of the learned size, after which one of twice that size is tried
IN_FLIGHT = 60.0  # seconds; a server that took its last request so soon after a loss went down with that file
VANISHED = 3  # looks in a row answered 404 before the job is taken for gone
PACE = 3.0  # seconds a page until a list whose end was not seen is read again: a thirtieth of the budget


class SlotState(Enum):
    """What the slot is doing; the module's docstring draws the way."""

    FREE = "free"
    SUBMITTING = "submitting"
    SEARCHING = "searching"
    RUNNING = "running"


class JobSlot:
    """Knows files and jobs; knows nothing of users, tracks, budgets or gates."""

    def __init__(
        self, filename: Callable[[], str], chance: Callable[[], float], job_timeout: float, *,
        idempotent: bool = True, repeats: bool = True, takes_arrays: bool = False,
        new_pages: Callable[[], Pages] = Pages,
    ) -> None:  # fmt: skip
        self._filename = filename
        self._chance = chance
        self._job_timeout = job_timeout
        self._idempotent = idempotent  # rows twice are the same rows; one that is refused alone is dead
        self._repeats = repeats  # what the server may have worked off goes again
        self._forms = Forms(takes_arrays)  # the endpoint is documented to take JSON, too
        self._new_pages = new_pages
        self._pages = new_pages()
        self._unread = 0  # times in a row that the list was not read to its end
        self._pauses = SEARCH_PAUSES if idempotent else (*SEARCH_PAUSES, LATE_SEARCH)
        self.state = SlotState.FREE
        self.batch: Batch | None = None
        self.job: Job | None = None
        self.max_bytes = MAX_FILE_BYTES
        """Learned from 413s: what one file may hold."""
        self.max_lines = MAX_LINES
        """The same, of refusals and failures: so many events in a file, if it is one of events."""
        self.foreign_until = 0.0
        """Somebody else's job holds the slot; look again after this."""
        self.resubmits = True
        """A file that was lost on its way may go again; else its rows go another way."""
        self._queue: deque[Batch] = deque()
        self._in_vain = 0  # files in a row that got lost, or whose job failed
        self._due = 0.0
        self._asking = False
        self._attempts = 0  # failures in a row of whatever is being asked
        self._busy = 0
        self._looks = 0
        self._vanished = 0
        self._fitting = 0  # files in a row that were not too large
        self._running_since = 0.0
        self._give_up_at = math.inf
        self._lost_at = math.inf

    @property
    def submitted(self) -> list[Row]:
        """The rows in a job of the server's."""
        return self.batch.rows if self.batch is not None and self.state is SlotState.RUNNING else []

    @property
    def unsubmitted(self) -> list[Row]:
        """Those in files that the server has not taken, or not said so."""
        batch = self.batch if self.state is not SlotState.RUNNING else None
        return [row for one in (*self._queue, batch) if one is not None for row in one.rows]

    def has(self, batch: Batch) -> bool:
        """It is under way, or will be."""
        return batch is self.batch or batch in self._queue

    def takes_rows(self, now: float) -> bool:
        """A new file may be started."""
        return self.state is SlotState.FREE and not self._queue and now >= max(self._due, self.foreign_until)

    def opens_at(self) -> float:
        """When `takes_rows` may next be true, if nothing happens; ``inf`` while a job runs."""
        return max(self._due, self.foreign_until) if self.state is SlotState.FREE and not self._queue else math.inf

    def start(self, kind: str, rows: list[Row], lines: int) -> None:
        """Take rows for a new file; `next` asks for its submission. Those that wait are ``BATCHED`` already."""
        self._queue.append(Batch(kind, rows, lines))

    def resume(self, kind: str, filename: str, until: float) -> Batch:
        """Take over a file that somebody submitted, or was about to; its rows come by and by, at most ``until`` then.

        Then it is looked for by its name. Until then nothing else is submitted.
        """
        self.batch = Batch(kind, [], 0, filename, lost=True)
        self.state, self._due, self._give_up_at = SlotState.SEARCHING, until, until + self._job_timeout
        self._lost_at = until
        return self.batch

    def resumed(self, now: float) -> None:
        """All its rows are here; without any, there is nothing to look for."""
        self._due = now
        if self.batch is not None and not self.batch.rows:
            self._free([], JobEffect())

    def next(self, now: float) -> Step | float:
        """The step that is due, or the time of the next one."""
        if self._asking:
            return math.inf
        if self.state is SlotState.FREE:
            if not self._queue:
                return math.inf
            if now < max(self._due, self.foreign_until):
                return max(self._due, self.foreign_until)
            batch = self._queue.popleft()
            batch.filename = batch.filename or self._filename()
            self.batch, self.state, self._due = batch, SlotState.SUBMITTING, now
        if now < self._due:
            return self._due
        assert self.batch is not None
        if not self.batch.rows:  # one that was taken over, and whose rows never came
            self._free([], JobEffect())
            return now
        if self.state is SlotState.SUBMITTING:
            return Step("submit", self.batch, form=self._forms.current)
        if self.state is SlotState.SEARCHING or not (self.job and self.job.job_id):
            return Step("search", self.batch, query=self._pages.query)
        return Step("look", self.batch, self.job.job_id)

    def outlast(self, last_taken: float, now: float, max_age: float) -> None:
        """No file is given up while nothing gets through: at ``last_taken`` the server took a request, and none since.

        To send it again before anybody could look for it would double it. But nobody waits for longer than ``max_age``.
        """
        if self.state is SlotState.SEARCHING:
            since, is_silent = self._lost_at, last_taken < self._lost_at + IN_FLIGHT
        elif self.state is SlotState.RUNNING:
            since, is_silent = self._running_since, last_taken < now - IN_FLIGHT
        else:
            return
        if is_silent:
            self._give_up_at = max(self._give_up_at, min(now + self._job_timeout, since + max_age))

    def asked(self) -> None:
        """The step is being carried out."""
        self._asking = True

    def done(self, step: Step, verdict: Verdict, now: float) -> JobEffect:
        """Take in the answer to a step."""
        self._asking = False
        change = JobEffect()
        if step.what == "submit":
            self._submitted(step, verdict, change, now)
        elif verdict.meaning is Meaning.ACCEPTED:
            self._attempts = 0
            if step.what == "search":
                self._paged(step.batch, verdict, change, now)
            else:
                self._vanished = 0
                self._looked(step.batch, _job_of(verdict.body), change, now)
        elif verdict.status == 404 and step.what == "look":
            self._vanished += 1
            if self._vanished >= VANISHED:  # forgotten by its id; perhaps the list still knows it
                self.job, self.state, step.batch.searches = None, SlotState.SEARCHING, 0
            self._due = now + next_look(None, step.batch.lines, 0.0, self._vanished)
        else:
            self._not_told(step, verdict, change, now)
        return change

    def _not_told(self, step: Step, verdict: Verdict, change: JobEffect, now: float) -> None:
        """A look or a search came to nothing: it is made again."""
        self._attempts += 1
        self._due = now + max(verdict.delay, backoff(self._attempts, self._chance()))
        unknown = verdict.meaning in (Meaning.INVALID, Meaning.MISCONFIGURED)
        # Also where one page is never answered: a file that is worked off late shows on the first.
        if step.query and (unknown or self._attempts % VANISHED == 0):
            self._pages.refused()
            self._walked(step.batch, change, now)
        elif verdict.status in (404, 405) and self._attempts >= VANISHED and self._idempotent:
            self._searched(step.batch, change, now)  # there is no job list here; rows twice are the same rows
        else:
            self._give_up_if_overdue(step.batch, change, now)

    # ── answers ──

    def _submitted(self, step: Step, verdict: Verdict, change: JobEffect, now: float) -> None:
        batch, meaning = step.batch, verdict.meaning
        if meaning is Meaning.ACCEPTED:
            self._forms.taken(step.form)
            self._fitting += 1
            if not self._fitting % TRY_LARGER:  # what was too large once may have been one row's fault
                self.max_bytes = min(MAX_FILE_BYTES, 2 * self.max_bytes)
            self._run(batch, _job_of(verdict.body), change, now)
        elif meaning is Meaning.LOST and step.form == "array":  # it has no name to look for, and twice is once
            self._lost_on_its_way(batch, change, now)
            self._wait(Meaning.AGAIN, verdict.delay, now)
        elif meaning is Meaning.LOST or (meaning is Meaning.BUSY and batch.lost and step.form == "file"):
            batch.lost = True
            self._search(batch, now)
        elif meaning is Meaning.INVALID and self._forms.refused(step.form, verdict.status, len(batch.rows)):
            self._due = now  # it goes again in the other form
        elif meaning in (Meaning.INVALID, Meaning.TOO_LARGE) and not self._idempotent:
            self._go_smaller(batch, change, too_large=meaning is Meaning.TOO_LARGE)
        elif meaning is Meaning.INVALID:
            change.words = verdict.words
            self._split(batch, "invalid", change)
        elif meaning is Meaning.TOO_LARGE:
            self._fitting = 0
            if len(batch.rows) > 1:
                self._learn_size(batch)
            change.words = verdict.words
            self._split(batch, "too_large", change)
        else:
            self._wait(meaning, verdict.delay, now)
            if (batch.lost or batch.failures) and self._idempotent:
                self._queue.appendleft(batch)
                self._free([], change)
            else:  # back to where they can go on merging
                for row in batch.rows if batch.failures else ():
                    row.alone = True
                self._free(batch.rows, change)

    def _search(self, batch: Batch, now: float) -> None:
        """The server may have it: it is looked for by its name before anything else is done about it."""
        batch.searches = self._unread = 0
        self._pages = self._new_pages()
        self.state, self._due = SlotState.SEARCHING, now + self._pauses[0]
        self._give_up_at, self._lost_at = min(self._give_up_at, now + self._job_timeout), now

    def _wait(self, meaning: Meaning, asked: float, now: float) -> None:
        if meaning is Meaning.BUSY:
            self._busy += 1
            self.foreign_until = now + max(asked, min(BUSY_LONGEST, BUSY_FIRST * 2.0 ** (self._busy - 1)))
        elif meaning in (Meaning.AGAIN, Meaning.UNSENT):
            self._attempts += 1
            self._due = now + max(asked, backoff(self._attempts, self._chance()))

    def _run(self, batch: Batch, job: Job | None, change: JobEffect, now: float) -> None:
        rows = batch.lines
        self.state, self.batch, self.job = SlotState.RUNNING, batch, job
        self._attempts = self._busy = self._looks = self._vanished = 0
        self._running_since = now
        self._due = now + first_look(rows)
        self._give_up_at = min(self._give_up_at, now + 2 * expected_duration(rows) + self._job_timeout)
        change.submitted = batch.rows

    def _paged(self, batch: Batch, verdict: Verdict, change: JobEffect, now: float) -> None:
        """One page of the list is here."""
        jobs = self._pages.take_in(verdict.body, verdict.next_page)
        found = next((job for job in jobs if job.filename == batch.filename), None)
        if found is not None:
            self._pages, self._unread = self._new_pages(), 0
            if self.state is SlotState.SEARCHING:
                self._run(batch, found, change, now)
            self._looked(batch, found, change, now)
        elif self._pages.over:
            self._walked(batch, change, now)
        else:
            self._due = now
            self._give_up_if_overdue(batch, change, now)

    def _walked(self, batch: Batch, change: JobEffect, now: float) -> None:
        """The list does not show it, as far as it could be read."""
        pages, self._pages = self._pages, self._new_pages()
        if pages.whole:
            self._unread = 0
            self._searched(batch, change, now)
            return
        self._unread += 1
        pause = max(next_look(None, batch.lines, 0.0, self._unread), PACE * pages.read)
        self._due = max(self._due, now + pause)
        self._give_up_if_overdue(batch, change, now)

    def _searched(self, batch: Batch, change: JobEffect, now: float) -> None:
        """The server knows nothing of it."""
        batch.searches += 1
        if batch.searches < len(self._pauses):
            self._due = now + self._pauses[batch.searches]
        elif self.state is SlotState.RUNNING or self.job is not None or self._vanished:
            self._failed(batch, change, now)
        else:
            self._lost_on_its_way(batch, change, now)

    def _lost_on_its_way(self, batch: Batch, change: JobEffect, now: float) -> None:
        """Nobody knows of it: it goes again, and if that does not help, its rows go in smaller ones, some time."""
        change.repeated = batch.rows
        batch.losses += 1
        if self.resubmits and self._repeats and batch.losses < MOST_LOSSES:
            self.state, self._due = SlotState.SUBMITTING, now
            return
        self._learn_size(batch)
        self._sulk(now)
        self._free(batch.rows, change)

    def _learn_size(self, batch: Batch) -> None:
        # Half, not a byte less: the next file would be filled up to what was just refused, and be refused.
        self.max_bytes = max(1, min(self.max_bytes, batch.size // 2))

    def _sulk(self, now: float) -> None:
        """No file for a while, and longer each time."""
        self._in_vain += 1
        self.foreign_until = now + min(LONGEST_SULK, BUSY_FIRST * 2.0 ** min(self._in_vain, 16))

    def _looked(self, batch: Batch, job: Job | None, change: JobEffect, now: float) -> None:
        if job is not None:
            known = self.job.job_id if self.job else ""
            self.job = attrs.evolve(job, job_id=job.job_id or known)
        if job is not None and job.status is JobStatus.COMPLETED:
            change.delivered = True
            self.max_lines, self._in_vain = min(MAX_LINES, 2 * self.max_lines), 0
            self._free(batch.rows, change)
        elif job is not None and job.status is JobStatus.FAILED:
            self._failed(batch, change, now)
        else:
            self._looks += 1
            self._due = now + next_look(job, batch.lines, now - self._running_since, self._looks)
            self._give_up_if_overdue(batch, change, now)

    # ── ways out ──

    def _failed(self, batch: Batch, change: JobEffect, now: float) -> None:
        change.withdrawn = batch.rows
        batch.failures += 1
        if not self._repeats:
            self._free(batch.rows, change)
        elif batch.failures == 1:
            self._queue.appendleft(Batch(batch.kind, batch.rows, batch.lines, failures=1))
            self._free([], change)
        elif not self._idempotent:
            self._go_smaller(batch, change)
            self._sulk(now)
        else:
            self._split(batch, "job_failed", change)

    def _go_smaller(self, batch: Batch, change: JobEffect, *, too_large: bool = False) -> None:
        """Of events, which go into other files, by and by; a few that are refused must go another way."""
        if batch.lines <= SMALL_REST:
            for row in batch.rows:
                row.alone = True
        elif too_large:
            self._learn_size(batch)
        else:
            self.max_lines = max(1, batch.lines // 2)
        self._free(batch.rows, change)

    def _split(self, batch: Batch, reason: str, change: JobEffect) -> None:
        """Halve the file to find the row that spoils it; rows that got through elsewhere stay out of it."""
        rows = [row for row in batch.rows if row.state is RowState.BATCHED]
        answered = [row for row in batch.rows if row.state is not RowState.BATCHED]
        if len(rows) > SMALL_REST or (len(rows) > 1 and reason == "too_large"):
            for half in reversed(halves(rows)):
                self._queue.appendleft(Batch(batch.kind, half, sum(row.lines for row in half), failures=1))
            self._free(answered, change)
            return
        for row in rows:
            row.alone = True
        if len(rows) == 1 and reason != "job_failed":
            change.dead = reason
        self._free(answered + rows, change)

    def _give_up_if_overdue(self, batch: Batch, change: JobEffect, now: float) -> None:
        if now >= self._give_up_at:
            change.withdrawn = batch.rows
            self.foreign_until = now + BUSY_LONGEST  # it may hold the slot still, but it is ours no longer
            self._free(batch.rows, change)

    def _free(self, ended: list[Row], change: JobEffect) -> None:
        change.ended = ended
        self.state, self.batch, self.job = SlotState.FREE, None, None
        self._give_up_at = math.inf
        self._vanished = self._unread = 0
        self._pages = self._new_pages()


def _job_of(body: Any) -> Job | None:
    return Job.from_wire(body) if isinstance(body, dict) else None
