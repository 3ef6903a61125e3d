"""The records of a CSV file: its header checked, its cells made fields, and a bad record kept to its own line.

A header is the names in one physical line. A record may take several of them, where a cell is quoted.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import Any

from .._calls.ndjson import object_on
from .._calls.values import quoted
from .._errors.tree import InvalidCall
from ._physical_lines import MAX_LINE, SHOWN, UnreadableFile, not_utf8, shown, too_long

MAX_COLUMNS = 10_000  # of a CSV file; a row has 18 fields, and 500 properties
_PROPERTY = "metadata."


def cells_of(header: str, delimiter: str) -> list[str]:
    """The names in a header; none if it is not CSV."""
    try:
        return [name.strip() for name in next(csv.reader([header], delimiter=delimiter, strict=True), [])]
    except csv.Error:
        return []


def check_header(columns: list[str], *, cut: bool) -> None:
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


_COLUMNS_OF = {
    "Amplitude": ({"amplitude_id"}, {"$insert_id", "event_properties"}, {"Amplitude ID"}),
    "Mixpanel": ({"mp_lib"}, {"mp_processing_time_ms"}, {"$insert_id", "distinct_id"}, {"Event", "Distinct ID"},
                 {"Event Name", "Distinct ID"}, {"$distinct_id"}, {"event", "distinct_id", "time"}),
    "PostHog": ({"elements_chain"}, {"person_properties"}, {"event", "distinct_id", "timestamp"},
                {"event", "person", "timestamp"}, {"*", "event"}),
    "RudderStack": ({"context_ruddersdk"}, {"anonymous_id", "channel", "sent_at"}, {"rudder_id"}),
    "Segment": ({"anonymous_id", "received_at"}, {"anonymousId", "messageId"}, {"userId", "originalTimestamp"},
                {"user_id", "original_timestamp"}, {"uuid_ts"}),
}  # fmt: skip
"""Columns that only one tool's CSV exports have together; any of the sets is enough, and the first tool has it."""


def tool_of(columns: list[str]) -> str | None:
    """The tool whose CSV export has such a header; ``None`` if it is none that is known."""
    there = set(columns)
    for tool, sets in _COLUMNS_OF.items():
        if any(some <= there for some in sets):
            return tool
    return None


class Records(Iterator[str]):
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
            self._error = too_long()
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._error = self._error or not_utf8()
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
        return shown(line if len(line) <= MAX_LINE else line[:SHOWN])


class Columns:
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
