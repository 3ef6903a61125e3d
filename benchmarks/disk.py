"""Where the durable subjects keep their files: on one disk for all, and on a real one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.fresh import ROOT

_place = ROOT


def use(place: Path) -> None:
    """Keep the files there instead of in the checkout."""
    global _place
    _place = place


@contextmanager
def directory() -> Iterator[str]:
    """A new directory, gone afterwards: what one subject has not flushed must not slow down the syncs of the next."""
    with tempfile.TemporaryDirectory(prefix=".durable-", dir=_place, ignore_cleanup_errors=True) as path:
        yield path


def described() -> str:
    """The disk that the files are on."""
    mountinfo = Path("/proc/self/mountinfo")
    if not mountinfo.exists():
        return "unknown"
    place = _place.resolve()
    found: dict[Path, str] = {}
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, device, *_ = after.split()
        found[Path(before.split()[4])] = f"{kind} on {device}"
    at = max((mount for mount in found if place.is_relative_to(mount)), key=lambda mount: len(mount.parts))
    return found[at] + (": NOT A DISK, a sync costs nothing here" if found[at].startswith("tmpfs") else "")


def forget(path: Path) -> None:
    """Take a file, or what lies in a directory, out of the page cache, as after a reboot. Only Linux knows how."""
    if not hasattr(os, "posix_fadvise"):
        return
    for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
        if one.is_file():
            descriptor = os.open(one, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # only what is on the disk can be forgotten
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
