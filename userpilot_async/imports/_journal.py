"""The journal of an import: where it stands, what is still to upload, and what was asked of the server.

One SQLite file. Whatever one step changes is one transaction, so that a process that is killed between any two
instructions leaves a journal that another one can go on with: nothing uploaded twice, nothing left out.

    line ──▶ piece of the part being filled ──▶ part ──sending──▶ in doubt ──200──▶ running ──completed──▶ gone
                                                  ▲                  │                 └──failed──▶ again, then halves
                                                  └──────refused─────┴──lost, or killed: searched for by its filename

A part is in doubt from before its request leaves until the answer is written down; the server's job list is
searched for its filename then. The connection holds SQLite's exclusive lock for as long as it is open: a second
process is refused, and the operating system takes the lock back from one that was killed.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from ._files import ListedFile
from ._journal_file import JournalFile, replace_files
from ._pieces import content_of, first_half, line_of
from ._report import FIRST_ERRORS, JournalError
from ._schema import TABLES, About, Part, Progress, Refusal


class Journal:
    """Safe to use from any thread; one thing at a time. Raises `JournalError` for what the machine does."""

    def __init__(self, path: Path | None) -> None:
        """Open the journal at ``path``; ``None`` is one that goes with the process, in a file without a name."""
        self.path = path
        self.about: About
        self.progress: Progress
        self._lock = threading.RLock()
        self._file = JournalFile(path)
        self._connection = self._file.connection
        self.created: bool = self._file.created
        """No import's journal was there."""

    def begin(self, about: About, max_bytes: int, files: Sequence[ListedFile] = ()) -> None:
        """Make it the journal of a new import, of ``files`` if it is one of several, and forget whatever there was.

        Of earlier imports only the files are known still, unless they are among these.
        """
        with self._lock, self._file.translated("written"), self._transaction():
            for table in TABLES:
                self._connection.execute(f"DELETE FROM {table}")
            replace_files(self._connection, files)
            progress = Progress(max_bytes=max_bytes)
            self._connection.execute("INSERT INTO about VALUES (1, ?)", (json.dumps(attrs.asdict(about)),))
            self._connection.execute("INSERT INTO progress VALUES (1, ?)", (json.dumps(attrs.asdict(progress)),))
        self.about, self.progress = about, progress

    def load(self) -> None:
        """Read where the import stands."""
        with self._lock, self._file.translated("read"):
            about, progress = (
                json.loads(self._connection.execute(f"SELECT said FROM {table}").fetchone()[0])
                for table in ("about", "progress")
            )
        self.about, self.progress = About(**about), Progress(**progress)

    def bind(self, about: About) -> None:
        """Write whose journal it is from now on, over what it said before, perhaps a hash to guess a key from."""
        with self.change():
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.execute("UPDATE about SET said = ?", (json.dumps(attrs.asdict(about)),))
        self.about = about

    def close(self) -> None:
        """Let go of the file. SQLite's log goes into it and is taken away."""
        with self._lock:
            self._file.close()

    def discard(self) -> None:
        """Take the file away: nothing has happened yet."""
        with self._lock:
            self._file.discard()

    # ── transactions ──

    @contextmanager
    def change(self) -> Iterator[Progress]:
        """A transaction: what is done to the progress that it gives out, and to the tables, happens or does not."""
        with self._lock, self._file.translated("written"):
            before = self.progress
            now = attrs.evolve(before, skipped_by_kind={**before.skipped_by_kind}, notes={**before.notes})
            with self._transaction():
                yield now
                self._connection.execute("UPDATE progress SET said = ?", (json.dumps(attrs.asdict(now)),))
            self.progress = now

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # ── filling parts: inside of `change` ──

    def write_piece(self, now: Progress, lines: list[bytes], numbers: array[int]) -> None:
        """Rows for the part being filled, and the lines that they are of."""
        if not lines:
            return
        content = b"".join(lines)
        self._connection.execute(
            "INSERT INTO pieces VALUES (?, ?, ?, ?, ?)", (now.root, now.pieces, len(lines), content, numbers.tobytes())
        )
        now.pieces += 1
        now.rows += len(lines)
        now.size += len(content)

    def seal(self, now: Progress) -> None:
        """The part being filled is full, if there is anything in it: it can be uploaded, and the next one begins."""
        if not now.rows:
            return
        self._insert(f"{now.root:06}", 0, now.rows, now.size, now.root)
        now.root, now.pieces, now.rows, now.size = now.root + 1, 0, 0, 0

    def _insert(self, place: str, first: int, rows: int, size: int, root: int, failures: int = 0) -> None:
        self._connection.execute(
            "INSERT INTO parts (place, root, first, rows, size, failures) VALUES (?, ?, ?, ?, ?, ?)",
            (place, root, first, rows, size, failures),
        )

    def note_errors(self, refusals: Sequence[Refusal]) -> None:
        """Remember the first few refusals, for the report."""
        there = self._connection.execute("SELECT count(*) FROM errors").fetchone()[0]
        for refusal in refusals[: FIRST_ERRORS - there]:
            self._connection.execute(
                "INSERT INTO errors (line, field, reason, file) VALUES (?, ?, ?, ?)",
                (refusal.line, refusal.field, refusal.reason, refusal.file),
            )

    @property
    def connection(self) -> sqlite3.Connection:
        """For the profiles, inside of `change`."""
        return self._connection

    # ── parts ──

    def first_part(self) -> Part | None:
        """The next one to do something about."""
        with self._lock, self._file.translated("read"):
            found = self._connection.execute("SELECT * FROM parts ORDER BY place LIMIT 1").fetchone()
        return None if found is None else Part(*found)

    def waiting(self) -> int:
        """How many files were cut and are not done with; halves count as the one that they were."""
        with self._lock, self._file.translated("read"):
            return int(self._connection.execute("SELECT count(DISTINCT root) FROM parts").fetchone()[0])

    def filename(self, part: Part) -> str:
        """The name to upload it under, and to find its job by."""
        return f"{self.about.name}-{part.place}{f'-{part.again}' if part.again else ''}.ndjson"

    def content(self, part: Part) -> bytes:
        """The rows of the part, as NDJSON."""
        with self._lock, self._file.translated("read"):
            return content_of(self._connection, part)

    def line_of(self, part: Part) -> int:
        """The number of the line that its first row is of."""
        with self._lock, self._file.translated("read"):
            number = line_of(self._connection, part)
        if number is None:
            raise JournalError(f"{self._file.name} has no rows of {part.place}")
        return number

    def sending(self, part: Part) -> None:
        """The part's request is about to leave: from here on the server may have it."""
        self._set(part, "sent = sent + 1")

    def answered(self, part: Part) -> None:
        """The server has said that it did not take it."""
        self._set(part, "answered = answered + 1")

    def not_found(self, part: Part) -> None:
        """The job list does not know it: it may be sent again, which may double it."""
        with self.change() as now:
            now.possible_duplicates += part.rows
            self._update(part, "answered = sent")

    def running(self, part: Part, job_id: str) -> None:
        """The server has taken it."""
        with self.change() as now:
            now.files += 1
            now.uploaded += part.rows
            self._update(part, "running = 1, answered = sent, job_id = ?", job_id)
            if job_id:
                self._connection.execute("INSERT INTO jobs (job_id) VALUES (?)", (job_id,))

    def completed(self, part: Part, rows: int) -> None:
        """The part's job is over, and has done so many ``rows`` by its own word: 0, if the server has forgotten it."""
        with self.change() as now:
            now.completed += rows
            now.unconfirmed += part.rows - rows
            self._drop(part)

    def written(self, part: Part) -> None:
        """The part's file was written, in a dry run."""
        with self.change() as now:
            now.files += 1
            self._drop(part)

    def once_more(self, part: Part) -> None:
        """The part's job has failed: another follows, under another name, because the list knows the old one."""
        with self.change() as now:
            now.uploaded -= part.rows
            now.possible_duplicates += part.rows
            self._update(part, "running = 0, job_id = '', failures = failures + 1, again = again + 1")

    def split(self, part: Part, *, by_bytes: bool = False, max_bytes: int | None = None) -> None:
        """Two halves in its place; ``max_bytes`` holds for files that are cut from now on."""
        sizes = [len(line) for line in self.content(part).splitlines(keepends=True)]
        rows = first_half(sizes) if by_bytes else part.rows // 2
        size = sum(sizes[:rows])
        with self.change() as now:
            if part.running:
                now.uploaded -= part.rows
                now.possible_duplicates += part.rows
            if max_bytes is not None:
                now.max_bytes = max_bytes
            self._connection.execute("DELETE FROM parts WHERE place = ?", (part.place,))
            # Of a file whose job failed twice, neither half is tried twice: that would double the number of jobs.
            known = (part.root, part.failures)
            self._insert(f"{part.place}.0", part.first, rows, size, *known)
            self._insert(f"{part.place}.1", part.first + rows, part.rows - rows, part.size - size, *known)

    def refuse(self, part: Part, refusal: Refusal, write: Callable[[Progress, Sequence[Refusal]], object]) -> None:
        """The part is a row that the server will not have; ``write`` puts the refusal into the rejected file."""
        with self.change() as now:
            if part.running:
                now.uploaded -= part.rows
            now.valid -= part.rows
            now.refused += part.rows
            self.note_errors([refusal])
            write(now, [refusal])
            self._drop(part)

    def finish(self, when: str) -> None:
        """The import is done: what is left of the journal says since ``when``, for people, and is small."""
        with self.change() as now:
            now.finished = when
            self._connection.execute("UPDATE files SET imported = ? WHERE imported = ''", (when,))
            for table in ("parts", "pieces", "profiles", "starts"):
                self._connection.execute(f"DELETE FROM {table}")
        with self._lock, suppress(sqlite3.Error):  # a full disk: then it is not small
            self._connection.execute("VACUUM")

    def jobs(self) -> tuple[str, ...]:
        """The ids of all jobs, in the order of submission."""
        return tuple(str(row[0]) for row in self.rows("SELECT job_id FROM jobs ORDER BY number"))

    def errors(self) -> tuple[tuple[int, str, str], ...]:
        """The first few refusals: (line, field, reason)."""
        found = self.rows("SELECT line, field, reason FROM errors ORDER BY number")
        return tuple((int(line), str(field), str(reason)) for line, field, reason in found)

    def error_files(self) -> tuple[str, ...]:
        """The file of each of them; none at all where there is one only."""
        found = [str(file) for (file,) in self.rows("SELECT file FROM errors ORDER BY number")]
        return tuple(found) if any(found) else ()

    def rows(self, query: str) -> list[Any]:
        """All rows that a query has."""
        with self._lock, self._file.translated("read"):
            return self._connection.execute(query).fetchall()

    def _set(self, part: Part, change: str) -> None:
        with self.change():
            self._update(part, change)

    def _update(self, part: Part, change: str, *values: object) -> None:
        self._connection.execute(f"UPDATE parts SET {change} WHERE place = ?", (*values, part.place))

    def _drop(self, part: Part) -> None:
        self._connection.execute("DELETE FROM parts WHERE place = ?", (part.place,))
        self._connection.execute(
            "DELETE FROM pieces WHERE root = ? AND NOT EXISTS (SELECT 1 FROM parts WHERE root = ?)",
            (part.root, part.root),
        )
