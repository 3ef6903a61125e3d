"""The terms of the job slot: its states, rows that share a file, the requests it wants made, and what came of them."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import attrs

from .._calls.outcome import NO_WORDS, Words
from .._calls.rows import FiledRow, size_in_file
from .._protocol.file_job import FileJob, JobState
from .._protocol.job_effects import JobStep

Form = Literal["file", "array"]
"""A file has a name; its rows as a JSON array have none."""


class SlotState(Enum):
    """The slot is free, or does what its file's `JobState` says."""

    FREE = "free"
    SUBMITTING = JobState.SUBMITTING.value
    SEARCHING = JobState.SEARCHING.value
    RUNNING = JobState.RUNNING.value


@attrs.define(eq=False)
class Batch:
    """Rows that share a file."""

    kind: str
    rows: list[FiledRow]
    lines: int
    """Lines of the file, as the server counts them."""
    file: FileJob
    """The life of the file under its present name, and in its present form."""
    failures: int = 0
    """Jobs that failed with these rows: the first time they are tried again as they are."""
    losses: int = 0
    """Submissions whose answer got lost, and of which the server knows nothing."""

    @property
    def filename(self) -> str:
        """The name that the file is submitted as, and found by."""
        return self.file.filename

    @property
    def size(self) -> int:
        """About how many bytes its file has."""
        return sum(map(size_in_file, self.rows))


@attrs.frozen(kw_only=True)
class Step(JobStep):
    """A request that the slot wants made now."""

    batch: Batch
    form: Form = "file"


@attrs.define(eq=False)
class JobEffect:
    """Changes to rows that a step has brought, for the schedule to carry out."""

    kind: str = ""
    """The kind of the rows."""
    submitted: list[FiledRow] = attrs.field(factory=list)
    """The server has accepted a job with them."""
    withdrawn: list[FiledRow] = attrs.field(factory=list)
    """The rows of a job that came to nothing."""
    ended: list[FiledRow] = attrs.field(factory=list)
    """No file carries them any more: they are delivered, dead, or go back to wait."""
    alone: bool = False
    """The ended ones that go again do so by themselves."""
    delivered: bool = False
    """All of the ended ones are delivered."""
    dead: str | None = None
    """Why all of the ended ones are dead, if they are."""
    words: Words = NO_WORDS
    """The server's reasons for the dead ones."""
    repeated: list[FiledRow] = attrs.field(factory=list)
    """Rows that go again after an answer that got lost: no job with their filename was found."""


class Forms:
    """Decides which form rows go in: a file, until the server refuses that and takes a JSON array."""

    def __init__(self, takes_arrays: bool) -> None:
        self.current: Form = "file"
        self._takes_arrays = takes_arrays
        self._taken: set[Form] = set()

    def taken(self, form: Form) -> None:
        """The server has taken rows in this form."""
        self._taken.add(form)

    def refused(self, form: Form, status: int | None, rows: int) -> bool:
        """The server refused so many rows in this form; true if they are to go again in the other one.

        415 speaks of the form. So may a 400, as long as no file was ever taken, and one row is not to blame for it.
        """
        if form == "array":
            # It was about the rows, or neither form is taken here: the documents name the file first.
            self.current = "array" if "array" in self._taken else "file"
            return False
        again = self._takes_arrays and (status == 415 or (status == 400 and "file" not in self._taken and rows > 1))
        if again:
            self.current = "array"
        return again
