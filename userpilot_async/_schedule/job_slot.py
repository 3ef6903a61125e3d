"""The server's one job slot: files of rows wait for it, go one at a time, and are cut down when they are refused.

    FREE ──start──▶ a file's life: `FileJob` ──Completed──▶ FREE
      ▲                 ├──Failed, Forgotten──▶ again, then halves, then small rests in realtime
      │                 ├──NotFound──▶ again, then smaller ones, after a while
      │                 ├──Refused──▶ the other form, or halves; a single row is dead
      └──Busy, Postponed: the rows go back and merge on

How often to ask, how long to search, and when to give up is the file's matter; who shares a file, and in what size, is
decided here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from .._calls.rows import MAX_FILE_BYTES, FiledRow, halves, is_carried, lines_in_file, pieces
from .._protocol.backoff import BUSY_FIRST, BUSY_LONGEST, Pace
from .._protocol.file_job import FileJob, JobRules
from .._protocol.job_effects import (
    Busy,
    Completed,
    Effect,
    Failed,
    Forgotten,
    JobStep,
    NotFound,
    Overdue,
    Postponed,
    Refused,
    Submitted,
)
from .._protocol.job_list import Pages
from .._protocol.jobs import Job
from .._protocol.learned_limit import LearnedLimit
from .._protocol.verdict import Verdict
from .job_batch import Batch, Forms, JobEffect, SlotState, Step

SMALL_REST = 16  # rows: below this, one realtime request a row finds the culprit sooner than further jobs
MAX_LINES = 100_000  # of a file of events; imports document no limit, and this bounds what a failed job may double
MOST_LOSSES = 2  # submissions of a file that came to nothing, before smaller ones are tried
LONGEST_BACKOFF = 1_800.0  # seconds until the next one, when even those come to nothing
TRY_LARGER = 8  # files of the learned size, after which one of twice that size is tried


class JobSlot:
    """Knows files and jobs; knows nothing of users, tracks, budgets or gates."""

    def __init__(
        self, filename: Callable[[], str], chance: Callable[[], float], job_timeout: float, *,
        idempotent: bool = True, repeats: bool = True, takes_arrays: bool = False,
        new_pages: Callable[[], Pages] = Pages,
    ) -> None:  # fmt: skip
        self._filename = filename
        self._idempotent = idempotent  # rows twice are the same rows; one that is refused alone is dead
        self._repeats = repeats  # what the server may have worked off goes again
        self._forms = Forms(takes_arrays)  # the endpoint is documented to take JSON, too
        self._new_pages = new_pages
        self._rules = JobRules(timeout=job_timeout, thorough=not idempotent, list_optional=idempotent)
        self._pace = Pace(chance)
        self._bytes = LearnedLimit(MAX_FILE_BYTES, TRY_LARGER)
        self._lines = LearnedLimit(MAX_LINES, 1)
        self.batch: Batch | None = None
        """The rows of the file under way."""
        self.foreign_until = 0.0
        """Until then, in the schedule's seconds, no file is submitted: another job holds the slot."""
        self.resubmits = True
        """A file that was lost on its way may go again; else its rows go another way."""
        self._queue: deque[Batch] = deque()
        self._in_vain = 0  # files in a row that got lost, or whose job failed
        self._due = 0.0
        self._asking = False

    @property
    def state(self) -> SlotState:
        """The present stage of the file under way."""
        return SlotState.FREE if self.batch is None else SlotState(self.batch.file.state.value)

    @property
    def job(self) -> Job | None:
        """The job of the file under way, as last seen."""
        batch = self.batch  # read once: another thread may read statistics meanwhile
        return batch.file.job if batch is not None else None

    @property
    def max_bytes(self) -> int:
        """Bytes that one file may hold, learned from refusals."""
        return self._bytes.value

    @property
    def max_lines(self) -> int:
        """Events that one file may hold, learned from refusals and failures."""
        return self._lines.value

    @property
    def submitted(self) -> list[tuple[str, FiledRow]]:
        """The rows in a job of the server's, each with its kind."""
        batch = self.batch if self.state is SlotState.RUNNING else None
        return [(batch.kind, row) for row in batch.rows] if batch is not None else []

    @property
    def unsubmitted(self) -> list[FiledRow]:
        """The rows in files that the server has not taken, or not said so."""
        batch = self.batch if self.state is not SlotState.RUNNING else None
        return [row for one in (*self._queue, batch) if one is not None for row in one.rows]

    def has(self, batch: Batch) -> bool:
        """The batch is under way, or will be."""
        return batch is self.batch or batch in self._queue

    def takes_rows(self, now: float) -> bool:
        """A new file may be started."""
        return self.batch is None and not self._queue and now >= max(self._due, self.foreign_until)

    def opens_at(self) -> float:
        """When `takes_rows` may next be true, if nothing happens; ``inf`` while a job runs."""
        return max(self._due, self.foreign_until) if self.batch is None and not self._queue else math.inf

    def start(self, kind: str, rows: Sequence[FiledRow], lines: int) -> None:
        """Take rows for a new file; `next` asks for its submission. Those that wait are ``BATCHED`` already."""
        self._queue.append(Batch(kind, list(rows), lines, self._new_file()))

    def resume(self, kind: str, filename: str, until: float) -> Batch:
        """Take over a file that was submitted, or was about to be; its rows come by and by, at most ``until`` then.

        Then the job list is searched for its name. Until then nothing else is submitted.
        """
        self.batch = Batch(kind, [], 0, self._new_file(filename))
        self.batch.file.search(until, until)
        return self.batch

    def resumed(self, now: float) -> None:
        """All rows of the resumed file are here; without any, there is nothing to search for."""
        if self.batch is not None:
            self.batch.file.due = now
            if not self.batch.rows:
                self.batch = None

    def next(self, now: float) -> Step | float:
        """The step that is due, or the time of the next one."""
        if self._asking:
            return math.inf
        if self.batch is None:
            if not self._queue:
                return math.inf
            if now < max(self._due, self.foreign_until):
                return max(self._due, self.foreign_until)
            self.batch = self._queue.popleft()
        batch, file, form = self.batch, self.batch.file, self._forms.current
        file.rows, file.named = batch.lines, form == "file"
        step = file.next(now)
        if not isinstance(step, JobStep):
            return step
        if not batch.rows:  # one that was taken over, and whose rows never came
            self.batch = None
            return now
        form = form if step.what == "submit" else "file"
        return Step(what=step.what, job_id=step.job_id, query=step.query, batch=batch, form=form)

    def outlast(self, last_taken: float, now: float, max_age: float) -> None:
        """Give no file up while nothing gets through; see `FileJob.outlast`."""
        if self.batch is not None:
            self.batch.file.outlast(last_taken, now, max_age)

    def asked(self) -> None:
        """The step is being carried out."""
        self._asking = True

    def done(self, step: Step, verdict: Verdict, now: float) -> JobEffect:
        """Take in the answer to a step; what it means for rows."""
        self._asking = False
        change = JobEffect(step.batch.kind)
        for effect in step.batch.file.done(step, verdict, now):
            if isinstance(effect, Submitted):
                change.submitted = step.batch.rows
                if step.what == "submit":
                    self._forms.taken(step.form)
                    self._bytes.fitted()
            elif isinstance(effect, Refused):
                self._refused(step, effect, verdict.status, change)
            else:
                self._carry_out(effect, step.batch, change, now)
        return change

    def _new_file(self, filename: str = "") -> FileJob:
        return FileJob(filename or self._filename(), 0, self._rules, self._pace, self._new_pages)

    def _carry_out(self, effect: Effect, batch: Batch, change: JobEffect, now: float) -> None:
        match effect:
            case Completed():
                change.delivered, self._in_vain = True, 0
                self._lines.fitted()
                self._free(batch.rows, change)
            case Failed() | Forgotten():
                self._failed(batch, change, now)
            case NotFound():
                self._lost_on_its_way(batch, change, now)
            case Busy(until):
                self.foreign_until = until
                self._go_back(batch, change)
            case Postponed(until):
                self._due = until
                self._go_back(batch, change)
            case Overdue():
                change.withdrawn = batch.rows
                self.foreign_until = now + BUSY_LONGEST  # it may hold the slot still, but it is ours no longer
                self._free(batch.rows, change)

    # ── not taken ──

    def _go_back(self, batch: Batch, change: JobEffect) -> None:
        """The server did not take the file, for no fault of the rows': they wait where they can go on merging."""
        if (batch.file.lost or batch.failures) and self._idempotent:
            self._queue.appendleft(batch)
            self._free([], change)
            return
        change.alone = batch.failures > 0
        self._free(batch.rows, change)

    def _refused(self, step: Step, effect: Refused, status: int | None, change: JobEffect) -> None:
        batch, too_large = step.batch, effect.too_large
        if not too_large and self._forms.refused(step.form, status, len(batch.rows)):
            lost = batch.file.lost
            batch.file = self._new_file(batch.filename)  # it goes again in the other form
            batch.file.lost = lost
        elif not self._idempotent:
            self._go_smaller(batch, change, too_large=too_large)
        else:
            if too_large and len(batch.rows) > 1:
                self._bytes.refused(batch.size)
                parts = (pieces(one.rows, self._bytes.value) for one in self._queue)  # parts themselves, and unsent
                self._queue = deque(self._batches(batch.kind, [part for one in parts for part in one]))
            change.words = effect.words
            self._split(batch, "too_large" if too_large else "invalid", change)

    def _lost_on_its_way(self, batch: Batch, change: JobEffect, now: float) -> None:
        """The server knows of no such file: it goes again, or its rows do after a while, in smaller ones."""
        change.repeated = batch.rows
        batch.losses += 1
        if self.resubmits and self._repeats and batch.losses < MOST_LOSSES:
            return
        self._due = batch.file.due
        self._bytes.refused(batch.size)
        self._back_off(now)
        self._free(batch.rows, change)

    def _back_off(self, now: float) -> None:
        """Submit no file for a while, and longer each time."""
        self._in_vain += 1
        self.foreign_until = now + min(LONGEST_BACKOFF, BUSY_FIRST * 2.0 ** min(self._in_vain, 16))

    # ── taken, and come to nothing ──

    def _failed(self, batch: Batch, change: JobEffect, now: float) -> None:
        change.withdrawn = batch.rows
        batch.failures += 1
        if not self._repeats:
            self._free(batch.rows, change)
        elif batch.failures == 1:
            self._queue.appendleft(Batch(batch.kind, batch.rows, batch.lines, self._new_file(), failures=1))
            self._free([], change)
        elif not self._idempotent:
            self._go_smaller(batch, change)
            self._back_off(now)
        else:
            self._split(batch, "job_failed", change)

    def _go_smaller(self, batch: Batch, change: JobEffect, *, too_large: bool = False) -> None:
        """Put events into other files, by and by; a few that are refused must go another way."""
        if batch.lines <= SMALL_REST:
            change.alone = True
        elif too_large:
            self._bytes.refused(batch.size)
        else:
            self._lines.refused(batch.lines)
        self._free(batch.rows, change)

    def _split(self, batch: Batch, reason: str, change: JobEffect) -> None:
        """Cut the file down, to fit or to find the row that spoils it; rows that got through elsewhere stay out."""
        rows = [row for row in batch.rows if is_carried(row)]
        answered = [row for row in batch.rows if not is_carried(row)]
        parts = pieces(rows, self._bytes.value) if reason == "too_large" else [*halves(rows)]
        if len(rows) > (1 if reason == "too_large" else SMALL_REST):
            self._queue.extendleft(reversed(self._batches(batch.kind, parts)))
            self._free(answered, change)
            return
        change.alone = True
        if len(rows) == 1 and reason != "job_failed":
            change.dead = reason
        self._free(answered + rows, change)

    def _batches(self, kind: str, parts: Sequence[list[FiledRow]]) -> list[Batch]:
        return [Batch(kind, part, sum(map(lines_in_file, part)), self._new_file(), failures=1) for part in parts]

    def _free(self, ended: list[FiledRow], change: JobEffect) -> None:
        change.ended, self.batch = ended, None
