"""Parts go to the server, one after the other: submitted, watched, and searched for whenever an answer was lost.

How a file's life goes on is decided by `FileJob`; here, each turn of it is written into the journal before anything is
done about it, so that the next process to find the journal begins where this one ended.
"""

from __future__ import annotations

import random
from typing import Protocol

from anyio.to_thread import run_sync

from .._errors.tree import JobFailed, Rejected
from .._protocol.backoff import Pace
from .._protocol.file_job import FileJob, JobRules, JobState
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
from .._protocol.jobs import Job
from .._protocol.verdict import Meaning, Verdict
from .._userpilot.answers import error_of
from .._userpilot.api import UserpilotAPI
from ._journal import Journal
from ._schema import Part, Refusal

LARGE = 1024 * 1024  # bytes of a file that a server needs time to read: it is searched for again
SHORTEST_PAUSE = 1.0  # seconds after a failure; people read why nothing moves
# In a row, and not one file taken (one job completed) in between: it is not about rows, then, and to go on would put
# every row there is into the rejected file.
MOST_REFUSALS, MOST_FAILURES = 1_000, 100

BUSY = "another import of this account is running"
LOST = "the answer to an upload got lost: the job list is searched for its file"
UNREAD = "the answer to an upload got lost, and the job list was not read to its end: it is read again"


class ImportContext(Protocol):
    """The import that an upload is part of, as far as an upload needs it."""

    def show_progress(self, job: Job | None = None, waiting_for: str | None = None) -> None:
        """Report to the caller how far the import is, with the job as last seen, and why nothing moves."""
        ...

    def check(self) -> None:
        """Raise, if nothing more is to be sent."""
        ...

    async def pause(self, seconds: float, why: str | None) -> None:
        """Wait, and say why; raises as soon as `check` does."""
        ...

    async def refusal(self, part: Part, reason: str, words: str = "") -> Refusal:
        """The entry for a part of one row in the rejected file; the server's ``words`` may quote the row."""
        ...

    async def refuse(self, part: Part, refusal: Refusal) -> None:
        """Put the refusal into the rejected file, and the part out of the journal."""
        ...


class Uploader:
    """Brings a part from one state in the journal to the next; what comes then is always read off the journal."""

    def __init__(self, api: UserpilotAPI, journal: Journal, context: ImportContext) -> None:
        self._api = api
        self._journal = journal
        self._context = context
        self._pace = Pace(random.random, SHORTEST_PAUSE)
        self._refusals = 0
        self._failed_jobs = 0
        self._submitted = ""  # the place of the part that was submitted just now
        self._outage = ""  # what the server said, or failed to say, at the last request, if it took none

    async def deliver(self, part: Part) -> None:
        """Bring the part to its next state in the journal.

        Raises `Rejected` when no file is taken any more, and `JobFailed` when no job completes.
        """
        file = self._file_of(part)
        if file.state is JobState.RUNNING:
            self._context.show_progress()
        written, time = False, self._api._connection.time
        while not written:
            step = file.next(time.now())
            if not isinstance(step, JobStep):
                await self._context.pause(time.wait(step - time.now()), self._why(part, file))
                continue
            verdict = await self._carry_out(step, part, file)
            effects = file.done(step, verdict, time.now())
            if step.what == "submit" and verdict.meaning is Meaning.ACCEPTED:
                self._submitted = part.place
            if part.running and verdict.meaning is Meaning.ACCEPTED and file.job is not None:
                self._context.show_progress(file.job)
            for effect in effects:
                # Of a lost file that is found at its job's end, the end is seen anew: the journal goes first.
                written = written or await self._write_down(effect, part, verdict)

    def _file_of(self, part: Part) -> FileJob:
        """The life of the part's file, from where the journal says it is."""
        rules = JobRules(thorough=part.size > LARGE, alone=True)
        file = FileJob(self._journal.filename(part), part.rows, rules, self._pace, self._api._new_pages)
        now = self._api._connection.time.now()
        if part.running:
            file.watch(part.job_id, now, fresh=part.place == self._submitted)
        elif part.in_doubt:
            file.search(now)
        return file

    def _why(self, part: Part, file: FileJob) -> str | None:
        """The reason for a pause, in words for people; ``None`` while a job runs as it should."""
        if self._outage:
            return f"the server is not available: {self._outage}"
        if file.state is JobState.SUBMITTING:
            return BUSY
        if file.state is JobState.SEARCHING and not part.running:
            return UNREAD if file.unread else LOST
        return None

    async def _carry_out(self, step: JobStep, part: Part, file: FileJob) -> Verdict:
        """The server's answer to one step; raises `Rejected` for one that is not about this file."""
        submits, content = step.what == "submit", b""
        if submits:
            content = await run_sync(self._journal.content, part)
            self._context.check()
            self._context.show_progress()
            await run_sync(self._journal.sending, part)
        verdict = await self._api._carry_out(step, content, file.filename)
        self._outage = ""
        if verdict.meaning is Meaning.ACCEPTED:
            return verdict
        error = error_of(verdict)
        if not isinstance(error, Rejected):
            self._outage = "" if submits and verdict.meaning is Meaning.LOST else error.detail
        elif submits and verdict.meaning in (Meaning.DENIED, Meaning.MISCONFIGURED):
            await run_sync(self._journal.answered, part)
            raise error
        elif not submits and not (step.query or (step.what == "poll" and verdict.status == 404)):
            raise error
        return verdict

    async def _write_down(self, effect: Effect, part: Part, verdict: Verdict) -> bool:
        """Write into the journal what has become of the part; true if it is in another state by that."""
        match effect:
            case Submitted(job):
                self._refusals = 0
                await run_sync(self._journal.running, part, job.job_id if job is not None else "")
            case Busy() | Postponed():
                await run_sync(self._journal.answered, part)
                return False
            case Refused(too_large):
                await run_sync(self._journal.answered, part)
                await self._refused(part, verdict, too_large=too_large)
            case NotFound(lost=True) | Overdue(outage=False) if not part.running:
                await run_sync(self._journal.not_found, part)
            case Completed(job):
                self._failed_jobs = 0
                done = part.rows if job.completed_rows is None else min(part.rows, max(0, job.completed_rows))
                await run_sync(self._journal.completed, part, done)
            case Forgotten() | Overdue(outage=False):
                # The server has taken it, so to send it again would double it. What became of it is unknown.
                await run_sync(self._journal.completed, part, 0)
            case Failed(job):
                await self._failed(part, job)
            case _:
                return False
        return True

    async def _refused(self, part: Part, verdict: Verdict, *, too_large: bool) -> None:
        self._refusals += 1
        if self._refusals >= MOST_REFUSALS:
            raise error_of(verdict)
        if part.rows == 1:
            refusal = await self._context.refusal(part, f"the server answered {verdict.status}", verdict.detail)
            await self._context.refuse(part, refusal)
        elif too_large:
            # Learned of whole files only: a row that is too large by itself must not make all files small.
            learned = max(1, part.size // 2) if part.whole else None
            await run_sync(lambda: self._journal.split(part, by_bytes=True, max_bytes=learned))
        else:
            await run_sync(self._journal.split, part)

    async def _failed(self, part: Part, job: Job) -> None:
        self._failed_jobs += 1
        if self._failed_jobs >= MOST_FAILURES:
            raise JobFailed(job.job_id)
        if not part.failures:
            await run_sync(self._journal.once_more, part)
        elif part.rows == 1:
            await self._context.refuse(part, await self._context.refusal(part, "job_failed"))
        else:
            await run_sync(self._journal.split, part)
