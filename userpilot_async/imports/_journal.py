"""The journal of an import: where it stands, what is still to upload, and what was asked of the server.

One SQLite file. Whatever one step changes is one transaction, so that a process that is killed between any two
instructions leaves a journal that another one can go on with: nothing uploaded twice, nothing left out.

    line ──▶ piece of the part being filled ──▶ part ──sending──▶ in doubt ──200──▶ running ──completed──▶ gone
                                                  ▲                  │                 └──failed──▶ once more, halves
                                                  └──────refused─────┴──lost, or killed: looked for by its filename

A part is in doubt from before its request leaves until the answer is written down; whoever finds it so looks for its
filename in the server's job list. The connection holds SQLite's exclusive lock for as long as it is open: a second
process is refused, and the operating system takes the lock back from one that was killed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from .._runtime.database_files import MAGIC, DatabaseFile
from .._runtime.private_files import create_private, is_there
from ._report import FIRST_ERRORS, ImportConflict, JournalError
from ._schema import APPLICATION_ID, SCHEMA, TABLES, VERSION, About, Part, Progress, Refusal

_PATIENCE = 0.5  # seconds; without, of two that open it at the same moment both could be refused
_LARGEST_LOG = 8 * 1024 * 1024  # bytes that SQLite's log keeps of its size after a larger transaction


class Journal:
    """Safe to use from any thread; one thing at a time. Raises `JournalError` for what the machine does."""

    def __init__(self, path: Path | None) -> None:
        """``None`` is a journal that goes with the process, in a file without a name."""
        self.path = path
        self.created = False
        self.about: About
        self.progress: Progress
        self._lock = threading.RLock()
        self._held: DatabaseFile | None = None
        self._connection = self._opened()

    # ── opening and closing ──

    def _opened(self) -> sqlite3.Connection:
        with self._told("opened"):
            if self.path is not None:
                self._held = self._hold(self.path)
            place = "" if self.path is None else str(self.path)
            try:
                connection = sqlite3.connect(place, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            except BaseException:
                self._let_go()
                raise
            try:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                self.created = self._prepare(connection)
                if self.path is None:
                    connection.execute("PRAGMA synchronous = OFF")
                else:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_LOG}")
                    connection.execute("BEGIN EXCLUSIVE")  # a lock that is not there is not held, either
                    connection.execute("COMMIT")
                if self._held is not None:
                    self._held.confirm()
            except BaseException:
                connection.close()
                self._let_go()
                raise
        return connection

    def _hold(self, path: Path) -> DatabaseFile:
        """The file, private from now on, because it holds what is in the source; made if there is none."""
        with suppress(FileExistsError):
            os.close(create_private(path))
        held = DatabaseFile(path)
        try:
            self._check_header(held)
            held.make_private()
        except BaseException:
            held.close()
            raise
        return held

    def _check_header(self, held: DatabaseFile) -> None:
        """Raise `ImportConflict` for what was named by mistake, which SQLite would otherwise write beside, or into."""
        header = held.header()
        if not held.size or header[68:72] == APPLICATION_ID.to_bytes(4, "big"):
            return
        if not any(header) and is_there(held.path.with_name(held.path.name + "-journal")):
            return  # the power went when it was being made
        kind = "is a database, but" if header.startswith(MAGIC) else "is"
        raise ImportConflict(f"{self._name} {kind} no journal of an import")

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()

    def _prepare(self, connection: sqlite3.Connection) -> bool:
        """Make the tables, if it is a new file; true if it is nobody's journal yet. What is no journal stays untouched.

        Looked at by SQLite only: to open and close its file in another way takes the locks of this process away.
        """
        try:
            connection.execute("BEGIN EXCLUSIVE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            # What has no page of its own is a program: it does what whoever made it wanted.
            counts = "count(*), total(NOT coalesce(rootpage, 0))"
            tables, programs = connection.execute(f"SELECT {counts} FROM sqlite_master").fetchone()
            if application not in (0, APPLICATION_ID) or (tables and not version):
                raise ImportConflict(f"{self._name} is a database, but no journal of an import")
            if version > VERSION:
                raise ImportConflict(f"{self._name} is of version {version}, which a newer userpilot_async wrote")
            if programs:
                raise ImportConflict(f"{self._name} has views, triggers or virtual tables, as no journal has")
            if not version:
                for statement in filter(str.strip, SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            new = not connection.execute("SELECT count(*) FROM about").fetchone()[0]
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if type(error) is sqlite3.DatabaseError:
                raise ImportConflict(f"{self._name} is no journal of an import") from error
            raise
        return new

    def begin(self, about: About, max_bytes: int) -> None:
        """Make it the journal of a new import, and forget whatever there was."""
        with self._lock, self._told("written"), self._transaction():
            for table in TABLES:
                self._connection.execute(f"DELETE FROM {table}")
            progress = Progress(max_bytes=max_bytes)
            self._connection.execute("INSERT INTO about VALUES (1, ?)", (json.dumps(attrs.asdict(about)),))
            self._connection.execute("INSERT INTO progress VALUES (1, ?)", (json.dumps(attrs.asdict(progress)),))
        self.about, self.progress = about, progress

    def load(self) -> None:
        """Read where the import stands."""
        with self._lock, self._told("read"):
            about, progress = (
                json.loads(self._connection.execute(f"SELECT said FROM {table}").fetchone()[0])
                for table in ("about", "progress")
            )
        self.about, self.progress = About(**about), Progress(**progress)

    def bind(self, about: About) -> None:
        """Whose it is from now on. What it said before, perhaps a hash to guess a key from, is overwritten."""
        with self.change():
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.execute("UPDATE about SET said = ?", (json.dumps(attrs.asdict(about)),))
        self.about = about

    def close(self) -> None:
        """Let go of it. SQLite's log goes into the file and is taken away."""
        with self._lock, self._told("closed"):
            try:
                self._connection.close()
            finally:
                self._let_go()

    def discard(self) -> None:
        """Take the file away: nothing has happened yet."""
        with self._lock:
            if self.path is not None:
                # The log first, and both while they are locked: SQLite leaves the log of a file that is gone.
                for path in (self.path.with_name(self.path.name + "-wal"), self.path):
                    with suppress(OSError):
                        path.unlink()
            self.close()

    # ── transactions ──

    @contextmanager
    def change(self) -> Iterator[Progress]:
        """One step: what is done to the progress that this gives out, and to the tables, happens or does not."""
        with self._lock, self._told("written"):
            now = attrs.evolve(self.progress)
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

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """SQLite's errors, and the disk's, as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise ImportConflict(f"{self._name} is in use: another process works on this import") from error
            raise JournalError(f"{self._name} cannot be {done}: {error}") from error
        except sqlite3.Error as error:
            raise JournalError(f"{self._name} cannot be {done}: {error}") from error
        except OSError as error:
            raise JournalError(f"{self._name} cannot be {done}: {error.strerror or error}") from error

    @property
    def _name(self) -> str:
        return "a temporary journal" if self.path is None else str(self.path)

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
        """Remember the first few."""
        there = self._connection.execute("SELECT count(*) FROM errors").fetchone()[0]
        for refusal in refusals[: FIRST_ERRORS - there]:
            self._connection.execute(
                "INSERT INTO errors (line, field, reason) VALUES (?, ?, ?)",
                (refusal.line, refusal.field, refusal.reason),
            )

    @property
    def connection(self) -> sqlite3.Connection:
        """For the profiles, inside of `change`."""
        return self._connection

    # ── parts ──

    def first_part(self) -> Part | None:
        """The next one to do something about."""
        with self._lock, self._told("read"):
            found = self._connection.execute("SELECT * FROM parts ORDER BY place LIMIT 1").fetchone()
        return None if found is None else Part(*found)

    def waiting(self) -> int:
        """How many files were cut and are not done with; halves count as the one that they were."""
        with self._lock, self._told("read"):
            return int(self._connection.execute("SELECT count(DISTINCT root) FROM parts").fetchone()[0])

    def filename(self, part: Part) -> str:
        """The name to upload it under, and to find its job by."""
        return f"{self.about.name}-{part.place}{f'-{part.again}' if part.again else ''}.ndjson"

    def content(self, part: Part) -> bytes:
        """Its rows, as NDJSON."""
        found: list[bytes] = []
        with self._lock, self._told("read"):
            for first, rows, content, _ in self._pieces(part):
                if first >= part.first and first + rows <= part.first + part.rows:
                    found.append(content)
                else:
                    lines = content.splitlines(keepends=True)
                    found += lines[max(0, part.first - first) : part.first + part.rows - first]
        return b"".join(found)

    def line_of(self, part: Part) -> int:
        """The number of the line that its first row is of."""
        with self._lock, self._told("read"):
            for first, _, _, numbers in self._pieces(part):
                return int(array("Q", numbers)[part.first - first])
        raise JournalError(f"{self._name} has no rows of {part.place}")

    def _pieces(self, part: Part) -> Iterator[tuple[int, int, bytes, bytes]]:
        first = 0
        for number, rows in self._connection.execute(
            "SELECT number, rows FROM pieces WHERE root = ? ORDER BY number", (part.root,)
        ).fetchall():
            if first + rows > part.first and first < part.first + part.rows:
                content, lines = self._connection.execute(
                    "SELECT content, lines FROM pieces WHERE root = ? AND number = ?", (part.root, number)
                ).fetchone()
                yield first, rows, content, lines
            first += rows

    def sending(self, part: Part) -> None:
        """Its request is about to leave: from here on the server may have it."""
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
        """Its job is over, and has done so many rows by its own word: none, if the server has forgotten it."""
        with self.change() as now:
            now.completed += rows
            now.unconfirmed += part.rows - rows
            self._drop(part)

    def written(self, part: Part) -> None:
        """Its file was written, in a dry run."""
        with self.change() as now:
            now.files += 1
            self._drop(part)

    def once_more(self, part: Part) -> None:
        """Its job has failed: another one, under another name, because the list knows the old one."""
        with self.change() as now:
            now.uploaded -= part.rows
            now.possible_duplicates += part.rows
            self._update(part, "running = 0, job_id = '', failures = failures + 1, again = again + 1")

    def split(self, part: Part, *, by_bytes: bool = False, max_bytes: int | None = None) -> None:
        """Two halves in its place; ``max_bytes`` holds for files that are cut from now on."""
        sizes = [len(line) for line in self.content(part).splitlines(keepends=True)]
        rows = _half(sizes) if by_bytes else part.rows // 2
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
        """It is one row, and the server will not have it; ``write`` puts it into the rejected file."""
        with self.change() as now:
            if part.running:
                now.uploaded -= part.rows
            now.valid -= part.rows
            now.refused += part.rows
            self.note_errors([refusal])
            write(now, [refusal])
            self._drop(part)

    def finish(self, when: str) -> None:
        """It is done: what is left says so, and is small."""
        with self.change() as now:
            now.finished = when
            for table in ("parts", "pieces", "profiles"):
                self._connection.execute(f"DELETE FROM {table}")
        with self._lock, suppress(sqlite3.Error):  # a full disk: then it is not small
            self._connection.execute("VACUUM")

    def jobs(self) -> tuple[str, ...]:
        """All of them, in order."""
        return tuple(str(row[0]) for row in self._all("SELECT job_id FROM jobs ORDER BY number"))

    def errors(self) -> tuple[tuple[int, str, str], ...]:
        """The first few refusals: (line, field, reason)."""
        found = self._all("SELECT line, field, reason FROM errors ORDER BY number")
        return tuple((int(line), str(field), str(reason)) for line, field, reason in found)

    def _all(self, query: str) -> list[Any]:
        with self._lock, self._told("read"):
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


def _half(sizes: list[int]) -> int:
    """How many of the first rows make about half of the bytes; at least one, and never all."""
    half, size = sum(sizes) // 2, 0
    for rows, row in enumerate(sizes):
        if size + row > half:
            return max(1, rows)
        size += row
    return max(1, len(sizes) - 1)
