"""A file's lines, checked and not sent."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from .._errors.tree import InvalidCall
from ._cutting import Convert, Sorted, refusal_of, sort
from ._import import OnProgress
from ._journal import Journal
from ._profiles import Profiles
from ._reading import lines
from ._rejected import RejectedFile
from ._report import FIRST_ERRORS, ImportProgress, ImportReport
from ._schema import Progress, Refusal
from ._sources import BATCH_LINES, batch_of


async def checked_lines(
    path: Path,
    convert: Convert | None,
    skip: int,
    *,
    into: Journal,
    before: Sequence[Journal] = (),
    strict: bool = False,
    rejected: Path | None = None,
    on_progress: OnProgress | None = None,
) -> ImportReport:
    """Check the lines behind ``skip``; what is wrong with them is in the report, and in the file if there is one.

    The profiles go ``into`` a journal that is nobody's import; those that it begins with may be in others, ``before``.
    """
    begun = anyio.current_time()
    total = (await run_sync(path.stat)).st_size
    file = RejectedFile(rejected)
    found = Progress(max_bytes=0)
    errors: list[tuple[int, str, str]] = []
    profiles = Profiles(into.connection, *(journal.connection for journal in before))
    await run_sync(file.clear, found)
    reading = await run_sync(lambda: lines(path, skip=skip))

    busy = threading.Lock()  # a cancelled task does not wait for its thread

    def step() -> bool:
        with busy:
            batch, last = batch_of(reading, BATCH_LINES)
            these = sort(batch, convert, strict=strict)
            refusals = these.refusals + _uncarried(these, into, profiles, strict)
        refusals.sort(key=lambda refusal: refusal.line)
        found.read += len(batch)
        found.valid += len(these.rows) - (len(refusals) - len(these.refusals))
        found.refused += len(refusals)
        errors.extend((one.line, one.field, one.reason) for one in refusals[: FIRST_ERRORS - len(errors)])
        file.write(found, refusals)
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


def _uncarried(these: Sorted, into: Journal, profiles: Profiles, strict: bool) -> list[Refusal]:
    """The rows that are bad with what is known from earlier ones."""
    refusals: list[Refusal] = []
    try:
        with into.change():
            for line, row in these.rows:
                try:
                    profiles.carried(row)
                except InvalidCall as error:
                    refusals.append(refusal_of(line, error, strict))
            profiles.write()
    finally:
        profiles.forget()
    return refusals
