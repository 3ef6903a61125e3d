"""The tables of the file, in each version."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from .._errors.tree import OutboxError

APPLICATION_ID = 0x55705F31  # "Up_1"
MOST_UNCOUNTED = 100  # calls behind the account: they are counted on reading, and damage can hide so many

_FIRST = """
CREATE TABLE about (one INTEGER PRIMARY KEY CHECK (one = 1), said TEXT NOT NULL);
CREATE TABLE about_again (one INTEGER PRIMARY KEY CHECK (one = 1), said TEXT NOT NULL);
CREATE TABLE account (one INTEGER PRIMARY KEY CHECK (one = 1), said TEXT NOT NULL);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, said BLOB NOT NULL, moment TEXT,
    size INTEGER NOT NULL, crc INTEGER NOT NULL, sent INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE parts (id INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (id, key)) WITHOUT ROWID;
CREATE TABLE lost (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, said BLOB NOT NULL, moment TEXT,
    size INTEGER NOT NULL, crc INTEGER NOT NULL, lost_at REAL NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE TABLE damaged (id INTEGER PRIMARY KEY, at, kind, key, said, moment, size, crc);
CREATE TABLE news (id INTEGER PRIMARY KEY, said TEXT NOT NULL);
CREATE TABLE requests (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, landed_at REAL, budget TEXT NOT NULL, calls TEXT NOT NULL
);
CREATE TABLE files (filename TEXT PRIMARY KEY, kind TEXT NOT NULL, last_calls TEXT NOT NULL) WITHOUT ROWID;
"""
# about: to which account the file belongs, on two pages, and by which calendar calls were dated. account: the counts.
# calls: what waits. parts: what the server has already of what a call says. lost: dead and dropped calls.
# damaged: rows whose checksum is wrong. news: what became of calls, for all who have the file open. requests: of the
# last minutes. files: of rows, that the server may have. What is JSON, and no call, is sealed with a checksum of its
# own.

_SECOND = ""  # the fingerprint in `about` is slow to make: versions that make the other one would not know their key

_THIRD = "CREATE TABLE pairs (id INTEGER PRIMARY KEY, said TEXT UNIQUE);"
# pairs: keys that calls have named together, in the order of their acceptance; NULL for a person who was erased.

_FOURTH = """
CREATE TABLE accepted_keys (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, at REAL NOT NULL, seconds REAL NOT NULL, outcome TEXT
);
"""
# accepted_keys: hashes of what callers gave as `dedupe=`, by the id of the call that has it; when that was accepted,
# for how long the key counts from then on, and what became of the call, once it is settled.

_FIFTH = ""  # calls from the account's next id on, without a gap, count with it: older versions would not see them

MIGRATIONS: Sequence[str] = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)
"""Statements that make version n + 1 of version n; the first one makes an empty file version 1."""


class NewerVersion(OutboxError):
    """The file is of a version that this library does not know."""


def check_known(connection: sqlite3.Connection, known: int = len(MIGRATIONS)) -> None:
    """Raise `NewerVersion` if the file is of a newer version than ``known``."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > known:
        raise NewerVersion(f"is of version {version}, which a newer userpilot_async wrote; this one knows {known}")


def version_of(connection: sqlite3.Connection, known: int) -> int:
    """The file's version, 0 for an empty one. Raises `OutboxError` if it is newer than ``known``, or no outbox.

    Raises `sqlite3.DatabaseError` if it is none that there can be.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    # What has no page of its own is a program, and may do anything.
    counts = "count(*), total(NOT coalesce(rootpage, 0))"
    tables, programs = connection.execute(f"SELECT {counts} FROM sqlite_master").fetchone()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application not in (0, APPLICATION_ID) or (tables and not version):
        raise OutboxError("is a database, but no outbox of userpilot_async")
    if version < 0:
        raise sqlite3.DatabaseError("its version is damaged")
    check_known(connection, known)
    if programs:
        raise OutboxError("has views, triggers or virtual tables, as no outbox has: another program has put them there")
    return int(version)


def check_version(path: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Read the version, and nothing else: what is refused must stay untouched. Raises as `version_of` does."""
    # As it lies there, without its log: nothing must appear beside it.
    place = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False)
    try:
        version_of(connection, len(migrations))
    except sqlite3.DatabaseError:
        pass  # half of it may be in the log: opening it properly will show
    finally:
        connection.close()


def prepare(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the file to the newest version, in one transaction. The caller holds the file's lock.

    Raises as `version_of` does; the file is untouched then.
    """
    version = version_of(connection, len(migrations))
    if version == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in migrations[version:]:
            for statement in filter(str.strip, migration.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
