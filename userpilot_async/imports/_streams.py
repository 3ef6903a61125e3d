"""A stream that can be read once, such as standard input: its lines, and how it is known again after an interruption.

A stream has no place beside which a journal could lie, and cannot be read a second time to be told from others. So its
import goes on where it stopped when it is given the same bytes from the beginning: the journal has a digest of all
lines that it knows, and a stream with another one is refused before anything more is sent.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from anyio.to_thread import run_sync

from .._runtime.event_loop import in_thread
from ._containers import GZIP, PARQUET, ZIP, Streams, broken_off, without_mark
from ._cutting import Cutter
from ._journal import Journal
from ._physical_lines import MAX_LINE, UnreadableFile, physical_lines
from ._reading import MOST_BLANK, Line, Lines, delimiter_in
from ._report import ImportConflict
from ._sources import batch_of

_BUFFER = 256 * 1024  # bytes
_HEAD = MOST_BLANK + MAX_LINE + 16  # bytes that are held, whose first line shows what the stream is


class LinesOfStream(Lines):
    """The lines of a stream, plain or packed with gzip; there is one of them for a stream."""

    def __init__(self, stream: BinaryIO) -> None:
        """Read the first lines, for what they are; raises `UnreadableFile`."""
        self._counted = _Counted(stream)
        packed = io.BufferedReader(self._counted, _BUFFER)
        begins = packed.peek(len(PARQUET))
        if begins.startswith((ZIP, PARQUET)):
            raise UnreadableFile("an archive cannot be read from a stream: save it as a file, and name that")
        inner: Any = gzip.GzipFile(fileobj=packed, mode="rb") if begins.startswith(GZIP) else packed
        with broken_off():
            head = inner.read(_HEAD)
        first = [line for line in physical_lines(_text(io.BytesIO(head))) if line.strip()][:1]
        super().__init__(cast("Any", None), 0, delimiter_in(iter([*first])))
        self._text = _text(_Joined(head, inner))
        self.digest: str = hashlib.sha256(first[0]).hexdigest()
        """The digest of a stream of which no line was taken: its first one says what the others are."""

    @property
    def bytes_read(self) -> int:
        """Bytes of the stream so far, packed if it is gzip."""
        return self._counted.count

    @contextmanager
    def _streams(self) -> Generator[Streams]:
        with broken_off():
            yield iter([("", self._text)])


class StreamSource:
    """The lines of a stream; those that the journal has are passed over, if they are the same."""

    bytes_total: int | None = None

    def __init__(self, reading: LinesOfStream, cutter: Cutter, journal: Journal, batch: int) -> None:
        self._reading = reading
        self._cutter = cutter
        self._journal = journal
        self._batch = batch
        self._digest = reading.digest

    @property
    def bytes_read(self) -> int:
        """Bytes of the stream so far, packed if it is gzip."""
        return self._reading.bytes_read

    async def begin(self) -> None:
        """Pass over what the journal has, before anything is sent; raises `ImportConflict` if that is another."""
        await pass_over(self._reading, self._journal)
        self._digest = self._journal.progress.digest or self._digest

    async def step(self) -> None:
        """Put the next lines into the journal, and wait for them as long as it takes."""
        batch, last = await _batch_of(self._reading, self._batch)
        self._digest = await run_sync(_digest_of, self._digest, batch)
        await run_sync(lambda: self._cutter.take(batch, all_read=last, digest=self._digest))

    async def raw(self, line: int) -> str | None:
        """No line of a stream can be looked up again."""
        return None

    async def aclose(self) -> None:
        """Leave the stream open: a thread may wait for its next bytes."""


async def pass_over(reading: LinesOfStream, journal: Journal) -> None:
    """Read as far as the journal knows the lines; raises `ImportConflict` if its own were others."""
    there, digest, line = journal.progress, reading.digest, 0
    last = False
    while line < there.line and not last:
        batch, last = await _batch_of(reading, 1_000, up_to=there.line)
        digest = await run_sync(_digest_of, digest, batch)
        line = batch[-1].number if batch else line
    if there.line and (line, digest) != (there.line, there.digest):
        raise _other(journal, f"its first {there.line:,} lines are not the ones that it was begun with")
    if there.all_read and (await _batch_of(reading, 1))[0]:
        raise _other(journal, f"it goes on after line {there.line:,}, with which the other one ended")


def _other(journal: Journal, why: str) -> ImportConflict:
    over = journal.progress.finished
    state = f"that was imported on {over}" if over else "whose import is not complete"
    return ImportConflict(
        f"{journal.path} is the journal of a stream {state}, and this is another stream: {why}. Give it "
        "the same bytes again, or name another journal"
    )


async def _batch_of(reading: LinesOfStream, most: int, up_to: int | None = None) -> tuple[list[Line], bool]:
    """The next lines, whose number is not over ``up_to``, and whether they are the last."""

    def step() -> tuple[list[Line], bool]:
        return batch_of(reading, most, up_to)

    return await in_thread(step)  # which nobody waits for: a pipe may be silent for ever, and Ctrl-C ends this


def _digest_of(before: str, lines: Sequence[Line]) -> str:
    """The digest of all lines so far, however they are cut into batches."""
    digest = before
    for line in lines:
        content = f"{digest}\n{line.number}\n{line.raw}".encode("utf-8", "backslashreplace")
        digest = hashlib.sha256(content).hexdigest()
    return digest


def _text(stream: Any) -> io.BufferedReader:
    return without_mark(io.BufferedReader(stream, _BUFFER))


class _Counted(io.RawIOBase):
    """A stream that counts its bytes; it is left open."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = self._stream.read(len(buffer)) or b""
        buffer[: len(taken)] = taken
        self.count += len(taken)
        return len(taken)


class _Joined(io.RawIOBase):
    """Bytes that were read already, and then the rest of the stream."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        taken = taken or self._rest.read1(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)
