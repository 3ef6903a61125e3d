"""The file of a journal: made or found, checked, locked against a second process, and let go of.

The connection holds SQLite's exclusive lock for as long as it is open: a second process is refused, and the operating
system takes the lock back from one that was killed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .._runtime.database_files import MAGIC, DatabaseFile
from .._runtime.private_files import create_private, is_there
from ._files import ListedFile
from ._report import ImportConflict, JournalError, JournalInUse
from ._schema import APPLICATION_ID, SCHEMA, SINCE_VERSION_2, VERSION

_PATIENCE = 0.5  # seconds; without, of two that open it at the same moment both could be refused
_CACHE = 16 * 1024  # KiB of the file in memory: the profiles of 50,000 users, who come in no order
_LARGEST_LOG = 8 * 1024 * 1024  # bytes that SQLite's log keeps of its size after a larger transaction


class JournalFile:
    """The open file at ``path``, or one without a name, which goes with the process, for ``None``.

    Raises `ImportConflict` for what is no journal, or is in use, and `JournalError` for what the machine does.
    """

    def __init__(self, path: Path | None) -> None:
        self.created = False
        """No import's journal was there."""
        self._path = path
        self._held: DatabaseFile | None = None
        self.connection = self._opened()

    @property
    def name(self) -> str:
        """The file's name for messages."""
        return "a temporary journal" if self._path is None else str(self._path)

    @contextmanager
    def translated(self, done: str) -> Iterator[None]:
        """Raise SQLite's errors, and the disk's, as `JournalError`: the file cannot be ``done`` so."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise JournalInUse(f"{self.name} is in use: another process works on this import") from error
            raise JournalError(f"{self.name} cannot be {done}: {error}") from error
        except sqlite3.Error as error:
            raise JournalError(f"{self.name} cannot be {done}: {error}") from error
        except OSError as error:
            raise JournalError(f"{self.name} cannot be {done}: {error.strerror or error}") from error

    def close(self) -> None:
        """Let go of the file. SQLite's log goes into it and is taken away."""
        with self.translated("closed"):
            try:
                self.connection.close()
            finally:
                self._let_go()

    def discard(self) -> None:
        """Take the file away, and close it."""
        if self._path is not None:
            # The log first, and both while they are locked: SQLite leaves the log of a file that is gone.
            for path in (self._path.with_name(self._path.name + "-wal"), self._path):
                with suppress(OSError):
                    path.unlink()
        self.close()

    def _opened(self) -> sqlite3.Connection:
        with self.translated("opened"):
            if self._path is not None:
                self._held = self._hold(self._path)
            place = "" if self._path is None else str(self._path)
            try:
                connection = sqlite3.connect(place, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            except BaseException:
                self._let_go()
                raise
            try:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute(f"PRAGMA cache_size = -{_CACHE}")
                self.created = self._prepare(connection)
                if self._path is None:
                    connection.execute("PRAGMA synchronous = OFF")
                    connection.execute("PRAGMA journal_mode = MEMORY")  # a transaction can still come to nothing
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
        raise ImportConflict(f"{self.name} {kind} no journal of an import")

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()

    def _prepare(self, connection: sqlite3.Connection) -> bool:
        """Make the tables, if it is a new file; true if it has no import yet. What is no journal stays untouched.

        Read by SQLite only: to open and close its file in another way takes the locks of this process away.
        """
        try:
            connection.execute("BEGIN EXCLUSIVE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            # What has no page of its own is a program, and may do anything.
            counts = "count(*), total(NOT coalesce(rootpage, 0))"
            tables, programs = connection.execute(f"SELECT {counts} FROM sqlite_master").fetchone()
            if application not in (0, APPLICATION_ID) or (tables and not version):
                raise ImportConflict(f"{self.name} is a database, but no journal of an import")
            if version > VERSION:
                raise ImportConflict(f"{self.name} is of version {version}, which a newer userpilot_async wrote")
            if programs:
                raise ImportConflict(f"{self.name} has views, triggers or virtual tables, as no journal has")
            if version < VERSION:
                for statement in filter(
                    str.strip, (SINCE_VERSION_2 if version else SCHEMA + SINCE_VERSION_2).split(";")
                ):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            new = not connection.execute("SELECT count(*) FROM about").fetchone()[0]
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if type(error) is sqlite3.DatabaseError:
                raise ImportConflict(f"{self.name} is no journal of an import") from error
            raise
        return new


def replace_files(connection: sqlite3.Connection, files: Sequence[ListedFile]) -> None:
    """Make these the files of a new import; of earlier imports, others stay known. Inside of a transaction."""
    connection.execute("DELETE FROM files WHERE imported = ''")
    known = [(one.name, one.fingerprint) for one in files]
    connection.executemany("DELETE FROM files WHERE name = ? AND fingerprint = ?", known)
    insert_files(connection, files)


def insert_files(connection: sqlite3.Connection, files: Sequence[ListedFile]) -> None:
    """Put files behind those that there are. Inside of a transaction."""
    known = [(one.name, one.fingerprint) for one in files]
    connection.executemany("INSERT INTO files (name, fingerprint) VALUES (?, ?)", known)
