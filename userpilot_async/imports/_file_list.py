"""The files of an import in its journal: which ones they are, and where each begins among the lines."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ._files import ListedFile, Start, located
from ._journal import Journal
from ._journal_file import insert_files


def files_of(journal: Journal) -> list[ListedFile]:
    """The files of an import of several, and of those before it, in their order."""
    return [ListedFile(*row) for row in journal.rows("SELECT name, fingerprint, imported FROM files ORDER BY number")]


def starts_of(journal: Journal) -> list[Start]:
    """The places where files begin whose lines are read as those of one, as far as these were read."""
    return [Start(*row) for row in journal.rows("SELECT before, name, file FROM starts ORDER BY number")]


def located_in(journal: Journal, number: int) -> tuple[str, int]:
    """The name of the file that a line is in, and its number there; no name where there is one file only."""
    return located(starts_of(journal), number)


def add_files(journal: Journal, files: Sequence[ListedFile]) -> None:
    """Have these read, too, behind the others."""
    with journal.change() as now:
        now.all_read = False
        insert_files(journal.connection, files)


def note_starts(connection: sqlite3.Connection, starts: Sequence[Start]) -> None:
    """Remember all of ``starts`` that are not known yet. Inside of a transaction."""
    there = connection.execute("SELECT count(*) FROM starts").fetchone()[0]
    connection.executemany(
        "INSERT INTO starts (before, name, file) VALUES (?, ?, ?)",
        [(start.before, start.name, start.file) for start in starts[there:]],
    )
