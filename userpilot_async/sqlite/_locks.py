"""Locks between processes, which the operating system takes back from a process that dies.

`flock` and not POSIX record locks: those are lost as soon as any descriptor of the file is closed in the process, and
do not keep two clients of one process apart. A forked child would go on holding a `flock`, so it closes its copies.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .._runtime.private_files import open_or_create

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows
    raise ImportError("userpilot_async.sqlite needs flock, which this system does not have") from None

FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.002  # seconds between two tries for a lock that another process holds


class Lock:
    """The lock of one file: held by one process, and there by one thread, at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held = False
        self._descriptor = -1
        self._inode = (-1, -1)
        self._name = str(path)  # which is quicker to ask for
        _locks.add(self)

    def try_take(self) -> bool:
        """Take it if it is free. Raises `OSError`, `UnsafeFile` among them."""
        if self._descriptor < 0:
            self._descriptor = open_or_create(self.path)
            mine = os.fstat(self._descriptor)
            self._inode = (mine.st_ino, mine.st_dev)
        if not self.held:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.held = True
        if not self._is_there():  # the file was deleted: others would lock a new one
            self.close()
            return False
        return True

    def take(self, pause: Callable[[float], bool]) -> bool:
        """Wait for it; ``pause`` waits for so many seconds, and is true if there is no more waiting."""
        seconds = FIRST_PAUSE
        while not self.try_take():
            if pause(seconds):
                return False
            seconds = min(LONGEST_PAUSE, 2 * seconds)
        return True

    def release(self) -> None:
        """Let others have the lock."""
        if self.held:
            self.held = False
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            except OSError:  # what was done under the lock is done: without the descriptor it is not held, either
                self.close()

    def close(self) -> None:
        """Let go of the lock and its file for good."""
        self.held = False
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):  # of a disk that fails: the descriptor is gone all the same
                os.close(descriptor)

    def note(self, text: str) -> None:
        """Write into the file who holds it: for people, so a full disk is no reason not to hold it."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)

    def still_held(self) -> bool:
        """The file is still the one that was locked."""
        if self.held and not self._is_there():
            self.close()
        return self.held

    def _is_there(self) -> bool:
        try:
            there = os.lstat(self._name)
        except FileNotFoundError:
            return False
        return (there.st_ino, there.st_dev) == self._inode


class InTurn:
    """The turn, in a ``with``: the lock between processes, and the one within this process.

    What `contextmanager` makes of a function would cost a twentieth of a lone call's commit. ``wait`` takes the lock
    where it is not free, or raises.
    """

    __slots__ = ("_busy", "_turn", "_wait")

    def __init__(self, turn: Lock, busy: threading.Lock, wait: Callable[[], object]) -> None:
        self._turn, self._busy, self._wait = turn, busy, wait

    def __enter__(self) -> None:
        if not self._turn.try_take():
            self._wait()
        self._busy.acquire()

    def __exit__(self, *raised: object) -> None:
        self._busy.release()
        self._turn.release()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _after_fork() -> None:
    """A child that kept its copies would hold the parent's locks beyond the parent's death."""
    for lock in _locks:
        lock.close()


os.register_at_fork(after_in_child=_after_fork)
