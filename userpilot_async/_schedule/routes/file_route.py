"""The part that routes of files share: one job slot, its steps as requests, and a file that was taken over.

A file that another sender has left is found again by its name. Its calls come in meanwhile, and rejoin it: it had all
that waited of a key up to one call. Where that is not certain any more, a call is none of the file's, and
is sent again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import partial
from urllib.parse import urlsplit

from ..._calls.outcome import Outcome
from ..._calls.payload import WaitingEvent
from ..._calls.rows import Row
from ..._protocol.backoff import Gate
from ..._protocol.job_list import Pages
from ..._protocol.verdict import Verdict
from ..destination import Deletions, Endpoint, Files, Imports
from ..job_batch import Batch, JobEffect, SlotState, Step
from ..job_slot import JobSlot
from ..key_queue import KeyQueue
from ..takeover import UnfinishedFile
from .context import RouteContext
from .route import Request

LONGEST_RESUME = 30.0  # seconds until the calls of a file that was taken over have to be there


def new_pages(files: Files | Imports | Deletions, server: str) -> partial[Pages]:
    """Begins a walk through the job list at this server: nowhere else does a link lead."""
    return partial(Pages, urlsplit(server).hostname or "", files.listing.path)


class FileRoute(ABC):
    """Fills a job slot, makes its steps, and carries out what becomes of its files."""

    name: str
    delivers: Outcome
    """The outcome of what its jobs deliver."""

    def __init__(self, context: RouteContext, files: Files | Imports, slot: JobSlot, paced_by: Endpoint) -> None:
        self.gate = Gate()
        self.slot = slot
        self.resuming: Batch | None = None
        """A file that was taken over, while its calls come in."""
        self._context = context
        self._queues = context.queues
        self._files = files
        self._paced_by = paced_by  # no file is begun before a request may go there
        self._last_calls: Mapping[str, int] = {}
        self._last_call = -1

    # ── one step at a time ──

    def next(self, now: float) -> Request | float:
        """The next step of a file's life, or when to ask again; begins a file if there is enough for one."""
        opens = self._context.opens_at(self.gate, self._paced_by, now)
        ripe = self.fill_slot(now, may_start=opens <= now)
        step = self.slot.next(now)
        if not isinstance(step, Step):
            return max(opens, min(step, ripe))
        return opens if opens > now else self._request(step)

    def _request(self, step: Step) -> Request:
        endpoint, batch = self._files.endpoint(step), step.batch
        request = Request(self, endpoint, bucket=self._context.bucket(endpoint), step=step)
        request.filename, request.job_id, request.query = batch.filename, step.job_id, step.query
        if step.what == "submit":
            request.rows, request.lines = batch.rows, self.lines_of(batch)
            request.array = self.array_of(step)
        self.slot.asked()
        return request

    def done(self, request: Request, verdict: Verdict, now: float) -> None:
        """Take in the answer to a step, and carry out what it means for rows."""
        step = request.step
        if step is None:
            return
        self.slot.outlast(self._context.health.last_taken, now, self._context.settings.max_age)
        step.batch.rows = self._queues.packed.as_now(step.batch.kind, step.batch.rows)
        effect = self.slot.done(step, verdict, now)
        self.heard(step, effect, now)
        over = "" if self.slot.has(step.batch) else step.batch.filename
        self._context.completion.files.carry_out(effect, self.delivers, over)

    @abstractmethod
    def fill_slot(self, now: float, *, may_start: bool) -> float:
        """Begin a file if there is enough for one, and a request may go; else say when there may be."""

    @abstractmethod
    def lines_of(self, batch: Batch) -> Iterator[bytes]:
        """The lines of a file, made as they are asked for."""

    def array_of(self, step: Step) -> str:
        """The name of the array that the rows go in instead of a file; nothing for a file."""
        return ""

    @abstractmethod
    def heard(self, step: Step, effect: JobEffect, now: float) -> None:
        """Learn from what a step has come to."""

    @abstractmethod
    def abandon(self) -> None:
        """Begin nothing more: all that waits is about to be given up."""

    # ── a file that was taken over ──

    def adopt(self, file: UnfinishedFile, now: float) -> None:
        """Search for a file whose calls are about to come in, if it is this route's: for one, as there is one slot."""
        if self.resuming is None and file.last_calls and self.is_ours(file):
            self.resuming = self.slot.resume(file.kind, file.filename, now + LONGEST_RESUME)
            self._last_calls, self._last_call = file.last_calls, max(file.last_calls.values())

    @abstractmethod
    def is_ours(self, file: UnfinishedFile) -> bool:
        """The file is of a kind that this route submits."""

    def came_in(self, call_id: int, now: float) -> None:
        """So far have calls come in: if that is the file's end, the job list is searched now."""
        if self.resuming is not None and call_id >= self._last_call:
            self.resuming = None
            self.slot.resumed(now)

    def had(self, queue: KeyQueue, call_id: int) -> Batch | None:
        """The file that is taken over, if it had this call of a queue."""
        batch = self.resuming
        if batch is not None and (self.slot.batch is not batch or self.slot.state is SlotState.SUBMITTING):
            self.resuming = batch = None  # its time was over
        return batch if call_id <= self._last_calls.get(queue.key, -1) else None

    def rejoin_event(self, queue: KeyQueue, event: WaitingEvent) -> bool:
        """Put an event back into the file that is taken over; false if it is not in there."""
        return False

    @abstractmethod
    def rejoin_row(self, queue: KeyQueue, row: Row) -> Row | None:
        """The row in the file that says what ``row`` says; ``None`` if there is none, or it cannot be found again."""
