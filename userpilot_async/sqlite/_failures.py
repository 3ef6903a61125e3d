"""Failures of disk, file and SQLite: which they are, whether room is wanting, and what they are called."""

from __future__ import annotations

import errno
import sqlite3

FAILURES = (OSError, sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError)
"""Errors that disk, file and SQLite raise, whatever is wrong with them. All others are bugs of this library."""
_OTHER_SCHEMA = ("no such column", "no such table", "has no column named", "values were supplied")


def is_full(error: Exception) -> bool:
    """A failure for want of room: of the disk, a quota, or a limit."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "full" in str(error) or "disk I/O" in str(error)


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """A failure for which the file is to blame: it is no database, or a flipped bit has renamed a table or a column.

    No checksum covers the text of the schema, and what it says is read anew by each connection.
    """
    return type(error) is sqlite3.DatabaseError or any(words in str(error) for words in _OTHER_SCHEMA)


def why(error: Exception) -> str:
    """A failure (`FAILURES`) in words, without a path."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"{error} (is the disk full?)" if str(error) == "disk I/O error" else str(error) or type(error).__name__
