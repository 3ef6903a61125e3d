"""Importing history: files and rows, through the Import API, each row once.

lines ──▶ Cutter ──▶ Journal ──▶ Uploader ──▶ jobs
(a thread, one file ahead)       (one file at a time)
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable
from pathlib import Path

import anyio
import attrs
from anyio.to_thread import run_sync

from .._userpilot.api import UserpilotAPI
from ._checking import checked_lines
from ._conversion import Conversion
from ._cutting import Cutter
from ._file_import import FileImport
from ._files import AnyLocation, Location, beside, check_max_rows, each, is_local, location_of
from ._import import Import, OnProgress, destination, raise_if_off
from ._journal_access import ROWS, fresh, new_name
from ._journal_access import opened as opened_journal
from ._people import People
from ._reading_several import check_kinds
from ._rejected import RejectedFile
from ._report import ImportReport
from ._schema import About
from ._series import Series
from ._sources import BATCH_ROWS, AnyRow, PathLike, RowsSource
from ._uploading import Uploader

MAX_ROWS = 100_000  # a file: what the vendor allows in bulk files is a tenth of that; of imports it names no limit


def journal_path(path: AnyLocation) -> Path:
    """Where the journal of a file's import is by default: ``<file>.import``; ``<first>.and-more.import`` of several."""
    return beside(location_of(path), ".import")


def rejected_path(path: AnyLocation) -> Path:
    """Where the refused rows of a file go by default: ``<file>.rejected.ndjson``; ``<first>.and-more.…`` of several."""
    return beside(location_of(path), ".rejected.ndjson")


async def import_file(
    api: UserpilotAPI | None,
    path: AnyLocation,
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
    """Import an NDJSON or CSV file, packed or not, or a list of them; the report, once every job is over.

    Whatever ends it (a crash, ``kill -9``, a cancellation), the same call goes on where it stopped: a journal beside
    the file (``<file>.import``, or ``journal``) knows. An outage costs time, not data; ``on_progress`` is called. The
    good rows are uploaded, and the bad ones written to ``<file>.rejected.ndjson`` (or ``rejected``), in the place of
    what an earlier import left there. With ``strict`` the file is checked first, and a bad row is an `InvalidRow`.

    ``converted_from`` names the tool whose export it is (`CONVERTERS`), or is a `Conversion`, which says more.
    ``force`` imports a file again, which doubles its events; an import that is not complete goes on. ``rebind`` goes on
    with another key, or at another URL. ``dry_run`` is a directory for the upload files: nothing is sent then, no
    journal is kept, no rejected file written unless ``rejected`` is given, and ``api`` may be ``None``. No upload file
    has more than ``max_rows`` rows, or 50 MB.

    Properties are carried forward within the file, and from those before it that were given the same ``series``. The
    rows of a list, the oldest file first, share uploads and one journal; files of it that were imported before are not
    sent again, and ``report.remarks`` says which were added, or taken away, since the import began.

    Raises `UnreadableFile`, `ImportConflict` (`AlreadyImported`), `JournalError`; `Rejected` as soon as the server
    takes no imports from this account (401, 402, 403), or takes none of a thousand files in a row; `JobFailed` if a
    hundred jobs in a row fail. The journal stays. A client that is switched off raises `Unavailable`, and makes none.
    """
    location, begun = location_of(path), anyio.current_time()
    work = FileImport(
        location, destination(api, dry_run), conversion=Conversion.of(converted_from),
        rejected=Path(rejected) if rejected is not None else _rejected_beside(location, journal, dry_run),
        journal=None if journal is None else Path(journal), max_rows=max_rows, series=series,
    )  # fmt: skip
    _check_apart(work.rejected, location, work.journal)
    remarks = await check_kinds(location)
    raise_if_off(work.to)
    refused = RejectedFile(None if dry_run is not None and rejected is None else work.rejected)
    await run_sync(refused.check)
    opened = await work.open_journal(force=force, rebind=rebind)
    own = Series() if opened.before and series is None and not opened.journal.progress.all_read else None
    try:
        running = Import(opened.journal, refused, begun, on_progress)
        report = await work.run(opened, running, refused, series or own, strict=strict)
        return attrs.evolve(report, remarks=(*remarks, *opened.remarks))
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(opened.journal.close)
            if own is not None:
                await run_sync(own.close)


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
    check_max_rows(max_rows)
    raise_if_off(api)
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
    path: AnyLocation,
    *,
    converted_from: str | Conversion | None = None,
    strict: bool = False,
    rejected: PathLike | None = None,
    on_progress: OnProgress | None = None,
    series: Series | None = None,
) -> ImportReport:
    """Report what an import of the file, or of a list of them, would find wrong; nothing is sent, no journal written.

    The bad rows are written to ``rejected`` if it is given. Raises `UnreadableFile`, and `InvalidRow` if ``strict``.
    """
    location, file = location_of(path), None if rejected is None else Path(rejected)
    if file is not None:
        _check_apart(file, location, None)
    remarks = await check_kinds(location)
    conversion = Conversion.of(converted_from)
    into = await run_sync(fresh, About(name="", source="")) if series is None else series.journal
    people = People() if series is None else series.people
    try:
        conversion = await people.joined(conversion, location, on_progress)
        report = await checked_lines(
            location, conversion, 0, into=into, strict=strict, rejected=file, on_progress=on_progress
        )
        return attrs.evolve(report, remarks=tuple(remarks))
    finally:
        if series is None:
            with anyio.CancelScope(shield=True):
                await run_sync(people.close)
                await run_sync(into.close)


def _rejected_beside(location: Location, journal: PathLike | None, dry_run: PathLike | None) -> Path:
    """Where refused rows go by default: beside the file, or beside the journal of what is in a bucket."""
    if is_local(location):
        return beside(location, ".rejected.ndjson")
    place = journal or dry_run
    if place is None:
        raise ValueError(f"journal is missing: nothing lies beside {location}, so name a place for it on this machine")
    return Path(place).with_name(f"{Path(place).name}.rejected.ndjson")


def _check_apart(rejected: Path, location: Location, journal: Path | None) -> None:
    journal = journal or (beside(location, ".import") if is_local(location) else None)
    own = [file for file in each(location) if isinstance(file, Path)]
    own += [] if journal is None else [journal, Path(f"{journal}-wal")]
    if os.path.realpath(rejected) in set(map(os.path.realpath, own)):
        raise ValueError("rejected must be another file than the one to import, and than its journal")
