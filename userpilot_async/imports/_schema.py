"""The tables in the journal of an import, and their rows as values."""

from __future__ import annotations

from typing import Any

import attrs

APPLICATION_ID = 0x55705F32  # "Up_2"
VERSION = 2

# parts: files to upload, or under way; a half's place sorts where the whole one was. pieces: the rows of a part, as
# they are uploaded, with the number of the line that each is of; halves share them. profiles: what is known of users
# and companies so far.
SCHEMA = """
CREATE TABLE about (one INTEGER PRIMARY KEY CHECK (one = 1), said TEXT NOT NULL);
CREATE TABLE progress (one INTEGER PRIMARY KEY CHECK (one = 1), said TEXT NOT NULL);
CREATE TABLE parts (
    place TEXT PRIMARY KEY, root INTEGER NOT NULL, first INTEGER NOT NULL, rows INTEGER NOT NULL, size INTEGER NOT NULL,
    again INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, sent INTEGER NOT NULL DEFAULT 0,
    answered INTEGER NOT NULL DEFAULT 0, running INTEGER NOT NULL DEFAULT 0, job_id TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE pieces (
    root INTEGER NOT NULL, number INTEGER NOT NULL, rows INTEGER NOT NULL, content BLOB NOT NULL, lines BLOB NOT NULL,
    PRIMARY KEY (root, number)
);
CREATE TABLE jobs (number INTEGER PRIMARY KEY, job_id TEXT NOT NULL);
CREATE TABLE errors (number INTEGER PRIMARY KEY, line INTEGER NOT NULL, field TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE profiles (
    kind TEXT NOT NULL, key TEXT NOT NULL, known TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""
# files: those of an import of several, also of earlier ones that this journal was of. starts: where files begin among
# the lines, those of an archive or a folder as well.
SINCE_VERSION_2 = """
CREATE TABLE files (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, fingerprint TEXT NOT NULL, imported TEXT NOT NULL DEFAULT ''
);
CREATE TABLE starts (
    number INTEGER PRIMARY KEY, before INTEGER NOT NULL, name TEXT NOT NULL, file INTEGER NOT NULL
);
ALTER TABLE errors ADD COLUMN file TEXT NOT NULL DEFAULT '';
"""
TABLES = ("about", "progress", "parts", "pieces", "jobs", "errors", "profiles", "starts")
"""The tables of one import; ``files`` outlives it."""


@attrs.frozen(kw_only=True)
class About:
    """The source and the account that a journal belongs to."""

    name: str
    """How the upload files are called, before their numbers: different for each import there ever is."""
    source: str
    """The fingerprint of the source, also of what it was before it changed."""
    converted_from: str | None = None
    server: str = ""
    salt: str = ""
    key: str = ""
    """The fingerprint of the API key."""
    series: str = ""
    """The fingerprint of the files before this one, whose profiles its rows carry on; empty if there are none."""
    people: str = ""
    """The fingerprint of all files that say who its anonymous people became; empty if it is this one alone."""


@attrs.define(kw_only=True)
class Progress:
    """The counts of an import, and where it stands."""

    line: int = 0
    """All lines up to this one are in the journal, or done with."""
    all_read: bool = False
    finished: str = ""
    """When it came to its end, for people."""
    root: int = 1
    """The part being filled, with its pieces, rows and bytes so far."""
    pieces: int = 0
    rows: int = 0
    size: int = 0
    max_bytes: int
    """Of a file; less than the documented limit after the server called one too large."""
    digest: str = ""
    """Of the rows taken from an iterable: they must be the same ones when it goes on."""
    read: int = 0
    valid: int = 0
    refused: int = 0
    files: int = 0
    uploaded: int = 0
    completed: int = 0
    unconfirmed: int = 0
    possible_duplicates: int = 0
    with_rows: int = 0
    """Lines that gave rows; with those that were skipped and those that were refused, all that were read."""
    skipped: int = 0
    lines_refused: int = 0
    skipped_by_kind: dict[str, int] = attrs.field(factory=dict)
    notes: dict[str, int] = attrs.field(factory=dict)
    out_of_order: int = 0
    out_of_order_by: float = 0.0
    """Seconds by which the latest of them came too late."""
    rejected: str = ""
    """The file of refused rows, and how much of it is written for good."""
    rejected_bytes: int = 0


def counts_of(progress: Progress) -> dict[str, Any]:
    """The fields of a report that say what became of the lines."""
    names = (
        "read", "valid", "refused", "with_rows", "skipped", "lines_refused", "skipped_by_kind", "notes", "out_of_order",
        "out_of_order_by",
    )  # fmt: skip
    return {name: getattr(progress, name) for name in names}


@attrs.frozen
class Part:
    """Rows that share an upload file."""

    place: str
    root: int
    first: int
    """The first row's place among those of the root, from 0."""
    rows: int
    size: int
    again: int
    """How often its file was given another name, because a job of the old one failed."""
    failures: int
    sent: int
    answered: int
    running: bool = attrs.field(converter=bool)
    job_id: str

    @property
    def in_doubt(self) -> bool:
        """The file was sent, or was about to be, and no answer was written down: the server may have it."""
        return self.sent > self.answered

    @property
    def whole(self) -> bool:
        """The part is not a half of another one."""
        return "." not in self.place


@attrs.frozen
class Refusal:
    """A row that is not uploaded."""

    line: int
    """The number of the line in its file."""
    field: str
    reason: str
    raw: str = attrs.field(repr=False)
    words: str = attrs.field(default="", repr=False)
    """The server's own, which may quote the row: for the rejected file only."""
    sent: str = attrs.field(default="", repr=False)
    """The row as it was sent, with what was carried into it; empty if it is the same."""
    file: str = ""
    """The file that the line is in, of several, or within an archive or a folder; empty if there is one only."""
