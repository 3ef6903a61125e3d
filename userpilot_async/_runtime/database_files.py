"""A SQLite database as files: made private before SQLite opens it, and held open for as long as it does.

SQLite opens by name, and gives what it makes beside a database (its log, the log's index, a rollback journal) the
database's mode (sqlite.org/src, os_unix.c, ``findCreateFileMode``, read 2026-11). So the modes are set first, by
descriptor; and once SQLite has opened it, the name must still lead to that file.

A process loses its POSIX locks on a file, SQLite's too, when it closes any descriptor of that file (fcntl(2);
sqlite.org/howtocorrupt.html, 2.2). So those of a database are closed when nothing in this process uses it any more.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import attrs

from .private_files import ATTEMPTS, Names, UnsafeFile, check_own, make_private, one_name, open_own

MAGIC = b"SQLite format 3\0"
SIDES = ("-wal", "-shm", "-journal")

Inode = tuple[int, int]


def inode_of(found: os.stat_result) -> Inode:
    """Give the device and number that tell a file from all others that there are at the time."""
    return found.st_dev, found.st_ino


@attrs.define
class _Descriptors:
    """Descriptors of one database and of what lies beside it, for all in this process who use it."""

    users: int = 0
    by_inode: dict[Inode, int] = attrs.field(factory=dict)

    def of(self, path: Path, names: Names) -> int:
        """Give the descriptor of this file. Raises `UnsafeFile`, or another `OSError`."""
        found = os.lstat(path)
        descriptor = self.by_inode.get(inode_of(found))
        if descriptor is None:
            descriptor = open_own(path, names=names)
            self.by_inode[inode_of(os.fstat(descriptor))] = descriptor
        else:
            check_own(path, found, names)
        return descriptor

    def close_if_unused(self) -> None:
        while self.by_inode and not self.users:
            with suppress(OSError):  # of a disk that fails: the descriptor is gone all the same
                os.close(self.by_inode.popitem()[1])


_lock = threading.Lock()
_open: dict[Inode, _Descriptors] = {}


class DatabaseFile:
    """A database's file that is there; nothing of it is changed by that.

    Raises `UnsafeFile`, or another `OSError`. It is to be closed after the connection. ``names`` says how many names
    it, and each file beside it, may have.
    """

    def __init__(self, path: Path, names: Names = one_name) -> None:
        self.path = path
        self._names = names
        self._is_open = True
        with _lock:
            for _ in range(ATTEMPTS):  # another process's repair may put a new file in its place just now
                if self._opened():
                    return
        raise _exchanged(path)

    def _opened(self) -> bool:
        self.inode = inode_of(os.lstat(self.path))
        self._descriptors = _open.get(self.inode) or _Descriptors()
        try:
            self._descriptor = self._descriptors.of(self.path, self._names)
            is_it = inode_of(os.fstat(self._descriptor)) == self.inode
        except BaseException:
            self._descriptors.close_if_unused()
            raise
        if is_it:
            self._descriptors.users += 1
            _open[self.inode] = self._descriptors
        else:
            self._descriptors.close_if_unused()
        return is_it

    @property
    def size(self) -> int:
        """Bytes that the file has now."""
        return os.fstat(self._descriptor).st_size

    def header(self) -> bytes:
        """Read the first 100 bytes of the file, or what there is."""
        with _lock:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            return os.read(self._descriptor, 100)

    def make_private(self) -> None:
        """Set the modes of the file, and of what lies beside it. Raises `UnsafeFile` where one must not be used."""
        make_private(self.path, self._descriptor)
        if os.name == "nt":  # a log that is held open cannot be deleted there
            return
        for suffix in SIDES:
            side = self.path.with_name(self.path.name + suffix)
            with _lock, suppress(FileNotFoundError):
                make_private(side, self._descriptors.of(side, self._names))

    def confirm(self) -> None:
        """Raise `UnsafeFile` unless the name still leads to this file, now that SQLite has opened it by that."""
        if inode_of(os.lstat(self.path)) != self.inode:
            raise _exchanged(self.path)
        self.make_private()  # what SQLite has found, or made, beside it

    def close(self) -> None:
        """Let go of the file: the connection to it is closed."""
        with _lock:
            if not self._is_open:
                return
            self._is_open = False
            self._descriptors.users -= 1
            if not self._descriptors.users:
                del _open[self.inode]
            self._descriptors.close_if_unused()


def _exchanged(path: Path) -> UnsafeFile:
    return UnsafeFile(path, "was exchanged for another file while it was being opened: see who writes in its folder")


if hasattr(os, "register_at_fork"):  # not Windows
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
