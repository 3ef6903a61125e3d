"""The state of an import while it runs, and its report: as text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import RenderableType
from rich.table import Table

from .._protocol.jobs import Job
from ..imports import ImportProgress, ImportReport
from ..imports._files import Location
from ._console import cell
from ._progress import bar
from ._source import Rejection
from ._text import duration_text, files_text, job_text

_DAY = 86_400  # seconds
NAMED = 10  # bad rows that are named; the file beside it has them all

COUNTS = (
    "read", "valid", "refused", "with_rows", "skipped", "lines_refused", "out_of_order", "uploaded", "completed",
    "unconfirmed", "files", "possible_duplicates",
)  # fmt: skip
"""Names of a report's counts, which add up over files."""


@attrs.define
class ImportView:
    """The latest progress of one file's import, and how long the rest may take."""

    sends: bool
    """Rows go to a server, whose pace is what takes the time; else reading does."""
    strict: bool = False
    """The whole file is checked before the first progress comes."""
    last: ImportProgress | None = attrs.field(default=None, init=False)
    job: Job | None = attrs.field(default=None, init=False)
    """The job of the latest upload, as last seen: not every progress has it."""
    done: int = attrs.field(default=0, init=False)
    """Rows that the server has worked off; bytes read, if nothing is sent."""
    _since: tuple[float, int] = attrs.field(default=(0.0, 0), init=False)
    """When the pace is measured from, and what was done by then: not by this run."""

    def see(self, progress: ImportProgress) -> None:
        """Take in the latest progress; called by `on_progress`."""
        begins, before, self.last = self.last is None, self.done, progress
        self.done = self._done(progress, begins) if self.sends else progress.bytes_read
        if begins or self.done < before:  # an earlier run's job turns out to have rows left
            self._since = (progress.elapsed, self.done)

    def _done(self, progress: ImportProgress, begins: bool) -> int:
        if progress.job is not None:
            self.job = progress.job
            rest = (self.job.total_rows or 0) - (self.job.completed_rows or 0)
            return max(0, progress.uploaded - max(0, rest))
        if self.job is not None and self.job.status.final:
            self.job = None
        return progress.uploaded if begins else self.done  # what has been uploaded since waits for its first poll

    @property
    def _nothing_yet(self) -> str:
        return "checking all of it first" if self.strict else "nothing read yet"

    @property
    def total(self) -> float | None:
        """The value of `done` at the end, if the rest of the file is like what was read."""
        seen = self.last
        if seen is None or not seen.bytes_total:
            return None
        if not self.sends:
            return seen.bytes_total
        return max(seen.valid, seen.valid * seen.bytes_total / seen.bytes_read) if seen.bytes_read else None

    @property
    def left(self) -> float | None:
        """Seconds from the latest progress on, at this run's pace; ``None`` if there is none yet, or nothing left."""
        began, before = self._since
        if self.last is None or self.total is None or not before < self.done < self.total:
            return None
        return (self.total - self.done) * (self.last.elapsed - began) / (self.done - before)

    def line(self) -> str:
        """The present state in one line."""
        seen = self.last
        if seen is None:
            return self._nothing_yet
        parts = [f"{seen.read:,} lines read", f"{seen.valid:,} rows valid", f"{seen.refused:,} refused"]
        if seen.skipped:
            parts.append(f"{seen.skipped:,} skipped")
        if self.sends:
            parts.append(f"{seen.uploaded:,} uploaded")
        if self.job is not None:
            parts.append(f"job {job_text(self.job)}")
        if (seconds := self.left) is not None:
            parts.append(f"about {duration_text(seconds)} left")
        if seen.waiting_for is not None:
            parts.append(f"waiting: {seen.waiting_for}")
        return ", ".join(parts)

    def table(self, elapsed: float) -> Table:
        """The present state for a terminal, ``elapsed`` seconds after the start."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", min_width=16)
        grid.add_column(justify="right", min_width=8)
        grid.add_column()
        seen = self.last
        if seen is not None:
            grid.add_row("lines read", f"{seen.read:,}", _bar(seen.bytes_read, seen.bytes_total))
            grid.add_row("rows valid", f"{seen.valid:,}", "")
            grid.add_row("refused", cell(f"{seen.refused:,}", "red" if seen.refused else ""), "")
            if seen.skipped:
                grid.add_row("skipped", f"{seen.skipped:,}", "")
            if self.sends:
                grid.add_row("uploaded", f"{seen.uploaded:,}", _bar(self.done, self.total))
                grid.add_row("job", "", cell("none", "dim") if self.job is None else cell(job_text(self.job)))
        seconds = self.left
        ahead = "" if seconds is None else f"about {duration_text(seconds)} left"
        grid.add_row("time", duration_text(elapsed), ahead if seen is not None else self._nothing_yet)
        if seen is not None and seen.waiting_for is not None:
            grid.add_row("waiting", "", cell(seen.waiting_for, "yellow"))
        return grid


def _bar(done: int, total: float | None) -> RenderableType:
    return bar(done, max(1, int(total))) if total else ""


# ── how it ended ──


def refusals(report: ImportReport) -> Iterator[str]:
    """The first bad rows, one a line, and where the others are."""
    files = report.first_errors_in or ("",) * len(report.first_errors)
    for (line, field, reason), file in list(zip(report.first_errors, files, strict=True))[:NAMED]:
        yield f"{file}: {Rejection(line, field, reason)}" if file else str(Rejection(line, field, reason))
    if (more := report.refused - len(report.first_errors[:NAMED])) > 0:
        kept = f"all of them are in {report.rejected}" if report.rejected else "--rejected FILE keeps them all"
        yield f"and {more:,} more: {kept}"


def as_text(path: Location, report: ImportReport, uploads: Path | None) -> Iterator[str]:
    """A report, line by line; ``uploads`` is where a dry run has put its files."""
    counts = f"{report.read:,} lines read, {report.valid:,} rows valid, {report.refused:,} refused"
    if report.skipped:
        counts += f", {report.skipped:,} skipped"
    yield f"{path}: {counts}, in {duration_text(report.elapsed)}"
    yield from _lines_text(report)
    yield from report.remarks
    if uploads is not None:
        yield f"{files_text(report.files)} written to {uploads}; nothing was sent"
    elif report.jobs:
        yield f"{report.uploaded:,} rows uploaded in {files_text(report.files)}, {report.completed:,} of them completed"
        if report.unconfirmed:
            yield f"{report.unconfirmed:,} of them are not confirmed by the server"
        yield f"possible duplicates: {report.possible_duplicates:,}"
    if report.rejected is not None:
        yield refused_text(report)


def _lines_text(report: ImportReport) -> Iterator[str]:
    """The lines that gave no row, and what of others went nowhere, by kind, the most frequent first."""
    kinds = ((report.skipped_by_kind, "lines gave no row:"), (report.notes, "of the lines with rows:"))
    for counts, heading in kinds:
        if counts:
            yield heading
            yield from (f"  {count:,} × {kind}" for kind, count in sorted(counts.items(), key=lambda one: -one[1]))
    if report.out_of_order:
        by = report.out_of_order_by
        yield (
            f"rows behind younger ones of their user or company: {report.out_of_order:,}, by up to "
            f"{f'{by / _DAY:,.0f} days' if by >= 2 * _DAY else duration_text(by)}; the youngest has the last word"
        )


def refused_text(report: ImportReport) -> str:
    """The number of refused rows, and where they are."""
    were = "1 was refused" if report.refused == 1 else f"{report.refused:,} were refused"
    return were if report.rejected is None else f"{were}: see {report.rejected}"


def summed(reports: Sequence[ImportReport]) -> dict[str, int]:
    """The counts of all files together."""
    return {name: sum(getattr(report, name) for report in reports) for name in COUNTS}


def _errors(report: ImportReport) -> Iterator[dict[str, Any]]:
    """The first bad rows as JSON objects; a ``file`` is named where several are read as one."""
    for place, (line, field, reason) in enumerate(report.first_errors):
        where = {"file": report.first_errors_in[place]} if report.first_errors_in else {}
        yield {"line": line, "field": field, "reason": reason, **where}


def as_dict(report: ImportReport) -> dict[str, Any]:
    """The report of one file as a JSON object."""
    return {
        **summed([report]),
        "skipped_by_kind": dict(report.skipped_by_kind),
        "notes": dict(report.notes),
        "out_of_order_by": round(report.out_of_order_by, 3),
        "jobs": list(report.jobs),
        "rejected": None if report.rejected is None else str(report.rejected),
        "first_errors": list(_errors(report)),
        "remarks": list(report.remarks),
        "elapsed": round(report.elapsed, 3),
        "complete": report.complete,
    }
