"""Import files: their lines one after the other, whatever is wrong with some of them.

NDJSON, one JSON object a line, or CSV with a header that names the fields; gzip is unpacked. Memory is that of a line.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import attrs

from .._calls.ndjson import object_on
from .._calls.values import quoted
from .._errors.tree import InvalidCall, UserpilotError

Format = Literal["ndjson", "csv"]
File = str | PathLike[str]

MAX_LINE = 1024 * 1024  # bytes; an event has at most 10 KB, and users with 500 properties of 2 KB each are not found
SHOWN = 1_000  # bytes that are kept of a line over the limit
MAX_COLUMNS = 10_000  # of a CSV file; a row has 18 fields, and 500 properties
DELIMITERS = ",;\t"  # ";" is what spreadsheets write where numbers have a comma

REST = 4 * 1024 * 1024  # bytes without a line to give out, after which reading takes a rest: 0.1 s of blank lines or so
MOST_BLANK = 4 * 1024 * 1024  # bytes of blank lines before the first one; no tool writes any

_BUFFER = 256 * 1024  # bytes; reads of this size cost a file of a million lines nothing that can be measured
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_PROPERTY = "metadata."


class UnreadableFile(UserpilotError):
    """No import file at all, or one that breaks off: the text says which."""


@attrs.frozen
class Line:
    """A line of a file, or a record of a CSV file: its ``fields``, or the ``error`` for which it has none."""

    number: int
    """From 1; of a CSV record the line at which it begins."""
    fields: dict[str, Any] | None = attrs.field(repr=False)  # no log has what is in rows
    error: InvalidCall | None
    raw: str = attrs.field(repr=False)
    """The text without its line end, bytes that are no UTF-8 as ``\\xff``. Of a line over 1 MiB only how it begins."""


class Lines(Iterator[Line]):
    """The lines of a file, which is closed after the last of them, or by `close`."""

    def __init__(self, path: Path, skip: int, delimiter: str | None) -> None:
        self._path = path
        self._file: io.FileIO | None = None
        self._end = 0
        self._skip = skip
        self._lines = self._objects() if delimiter is None else self._records(delimiter)

    def __next__(self) -> Line:
        while (line := next(self._lines)) is None:
            pass
        return line

    def next_or_rest(self) -> Line | None:
        """The next line; ``None`` after many bytes without one, so that whoever waits can be asked to stop."""
        return next(self._lines)

    def skip(self, number: int) -> None:
        """Pass over the lines up to and including this number; those that were given out already stay so."""
        self._skip = number

    def close(self) -> None:
        """Let go of the file: there are no more lines."""
        self._lines.close()

    @property
    def bytes_read(self) -> int:
        """How far into the file reading has come, in bytes as they lie on the disk (packed, if it is gzip)."""
        return self._end if self._file is None else self._file.tell()

    @contextmanager
    def _stream(self) -> Generator[io.BufferedReader]:
        with _opened(self._path) as (file, stream):
            self._file = file
            try:
                yield stream
            finally:
                self._end, self._file = file.tell(), None

    def _objects(self) -> Generator[Line | None]:
        """Lines of NDJSON, each an object."""
        with self._stream() as stream:
            number = silent = 0
            for line in _physical(stream):
                number += bool(line)
                if number <= self._skip or not line or line.isspace():
                    silent += len(line) or REST
                    if silent >= REST:
                        silent = 0
                        yield None
                    continue
                silent = 0
                if len(line) > MAX_LINE and len(line.rstrip(b"\r\n")) > MAX_LINE:
                    yield Line(number, None, _too_long(), _shown(line[:SHOWN]))
                    continue
                try:
                    text = line.decode().rstrip("\r\n")
                except UnicodeDecodeError:
                    yield Line(number, None, _not_utf8(), _shown(line))
                    continue
                try:
                    fields = object_on(text)
                except InvalidCall as error:
                    yield Line(number, None, error, text)
                    continue
                yield Line(number, fields, None, text)

    def _records(self, delimiter: str) -> Generator[Line | None]:
        """Records of CSV, each a row."""
        # For the process, and only ever upwards: there is no limit for one reader, and a metadata cell can be long.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
        with self._stream() as stream:
            feed = _Feed(_physical(stream))
            columns: _Columns | None = None
            silent = 0
            while True:
                cells, error = feed.record(delimiter)
                if not feed.lines:
                    return
                if columns is None:
                    if cells:
                        columns = _Columns(cells)
                    continue
                if feed.number <= self._skip or (error is None and not cells):
                    silent += feed.size
                    if silent >= REST:
                        silent = 0
                        yield None
                    continue
                silent = 0
                fields: dict[str, Any] | None = None
                if error is None:
                    try:
                        fields = columns.fields(cells)
                    except InvalidCall as exc:
                        error = exc
                yield Line(feed.number, fields, error, feed.raw())


def lines(path: File, *, skip: int = 0, format: Format | None = None) -> Lines:
    """The lines of an import file, bad ones included, blank ones left out.

    What is no import file is refused here, before the first line: `UnreadableFile`. So is one whose gzip breaks off,
    when that is reached. ``skip``: lines up to and including this number are passed over. ``format``: by the first
    line, unless given. A file that is not there is an `OSError`.

    A CSV file's header names the fields. A cell of ``metadata`` holds a JSON object, one of ``metadata.plan`` the
    property ``plan``, as text. An empty cell is no value.
    """
    file = Path(path)
    return Lines(file, skip, _delimiter_of(file, format))


def _delimiter_of(path: Path, format: Format | None) -> str | None:
    """The character between cells, for CSV; ``None`` for NDJSON. Raises `UnreadableFile` for neither."""
    with _opened(path) as (_, stream):
        first, blank = b"", 0
        for first in _physical(stream):
            if first and not first.isspace():
                break
            first, blank = b"", blank + (len(first) or REST)
            if blank > MOST_BLANK:
                raise UnreadableFile(f"the file begins with more than {MOST_BLANK:,} bytes of blank lines")
    if not first:
        raise UnreadableFile("the file is empty")
    if b"\0" in first:
        raise UnreadableFile("the file is not text in UTF-8: it has zero bytes, as binary files and UTF-16 have")
    try:
        text = first.decode().strip()
    except UnicodeDecodeError:
        if len(first) <= MAX_LINE:  # a longer one is cut off, maybe within a character
            raise UnreadableFile("the file is not text in UTF-8") from None
        text = first.decode(errors="replace").strip()
    if format != "csv" and _begins_ndjson(text, cut=len(first) > MAX_LINE):
        return None
    if format != "ndjson":
        for delimiter in DELIMITERS:
            columns = _cells(text, delimiter)
            if "event_type" in columns:
                _check_header(columns, cut=len(first) > MAX_LINE)
                return delimiter
    if text.startswith("["):
        raise UnreadableFile("the file is a JSON array: write its objects one a line")
    raise UnreadableFile("the first line is neither a JSON object nor a CSV header with a column event_type")


def _begins_ndjson(first: str, *, cut: bool) -> bool:
    if not first.startswith("{"):
        return False
    if not cut:
        try:
            object_on(first)
        except InvalidCall:
            return False
    return True


def _cells(header: str, delimiter: str) -> list[str]:
    """The names in a header; none if it is not CSV."""
    try:
        return [name.strip() for name in next(csv.reader([header], delimiter=delimiter, strict=True), [])]
    except csv.Error:
        return []


def _check_header(columns: list[str], *, cut: bool) -> None:
    """Raise `UnreadableFile` for a header by which no record can be read."""
    if cut:
        raise UnreadableFile(f"the header has more than {MAX_LINE:,} bytes")
    if len(columns) > MAX_COLUMNS:
        raise UnreadableFile(f"the header has {len(columns):,} columns; the limit is {MAX_COLUMNS:,}")
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise UnreadableFile(f"the header has two columns {quoted(column)}")
        seen.add(column)


@contextmanager
def _opened(path: Path) -> Generator[tuple[io.FileIO, io.BufferedReader]]:
    """The file, and what is in it, unpacked and without a byte order mark."""
    with path.open("rb", buffering=0) as file:
        if not file.seekable():
            raise UnreadableFile("it must be a file that can be read again, not a pipe")
        packed = file.read(len(_GZIP)) == _GZIP  # by its first bytes: a browser may have unpacked a file named .gz
        file.seek(0)
        # GzipFile has the reading half of what RawIOBase is, which is all that is asked of it here.
        inner: Any = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
        with io.BufferedReader(inner, _BUFFER) as stream:
            try:
                if stream.peek(len(_BOM)).startswith(_BOM):
                    stream.read(len(_BOM))
                yield file, stream
            except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
                raise UnreadableFile(f"the file breaks off: {exc}") from exc


def _physical(stream: io.BufferedReader) -> Iterator[bytes]:
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


def _too_long() -> InvalidCall:
    return InvalidCall("line", f"has more than {MAX_LINE:,} bytes")


def _not_utf8() -> InvalidCall:
    return InvalidCall("line", "is not UTF-8")


def _shown(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode(errors="backslashreplace")


class _Feed(Iterator[str]):
    """Feeds a CSV reader the lines of one record, and takes back what a bad record should not have eaten.

    A quote that is never closed would otherwise make one record of all that follows.
    """

    def __init__(self, physical: Iterator[bytes]) -> None:
        self._physical = filter(None, physical)
        self._waiting: deque[bytes] = deque()
        self.lines: list[bytes] = []
        """Of the present record; none after the last."""
        self.number = 1
        """Of the first of them."""
        self.size = 0
        """Their bytes."""
        self._error: InvalidCall | None = None

    def __next__(self) -> str:
        if self.size > MAX_LINE:
            raise StopIteration
        line = self._waiting.popleft() if self._waiting else next(self._physical)
        self.lines.append(line)
        self.size += len(line)
        if self.size > MAX_LINE:
            self._error = _too_long()
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._error = self._error or _not_utf8()
            return line.decode(errors="replace")

    def record(self, delimiter: str) -> tuple[list[str], InvalidCall | None]:
        """The cells of the next record, or why it is none; of a bad one only the first line is used up."""
        self.number += len(self.lines)
        self.lines, self.size, self._error = [], 0, None
        try:
            cells = next(csv.reader(self, delimiter=delimiter, strict=True), [])
        except csv.Error as exc:
            cells, self._error = [], self._error or InvalidCall("line", f"is not CSV: {exc}")
        if self._error is not None:
            self._waiting.extendleft(reversed(self.lines[1:]))
            del self.lines[1:]
        return cells, self._error

    def raw(self) -> str:
        """The record as it stands in the file."""
        line = b"".join(self.lines)
        return _shown(line if len(line) <= MAX_LINE else line[:SHOWN])


class _Columns:
    """The columns of a CSV file, by what they hold."""

    def __init__(self, header: list[str]) -> None:
        self._names = [name.strip() for name in header]

    def fields(self, cells: list[str]) -> dict[str, Any]:
        """A record's fields; raises `InvalidCall`."""
        if len(cells) != len(self._names):
            raise InvalidCall("line", f"has {len(cells):,} cells, and the header {len(self._names):,}")
        fields: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        for name, cell in zip(self._names, cells, strict=True):
            if not cell:
                continue
            if name == "metadata":
                try:
                    properties = {**object_on(cell), **properties}
                except InvalidCall:
                    raise InvalidCall("metadata", "must be a JSON object") from None
            elif name.startswith(_PROPERTY):
                properties[name[len(_PROPERTY) :]] = cell
            else:
                fields[name] = cell
        if properties:
            fields["metadata"] = properties
        return fields
