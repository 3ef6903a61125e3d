"""Where the lines of an import come from: a file, or rows made in Python."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from anyio.to_thread import run_sync

from .._errors.foreign import items_of, must_be, raised
from .._errors.tree import InvalidCall
from ._containers import files_in
from ._cutting import Cutter
from ._file_list import starts_of
from ._files import File, Files, ListedFile, Location
from ._journal import Journal
from ._reading import Line, Lines
from ._reading_several import lines_of
from ._remote import RemoteFile
from ._report import ImportConflict
from ._rows import IdentifyCompany, IdentifyUser, PageView, Row, TrackEvent

AnyRow = Row | Mapping[str, Any]
PathLike = str | os.PathLike[str]

BATCH_LINES = 2_000  # read, checked and written at once: one wait for the disk
BATCH_CHARACTERS = 4 * 1024 * 1024  # or as many lines as make these
BATCH_ROWS = 500  # of an iterable, which is asked in the loop's own thread
_HASHED = 32 * 1024 * 1024  # bytes at once, for the fingerprint: less than 0.1 s, in which no cancellation is heard


class Source(Protocol):
    """The origin of lines: a file, or an iterable."""

    @property
    def bytes_read(self) -> int: ...

    @property
    def bytes_total(self) -> int | None: ...

    async def begin(self) -> None:
        """Get to where the journal stands; `ImportConflict` if it is that of others."""
        ...

    async def step(self) -> None:
        """Put the next lines into the journal; the last time, say there that all is read."""
        ...

    async def raw(self, line: int) -> str | None:
        """A line as it was, if it is known."""
        ...

    async def aclose(self) -> None: ...


async def fingerprints(files: Files) -> list[ListedFile]:
    """Each of several files with its fingerprint, by its own place on the disk; raises `OSError`."""

    def name_of(path: File) -> str:
        return os.path.realpath(path) if isinstance(path, Path) else str(path)

    names = await run_sync(lambda: [name_of(path) for path in files.paths])
    return [ListedFile(name, await fingerprint(path)) for name, path in zip(names, files.paths, strict=True)]


async def fingerprint(path: File) -> str:
    """A text that tells a file or folder from others, and from itself when it has changed: of all its bytes.

    Raises `OSError`.

    Its time does not count, which a copy has not kept, nor a script that writes the same rows again.
    """
    digest = hashlib.sha256()
    if not await run_sync(path.is_dir):
        return f"{await _hash(path, digest)} bytes, {digest.hexdigest()}"
    size = 0
    for name, file in await run_sync(files_in, path):
        inner = hashlib.sha256()
        size += await _hash(file, inner)
        digest.update(f"{name}\n{inner.hexdigest()}\n".encode("utf-8", "surrogateescape"))
    return f"{size} bytes, {digest.hexdigest()}"


async def _hash(path: File, digest: hashlib._Hash) -> int:
    """Feed a file to the digest, some megabytes a time; gives its size in bytes."""
    if isinstance(path, RemoteFile) and (known := await run_sync(path.digest)) is not None:
        digest.update(known.encode())
        return await run_sync(path.size)
    size = 0

    def step() -> int:
        with path.open("rb") as file:
            file.seek(size)
            taken = file.read(_HASHED)
        digest.update(taken)
        return len(taken)

    while taken := await run_sync(step):
        size += taken
    return size


def batch_of(reading: Lines, most: int, up_to: int | None = None) -> tuple[list[Line], bool]:
    """The next lines, not beyond the one whose number is ``up_to``, and whether they are the last."""
    batch: list[Line] = []
    size = 0
    while True:
        try:
            line = reading.next_or_rest()
        except StopIteration:
            return batch, True
        if line is None:
            return batch, False
        batch.append(line)
        size += len(line.raw)
        if len(batch) >= most or line.number == up_to or size >= BATCH_CHARACTERS:
            return batch, False


class FileSource:
    """The lines of a file, or of several as if they were one."""

    def __init__(
        self, path: Location, cutter: Cutter, journal: Journal, batch: int, *, raw: bool, total: int = 0
    ) -> None:
        """``total`` is the size in bytes; with ``raw``, a line as it was can be looked up."""
        self._path = path
        self._cutter = cutter
        self._journal = journal
        self._batch = batch
        self._raw = raw
        self._reading: Lines | None = None
        self._again: Lines | None = None
        self._sought = 0
        self._found: Line | None = None
        self._busy = threading.Lock()  # a cancelled task does not wait for its thread
        self.bytes_total: int | None = total
        self.bytes_read = self.bytes_total if journal.progress.all_read else 0

    async def begin(self) -> None: ...

    async def step(self) -> None:
        await run_sync(self._step)

    def _step(self) -> None:
        with self._busy:
            if self._reading is None:
                known = starts_of(self._journal)
                self._reading = lines_of(self._path, skip=self._journal.progress.line, known=known)
            batch, last = batch_of(self._reading, self._batch)
            self.bytes_read = self._reading.bytes_read
            self._cutter.take(batch, all_read=last, starts=self._reading.starts)

    async def raw(self, line: int) -> str | None:
        """Not of another tool's export: one line of that may have made several rows, of which only one is meant.

        Lines that are asked for in order are found in one walk through the file.
        """
        while self._raw:
            arrived, found = await run_sync(self._walk_to, line)
            if arrived:
                return found
        return None

    def _walk_to(self, line: int) -> tuple[bool, str | None]:
        """Whether the walk has come to the line, and its text; some megabytes a time."""
        with self._busy:
            if self._found is None or self._found.number != line:
                passed = self._sought if self._found is None else max(self._sought, self._found.number)
                if self._again is None or line < passed:
                    self._close_again()
                    known = starts_of(self._journal) if isinstance(self._path, Files) else ()
                    self._again = lines_of(self._path, known=known)
                self._again.skip(line - 1)
                self._sought = line
                try:
                    found = self._again.next_or_rest()
                except (StopIteration, FileNotFoundError):  # of several, one that was read need not be there any more
                    self._close_again()
                    return True, None
                if found is None:
                    return False, None
                self._found = found
            return True, self._found.raw if self._found.number == line else None

    def _close_again(self) -> None:
        if self._again is not None:
            self._again.close()
        self._again, self._found, self._sought = None, None, 0

    async def aclose(self) -> None:
        await run_sync(self._close)

    def _close(self) -> None:
        with self._busy:
            self._close_again()
            if self._reading is not None:
                self._reading.close()


class RowsSource:
    """The rows of an iterable; with a journal that outlives the process (``known``), those it has are passed over."""

    bytes_read = 0
    bytes_total: int | None = None

    def __init__(
        self,
        rows: Iterable[AnyRow] | AsyncIterable[AnyRow],
        cutter: Cutter,
        journal: Journal,
        batch: int,
        *,
        known: bool,
    ) -> None:
        self._rows = rows
        self._next = _next_of(rows)
        self._cutter = cutter
        self._journal = journal
        self._batch = batch
        self._known = known
        self._number = 0

    async def begin(self) -> None:
        """Pass over what the journal has, before anything is sent."""
        there = self._journal.progress
        digest = ""
        while self._number < there.line:
            batch, last = await self._taken(min(self._batch, there.line - self._number))
            if last:
                raise self._conflict()
            digest = await run_sync(self._cutter.digest_of, digest, batch)
        if digest != there.digest or (there.all_read and (await self._taken(1))[0]):
            raise self._conflict()

    async def step(self) -> None:
        batch, last = await self._taken(self._batch)
        await run_sync(self._take, batch, last)

    async def _taken(self, most: int) -> tuple[list[Line], bool]:
        """The next rows, and whether they are the last."""
        batch: list[Line] = []
        while len(batch) < most:
            try:
                row = await self._next()
            except StopAsyncIteration:
                return batch, True
            self._number += 1
            batch.append(_line_of(self._number, row))
        return batch, False

    def _take(self, batch: list[Line], last: bool) -> None:
        digest = self._journal.progress.digest
        if self._known and batch:
            digest = self._cutter.digest_of(digest, batch)
        self._cutter.take(batch, all_read=last, digest=digest)

    def _conflict(self) -> ImportConflict:
        return ImportConflict(f"{self._journal.path} is the journal of an import of other rows")

    async def raw(self, line: int) -> str | None:
        return None

    async def aclose(self) -> None:
        """An async generator that was not asked to its end would keep what it has open, such as a cursor."""
        if isinstance(self._rows, AsyncGenerator):
            await self._rows.aclose()


def _next_of(rows: Iterable[AnyRow] | AsyncIterable[AnyRow]) -> Callable[[], Awaitable[object]]:
    """A function that gives the next row, or raises `StopAsyncIteration`."""
    if isinstance(rows, AsyncIterable):
        return aiter(rows).__anext__
    iterator = iter(rows)

    async def step() -> object:
        for row in iterator:
            return row
        raise StopAsyncIteration

    return step


def _line_of(number: int, row: object) -> Line:
    try:
        if issubclass(type(row), (IdentifyUser, IdentifyCompany, PageView, TrackEvent)):
            return Line(number, cast("Row", row).as_dict(), None, "")
        if isinstance(row, Mapping):
            return Line(number, dict(items_of(row)), None, "")
    except Exception as error:  # of the row's own methods
        return Line(number, None, raised("row", error), "")
    return Line(number, None, InvalidCall("row", must_be("a row or a mapping", row)), "")
