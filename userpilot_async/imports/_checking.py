"""A file's lines, checked and not sent."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import attrs
from anyio.to_thread import run_sync

from .._runtime.event_loop import in_thread
from ._carrying import carry, sort
from ._containers import size_of
from ._conversion import Conversion
from ._files import Location, Start
from ._import import OnProgress
from ._journal import Journal
from ._profiles import Profiles
from ._reading import Lines
from ._reading_several import lines_of
from ._rejected import RejectedFile, in_file, in_files
from ._report import FIRST_ERRORS, ImportProgress, ImportReport, InvalidRow
from ._schema import Progress, Refusal, counts_of
from ._sources import BATCH_LINES, batch_of


async def checked_lines(
    path: Location | Lines,
    conversion: Conversion,
    skip: int,
    *,
    known: Sequence[Start] = (),
    into: Journal,
    before: Sequence[Journal] = (),
    strict: bool = False,
    rejected: Path | None = None,
    on_progress: OnProgress | None = None,
) -> ImportReport:
    """Check the lines behind ``skip``; what is wrong with them is in the report, and in the file if there is one.

    The profiles go ``into`` a journal that is no import's; those that it begins with may be in others, ``before``.
    ``known``: where files begin, as far as they were read. Raises `UnreadableFile`, and `InvalidRow` for the first bad
    line, if it is to be ``strict``.
    """
    begun = anyio.current_time()
    total = None if isinstance(path, Lines) else await run_sync(size_of, path)
    found = Progress(max_bytes=0)
    file = RejectedFile(rejected)
    await run_sync(file.clear, found)
    profiles = Profiles(into.connection, *(journal.connection for journal in before))
    reading = path if isinstance(path, Lines) else await run_sync(lambda: lines_of(path, skip=skip, known=known))
    check = _Check(reading, conversion, strict, found, file, into, profiles)
    try:
        while True:
            last = await (in_thread(check.step) if isinstance(path, Lines) else run_sync(check.step))
            if on_progress is not None:
                on_progress(check.progress(total, anyio.current_time() - begun))
            if last:
                break
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(check.close)
    return check.report(anyio.current_time() - begun)


@attrs.define
class _Check:
    """A check that is under way; its steps run in threads, one at a time."""

    _reading: Lines
    _conversion: Conversion
    _strict: bool
    _found: Progress
    _file: RejectedFile
    _into: Journal
    _profiles: Profiles
    _errors: list[Refusal] = attrs.field(init=False, factory=list)
    _busy: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    """Held by a step: a cancelled task does not wait for its thread."""

    def step(self) -> bool:
        """Check the next lines; true if they were the last."""
        found = self._found
        with self._busy:
            batch, last = batch_of(self._reading, BATCH_LINES)
            refusals: list[Refusal] = []
            try:
                these = sort(batch, self._conversion, strict=self._strict)
                with self._into.change():
                    found.valid += sum(1 for _ in carry(found, these, self._profiles, refusals, strict=self._strict))
                    self._profiles.write()
            except BaseException as error:
                self._profiles.forget()
                if isinstance(error, InvalidRow):
                    raise in_file(error, self._reading.starts) from None
                raise
            refusals = in_files(refusals, self._reading.starts)
        found.refused += len(refusals)
        self._errors += refusals[: FIRST_ERRORS - len(self._errors)]
        self._file.write(found, refusals)
        return last

    def close(self) -> None:
        """Close the file that is read, once no step is under way."""
        with self._busy:
            self._reading.close()

    def progress(self, total: int | None, elapsed: float) -> ImportProgress:
        """How far the check is, of ``total`` bytes if these are known, after so many seconds."""
        found = self._found
        return ImportProgress(
            bytes_read=self._reading.bytes_read, bytes_total=total, read=found.read, valid=found.valid,
            refused=found.refused, skipped=found.skipped, elapsed=elapsed,
        )  # fmt: skip

    def report(self, elapsed: float) -> ImportReport:
        """The findings of a check that took so many seconds."""
        found = self._found
        return ImportReport(
            **counts_of(found), rejected=Path(found.rejected) if found.rejected else None,
            first_errors=tuple((one.line, one.field, one.reason) for one in self._errors),
            first_errors_in=tuple(one.file for one in self._errors) if any(one.file for one in self._errors) else (),
            elapsed=elapsed, complete=True,
        )  # fmt: skip
