"""One part after the other to the server: submitted, watched, and looked for whenever an answer was lost."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import anyio
from anyio.to_thread import run_sync

from .._errors.tree import JobFailed, Rejected, Unavailable
from .._protocol.backoff import backoff
from .._protocol.jobs import Job, JobStatus, next_look
from .._userpilot.api import JobList, UserpilotAPI
from ._journal import Journal
from ._schema import Part, Refusal

T = TypeVar("T")

SEARCHES = (2.0, 10.0)  # seconds before each look for a lost upload; it may still be on its way in
LATE_SEARCH = 30.0  # and before one more, for a file that a server needs time to read
LARGE = 1024 * 1024  # bytes of such a file
# Seconds that a job list is read again whose end was not seen; as long as `Settings.job_timeout` believes in a job.
LONGEST_SEARCH = 3_600.0
PACE = 3.0  # seconds a page until it is read again: a thirtieth of the budget
BUSY_FIRST, BUSY_LONGEST = 5.0, 30.0  # seconds to wait after a 409, doubling
VANISHED = 3  # looks in a row that know nothing of a job before it is taken for forgotten
# In a row, and not one file taken (one job completed) in between: it is not about rows, then, and to go on would put
# every row there is into the rejected file.
MOST_REFUSALS, MOST_FAILURES = 1_000, 100

DENIED = (401, 402, 403)
MISCONFIGURED = (404, 405)


class Surroundings(Protocol):
    """What an upload needs of the import that it is part of."""

    def say(self, job: Job | None = None, waiting_for: str | None = None) -> None:
        """Tell the caller how far it is."""
        ...

    def check(self) -> None:
        """Raise, if nothing more is to be sent."""
        ...

    async def pause(self, seconds: float, why: str | None, job: Job | None = None) -> None:
        """Wait, and say why; raises as soon as `check` does."""
        ...

    async def refusal(self, part: Part, reason: str, words: str = "") -> Refusal:
        """What to write about a part of one row; ``words`` are the server's, which may quote the row."""
        ...

    async def refuse(self, part: Part, refusal: Refusal) -> None:
        """Put it into the rejected file."""
        ...


class Uploader:
    """Does one thing about a part at a time; what comes next is always read off the journal."""

    def __init__(self, api: UserpilotAPI, journal: Journal, around: Surroundings) -> None:
        self._api = api
        self._journal = journal
        self._around = around
        self._failures = 0  # in a row: of requests, by the network or the server
        self._busy = 0  # answers 409 in a row
        self._refusals = 0
        self._failed_jobs = 0
        self._submitted = ""  # the place of the part that was submitted just now

    async def deliver(self, part: Part) -> None:
        """The next step. Raises `Rejected` when no file is taken any more, and `JobFailed` when no job completes."""
        if part.running:
            await self._watch(part)
        elif part.in_doubt:
            await self._search(part)
        else:
            await self._submit(part)

    # ── submitting ──

    async def _submit(self, part: Part) -> None:
        content = await run_sync(self._journal.content, part)
        self._around.check()
        self._around.say()
        await run_sync(self._journal.sending, part)
        try:
            job = await self._api.import_rows(content, filename=self._journal.filename(part))
        except Unavailable as error:
            if not error.ambiguous:
                await run_sync(self._journal.answered, part)
                await self._wait_out(error)
                if error.status is not None and error.status >= 500:
                    await self._adopt(part)  # it costs one request to know that it did nothing all the same
        except Rejected as error:
            await run_sync(self._journal.answered, part)
            await self._refused(part, error)
        else:
            self._submitted = part.place
            await self._taken(part, job)

    async def _taken(self, part: Part, job: Job) -> None:
        self._failures = self._busy = self._refusals = 0
        await run_sync(self._journal.running, part, job.job_id)

    async def _refused(self, part: Part, error: Rejected) -> None:
        if error.status == 409:
            # Perhaps by our own job, whose answer an intermediary has eaten.
            if not await self._adopt(part):
                self._busy += 1
                seconds = min(BUSY_LONGEST, BUSY_FIRST * 2.0 ** (self._busy - 1))
                await self._around.pause(seconds, "another import of this account is running")
            return
        if error.status in (*DENIED, *MISCONFIGURED) or not 400 <= error.status < 500:
            raise error
        self._refusals += 1
        if self._refusals >= MOST_REFUSALS:
            raise error
        if part.rows == 1:
            reason = f"the server answered {error.status}"
            await self._around.refuse(part, await self._around.refusal(part, reason, error.detail))
        elif error.status == 413:
            # Learned of whole files only: a row that is too large by itself must not make all files small.
            learned = max(1, part.size // 2) if part.whole else None
            await run_sync(lambda: self._journal.split(part, by_bytes=True, max_bytes=learned))
        else:
            await run_sync(self._journal.split, part)

    # ── looking for what was lost ──

    async def _search(self, part: Part) -> None:
        pauses = (*SEARCHES, LATE_SEARCH) if part.size > LARGE else SEARCHES
        began, unread = anyio.current_time(), 0
        seconds, left = pauses[0], list(pauses[1:])
        why = "the answer to an upload got lost: its file is looked for in the job list"
        while True:
            await self._around.pause(seconds, why)
            found = await self._look_for(part)
            if isinstance(found, Job):
                await self._taken(part, found)
                return
            if found.whole:
                if not left:
                    break
                seconds = left.pop(0)
            else:
                unread += 1
                if anyio.current_time() - began >= LONGEST_SEARCH:
                    break
                seconds = max(next_look(None, part.rows, 0.0, unread), PACE * found.read)
                why = "the answer to an upload got lost, and the job list was not read to its end: it is read again"
        await run_sync(self._journal.not_found, part)

    async def _adopt(self, part: Part) -> bool:
        """Take the job that the list has under the part's filename for the part's own."""
        job = await self._listed(part)
        if job is not None:
            await self._taken(part, job)
        return job is not None

    async def _listed(self, part: Part) -> Job | None:
        found = await self._look_for(part)
        return found if isinstance(found, Job) else None

    async def _look_for(self, part: Part) -> Job | JobList:
        """The job with the part's filename, or the list that does not show it."""
        filename = self._journal.filename(part)
        listed = await self._asked(lambda: self._api._read_jobs(filename))  # says if it was whole
        found = [job for job in listed.jobs if job.filename == filename]
        return next((job for job in found if job.status is not JobStatus.FAILED), found[0] if found else listed)

    # ── watching ──

    async def _watch(self, part: Part) -> None:
        rows, began, looks, vanished = part.rows, anyio.current_time(), 0, 0
        job: Job | None = None
        self._around.say(job)
        # One that was submitted by an earlier run may be over. And 1 s, not the 10 of a bulk job of that many rows: the
        # look costs one request, and nobody has told how fast imports are worked off.
        seconds = next_look(None, rows, 0.0, 0) if part.place == self._submitted else 0.0
        while vanished < VANISHED:
            await self._around.pause(seconds, None, job)
            seen = await self._seen(part)
            if seen is None:
                vanished += 1
            else:
                job, vanished = seen, 0
                self._around.say(job)
                if job.status is JobStatus.COMPLETED:
                    self._failed_jobs = 0
                    done = rows if job.completed_rows is None else min(rows, max(0, job.completed_rows))
                    await run_sync(self._journal.completed, part, done)
                    return
                if job.status is JobStatus.FAILED:
                    await self._failed(part, job)
                    return
            looks += 1
            seconds = next_look(seen, rows, anyio.current_time() - began, looks)
        # The server has taken it, so to send it again would double it. Nobody can say what became of it.
        await run_sync(self._journal.completed, part, 0)

    async def _seen(self, part: Part) -> Job | None:
        """The job as it stands; ``None`` if neither its id nor its filename is known."""
        if part.job_id:
            try:
                return await self._asked(lambda: self._api.job(part.job_id))
            except Rejected as error:
                if error.status != 404:
                    raise
        return await self._listed(part)

    async def _failed(self, part: Part, job: Job) -> None:
        self._failed_jobs += 1
        if self._failed_jobs >= MOST_FAILURES:
            raise JobFailed(job.job_id)
        if not part.failures:
            await run_sync(self._journal.once_more, part)
        elif part.rows == 1:
            await self._around.refuse(part, await self._around.refusal(part, "job_failed"))
        else:
            await run_sync(self._journal.split, part)

    # ── asking ──

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, for as long as it takes. Raises `Rejected`."""
        while True:
            try:
                answer = await ask()
            except Unavailable as error:
                await self._wait_out(error)
            else:
                self._failures = 0
                return answer

    async def _wait_out(self, error: Unavailable) -> None:
        self._failures += 1
        seconds = max(1.0, backoff(self._failures, random.random()))
        await self._around.pause(seconds, f"the server is not available: {error.detail}")
