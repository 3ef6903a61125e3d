"""From files of history to the server: all are opened first, then imported one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
from anyio.to_thread import run_sync

from .._errors.tree import DeliveryError, Rejected, UserpilotError
from .._userpilot.api import UserpilotAPI
from ..imports import (
    AlreadyImported,
    Conversion,
    ImportProgress,
    ImportReport,
    JournalError,
    Series,
    check_file,
    import_file,
    lines,
)
from ..imports._anonymous import Anonymous
from ._exits import Exit, Failed, NotPossible, Refused, failure_of, failure_of_listing
from ._import_text import ImportView, as_dict, as_text, refusals, refused_text, sum_text, summed
from ._progress import Progress
from ._run import Phases

Work = Callable[..., Awaitable[ImportReport]]


@attrs.frozen
class ImportOptions:
    """The options of `import`, for each file."""

    check: bool = False
    """Check every row, and send nothing."""
    dry_run: bool = False
    """Write the upload files, and send nothing."""
    dry_run_to: Path | None = None
    """The directory for those files; ``None``: one beside each file."""
    strict: bool = False
    """Send nothing of a file that has a bad row."""
    force: bool = False
    """Send what was sent already."""
    rebind: bool = False
    """Go on with another key, or another server."""
    converted_from: str | None = None
    rejected: Path | None = None
    company_group: str | None = None
    """The type of groups in an export that are companies; ``None``: the likeliest."""
    shorten: bool = False
    """Leave properties out of events that are too large."""
    anonymous: Anonymous = "keep"
    """The rows of people who were not known yet are kept, dropped or joined."""

    @property
    def conversion(self) -> Conversion:
        """The way from a line to rows."""
        return Conversion(
            self.converted_from, company_group=self.company_group, shorten=self.shorten, anonymous=self.anonymous
        )

    @property
    def sends(self) -> bool:
        """Rows go to the server."""
        return not (self.check or self.dry_run)

    def uploads(self, path: Path) -> Path | None:
        """The directory for the upload files of a dry run."""
        if not self.dry_run:
            return None
        return self.dry_run_to or path.with_name(f"{path.name}.upload")


@attrs.define
class Importing:
    """A run over some files; `run` is called once."""

    api: UserpilotAPI | None
    """The server's endpoints; ``None`` if nothing is to be sent."""
    paths: Sequence[Path]
    options: ImportOptions
    progress: Progress
    reports: dict[Path, ImportReport] = attrs.field(factory=dict, init=False)
    """Reports of the files that were read to their end."""
    done_before: dict[Path, ImportReport] = attrs.field(factory=dict, init=False)
    """Reports of files that had been imported already, and were skipped."""
    broken_off: Path | None = attrs.field(default=None, init=False)
    """The file that was being worked on, if it ended early."""
    view: ImportView | None = attrs.field(default=None, init=False)
    """The latest state of that file."""
    trouble: Failed | None = attrs.field(default=None, init=False)
    """The reason for which the run ended early, if that was no signal."""
    elapsed: float = attrs.field(default=0.0, init=False)
    _series: Series | None = attrs.field(default=None, init=False)
    """Properties that the files so far have set, where there are several files."""
    _phases: Phases = attrs.field(factory=Phases, init=False)

    async def run(self) -> None:
        """Go through all files, or find out why not."""
        started = anyio.current_time()
        async with anyio.create_task_group() as helpers:
            await self._phases.heed_signals(helpers)
            with self._phases.begin():
                await self._work()
            helpers.cancel_scope.cancel()
        self.elapsed = anyio.current_time() - started

    @property
    def interrupted(self) -> bool:
        """A signal has ended the run."""
        return self._phases.interrupted

    @property
    def exit_code(self) -> Exit:
        """The command's exit code, if nothing else goes wrong."""
        if self.interrupted:
            return Exit.INTERRUPTED
        if self.trouble is not None:
            return Exit(self.trouble.exit_code)
        return Exit.FINE if all(map(fine, [*self.reports.values(), *self.done_before.values()])) else Exit.LOST

    def as_text(self) -> Iterator[str]:
        """The report, line by line: each file, then the sums of several."""
        for path, report in self.reports.items():
            yield from as_text(path, report, self.options.uploads(path))
        if len(self.reports) > 1:
            yield sum_text(list(self.reports.values()))

    def as_dict(self) -> dict[str, Any]:
        """The report as one JSON object: the sums, then each file."""

        def each(reports: Mapping[Path, ImportReport]) -> list[dict[str, Any]]:
            return [{"file": str(path), **as_dict(report)} for path, report in reports.items()]

        return {
            "exit_code": int(self.exit_code),
            "elapsed": round(self.elapsed, 3),
            "interrupted": self.interrupted,
            "error": None if self.trouble is None else self.trouble.message,
            **summed(list(self.reports.values())),
            "reports": each(self.reports),
            "imported_before": each(self.done_before),
            "broken_off": self._broken_off(),
        }

    def _broken_off(self) -> dict[str, Any] | None:
        """The counts of the file at which the run ended early, if there is one."""
        if self.broken_off is None:
            return None
        seen = ImportProgress() if self.view is None or self.view.last is None else self.view.last
        counts = {name: getattr(seen, name) for name in ("read", "valid", "refused", "uploaded", "files")}
        return {"file": str(self.broken_off), **counts}

    def farewell(self) -> str | None:
        """The line for the user who interrupted the run, with what is done and how to go on; else ``None``."""
        if not self.interrupted:
            return None
        if self.options.sends and self.broken_off is not None and self.view is not None and self.view.last is not None:
            command = "the same command" + (" without --force" if self.options.force else "")
            uploaded = f"{self.view.last.uploaded:,} rows of {self.broken_off} are uploaded"
            return f"interrupted: {uploaded}; {command} goes on from there"
        return "interrupted"

    # ── the work ──

    async def _work(self) -> None:
        for path in self.paths:  # before anything is sent of any
            self.trouble = await run_sync(self._opens, path)
            if self.trouble is not None:
                return
        if self.api is None:
            await self._each()
            return
        async with self.api:
            self.trouble = await probe(self.api)
            if self.trouble is None:
                await self._each()

    def _opens(self, path: Path) -> Failed | None:
        """The reason for which a file cannot be imported, as far as its first line shows; else ``None``."""
        folder = self.options.uploads(path)
        try:
            lines(path).close()  # raises if it is of no kind that can be read
            if folder is not None and folder.is_dir() and any(folder.iterdir()):
                return NotPossible(f"{folder} is not empty: remove it, or name another one with --dry-run-to")
        except (UserpilotError, OSError) as exc:
            return Failed(f"{path}: {exc}")
        return None

    async def _each(self) -> None:
        if len(self.paths) == 1:
            await self._one_by_one()
            return
        self._series = await run_sync(Series, *self.paths)
        try:
            await self._one_by_one()
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(self._series.close)

    async def _one_by_one(self) -> None:
        for path in self.paths:
            self.broken_off = path
            report = await self._one(path)
            if report is not None:
                self.reports[path] = report
                for line in refusals(report):
                    self.progress.print(f"{path}: {line}" if len(self.paths) > 1 else line)
            if self.trouble is not None:
                return
            self.broken_off = None

    async def _one(self, path: Path) -> ImportReport | None:
        """Import one file: its report, or ``None``, for which `trouble` may have the reason."""
        options = self.options
        work: Work = partial(check_file, path)
        if not options.check:
            work = partial(
                import_file, self.api, path, force=options.force, rebind=options.rebind, dry_run=options.uploads(path)
            )
        report: ImportReport | None = None
        self.view = view = ImportView(sends=options.sends, strict=options.strict)
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(self.progress.watch, view)
            try:
                report = await work(
                    converted_from=options.conversion,
                    strict=options.strict,
                    rejected=options.rejected,
                    series=self._series,
                    on_progress=partial(self._see, path, view),
                )
            except AlreadyImported as exc:  # no trouble: an import goes on when the same command is given again
                self.done_before[path] = exc.report
                self.progress.print(in_options(exc))
                if exc.report.refused:
                    self.progress.print(f"of its rows, {refused_text(exc.report)}")
            except (UserpilotError, OSError) as exc:
                self.trouble = failure_of_import(path, exc)
            helpers.cancel_scope.cancel()
        return report

    def _see(self, path: Path, view: ImportView, progress: ImportProgress) -> None:
        if (view.last is None or not view.last.read) and progress.uploaded:
            self.progress.print(
                f"{path}: {progress.uploaded:,} rows are uploaded already; the import goes on from there"
            )
        view.see(progress)


def fine(report: ImportReport) -> bool:
    """Whether every row of the file is on the server, by its own word, and there was one if there were lines.

    Lines that were skipped are no fault of the file, unless nothing else is in it.
    """
    empty = report.read > 0 and not report.valid
    return report.complete and not report.refused and not report.unconfirmed and not empty


async def probe(api: UserpilotAPI) -> Failed | None:
    """Make one harmless request; returns why nothing can be sent, or ``None``. Later, an outage is waited out."""
    try:
        await api.jobs()
    except DeliveryError as error:
        return failure_of_listing(error)
    return None


def failure_of_import(path: Path, error: UserpilotError | OSError) -> Failed:
    """The failure of the command for an error of an import, after the server has taken the key."""
    if isinstance(error, Rejected) and error.status in (401, 402, 403):
        return Refused(
            f"the server accepts the key, but takes no imports ({error}). They are a feature of the Enterprise plan, or"
            " an add-on to Growth. Once the account has them, the same command goes on."
        )
    if isinstance(error, DeliveryError):
        return failure_of(error)
    if isinstance(error, JournalError):  # it names the file
        return Failed(in_options(error))
    return Failed(f"{path}: {error}")


def in_options(error: JournalError) -> str:
    """The error's message, with the command's options in place of the library's arguments."""
    return str(error).replace("force=True", "--force").replace("rebind=True", "--rebind")
