"""Importing history: rows with the time at which they happened, from files or from Python, each row once.

    lines ──convert, check──▶ Cutter ──▶ Journal ──▶ Uploader ──▶ jobs        (`import_file`, `import_rows`)
    (a thread, one file ahead)                  (one file at a time)

Lines are read (`_reading`), converted from other tools' exports (`_conversion`, `converters`), maybe under the ids of
people whom anonymous ones became, learnt from all lines before (`_anonymous`, `_people`), changed by a map
(`_mapping`), checked (`_rows`), carried forward with what earlier rows said of their user (`_profiles`), each counted
as what became of it (`_carrying`), and cut into files (`_cutting`). The lines of several files are those of one import
(`_reading_several`, `_journal_of_several`). All that there is to know of an import is in its journal, one SQLite file
(`_journal`, `_pieces`): where it stands, what is still to upload, and what was asked of the server. Each step is one
transaction, so that a process that was killed between any two instructions leaves a journal that the next one goes on
with.

A part of the journal is one upload file. Its life is a `FileJob`; the uploader (`_uploading`) writes each turn of it
down before it acts on it:

    waiting ──sending──▶ in doubt ──taken──▶ running ──completed──▶ gone
       ▲  ▲                 │                   └──failed──▶ again under another name, then halves
       │  └─────refused─────┤  (halves; a single row goes to the rejected file)
       └──not in the list───┘

Bad rows are written to a file beside the source (`_rejected`), never dropped in silence; a line that has no row, and a
part of one that has no place in it, is counted by kind. Earlier and later is what the rows' own times say: a row that
comes behind younger ones of its person is sent with what was known at its time, and the latest state goes behind it.
`Series` carries profiles from one file of a history to the next. `check_file` and a dry run do all of it but the
sending.
"""

from __future__ import annotations

from ._conversion import Conversion
from ._fields import SOURCES, Source
from ._import import OnProgress
from ._importer import check_file, import_file, import_rows, journal_path, rejected_path
from ._importing_streams import check_stream, import_stream
from ._mapping import RowMapping
from ._mapping_file import InvalidMapping, mapping_from, mapping_of
from ._physical_lines import UnreadableFile
from ._reading import Line, Lines, lines
from ._report import AlreadyImported, ImportConflict, ImportProgress, ImportReport, InvalidRow, JournalError
from ._rows import IdentifyCompany, IdentifyUser, PageView, Row, TrackEvent, checked
from ._series import Series
from ._writing import write_csv, write_ndjson
from .converters._convert import CONVERTERS

__all__ = [
    "CONVERTERS",
    "SOURCES",
    "AlreadyImported",
    "Conversion",
    "IdentifyCompany",
    "IdentifyUser",
    "ImportConflict",
    "ImportProgress",
    "ImportReport",
    "InvalidMapping",
    "InvalidRow",
    "JournalError",
    "Line",
    "Lines",
    "OnProgress",
    "PageView",
    "Row",
    "RowMapping",
    "Series",
    "Source",
    "TrackEvent",
    "UnreadableFile",
    "check_file",
    "check_stream",
    "checked",
    "import_file",
    "import_rows",
    "import_stream",
    "journal_path",
    "lines",
    "mapping_from",
    "mapping_of",
    "rejected_path",
    "write_csv",
    "write_ndjson",
]
