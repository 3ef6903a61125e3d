"""Reports of an import: while it runs, at its end, and when it cannot go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from .._errors.tree import InvalidCall, UserpilotError
from .._protocol.jobs import Job

FIRST_ERRORS = 20  # that a report names; all of them are in the rejected file


class JournalError(UserpilotError):
    """The journal of an import, or its rejected file, cannot be opened, read or written. Nothing was lost.

    The disk is full or denies writing, it is damaged, or what lies there must not be used: a link, another user's file.
    """


class ImportConflict(JournalError):
    """The journal there is belongs to another file or account, or is in use.

    Another source, a source that has changed, another account or server, another conversion, a newer version of this
    library, or a second process at work on the same import.
    """


class JournalInUse(ImportConflict):
    """Another process has the journal open."""


class AlreadyImported(ImportConflict):
    """The very same file was imported before; ``report`` says what came of it. ``force=True`` imports it again."""

    def __init__(self, message: str, report: ImportReport) -> None:
        super().__init__(message)
        self.args: tuple[Any, ...] = (message, report)
        self.report = report

    def _text(self) -> str:
        return str(self.args[0])


class InvalidRow(InvalidCall):
    """The first bad row, with ``strict=True``: its ``line`` (from 1), and why. Never the value.

    Its ``file`` is named where the lines of several are read as those of one.
    """

    def __init__(self, line: int, field: str, reason: str, file: str = "") -> None:
        super().__init__(field, reason)
        self.args: tuple[Any, ...] = (line, field, reason, file)
        self.line = line
        self.file = file

    def _text(self) -> str:
        what = self.reason if self.field == "line" else f"{self.field} {self.reason}"  # as in: line 2 is not JSON
        where = f"{self.file}: " if self.file else ""
        return f"{where}line {self.line}: {what}"


@attrs.frozen(kw_only=True)
class ImportReport:
    """The outcome of an import: of all of it, also of what earlier runs did before they were interrupted.

    ``valid == uploaded`` once it is complete: a row that the server refuses afterwards counts as refused.
    """

    read: int = 0
    """Lines with something on them, or rows of an iterable."""
    valid: int = 0
    """Rows fit for upload. One line of another tool's export may make several, or none."""
    refused: int = 0
    """Rows refused here (lines, if they are no rows at all), and by the server."""
    with_rows: int = 0
    """Lines that gave rows. ``read == with_rows + skipped + lines_refused``: what became of each line, as it was read;
    what the server refuses later changes none of them."""
    skipped: int = 0
    """Lines of another tool's export that gave no row, because what they are about has none."""
    lines_refused: int = 0
    """Lines of which every row was refused."""
    skipped_by_kind: Mapping[str, int] = attrs.field(factory=dict)
    """How many lines were skipped, by what they are about; beyond 100 kinds, the rest are ``"others"``."""
    notes: Mapping[str, int] = attrs.field(factory=dict)
    """Lines that gave rows, by what of them went nowhere, or was guessed, in words for people."""
    out_of_order: int = 0
    """Identify rows that came behind a younger one of their user or company. Each is sent with what was known at its
    time, and behind it a row with all that is known by now."""
    out_of_order_by: float = 0.0
    """Seconds by which the latest of them came too late."""
    uploaded: int = 0
    """Rows that the server has taken."""
    completed: int = 0
    """Rows of jobs that the server has completed."""
    unconfirmed: int = 0
    """Rows of jobs that it took and then no longer knew, or that it left out of a job that it calls completed: they are
    in ``uploaded`` and not in ``completed``."""
    files: int = 0
    """Upload files, each of which became a job (or was written, in a dry run)."""
    jobs: tuple[str, ...] = ()
    """Ids of those jobs, in the order of submission."""
    possible_duplicates: int = 0
    """Rows that were sent again, although the server may have had some of them: after a job that failed, or after
    an answer that got lost and a job list without the file."""
    rejected: Path | None = None
    """The file with the refused rows, if there are any and they were written."""
    first_errors: tuple[tuple[int, str, str], ...] = ()
    """Up to 20 of the refusals: (line, field, reason)."""
    first_errors_in: tuple[str, ...] = ()
    """The file that each of these is in, where several are read as one: an archive, a folder, a list. Else empty."""
    remarks: tuple[str, ...] = ()
    """Sentences on the files: which were added or taken away since this import began, or were imported before."""
    elapsed: float = 0.0
    """Seconds that this run took."""
    complete: bool = False
    """All was read, and no file waits to be uploaded or for its job."""

    def __str__(self) -> str:
        parts = [f"{self.read:,} read", f"{self.valid:,} valid", f"{self.refused:,} refused"]
        if self.skipped:
            parts.insert(1, f"{self.skipped:,} skipped")
        if self.files:
            parts.append(f"{self.uploaded:,} uploaded in {self.files:,} file{'s' if self.files > 1 else ''}")
        if self.unconfirmed:
            parts.append(f"{self.unconfirmed:,} of them without the server's word that they are there")
        if self.possible_duplicates:
            parts.append(f"{self.possible_duplicates:,} possible duplicates")
        if not self.complete:
            parts.append("not complete")
        return ", ".join(parts)


def together(reports: Sequence[ImportReport]) -> ImportReport:
    """The counts of several imports as those of one."""
    names = ("read", "valid", "refused", "with_rows", "skipped", "lines_refused", "uploaded", "completed",
             "unconfirmed", "files", "possible_duplicates")  # fmt: skip
    counts: dict[str, Any] = {name: sum(getattr(one, name) for one in reports) for name in names}
    return ImportReport(**counts, complete=all(one.complete for one in reports))


@attrs.frozen(kw_only=True)
class ImportProgress:
    """How far an import is; the counts are those of `ImportReport`."""

    bytes_read: int = 0
    """Of the source as it lies on the disk: packed, if it is gzip."""
    bytes_total: int | None = None
    """The source's size; ``None`` for an iterable."""
    read: int = 0
    valid: int = 0
    refused: int = 0
    skipped: int = 0
    files: int = 0
    uploaded: int = 0
    job: Job | None = None
    """The job that is being watched, as last seen."""
    waiting_for: str | None = None
    """Why nothing moves at this moment, in words."""
    elapsed: float = 0.0
