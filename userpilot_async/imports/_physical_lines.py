"""The physical lines of a stream, none longer than memory should hold.

Of a line over the limit only the beginning is given out, and reading rests now and then, so that a file without line
ends costs no memory, and no patience of those who ask it to stop.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from .._errors.tree import InvalidCall, UserpilotError

MAX_LINE = 1024 * 1024  # bytes; an event has at most 10 KB, and users with 500 properties of 2 KB each are not found
SHOWN = 1_000  # bytes that are kept of a line over the limit
REST = 4 * 1024 * 1024  # bytes without a line to give out, after which reading takes a rest: 0.1 s of blank lines or so


class UnreadableFile(UserpilotError):
    """No import file at all, or one that breaks off: the text says which."""


class EmptyFile(UnreadableFile):
    """A file without a line that has something on it."""


def physical_lines(stream: io.BufferedReader) -> Iterator[bytes]:
    """The lines with their ends; a longer one than `MAX_LINE` is cut off, but still longer than that.

    While the rest of such a line is passed over, an empty one is given out every `REST` bytes.
    """
    longest = MAX_LINE + len(b"\r\n")
    while line := stream.readline(longest):
        yield line
        passed = 0
        while len(line) == longest and not line.endswith(b"\n"):
            line = stream.readline(longest)
            passed += len(line)
            if passed >= REST:
                passed = 0
                yield b""


def too_long() -> InvalidCall:
    """The error of a line over the limit."""
    return InvalidCall("line", f"has more than {MAX_LINE:,} bytes")


def not_utf8() -> InvalidCall:
    """The error of a line that cannot be decoded."""
    return InvalidCall("line", "is not UTF-8")


def shown(line: bytes) -> str:
    """The text of a line without its end, for the rejected file: bytes that are no UTF-8 as ``\\xff``."""
    return line.rstrip(b"\r\n").decode(errors="backslashreplace")
