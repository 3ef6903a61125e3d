"""A megabyte kept beside the file, and given up when the disk is full: what became of calls can be noted then."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .._runtime.private_files import OTHERS, create_private, is_there

BALLAST = 1024 * 1024  # bytes: more than 50 transactions
BALLAST_PAUSE = 1.0  # seconds between two tries to have it again; without it the file takes no calls


class Ballast:
    """The ballast at this path; ``steady`` is a clock that is never set."""

    def __init__(self, path: Path, steady: Callable[[], float]) -> None:
        self._path = path
        self._steady = steady
        self._tried_at = -math.inf
        self._name = str(path)  # which is quicker to ask for
        self._seen: tuple[int, ...] = ()

    def is_there(self) -> bool:
        """There is room for notes. Raises `UnsafeFile` if something else is in its place."""
        try:
            found = os.lstat(self._name)
        except FileNotFoundError:
            return False
        # Asked for each commit: what has not changed in any of this was checked before.
        seen = (found.st_ino, found.st_dev, found.st_mode, found.st_uid, found.st_nlink)
        if seen == self._seen:
            return True
        there = is_there(self._path)
        self._seen = seen if there and not found.st_mode & OTHERS else ()
        return there

    def exists(self) -> bool:
        """Something lies there, whatever it is."""
        return self._path.exists()

    def make(self) -> bool:
        """Have it again, if that was not tried within `BALLAST_PAUSE` seconds; true if it has just been made."""
        if self._steady() - self._tried_at < BALLAST_PAUSE:
            return False
        self._tried_at = self._steady()
        with suppress(OSError):
            folder = os.statvfs(self._path.parent)
            if folder.f_bavail * folder.f_frsize > 2 * BALLAST:
                descriptor = create_private(self._path)
                try:
                    written = os.write(descriptor, bytes(BALLAST))
                finally:
                    os.close(descriptor)
                if written == BALLAST:
                    return True
                self._path.unlink()
        return False

    def give_up(self) -> bool:
        """Make room for notes on a full disk; false if that has been done before."""
        self._tried_at = self._steady()
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
