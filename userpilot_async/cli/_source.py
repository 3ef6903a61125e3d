"""Lines of a file or of stdin as they come, and a counter of bad lines."""

from __future__ import annotations

import asyncio
import gzip
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from .._errors.tree import InvalidCall

CHUNK = 65_536  # bytes; about 500 calls, and less than a pipe holds
MAX_LINE = 64 * 1024 * 1024  # bytes; 500 properties of 65,535 ASCII characters are half of it
SHOWN = 20  # bad lines that are printed; a file of the wrong format has as many as it has lines
KEPT = 1_000  # bad lines that the JSON report lists


class Unreadable(Exception):
    """The source broke off: a disk error, or a gzip file that is damaged or cut short. Or stdin is closed."""


class Source:
    """The lines of a file, of a gzip file by its name, or of stdin for ``-``; numbered from 1.

    Yields what there is without waiting for more, so that `tail -f … | userpilot-async send -` works. Raises
    `Unreadable` where there is no stdin, and `OSError`.
    """

    def __init__(self, path: str, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        # Unbuffered: a thread that hangs in a buffered stdin makes the interpreter abort when it leaves.
        if path == "-" and sys.stdin is None:  # what has been opened since may have its number
            raise Unreadable("stdin is closed: there is nothing to read")
        if path == "-":
            self._file: Any = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
            self._read: Callable[[int], bytes | None] = self._file.read
        elif Path(path).suffix == ".gz":
            self._file = gzip.open(path)  # noqa: SIM115
            self._read = self._file.read1
        else:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115
            self._read = self._file.read

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    async def lines(self) -> AsyncIterator[tuple[int, bytes]]:
        """(number, line); a line longer than ``max_line`` comes cut off, and so as no JSON. Raises `Unreadable`."""
        number, rest = 0, bytearray()
        while chunk := await _in_daemon_thread(self._next_chunk):
            *whole, tail = chunk.split(b"\n")
            for line in whole:
                number += 1
                yield number, bytes(rest) + line
                rest.clear()
            rest += tail[: self._max_line - len(rest)]
        if rest:
            yield number + 1, bytes(rest)

    def _next_chunk(self) -> bytes:
        try:
            chunk = self._read(CHUNK)
            if chunk is None:  # it would look like the end
                raise Unreadable("stdin does not block, so its end cannot be told from a pause")
            return chunk
        except (OSError, EOFError, zlib.error) as exc:
            raise Unreadable(f"the file breaks off: {exc}") from exc


async def _in_daemon_thread(read: Callable[[], bytes]) -> bytes:
    """Run ``read`` in a daemon thread, which no exit waits for; anyio's own would hang on a silent stdin."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bytes] = loop.create_future()

    def settle(chunk: bytes, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(chunk)

    def run() -> None:
        chunk, error = b"", None
        try:
            chunk = read()
        except Exception as exc:  # goes up where the chunk is waited for
            error = exc
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, chunk, error)

    threading.Thread(target=run, name="userpilot-async source", daemon=True).start()
    return await future


@attrs.frozen
class Rejection:
    """A line that is no call: where and why, never what."""

    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        where = "" if self.field == "line" else f"{self.field} "
        return f"line {self.line}: {where}{self.reason}"


@attrs.define
class Rejections:
    """Counter of bad lines: keeps the first `KEPT`, and prints the first `SHOWN` with ``show``, if that is given."""

    show: Callable[[str], object] | None = None
    count: int = 0
    kept: list[Rejection] = attrs.field(factory=list)

    def add(self, line: int, error: InvalidCall) -> None:
        """Count one more bad line, and print it if it is among the first."""
        rejection = Rejection(line, error.field, error.reason)
        self.count += 1
        if self.count <= KEPT:
            self.kept.append(rejection)
        if self.show is None:
            return
        if self.count <= SHOWN:
            self.show(str(rejection))
        elif self.count == SHOWN + 1:
            self.show("further bad lines are only counted")
