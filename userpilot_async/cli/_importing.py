"""From files of history to the server: all are opened first, then imported as one."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

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
    RowMapping,
    check_file,
    check_stream,
    import_file,
    import_stream,
)
from ..imports._anonymous import Anonymous
from ..imports._files import Files, Location, beside, is_local
from ..imports._reading_several import check_kinds
from ._exits import Exit, Failed, NotPossible, Refused, failure_of, failure_of_listing
from ._import_text import ImportView, as_dict, as_text, refusals, refused_text, summed
from ._progress import Progress
from ._run import Phases

Work = Callable[..., Awaitable[ImportReport]]

STANDARD_INPUT = Path("-")
"""Stands for what comes in by standard input; told from a file of this name by its identity."""
CLOSED = "stdin is closed: there is nothing to read"


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
    mapping: RowMapping | None = None
    """The map that changes the rows."""
    journal: Path | None = None
    """The place of the journal; ``None``: beside the file."""

    @property
    def conversion(self) -> Conversion:
        """The way from a line to rows."""
        return Conversion(
            self.converted_from, company_group=self.company_group, shorten=self.shorten, anonymous=self.anonymous,
            mapping=self.mapping,
        )  # fmt: skip

    @property
    def sends(self) -> bool:
        """Rows go to the server."""
        return not (self.check or self.dry_run)

    def uploads(self, origin: Location) -> Path | None:
        """The directory for the upload files of a dry run."""
        if not self.dry_run or self.dry_run_to is not None:
            return self.dry_run_to
        if origin is STANDARD_INPUT:
            return Path("standard-input.upload")
        return beside(origin, ".upload") if is_local(origin) else Path(f"{Path(str(origin)).name}.upload")


@attrs.define
class Importing:
    """A run over a file, or over several as one; `run` is called once."""

    api: UserpilotAPI | None
    """The server's endpoints; ``None`` if nothing is to be sent."""
    origin: Location
    options: ImportOptions
    progress: Progress
    report: ImportReport | None = attrs.field(default=None, init=False)
    """The report, if all was read to its end."""
    done_before: ImportReport | None = attrs.field(default=None, init=False)
    """The report of an earlier import, if all had been imported already and was skipped."""
    view: ImportView | None = attrs.field(default=None, init=False)
    """The latest state of the import."""
    trouble: Failed | None = attrs.field(default=None, init=False)
    """The reason for which the run ended early, if that was no signal."""
    elapsed: float = attrs.field(default=0.0, init=False)
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
        return Exit.FINE if all(map(fine, filter(None, (self.report, self.done_before)))) else Exit.LOST

    def as_text(self) -> Iterator[str]:
        """The report, line by line."""
        if self.report is not None:
            yield from as_text(self.origin, self.report, self.options.uploads(self.origin))

    def as_dict(self) -> dict[str, Any]:
        """The report as one JSON object."""

        def one(report: ImportReport | None) -> list[dict[str, Any]]:
            return [] if report is None else [{**self._named(), **as_dict(report)}]

        return {
            "exit_code": int(self.exit_code),
            "elapsed": round(self.elapsed, 3),
            "interrupted": self.interrupted,
            "error": None if self.trouble is None else self.trouble.message,
            **summed([] if self.report is None else [self.report]),
            "reports": one(self.report),
            "imported_before": one(self.done_before),
            "broken_off": self._broken_off(),
        }

    def _named(self) -> dict[str, Any]:
        several = self.origin.paths if isinstance(self.origin, Files) else ()
        return {"file": str(self.origin), **({"paths": [str(path) for path in several]} if several else {})}

    @property
    def _ended_early(self) -> bool:
        """The import had begun, and has no report."""
        return self.view is not None and self.report is None and self.done_before is None

    def _broken_off(self) -> dict[str, Any] | None:
        """The counts at which the run ended early, if it did."""
        if not self._ended_early:
            return None
        seen = ImportProgress() if self.view is None or self.view.last is None else self.view.last
        counts = {name: getattr(seen, name) for name in ("read", "valid", "refused", "uploaded", "files")}
        return {**self._named(), **counts}

    def farewell(self) -> str | None:
        """The line for the user who interrupted the run, with what is done and how to go on; else ``None``."""
        if not self.interrupted:
            return None
        if self.options.sends and self._ended_early and self.view is not None and self.view.last is not None:
            command = "the same command" + (" without --force" if self.options.force else "")
            uploaded = f"{self.view.last.uploaded:,} rows of {self.origin} are uploaded"
            return f"interrupted: {uploaded}; {command} goes on from there"
        return "interrupted"

    # ── the work ──

    async def _work(self) -> None:
        self.trouble = await self._opens()
        if self.trouble is not None:
            return
        if self.api is None:
            await self._import()
            return
        async with self.api:
            self.trouble = await probe(self.api)
            if self.trouble is None:
                await self._import()

    async def _opens(self) -> Failed | None:
        """The reason for which a file cannot be imported, as far as its first line shows; else ``None``.

        Of several files the import looks at each, before anything is sent.
        """
        folder = self.options.uploads(self.origin)
        try:
            if self.origin is STANDARD_INPUT and sys.stdin is None:
                return Failed(CLOSED)
            if self.origin is not STANDARD_INPUT and not isinstance(self.origin, Files):
                await check_kinds(self.origin)
            if folder is not None and await run_sync(_has_files, folder):
                return NotPossible(f"{folder} is not empty: remove it, or name another one with --dry-run-to")
        except (UserpilotError, OSError) as exc:
            return Failed(f"{self.origin}: {exc}")
        return None

    async def _import(self) -> None:
        """Import it: sets `report`, or `done_before`, or `trouble` to the reason."""
        self.view = view = ImportView(sends=self.options.sends, strict=self.options.strict)
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(self.progress.watch, view)
            try:
                self.report = await self._work_of(self.options)(
                    converted_from=self.options.conversion,
                    rejected=self.options.rejected,
                    on_progress=partial(self._see, view),
                )
            except AlreadyImported as exc:  # no trouble: an import goes on when the same command is given again
                self.done_before = exc.report
                self.progress.print(in_options(exc))
                if exc.report.refused:
                    self.progress.print(f"of its rows, {refused_text(exc.report)}")
            except (UserpilotError, OSError) as exc:
                self.trouble = failure_of_import(self.origin, exc)
            helpers.cancel_scope.cancel()
        for line in () if self.report is None else refusals(self.report):
            self.progress.print(line)

    def _work_of(self, options: ImportOptions) -> Work:
        """The function that does it, but for what all of them are given."""
        sending: dict[str, Any] = {
            "journal": options.journal, "force": options.force, "rebind": options.rebind,
            "dry_run": options.uploads(self.origin),
        }  # fmt: skip
        if self.origin is STANDARD_INPUT:
            if options.check:
                return partial(check_stream, standard_input(), strict=options.strict)
            return partial(import_stream, self.api, standard_input(), **sending)
        given = self.origin.paths if isinstance(self.origin, Files) else self.origin
        if options.check:
            return partial(check_file, given, strict=options.strict)
        return partial(import_file, self.api, given, strict=options.strict, **sending)

    def _see(self, view: ImportView, progress: ImportProgress) -> None:
        if (view.last is None or not view.last.read) and progress.uploaded:
            self.progress.print(
                f"{self.origin}: {progress.uploaded:,} rows are uploaded already; the import goes on from there"
            )
        view.see(progress)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def standard_input() -> BinaryIO:
    """The bytes of standard input, without a buffer: a thread that waits in one would make the interpreter abort."""
    if sys.stdin is None:  # what has been opened since may have its number
        raise Failed(CLOSED)
    return open(0, "rb", buffering=0, closefd=False)


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


def failure_of_import(path: Location, error: UserpilotError | OSError) -> Failed:
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
