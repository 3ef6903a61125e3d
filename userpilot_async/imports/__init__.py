"""Importing history: rows with the time at which they happened, from files or from Python."""

from __future__ import annotations

from ._import import OnProgress
from ._importer import check_file, import_file, import_rows, journal_path, rejected_path
from ._reading import Line, Lines, UnreadableFile, lines
from ._report import AlreadyImported, ImportConflict, ImportProgress, ImportReport, InvalidRow, JournalError
from ._rows import SOURCES, IdentifyCompany, IdentifyUser, PageView, Row, Source, TrackEvent, checked
from ._series import Series
from ._writing import write_csv, write_ndjson
from .converters._convert import CONVERTERS

__all__ = [
    "CONVERTERS",
    "SOURCES",
    "AlreadyImported",
    "IdentifyCompany",
    "IdentifyUser",
    "ImportConflict",
    "ImportProgress",
    "ImportReport",
    "InvalidRow",
    "JournalError",
    "Line",
    "Lines",
    "OnProgress",
    "PageView",
    "Row",
    "Series",
    "Source",
    "TrackEvent",
    "UnreadableFile",
    "check_file",
    "checked",
    "import_file",
    "import_rows",
    "journal_path",
    "lines",
    "rejected_path",
    "write_csv",
    "write_ndjson",
]
