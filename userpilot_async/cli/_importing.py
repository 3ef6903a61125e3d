"""From files of history to the server: each looked at first, then one after the other, and ended in good order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
from anyio.abc import TaskStatus
from anyio.to_thread import run_sync

from .._errors.tree import DeliveryError, Rejected, UserpilotError
from .._userpilot.api import UserpilotAPI
from ..imports import (
    AlreadyImported,
    ImportProgress,
    ImportReport,
    JournalError,
    Series,
    check_file,
    import_file,
    lines,
)
from ._exits import Exit, Failed, NotPossible, Refused, failure_of, failure_of_listing
from ._import_text import ProgressView, as_dict, refusals, refused_text, summed
from ._progress import Progress

Work = Callable[..., Awaitable[ImportReport]]


@attrs.frozen
class ImportOptions:
    """What is to be done with each file."""

    check: bool = False
    """Look at every row, send nothing."""
    dry_run: bool = False
    """Write the upload files, send nothing."""
    dry_run_to: Path | None = None
    """Where those go; ``None``: beside each file."""
    strict: bool = False
    """Send nothing of a file that has a bad row."""
    force: bool = False
    """Send what was sent already."""
    rebind: bool = False
    """Go on with another key, or another server."""
    converted_from: str | None = None
    rejected: Path | None = None

    @property
    def sends(self) -> bool:
        """To the server."""
        return not (self.check or self.dry_run)

    def uploads(self, path: Path) -> Path | None:
        """The directory for the upload files of a dry run."""
        if not self.dry_run:
            return None
        return self.dry_run_to or path.with_name(f"{path.name}.upload")


@attrs.define
class Importing:
    """One run over some files; `run` it once."""

    api: UserpilotAPI | None
    """``None`` if nothing is to be sent."""
    paths: Sequence[Path]
    wish: ImportOptions
    progress: Progress
    reports: dict[Path, ImportReport] = attrs.field(factory=dict, init=False)
    """Of the files that were gone through."""
    done_before: dict[Path, ImportReport] = attrs.field(factory=dict, init=False)
    """Of those that had been imported already, and were passed over."""
    broken_off: Path | None = attrs.field(default=None, init=False)
    """The file that was being worked on, if it ended early."""
    sight: ProgressView | None = attrs.field(default=None, init=False)
    """What was last seen of it."""
    trouble: Failed | None = attrs.field(default=None, init=False)
    """Why it ended early, if nobody interrupted it."""
    interrupted: bool = attrs.field(default=False, init=False)
    elapsed: float = attrs.field(default=0.0, init=False)
    _series: Series | None = attrs.field(default=None, init=False)
    """What the files so far have said of users and companies, if there are several."""
    _scope: anyio.CancelScope = attrs.field(init=False)
    """What a signal cancels."""

    async def run(self) -> None:
        """Go through all files, or find out why not."""
        started, self._scope = anyio.current_time(), anyio.CancelScope()
        async with anyio.create_task_group() as helpers:
            if sys.platform != "win32":  # asyncio has no signal handlers there: Ctrl-C ends it at once
                await helpers.start(self._heed_signals)
            with self._scope:
                await self._work()
            helpers.cancel_scope.cancel()
        self.elapsed = anyio.current_time() - started

    @property
    def exit_code(self) -> Exit:
        """Of the command."""
        if self.interrupted:
            return Exit.INTERRUPTED
        if self.trouble is not None:
            return Exit(self.trouble.exit_code)
        return Exit.FINE if all(map(fine, [*self.reports.values(), *self.done_before.values()])) else Exit.LOST

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the sums, then each file."""

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
        """How far it had come, if it had begun."""
        if self.broken_off is None:
            return None
        seen = ImportProgress() if self.sight is None or self.sight.last is None else self.sight.last
        counts = {name: getattr(seen, name) for name in ("read", "valid", "refused", "uploaded", "files")}
        return {"file": str(self.broken_off), **counts}

    def farewell(self) -> str:
        """For whoever interrupted it: what is done, and how it goes on."""
        if self.wish.sends and self.broken_off is not None and self.sight is not None and self.sight.last is not None:
            command = "the same command" + (" without --force" if self.wish.force else "")
            uploaded = f"{self.sight.last.uploaded:,} rows of {self.broken_off} are uploaded"
            return f"interrupted: {uploaded}; {command} goes on from there"
        return "interrupted"

    # ── the work ──

    async def _work(self) -> None:
        for path in self.paths:  # before anything is sent of any
            self.trouble = await run_sync(self._look_at, path)
            if self.trouble is not None:
                return
        if self.api is None:
            await self._each()
            return
        async with self.api:
            self.trouble = await knock(self.api)
            if self.trouble is None:
                await self._each()

    def _look_at(self, path: Path) -> Failed | None:
        """Why a file cannot be imported, as far as its first line tells."""
        folder = self.wish.uploads(path)
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
        self._series = await run_sync(Series)
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
                    self.progress.say(f"{path}: {line}" if len(self.paths) > 1 else line)
            if self.trouble is not None:
                return
            self.broken_off = None

    async def _one(self, path: Path) -> ImportReport | None:
        """The report; ``None`` if there is none, for which `trouble` may have the reason."""
        wish = self.wish
        work: Work = partial(check_file, path)
        if not wish.check:
            work = partial(
                import_file, self.api, path, force=wish.force, rebind=wish.rebind, dry_run=wish.uploads(path)
            )
        report: ImportReport | None = None
        self.sight = sight = ProgressView(sends=wish.sends, strict=wish.strict)
        async with anyio.create_task_group() as helpers:
            helpers.start_soon(self.progress.watch, sight.words, sight.table)
            try:
                report = await work(
                    converted_from=wish.converted_from,
                    strict=wish.strict,
                    rejected=wish.rejected,
                    series=self._series,
                    on_progress=partial(self._see, path, sight),
                )
            except AlreadyImported as exc:  # no trouble: the same command, given again, is how an import goes on
                self.done_before[path] = exc.report
                self.progress.say(in_options(exc))
                if exc.report.refused:
                    self.progress.say(f"of its rows, {refused_text(exc.report)}")
            except (UserpilotError, OSError) as exc:
                self.trouble = failure_of_import(path, exc)
            helpers.cancel_scope.cancel()
        return report

    def _see(self, path: Path, sight: ProgressView, progress: ImportProgress) -> None:
        if sight.last is None and progress.uploaded:
            self.progress.say(f"{path}: {progress.uploaded:,} rows are uploaded already; it goes on from there")
        sight.see(progress)

    async def _heed_signals(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                self.interrupted = True
                self._scope.cancel()
                break  # a second one finds Python's own handler


def fine(report: ImportReport) -> bool:
    """Nothing of the file was left out, as far as the server says."""
    return report.complete and not report.refused and not report.unconfirmed


async def knock(api: UserpilotAPI) -> Failed | None:
    """Ask once, leaving no trace, and say why nothing can be sent, if that is so: later, an outage is waited out."""
    try:
        await api.jobs()
    except DeliveryError as error:
        return failure_of_listing(error)
    return None


def failure_of_import(path: Path, error: UserpilotError | OSError) -> Failed:
    """What an error of an import means for the command, whose key the server has taken."""
    if isinstance(error, Rejected) and error.status in (401, 402, 403):
        return Refused(
            f"the server takes the key, but no imports ({error}). They are a feature of the Enterprise plan, or an"
            " add-on to Growth. Once they are there, the same command goes on."
        )
    if isinstance(error, DeliveryError):
        return failure_of(error)
    if isinstance(error, JournalError):  # it names the file
        return Failed(in_options(error))
    return Failed(f"{path}: {error}")


def in_options(error: JournalError) -> str:
    """What it says of the library's arguments, said of the command's options."""
    return str(error).replace("force=True", "--force").replace("rebind=True", "--rebind")
