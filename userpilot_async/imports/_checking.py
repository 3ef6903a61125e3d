"""A file's lines, checked and not sent."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from ._cutting import Convert, sort
from ._import import OnProgress
from ._reading import lines
from ._rejected import RejectedFile
from ._report import FIRST_ERRORS, ImportProgress, ImportReport
from ._schema import Progress
from ._sources import BATCH_LINES, batch_of


async def checked_lines(
    path: Path,
    convert: Convert | None,
    skip: int,
    *,
    strict: bool,
    rejected: Path | None = None,
    on_progress: OnProgress | None = None,
) -> ImportReport:
    """Check the lines behind ``skip``; what is wrong with them is in the report, and in the file if there is one."""
    begun = anyio.current_time()
    total = (await run_sync(path.stat)).st_size
    file = RejectedFile(rejected)
    found = Progress(max_bytes=0)
    errors: list[tuple[int, str, str]] = []
    await run_sync(file.clear, found)
    reading = await run_sync(lambda: lines(path, skip=skip))

    busy = threading.Lock()  # a cancelled task does not wait for its thread

    def step() -> bool:
        with busy:
            batch, last = batch_of(reading, BATCH_LINES)
        these = sort(batch, convert, strict=strict)
        found.read += len(batch)
        found.valid += len(these.rows)
        found.refused += len(these.refusals)
        errors.extend((one.line, one.field, one.reason) for one in these.refusals[: FIRST_ERRORS - len(errors)])
        file.write(found, these.refusals)
        return last

    def close() -> None:
        with busy:
            reading.close()

    try:
        while True:
            last = await run_sync(step)
            if on_progress is not None:
                on_progress(
                    ImportProgress(
                        bytes_read=reading.bytes_read,
                        bytes_total=total,
                        read=found.read,
                        valid=found.valid,
                        refused=found.refused,
                        elapsed=anyio.current_time() - begun,
                    )
                )
            if last:
                break
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(close)
    return ImportReport(
        read=found.read,
        valid=found.valid,
        refused=found.refused,
        rejected=Path(found.rejected) if found.rejected else None,
        first_errors=tuple(errors),
        elapsed=anyio.current_time() - begun,
        complete=True,
    )
