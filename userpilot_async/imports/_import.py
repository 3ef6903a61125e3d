"""An import under way: reading and uploading, side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import anyio
from anyio.to_thread import run_sync

from .._protocol.jobs import Job
from .._runtime.private_files import make_folders, rewrite
from .._userpilot.api import UserpilotAPI
from ._file_list import located_in
from ._journal import Journal
from ._journal_access import report_of
from ._rejected import RejectedFile
from ._report import ImportProgress, ImportReport, JournalError
from ._schema import Part, Refusal
from ._sources import Source

OnProgress = Callable[[ImportProgress], object]
AtEnd = Callable[[], Awaitable[None]]

AHEAD = 2  # files: the one under way, and the next


class Delivery(Protocol):
    """The end that parts go to: a server, or a directory."""

    async def deliver(self, part: Part) -> None:
        """Do the next thing about it."""
        ...


class _Stopped(Exception):
    """Reading has failed: nothing more is sent. What it failed with is raised at the end."""


class Import:
    """Reading and uploading, side by side: the journal is all that they share."""

    def __init__(self, journal: Journal, rejected: RejectedFile, begun: float, on_progress: OnProgress | None) -> None:
        self._journal = journal
        self._rejected = rejected
        self._begun = begun
        self.on_progress = on_progress
        self._source: Source
        self._failure: Exception | None = None
        self._stop = anyio.Event()
        self._news = anyio.Event()

    async def run(self, source: Source, to: Delivery, at_end: AtEnd | None = None) -> ImportReport:
        """Go on until all is done; ``at_end`` is called before the journal forgets the profiles."""
        self._source = source
        await run_sync(self._rejected.clear, self._journal.progress)
        self.show_progress()
        try:
            await source.begin()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read)
                try:
                    await self._deliver(to)
                except _Stopped:
                    pass
                except Exception as error:  # whatever it is goes on its way below, not in an exception group
                    self._failure = self._failure or error
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await source.aclose()
        if self._failure is not None:
            raise self._failure
        if at_end is not None:
            await at_end()
        # Shown to people who import the file again, and compared with nothing.
        await run_sync(self._journal.finish, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
        self.show_progress()
        return await run_sync(report_of, self._journal, anyio.current_time() - self._begun)

    async def _read(self) -> None:
        try:
            while not self._journal.progress.all_read:
                news = self._news
                if await run_sync(self._journal.waiting) >= AHEAD:
                    await news.wait()
                    continue
                await self._source.step()
                self._wake()
                self.show_progress()
        except Exception as error:  # it is raised by `run`, when nothing is under way any more
            self._failure = error
            self._stop.set()
        self._wake()

    async def _deliver(self, to: Delivery) -> None:
        while True:
            self.check()
            news, all_read = self._news, self._journal.progress.all_read
            part = await run_sync(self._journal.first_part)
            if part is not None:
                await to.deliver(part)
                self._wake()
                self.show_progress()
            elif all_read:
                return
            else:
                await news.wait()

    def _wake(self) -> None:
        """Something has changed that others may wait for."""
        self._news.set()
        self._news = anyio.Event()

    # ── for the uploader ──

    def show_progress(self, job: Job | None = None, waiting_for: str | None = None) -> None:
        if self.on_progress is None:
            return
        now = self._journal.progress
        self.on_progress(
            ImportProgress(
                bytes_read=self._source.bytes_read,
                bytes_total=self._source.bytes_total,
                read=now.read,
                valid=now.valid,
                refused=now.refused,
                skipped=now.skipped,
                files=now.files,
                uploaded=now.uploaded,
                job=job,
                waiting_for=waiting_for,
                elapsed=anyio.current_time() - self._begun,
            )
        )

    def check(self) -> None:
        if self._failure is not None:
            raise _Stopped

    async def pause(self, seconds: float, why: str | None) -> None:
        if why is not None:
            self.show_progress(None, f"{why}; next try in {seconds:.0f} s")
        with anyio.move_on_after(seconds):
            await self._stop.wait()
        self.check()

    async def refusal(self, part: Part, reason: str, words: str = "") -> Refusal:
        number = await run_sync(self._journal.line_of, part)
        file, line = await run_sync(located_in, self._journal, number)
        raw, sent = await self._source.raw(number), (await run_sync(self._journal.content, part)).decode().rstrip("\n")
        if raw is None:
            return Refusal(line, "row", reason, sent, words, file=file)
        carried = json.loads(sent)["event_type"].startswith("identify")
        return Refusal(line, "row", reason, raw, words, sent if carried else "", file)

    async def refuse(self, part: Part, refusal: Refusal) -> None:
        await run_sync(self._journal.refuse, part, refusal, self._rejected.write)


def destination(api: UserpilotAPI | None, dry_run: str | os.PathLike[str] | None) -> UserpilotAPI | Path:
    """The server, or the directory of a dry run; raises `ValueError` if neither was named."""
    if dry_run is not None:
        return Path(dry_run)
    if api is None:
        raise ValueError("api is missing: only a dry run needs none")
    return api


def raise_if_off(to: UserpilotAPI | Path) -> None:
    """Raise for a client that is switched off: it would be waited for without end, as an outage is waited out."""
    if not isinstance(to, Path) and to.switch is not None:
        to.switch()


class Writer:
    """Writes what would be uploaded."""

    def __init__(self, directory: Path, journal: Journal) -> None:
        self._directory = directory
        self._journal = journal

    async def deliver(self, part: Part) -> None:
        await run_sync(self._write, part)

    def _write(self, part: Part) -> None:
        try:
            make_folders(self._directory)
            with open(rewrite(self._directory / self._journal.filename(part)), "wb") as file:
                file.write(self._journal.content(part))
        except OSError as error:
            raise JournalError(f"{self._directory} cannot be written: {error.strerror or error}") from error
        self._journal.written(part)
