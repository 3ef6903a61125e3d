"""Importing history: files and rows, through the Import API, each row once.

lines ──▶ Cutter ──▶ Journal ──▶ Uploader ──▶ jobs
(a thread, one file ahead)       (one file at a time)
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Sequence
from functools import partial
from pathlib import Path

import anyio
import attrs
from anyio.to_thread import run_sync

from .._errors.tree import InvalidCall
from .._userpilot.api import UserpilotAPI
from ._checking import checked_lines
from ._conversion import Conversion
from ._cutting import Cutter
from ._import import Import, OnProgress, Writer
from ._journal import Journal
from ._journal_access import ROWS, fresh, new_name
from ._journal_access import opened as opened_journal
from ._people import People
from ._reading import lines
from ._rejected import RejectedFile
from ._report import AlreadyImported, ImportReport
from ._schema import About
from ._series import Series
from ._sources import BATCH_LINES, BATCH_ROWS, AnyRow, FileSource, PathLike, RowsSource, fingerprint
from ._uploading import Uploader

MAX_ROWS = 100_000  # a file: what the vendor allows in bulk files is a tenth of that; of imports it names no limit


def journal_path(path: PathLike) -> Path:
    """Where the journal of a file's import is by default: ``<file>.import``."""
    path = Path(path)
    return path.with_name(path.name + ".import")


def rejected_path(path: PathLike) -> Path:
    """Where the refused rows of a file go by default: ``<file>.rejected.ndjson``."""
    path = Path(path)
    return path.with_name(path.name + ".rejected.ndjson")


async def import_file(
    api: UserpilotAPI | None,
    path: PathLike,
    *,
    converted_from: str | Conversion | None = None,
    strict: bool = False,
    journal: PathLike | None = None,
    rejected: PathLike | None = None,
    force: bool = False,
    rebind: bool = False,
    dry_run: PathLike | None = None,
    on_progress: OnProgress | None = None,
    max_rows: int = MAX_ROWS,
    series: Series | None = None,
) -> ImportReport:
    """Import an NDJSON or CSV file, packed or not; the report, once every job is over.

    Whatever ends it (a crash, ``kill -9``, a cancellation), the same call goes on where it stopped: a journal beside
    the file (``<file>.import``, or ``journal``) knows. An outage costs time, not data; ``on_progress`` is called. The
    good rows are uploaded, and the bad ones written to ``<file>.rejected.ndjson`` (or ``rejected``), in the place of
    what an earlier import left there. With ``strict`` the file is checked first, and a bad row is an `InvalidRow`.

    ``converted_from`` names the tool whose export it is (`CONVERTERS`), or is a `Conversion`, which says more.
    ``force`` imports a file again, which doubles its events; an import that is not complete goes on. ``rebind`` goes on
    with another key, or at another URL. ``dry_run`` is a directory for the upload files: nothing is sent then, no
    journal is kept, no rejected file written unless ``rejected`` is given, and ``api`` may be ``None``. No upload file
    has more than ``max_rows`` rows, or 50 MB.

    Properties are carried forward within the file, and from those before it that were given the same ``series``.

    Raises `UnreadableFile`, `ImportConflict` (`AlreadyImported`), `JournalError`; `Rejected` as soon as the server
    takes no imports from this account (401, 402, 403), or takes none of a thousand files in a row; `JobFailed` if a
    hundred jobs in a row fail. The journal stays. A client that is switched off raises `Unavailable`, and makes none.
    """
    to = api if dry_run is None else Path(dry_run)
    if to is None:
        raise ValueError("api is missing: only a dry run needs none")
    work = _FileImport(
        Path(path),
        to,
        conversion=Conversion.of(converted_from),
        rejected=Path(rejected) if rejected is not None else rejected_path(path),
        journal=Path(journal) if journal is not None else journal_path(path),
        max_rows=max_rows,
        series=series,
    )
    _check_apart(work.rejected, work.path, work.journal)
    _check_max_rows(max_rows)
    begun = anyio.current_time()
    await run_sync(lambda: lines(work.path).close())
    if dry_run is None:
        _raise_if_off(api)
    refused = RejectedFile(None if dry_run is not None and rejected is None else work.rejected)
    await run_sync(refused.check)
    opened = await work.open_journal(force=force, rebind=rebind)
    try:
        return await work.run(opened, Import(opened, refused, begun, on_progress), refused, strict=strict)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(opened.close)


@attrs.frozen
class _FileImport:
    """The import of one file, as it was asked for."""

    path: Path
    to: UserpilotAPI | Path
    """The server, or the directory for upload files that are not sent."""
    conversion: Conversion = attrs.field(kw_only=True)
    rejected: Path = attrs.field(kw_only=True)
    journal: Path = attrs.field(kw_only=True)
    max_rows: int = attrs.field(kw_only=True)
    series: Series | None = attrs.field(kw_only=True)

    async def open_journal(self, *, force: bool, rebind: bool) -> Journal:
        """The file's journal, begun or gone on with; raises `ImportConflict` and `JournalError`."""
        about = About(
            name=new_name(self.path.name),
            source=await fingerprint(self.path),
            converted_from=self.conversion.words,
            series="" if self.series is None else self.series.so_far,
            people="" if self.series is None else await self.series.people.digest(self.conversion),
        )
        if isinstance(self.to, Path):
            return await run_sync(fresh, about)
        try:
            return await opened_journal(self.to, self.journal, about, str(self.path), force=force, rebind=rebind)
        except AlreadyImported:
            if self.series is not None:
                self.series.pass_over(self.path, self.conversion, about.source)
            raise

    async def run(self, opened: Journal, running: Import, refused: RejectedFile, *, strict: bool) -> ImportReport:
        """Read the file into the ``opened`` journal, and upload what is in it; the report, once all is done."""
        people = People() if self.series is None else self.series.people
        try:
            conversion = self.conversion
            if self.series is not None:
                await self.series.catch_up()  # in the order of the files, which may say in turn who somebody became
            if self.series is not None or not opened.progress.all_read:
                conversion = await people.joined(conversion, self.path, running.on_progress)
            return await self._run(conversion, opened, running, refused, strict=strict)
        finally:
            if self.series is None:
                with anyio.CancelScope(shield=True):
                    await run_sync(people.close)

    async def _run(
        self, conversion: Conversion, opened: Journal, running: Import, refused: RejectedFile, *, strict: bool
    ) -> ImportReport:
        at_end = None
        before = [] if self.series is None else [self.series.journal]
        if self.series is not None:
            at_end = partial(self.series.learn, opened, opened.about.source)
        if strict and not opened.progress.all_read:
            await self._check_rest(conversion, opened, before)
        cutter = Cutter(opened, refused, conversion, strict=strict, max_rows=self.max_rows, before=before)
        source = FileSource(self.path, cutter, opened, min(BATCH_LINES, self.max_rows), raw=conversion.convert is None)
        if isinstance(self.to, Path):
            return await running.run(source, Writer(self.to, opened), at_end)
        return await running.run(source, Uploader(self.to, opened, running), at_end)

    async def _check_rest(self, conversion: Conversion, opened: Journal, before: Sequence[Journal]) -> None:
        """Check the lines that the journal has not read yet; raises `InvalidRow`."""
        scratch = await run_sync(fresh, opened.about)
        before = [opened, *before]
        try:
            await checked_lines(self.path, conversion, opened.progress.line, into=scratch, before=before, strict=True)
        except InvalidCall:
            if opened.created:
                await run_sync(opened.discard)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(scratch.close)


async def import_rows(
    api: UserpilotAPI,
    rows: Iterable[AnyRow] | AsyncIterable[AnyRow],
    *,
    strict: bool = False,
    journal: PathLike | None = None,
    rebind: bool = False,
    on_progress: OnProgress | None = None,
    max_rows: int = MAX_ROWS,
) -> ImportReport:
    """Import rows, typed or plain mappings, from a sync or async iterable; else as `import_file`.

    A sync one is asked in the loop's own thread, so it should not wait long for its next row; an async generator is
    closed at the end, however that comes. Bad rows are counted, and the first 20 named in the report by their number,
    from 1. With ``strict`` the first one is an `InvalidRow`, but rows cannot be checked beforehand: files that were cut
    before it are at the server, and without a ``journal`` the next call would send them again.

    With a ``journal`` (a path) it goes on after a crash, if it is given the same rows again: those that it has already
    are passed over, and `ImportConflict` is raised if they are others. Without one, it begins anew.
    """
    if isinstance(rows, (str, bytes, os.PathLike)):
        raise TypeError(f"rows must be an iterable of rows, not {type(rows).__name__}: a path is for import_file")
    _check_max_rows(max_rows)
    _raise_if_off(api)
    begun = anyio.current_time()
    about = About(name=new_name("rows"), source=ROWS)
    if journal is None:
        opened = await run_sync(fresh, about)
    else:
        opened = await opened_journal(api, Path(journal), about, "this iterable of rows", rebind=rebind)
    nowhere = RejectedFile(None)
    running = Import(opened, nowhere, begun, on_progress)
    try:
        cutter = Cutter(opened, nowhere, Conversion(), strict=strict, max_rows=max_rows)
        source = RowsSource(rows, cutter, opened, min(BATCH_ROWS, max_rows), known=journal is not None)
        return await running.run(source, Uploader(api, opened, running))
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(opened.close)


async def check_file(
    path: PathLike,
    *,
    converted_from: str | Conversion | None = None,
    strict: bool = False,
    rejected: PathLike | None = None,
    on_progress: OnProgress | None = None,
    series: Series | None = None,
) -> ImportReport:
    """Report what an import of the file would find wrong; nothing is sent, and no journal written.

    The bad rows are written to ``rejected`` if it is given. Raises `UnreadableFile`, and `InvalidRow` if ``strict``.
    """
    path, file = Path(path), None if rejected is None else Path(rejected)
    if file is not None:
        _check_apart(file, path, journal_path(path))
    conversion = Conversion.of(converted_from)
    into = await run_sync(fresh, About(name="", source="")) if series is None else series.journal
    people = People() if series is None else series.people
    try:
        conversion = await people.joined(conversion, path, on_progress)
        return await checked_lines(
            path, conversion, 0, into=into, strict=strict, rejected=file, on_progress=on_progress
        )
    finally:
        if series is None:
            with anyio.CancelScope(shield=True):
                await run_sync(people.close)
                await run_sync(into.close)


def _raise_if_off(api: UserpilotAPI | None) -> None:
    """An outage is waited out; a client that is switched off would be waited for without end."""
    if api is not None and api.switch is not None:
        api.switch()


def _check_apart(rejected: Path, path: Path, journal: Path) -> None:
    if os.path.realpath(rejected) in {os.path.realpath(own) for own in (path, journal, f"{journal}-wal")}:
        raise ValueError("rejected must be another file than the one to import, and than its journal")


def _check_max_rows(max_rows: object) -> None:
    if type(max_rows) is not int or max_rows < 1:
        raise ValueError("max_rows must be an int above 0")
