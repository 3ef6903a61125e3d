"""Import files: their lines one after the other, whatever is wrong with some of them.

NDJSON, one JSON object a line, or CSV with a header that names the fields (`_csv_records`); which, the first line says.
Memory is that of a line (`_physical_lines`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from os import PathLike
from typing import Any, Literal

import attrs

from .._calls.ndjson import object_on
from .._errors.tree import InvalidCall
from ._containers import Position, Streams, is_container, opened
from ._csv_records import Columns, Records, cells_of, check_header, tool_of
from ._files import File as OneFile
from ._files import Start, file_of
from ._physical_lines import (
    MAX_LINE,
    REST,
    SHOWN,
    EmptyFile,
    UnreadableFile,
    not_utf8,
    physical_lines,
    shown,
    too_long,
)

Format = Literal["ndjson", "csv"]
File = str | PathLike[str]

DELIMITERS = ",;\t"  # ";" is what spreadsheets write where numbers have a comma

MOST_BLANK = 4 * 1024 * 1024  # bytes of blank lines before the first one; no tool writes any


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

    def __init__(self, path: OneFile, skip: int, delimiter: str | None, before: int = 0) -> None:
        """``before``: how many lines of other files are counted before those of this one."""
        self._path = path
        self._file: Position | None = None
        self._end = 0
        self._skip = skip
        self.starts: list[Start] = []
        """Where the files of an archive or a folder begin, as far as they were read; none for a plain file."""
        self.passed = before
        """The number of the last line, once there are no more."""
        self._lines = self._objects() if delimiter is None else self._records(delimiter)

    def __next__(self) -> Line:
        while (line := next(self._lines)) is None:
            pass
        return line

    def next_or_rest(self) -> Line | None:
        """The next line; ``None`` after many bytes without one, so that the caller can be stopped meanwhile."""
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
    def _streams(self) -> Generator[Streams]:
        with opened(self._path) as (file, streams):
            self._file = file
            try:
                yield streams
            finally:
                self._end, self._file = file.tell(), None

    def _objects(self) -> Generator[Line | None]:
        """Lines of NDJSON, each an object."""
        with self._streams() as streams:
            for name, stream in streams:
                if name:
                    self.starts.append(Start(self.passed, name))
                yield from self._objects_in(stream)

    def _objects_in(self, stream: io.BufferedReader) -> Generator[Line | None]:
        number, silent = self.passed, 0
        for line in physical_lines(stream):
            number += bool(line)
            if number <= self._skip or not line or line.isspace():
                silent += len(line) or REST
                if silent >= REST:
                    silent = 0
                    yield None
                continue
            silent = 0
            if len(line) > MAX_LINE and len(line.rstrip(b"\r\n")) > MAX_LINE:
                yield Line(number, None, too_long(), shown(line[:SHOWN]))
                continue
            try:
                text = line.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                yield Line(number, None, not_utf8(), shown(line))
                continue
            try:
                fields = object_on(text)
            except InvalidCall as error:
                yield Line(number, None, error, text)
                continue
            yield Line(number, fields, None, text)
        self.passed = number

    def _records(self, delimiter: str) -> Generator[Line | None]:
        """Records of CSV, each a row."""
        # For the process, and only ever upwards: there is no limit for one reader, and a metadata cell can be long.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
        with self._streams() as streams:
            records = Records(chain.from_iterable(physical_lines(stream) for _, stream in streams))
            columns: Columns | None = None
            silent, before = 0, self.passed
            while True:
                cells, error = records.record(delimiter)
                if not records.lines:
                    self.passed = before + records.number - 1
                    return
                if columns is None:
                    if cells:
                        columns = Columns(cells)
                    continue
                number = before + records.number
                if number <= self._skip or (error is None and not cells):
                    silent += records.size
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
                yield Line(number, fields, error, records.raw())


def lines(path: File | OneFile, *, skip: int = 0, format: Format | None = None, before: int = 0) -> Lines:
    """The lines of an import file, bad ones included, blank ones left out.

    What is no import file is refused here, before the first line: `UnreadableFile`. So is one whose gzip breaks off,
    when that is reached. ``skip``: lines up to and including this number are passed over. ``format``: by the first
    line, unless given. ``before``: lines of other files that are counted before those of this one. A file that is not
    there is an `OSError`.

    A CSV file's header names the fields. A cell of ``metadata`` holds a JSON object, one of ``metadata.plan`` the
    property ``plan``, as text. An empty cell is no value.
    """
    file = file_of(path)
    return Lines(file, skip, _delimiter_of(file, format), before)


def _delimiter_of(path: OneFile, format: Format | None) -> str | None:
    """The character between cells, for CSV; ``None`` for NDJSON. Raises `UnreadableFile` for neither."""
    with opened(path) as (_, streams):
        physical = chain.from_iterable(physical_lines(stream) for _, stream in streams)
        delimiter = delimiter_in(physical, format)
    if delimiter is not None and is_container(path):
        raise UnreadableFile("CSV files in an archive or a folder are not read: unpack it, and name each file")
    return delimiter


def delimiter_in(physical: Iterator[bytes], format: Format | None = None) -> str | None:
    """As `_delimiter_of`, of the lines of a file."""
    first, blank = b"", 0
    for first in physical:
        if first and not first.isspace():
            break
        first, blank = b"", blank + (len(first) or REST)
        if blank > MOST_BLANK:
            raise UnreadableFile(f"the file begins with more than {MOST_BLANK:,} bytes of blank lines")
    if not first:
        raise EmptyFile("the file is empty")
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
            columns = cells_of(text, delimiter)
            tool = tool_of(columns)
            if tool is not None:
                raise UnreadableFile(
                    f"the file looks like a CSV export of {tool}: only exports as JSON lines are converted, and a CSV "
                    "file of import rows has a column event_type"
                )
            if "event_type" in columns:
                check_header(columns, cut=len(first) > MAX_LINE)
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
