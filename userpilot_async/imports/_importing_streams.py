"""Importing a stream that can be read once, such as standard input."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import anyio
from anyio.to_thread import run_sync

from .._runtime.event_loop import in_thread
from .._userpilot.api import UserpilotAPI
from ._checking import checked_lines
from ._conversion import Conversion
from ._cutting import Cutter
from ._files import check_max_rows
from ._import import Import, OnProgress, Writer, destination, raise_if_off
from ._journal import Journal
from ._journal_access import STREAM, fresh, new_name, opened
from ._rejected import RejectedFile
from ._report import AlreadyImported, ImportReport
from ._schema import About
from ._sources import BATCH_LINES, PathLike
from ._streams import LinesOfStream, StreamSource, pass_over
from ._uploading import Uploader

MAX_ROWS = 100_000


async def import_stream(
    api: UserpilotAPI | None,
    stream: BinaryIO,
    *,
    journal: PathLike | None = None,
    converted_from: str | Conversion | None = None,
    rejected: PathLike | None = None,
    force: bool = False,
    rebind: bool = False,
    dry_run: PathLike | None = None,
    on_progress: OnProgress | None = None,
    max_rows: int = MAX_ROWS,
) -> ImportReport:
    """Import what a binary stream has, NDJSON or CSV, plain or gzip; else as `import_file`.

    A stream has no place of its own, so ``journal`` names where the progress is recorded; only a dry run needs none.
    After a crash the same call goes on if the stream has the same bytes again, from the beginning: other ones are an
    `ImportConflict`, and nothing of them is sent. Refused rows go to ``rejected``, or to ``<journal>.rejected.ndjson``.
    People cannot be joined, which takes two passes: `ValueError`. The stream is left open.
    """
    check_max_rows(max_rows)
    conversion = _once(converted_from)
    to = destination(api, dry_run)
    if journal is None and dry_run is None:
        raise ValueError("journal is missing: without one, nothing could go on after an interruption")
    raise_if_off(to)
    begun = anyio.current_time()
    place = None if dry_run is not None or journal is None else Path(journal)
    file = Path(rejected) if rejected is not None else place and place.with_name(f"{place.name}.rejected.ndjson")
    refused = RejectedFile(file)
    await run_sync(refused.check)
    reading = await in_thread(lambda: LinesOfStream(stream))
    into = await _opened(to, place, reading, conversion, force=force, rebind=rebind)
    try:
        running = Import(into, refused, begun, on_progress)
        cutter = Cutter(into, refused, conversion, strict=False, max_rows=max_rows)
        source = StreamSource(reading, cutter, into, min(BATCH_LINES, max_rows))
        delivery = Writer(to, into) if isinstance(to, Path) else Uploader(to, into, running)
        return await running.run(source, delivery)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(into.close)


async def check_stream(
    stream: BinaryIO,
    *,
    converted_from: str | Conversion | None = None,
    strict: bool = False,
    rejected: PathLike | None = None,
    on_progress: OnProgress | None = None,
) -> ImportReport:
    """Report what an import of the stream would find wrong, as `check_file` does of a file."""
    conversion = _once(converted_from)
    reading = await in_thread(lambda: LinesOfStream(stream))
    into = await run_sync(fresh, About(name="", source=""))
    try:
        return await checked_lines(
            reading, conversion, 0, into=into, strict=strict,
            rejected=None if rejected is None else Path(rejected), on_progress=on_progress,
        )  # fmt: skip
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(into.close)


def _once(converted_from: str | Conversion | None) -> Conversion:
    """The conversion, if it needs its lines only once; raises `ValueError`."""
    conversion = Conversion.of(converted_from)
    if conversion.anonymous == "join":
        raise ValueError("anonymous='join' reads all lines twice, and a stream can be read once: save it as a file")
    return conversion


async def _opened(
    to: UserpilotAPI | Path, place: Path | None, reading: LinesOfStream, conversion: Conversion,
    *, force: bool, rebind: bool,
) -> Journal:  # fmt: skip
    """The journal of the stream; `AlreadyImported` only if it is the same that was imported to its end."""
    about = About(name=new_name("stream"), source=STREAM, converted_from=conversion.words)
    if isinstance(to, Path) or place is None:
        return await run_sync(fresh, about)
    try:
        return await opened(to, place, about, "the stream", force=force, rebind=rebind)
    except AlreadyImported:
        journal = await run_sync(Journal, place)
        try:
            await run_sync(journal.load)
            await pass_over(reading, journal)
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(journal.close)
        raise
