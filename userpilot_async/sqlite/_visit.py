"""The file, opened for a moment by somebody who is no client: for people, and what they want to see or mend.

Each visit is one turn of the file's lock, as those of the processes that use it are: they are never disturbed, and
only wait for a moment. A file that nobody uses is left as it was found, with its log written back.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .._errors.tree import OutboxError
from ._own import Found
from ._schema import MIGRATIONS, version_of
from ._store import FAILURES, File, Interrupted, _decoded, _why
from ._tables import Tables

PATIENCE = 30.0  # seconds to wait for the lock: the others have it for some milliseconds, a purge for some seconds


@contextmanager
def opened(path: Path, *, as_it_is: bool = False) -> Iterator[File]:
    """The file, for as long as it is this process's turn. Raises `OutboxError`.

    ``as_it_is`` is for those who only read: it is not even brought to the newest version.
    """
    file = File(path, "power", pause=_patience())
    with _own_errors(path):
        found = file.find()
    if found is Found.NOTHING:
        raise OutboxError(f"{path} does not exist")
    if found is Found.EMPTY:
        if not as_it_is:
            raise OutboxError(f"{path} is empty: no client has made it an outbox yet")
        with _connected(file, ":memory:"):  # it may be anybody's: no lock is made beside it
            yield file
        return
    try:
        with _own_errors(path), file._in_turn():
            held = file.hold()
            with _connected(file, f"{file.path.as_uri()}?mode=rw"):
                version_of(file._db, len(MIGRATIONS))  # what is refused stays untouched
                held.confirm()
                if not as_it_is:
                    file._connect()
                yield file
    finally:
        file._disconnect()
        file.lease.close()
        file.turn.close()


@contextmanager
def _connected(file: File, place: str) -> Iterator[None]:
    try:
        file._connection = sqlite3.connect(place, uri=True, timeout=5.0, isolation_level=None)
        file._connection.text_factory = _decoded
        file.tables = Tables(file._connection, file._wall)
        yield
    finally:
        file._disconnect()


def _patience() -> Callable[[float], bool]:
    deadline = time.monotonic() + PATIENCE

    def pause(seconds: float) -> bool:
        time.sleep(seconds)
        return time.monotonic() > deadline

    return pause


@contextmanager
def _own_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Interrupted:
        raise OutboxError(f"{path} is locked: another process has had it for {PATIENCE:.0f} s") from None
    except sqlite3.OperationalError as error:
        raise OutboxError(f"{path} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        mended = "a client or `drain` that opens it puts it aside, and saves what can be read"
        raise OutboxError(f"{path} is damaged ({error}): {mended}") from error
    except FAILURES as error:
        raise OutboxError(f"{path} cannot be used: {_why(error)}") from error
    except OutboxError as error:
        if str(path) in str(error):
            raise
        raise OutboxError(f"{path} {error}") from error


def with_suffix(path: Path, suffix: str) -> Path:
    """What lies beside the file: beside itself, where ``path`` is a link to it."""
    return Path(os.path.realpath(path) + suffix)


def about_of(file: File) -> Mapping[str, str]:
    """To which account the file belongs; empty while it belongs to nobody."""
    return file.tables.about() or {}
