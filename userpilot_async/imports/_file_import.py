"""The import of one file, or of several as one: its journal, the people and profiles to begin with, its lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
import attrs
from anyio.to_thread import run_sync

from .._errors.tree import InvalidCall
from .._runtime.private_files import is_there
from .._userpilot.api import UserpilotAPI
from ._checking import checked_lines
from ._containers import size_of
from ._conversion import Conversion
from ._cutting import Cutter
from ._file_list import starts_of
from ._files import File, Files, Location, beside, check_max_rows
from ._import import Import, Writer
from ._journal import Journal
from ._journal_access import SEVERAL_FILES, fresh, new_name
from ._journal_access import opened as opened_journal
from ._journal_of_several import OpenedJournal, check_alone, opened_for_several
from ._people import People
from ._rejected import RejectedFile
from ._report import AlreadyImported, ImportReport
from ._schema import About
from ._series import Series
from ._sources import BATCH_LINES, FileSource, fingerprint, fingerprints
from ._uploading import Uploader


@attrs.frozen
class FileImport:
    """The import of one file, or of several as one, as it was asked for."""

    path: Location
    to: UserpilotAPI | Path
    """The server, or the directory for upload files that are not sent."""
    conversion: Conversion = attrs.field(kw_only=True)
    rejected: Path = attrs.field(kw_only=True)
    journal: Path | None = attrs.field(kw_only=True)
    """The place that the caller has named for it."""
    max_rows: int = attrs.field(kw_only=True, validator=lambda _, __, value: check_max_rows(value))
    series: Series | None = attrs.field(kw_only=True)

    async def open_journal(self, *, force: bool, rebind: bool) -> OpenedJournal:
        """The journal, begun or gone on with; raises `ImportConflict` and `JournalError`."""
        files = self.path if isinstance(self.path, Files) else Files((self.path,))
        people = People() if self.series is None else self.series.people
        listed = await fingerprints(files) if self.path is files and not isinstance(self.to, Path) else []
        about = About(
            name=new_name(files.paths[0].name),
            source=SEVERAL_FILES if self.path is files else await fingerprint(files.paths[0]),
            converted_from=self.conversion.words,
            series="" if self.series is None else self.series.so_far,
            people=await people.digest(self.conversion, listed),
        )
        if isinstance(self.to, Path):
            return OpenedJournal(await run_sync(fresh, about), files)
        try:
            if self.path is files:
                return await opened_for_several(self.to, self.journal, about, files, listed, force=force, rebind=rebind)
            return OpenedJournal(await self._journal_of_one(self.to, files.paths[0], about, force, rebind), files)
        except AlreadyImported:
            if self.series is not None:
                self.series.pass_over(self.path, self.conversion, about.source)
            raise

    async def _journal_of_one(self, api: UserpilotAPI, path: File, about: About, force: bool, rebind: bool) -> Journal:
        place = self.journal or beside(path, ".import")
        if self.journal is None and isinstance(path, Path) and not force and not await run_sync(is_there, place):
            await run_sync(check_alone, path, about.source, api.reserve(0).keys, api.base_url)
        return await opened_journal(api, place, about, str(path), force=force, rebind=rebind)

    async def run(
        self, found: OpenedJournal, running: Import, refused: RejectedFile, series: Series | None, *, strict: bool
    ) -> ImportReport:
        """Read the file into the journal that was ``found``, and upload what is in it; the report, once all is done."""
        location = found.files if isinstance(self.path, Files) else self.path
        people = People() if series is None else series.people
        try:
            if series is not None:
                await self._catch_up(series, found)
            conversion = self.conversion
            if series is not None or not found.journal.progress.all_read:
                conversion = await people.joined(conversion, location, running.on_progress)
            return await self._run(location, conversion, found.journal, running, refused, series, strict=strict)
        finally:
            if series is None:
                with anyio.CancelScope(shield=True):
                    await run_sync(people.close)

    async def _catch_up(self, series: Series, found: OpenedJournal) -> None:
        """Have the series know what was imported before; in this order, by which an earlier run learnt who is who."""
        await series.catch_up()
        before = [path for path, _ in found.before]
        series.people.also([*before, *found.files.paths])
        for path in before:
            series.read_first(path, self.conversion)
        await series.catch_up()

    async def _run(
        self, location: Location, conversion: Conversion, opened: Journal, running: Import, refused: RejectedFile,
        series: Series | None, *, strict: bool,
    ) -> ImportReport:  # fmt: skip
        at_end = None if series is None else partial(series.learn, opened, opened.about.source)
        before = [] if series is None else [series.journal]
        if strict and not opened.progress.all_read:
            await self._check_rest(location, conversion, opened, before)
        cutter = Cutter(opened, refused, conversion, strict=strict, max_rows=self.max_rows, before=before)
        batch, total = min(BATCH_LINES, self.max_rows), await run_sync(size_of, location)
        source = FileSource(location, cutter, opened, batch, raw=conversion.tool is None, total=total)
        if isinstance(self.to, Path):
            return await running.run(source, Writer(self.to, opened), at_end)
        return await running.run(source, Uploader(self.to, opened, running), at_end)

    async def _check_rest(
        self, location: Location, conversion: Conversion, opened: Journal, before: Sequence[Journal]
    ) -> None:
        """Check the lines that the journal has not read yet; raises `InvalidRow`."""
        scratch = await run_sync(fresh, opened.about)
        before = [opened, *before]
        try:
            known = await run_sync(starts_of, opened)
            await checked_lines(
                location, conversion, opened.progress.line, known=known, into=scratch, before=before, strict=True
            )
        except InvalidCall:
            if opened.created:
                await run_sync(opened.discard)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(scratch.close)
