"""The names and places of a damaged file: those that a repair works under, and the one under which it is kept.

A repair gives the old file a second name first, and puts the new one in its place last. `resume` undoes one that was
interrupted in between, so that the file and its log are never gone, and never those of two files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .._runtime.database_files import Inode, inode_of
from .._runtime.private_files import check_own, create_private, open_private


def beside(path: Path, suffix: str) -> Path:
    """A file next to this one."""
    return path.with_name(path.name + suffix)


def size_of(path: Path) -> int:
    """Bytes of the file and of its log."""
    return sum(one.stat().st_size for one in (path, beside(path, "-wal")) if one.exists())


def sync_folder(path: Path) -> None:
    """Have the names in this file's folder on the disk."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def resume(path: Path) -> None:
    """Undo a repair that was interrupted: the file, with its log, is as it was. The caller holds the turn."""
    clear(path)
    for quarantine in _quarantines(path):
        if _inode(quarantine) == _inode(path):
            log = beside(quarantine, "-wal")
            if os.path.lexists(log) and not os.path.lexists(beside(path, "-wal")):
                check_own(log, os.lstat(log))
                os.link(log, beside(path, "-wal"))
                # Who has it open, and the log that is gone, must see that it is another file now.
                copy_private(path, beside(path, ".new"))
                beside(path, "-shm").unlink(missing_ok=True)
                beside(path, ".new").replace(path)
            log.unlink(missing_ok=True)
            quarantine.unlink()


def names_of(path: Path, one: Path, found: os.stat_result) -> int:
    """How many names ``one``, the file or its log, has: with the one that a repair, going on or cut short, gave it."""
    suffix = one.name.removeprefix(path.name)
    return 1 + sum(_inode(beside(quarantine, suffix)) == inode_of(found) for quarantine in _quarantines(path))


def make_kept_private(path: Path) -> None:
    """Set the modes of the damaged files that were kept: they may have been restored together with this one."""
    for quarantine in _quarantines(path):
        for name in (quarantine, beside(quarantine, "-wal")):
            with suppress(OSError):  # nothing reads them but people: what is no file of ours is none of our concern
                os.close(open_private(name))


def _quarantines(path: Path) -> Iterator[Path]:
    number = 1
    while os.path.lexists(quarantine := beside(path, f".damaged-{number}")):
        yield quarantine
        number += 1


def _inode(path: Path) -> Inode | None:
    """Of what has this name itself, if it is a link; ``None`` if nothing has."""
    try:
        return inode_of(os.lstat(path))
    except FileNotFoundError:
        return None


def free_name(path: Path) -> Path:
    """The first name under which no damaged file is kept, nor the log of one."""
    number = 1
    while os.path.lexists(name := beside(path, f".damaged-{number}")) or os.path.lexists(beside(name, "-wal")):
        number += 1
    return name


def clear(path: Path) -> None:
    """Clear what an interrupted repair has left lying: that holds everybody's data."""
    for name in (".mending", ".new", ".blank"):
        for suffix in ("", "-wal", "-shm", "-journal"):
            left = beside(path, name + suffix)
            try:
                left.unlink(missing_ok=True)
            except OSError:
                check_own(left, os.lstat(left))  # says so, if it is a folder
                raise


def copy_private(path: Path, to: Path) -> None:
    """Copy a file of ours to a new one that only its owner may read. Raises `OSError`."""
    # Two names: a repair that was cut short has given it another one.
    with open(open_private(path, names=lambda *_: 2), "rb") as source, open(create_private(to), "wb") as target:
        shutil.copyfileobj(source, target, 1024 * 1024)


def keep(path: Path, quarantine: Path) -> None:
    """The same file and its log under other names, or copies of them where a file has one name only."""
    for suffix in ("-wal", ""):
        if beside(path, suffix).exists():
            try:
                os.link(beside(path, suffix), beside(quarantine, suffix))
            except OSError:
                copy_private(beside(path, suffix), beside(quarantine, suffix))
    sync_folder(path)
