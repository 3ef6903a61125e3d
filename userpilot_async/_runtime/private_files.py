"""How a file of ours is opened: for its owner only, and never through what others have put in its place.

These files hold what is said of people, and others may write in their folder (``/tmp``, a shared volume). A name in it
proves nothing, then: it may be a link to another file, another user's file, or a FIFO, which keeps its opener waiting.
So each is checked by its descriptor, and refused unless it is a regular file of this process's own user that has one
name. Its mode is set by its descriptor, too: one that was touched, or restored, with 0644 becomes 0600.

Folders above it may be links. Windows has neither these modes nor these users: there, its kind and its names count.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MODE = 0o600
OTHERS = 0o077  # what the group, and all users, may do
ATTEMPTS = 20  # to open or create what others create and delete at the same moment
LINKS = 40  # one after the other; more are a loop, as for Linux (path_resolution(7))

_HAS_USERS = hasattr(os, "geteuid")
# NONBLOCK: a FIFO keeps no opener waiting. NOCTTY: a terminal does not become this process's own. BINARY: Windows.
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)

Names = Callable[[Path, os.stat_result], int]
"""How many names a file may have, where it has more than one."""


class UnsafeFile(OSError):
    """A file that must not be used: not a regular one, another user's, with other names, or open to others.

    ``strerror`` says which, and what to do.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(errno.EPERM, f"{path.name} {what}", str(path))


def one_name(path: Path, found: os.stat_result) -> int:
    """Allow one name, as for most files: a second one may be in a folder of others."""
    return 1


def check_own(path: Path, found: os.stat_result, names: Names = one_name) -> None:
    """Raise `UnsafeFile` unless ``found`` is of a regular file of this user's own, with no other names."""
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_one, name in _KINDS if is_one(found.st_mode)), "a device")
        raise UnsafeFile(path, f"is {kind}, and must be a regular file: take it away, or name another file")
    if _HAS_USERS and found.st_uid != os.geteuid():
        raise UnsafeFile(
            path,
            f"belongs to uid {found.st_uid}, and this process runs as uid {os.geteuid()}: run it as that user, or give"
            " all files of this name to this one (chown)",
        )
    if found.st_nlink > 1 and found.st_nlink > names(path, found):
        raise UnsafeFile(
            path,
            f"has {found.st_nlink} names (hard links), and what is written would be in all of them: remove the others,"
            " or put a copy in its place",
        )


def open_own(path: Path, flags: int = os.O_RDONLY, names: Names = one_name) -> int:
    """Open a file that is there, whose mode stays as it is; gives its descriptor.

    Raises `UnsafeFile`, or another `OSError`.
    """
    check_own(path, os.lstat(path), names)  # to open a device may be enough to make it do something
    try:
        descriptor = os.open(path, flags | _FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # BSD's: a link, since a moment ago
            raise UnsafeFile(path, "is a symbolic link, and must be a regular file: take it away") from error
        raise
    try:
        check_own(path, os.fstat(descriptor), names)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_private(path: Path, descriptor: int) -> None:
    """Let the owner alone read and write the file from now on. Raises `UnsafeFile` where that cannot be."""
    _set_mode(path, descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & MODE)


def _set_mode(path: Path, descriptor: int, mode: int) -> None:
    before = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if not _HAS_USERS or before == mode:
        return
    why = "its file system keeps no modes"
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        why = error.strerror or why
    if os.fstat(descriptor).st_mode & OTHERS:
        raise UnsafeFile(
            path, f"is open to others (mode {before:04o}), which cannot be changed ({why}): keep it on another disk"
        )


def open_private(path: Path, flags: int = os.O_RDONLY, names: Names = one_name) -> int:
    """Open a file that is there, private from now on; gives its descriptor.

    Raises as `open_own` and `make_private` do.
    """
    descriptor = open_own(path, flags, names)
    try:
        make_private(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_there(path: Path) -> bool:
    """Ask whether a file of ours lies there, and have it private from now on.

    Raises `UnsafeFile` if something else lies there, or another `OSError`.
    """
    try:
        found = os.lstat(path)
        check_own(path, found)
        if _HAS_USERS and found.st_mode & OTHERS:
            os.close(open_private(path))
    except FileNotFoundError:
        return False
    return True


def create_private(path: Path, flags: int = os.O_RDWR) -> int:
    """Make a new file; gives its descriptor.

    Raises `FileExistsError` if the name is taken, `UnsafeFile`, or another `OSError`.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL | _FLAGS, MODE)
    try:
        _set_mode(path, descriptor, MODE)  # an odd umask may have left less
        found = os.fstat(descriptor)
        if _HAS_USERS and found.st_uid != os.geteuid():
            raise UnsafeFile(path, f"was given to uid {found.st_uid} by its file system: keep it on another one")
        check_own(path, found)
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):  # what is wrong is said by the other error
            os.unlink(path)
        raise
    return descriptor


def open_or_create(path: Path, flags: int = os.O_RDWR) -> int:
    """Open the file, private from now on, or make it if there is none; gives its descriptor.

    Raises `UnsafeFile`, or another `OSError`.
    """
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError):
            return open_private(path, flags)
        with suppress(FileExistsError):  # since a moment ago
            return create_private(path, flags)
    raise UnsafeFile(path, "is made and deleted by others all the time")


def rewrite(path: Path) -> int:
    """Empty the file, to write it anew; gives its descriptor. Raises as `open_or_create` does."""
    descriptor = open_or_create(path, os.O_WRONLY)
    os.ftruncate(descriptor, 0)
    return descriptor


def make_folders(folder: Path) -> None:
    """Have the folder, and those above it; only this user may use those that are new. Raises `OSError`."""
    for one in reversed([above for above in (folder, *folder.parents) if not above.exists()]):
        one.mkdir(mode=0o700, exist_ok=True)


def check_links(path: Path) -> None:
    """Raise `UnsafeFile` if the last name of ``path`` is a link that others may have put there, or one to nowhere.

    A link of this user's own, in a folder where no other user writes, stands for the file that it leads to. Raises
    another `OSError` where the file system cannot be asked.
    """
    for _ in range(LINKS):
        folder = Path(os.path.realpath(path.parent))
        path = folder / path.name
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        if not stat.S_ISLNK(found.st_mode):
            return
        if not os.path.exists(path):
            raise UnsafeFile(path, "is a link to a file that does not exist: name the file itself")
        around = os.stat(folder)
        mine = {os.geteuid(), 0} if _HAS_USERS else {found.st_uid, around.st_uid}
        if not {found.st_uid, around.st_uid} <= mine or (_HAS_USERS and around.st_mode & 0o022):
            raise UnsafeFile(
                path, "is a symbolic link in a folder in which others may write: name the file that it leads to"
            )
        path = folder / os.readlink(path)
    raise UnsafeFile(path, "is a link to itself")
