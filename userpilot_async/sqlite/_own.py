"""Is what lies there an outbox of ours? Asked before anything is made beside it, and changing nothing in it."""

from __future__ import annotations

import os
from contextlib import closing
from enum import Enum, auto
from pathlib import Path

from .._errors.tree import OutboxError
from .._runtime.database_files import DatabaseFile
from .._runtime.private_files import check_links, is_there
from . import _quarantine
from ._schema import APPLICATION_ID


class Found(Enum):
    """Kinds of things that lie at a path."""

    NOTHING = auto()
    EMPTY = auto()
    """An empty file without a lock beside it: it has no owner, and opening makes it an outbox."""
    OUTBOX = auto()


def find(given: Path, path: Path) -> Found:
    """Find what is at ``path``, to which ``given`` leads. Raises `OutboxError` if it is no outbox, `UnsafeFile`,
    `OSError`.

    A file whose beginning is damaged is an outbox if there is beside it what only a client that has opened it leaves;
    one whose beginning is not written yet, if there is a lock: a client was making it when the power went.
    """
    check_links(given)
    if not os.path.lexists(path):
        return Found.NOTHING
    with closing(open_database(path)) as file:
        header = file.header()
    locked, *opened = (is_there(_quarantine.beside(path, suffix)) for suffix in (".lock", ".lease", ".ballast"))
    if any(opened) or header[68:72] == APPLICATION_ID.to_bytes(4, "big") or (locked and not any(header)):
        return Found.OUTBOX
    if header:
        raise OutboxError(f"{path} is no outbox of userpilot_async")
    return Found.EMPTY


def open_database(path: Path) -> DatabaseFile:
    """The database's files; the names count that a repair which is going on, or was interrupted, has given them."""
    return DatabaseFile(path, names=lambda one, found: _quarantine.names_of(path, one, found))
