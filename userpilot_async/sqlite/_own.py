"""Is what lies there an outbox of ours? Asked before anything is made beside it, and changing nothing."""

from __future__ import annotations

import os
from contextlib import closing
from enum import Enum, auto
from pathlib import Path

from .._database_files import DatabaseFile
from .._errors import OutboxError
from .._private_files import check_links, is_there
from . import _salvage
from ._schema import APPLICATION_ID


class Found(Enum):
    """What lies there."""

    NOTHING = auto()
    EMPTY = auto()
    """An empty file, with nothing of an outbox beside it: whoever opens it as an outbox makes it one."""
    OUTBOX = auto()


def find(given: Path, path: Path) -> Found:
    """What is at ``path``, to which ``given`` leads. Raises `OutboxError` if it is no outbox, `UnsafeFile`, `OSError`.

    A file whose beginning is damaged is an outbox if there is beside it what only a client that has opened it leaves.
    """
    check_links(given)
    if not os.path.lexists(path):
        return Found.NOTHING
    with closing(open_database(path)) as file:
        header = file.header()
    known = [is_there(_salvage.beside(path, suffix)) for suffix in (".lease", ".ballast")]
    if any(known) or header[68:72] == APPLICATION_ID.to_bytes(4, "big"):
        return Found.OUTBOX
    if header:
        raise OutboxError(f"{path} is no outbox of userpilot_async")
    return Found.EMPTY


def open_database(path: Path) -> DatabaseFile:
    """Its files; the names count that a repair which is going on, or was interrupted, has given them."""
    return DatabaseFile(path, names=lambda one, found: _salvage.names_of(path, one, found))
