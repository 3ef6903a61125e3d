"""Transactions of a connection, and what it has seen of those of others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ._failures import FAILURES


@contextmanager
def atomic(db: sqlite3.Connection) -> Iterator[None]:
    """All that is written through this connection meanwhile, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(*FAILURES):
            if db.in_transaction:
                db.execute("ROLLBACK")
        raise


def data_version(db: sqlite3.Connection) -> int:
    """SQLite's number for what this connection sees: another one, when another connection has written."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])
