"""Several files that are imported together: named, and compared with those that a journal knows."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from ._remote import RemoteFile, is_remote

SEVERAL = ".and-more"  # behind the first one's name, in the names of what lies beside the files
_NAMED = 3  # files that a sentence names


File = Path | RemoteFile
"""A file, an archive or a folder, on this machine or in a bucket."""


@attrs.frozen
class Files:
    """Files whose rows share uploads, in the order in which they are read."""

    paths: tuple[File, ...]

    def __str__(self) -> str:
        first, *others = self.paths
        return f"{first} and {len(others):,} more" if others else str(first)


Location = File | Files
"""The origin of an import's lines: a file, an archive, a folder, or several of these."""

AnyLocation = str | os.PathLike[str] | RemoteFile | Sequence[str | os.PathLike[str] | RemoteFile]
"""A path, or a list of them."""


def location_of(given: AnyLocation) -> Location:
    """The file or the files that a caller has named, each once; raises `ValueError` for none."""
    if isinstance(given, (str, os.PathLike, RemoteFile)):
        return file_of(given)
    found: dict[str | RemoteFile, File] = {}
    for path in map(file_of, given):
        found.setdefault(_place_of(path), path)
    paths = list(found.values())
    if not paths:
        raise ValueError("path must name a file: the list is empty")
    return Files(tuple(paths)) if len(paths) > 1 else paths[0]


def _place_of(path: File) -> str | RemoteFile:
    """The file by its place on the disk, also if it is given by a link."""
    return os.path.realpath(path) if isinstance(path, Path) else path


def file_of(given: str | os.PathLike[str] | RemoteFile) -> File:
    """The file that a name is of, ``s3://`` and ``gs://`` ones included; raises `UnreadableFile` for other schemes."""
    if isinstance(given, (Path, RemoteFile)):
        return given
    return RemoteFile(given) if isinstance(given, str) and is_remote(given) else Path(given)


def each(location: Location) -> tuple[File, ...]:
    """The files of a location, of which there may be one."""
    return location.paths if isinstance(location, Files) else (location,)


def is_local(location: Location) -> bool:
    """Whether something can lie beside it."""
    return isinstance(each(location)[0], Path)


def check_max_rows(max_rows: object) -> None:
    """Raise `ValueError` for what is no number of rows that an upload may have."""
    if type(max_rows) is not int or max_rows < 1:
        raise ValueError("max_rows must be an int above 0")


def beside(location: Location, suffix: str) -> Path:
    """The path of what lies beside a file, or beside the first of several."""
    path = each(location)[0]
    if not isinstance(path, Path):
        raise ValueError(f"journal is missing: nothing lies beside {path}, so name a place for it on this machine")
    several = SEVERAL if isinstance(location, Files) else ""
    return path.with_name(f"{path.name}{several}{suffix}")


@attrs.frozen
class Start:
    """The place at which a file begins, among the lines of an archive, a folder, or several files."""

    before: int
    """Number of the lines before it."""
    name: str
    file: int = 0
    """The place, among several files, of this one or of the archive or folder that has it, from 0."""


def located(starts: Sequence[Start], number: int) -> tuple[str, int]:
    """The name of the file that a line is in, and its number there; no name where there is one file only."""
    place = bisect_left(starts, number, key=lambda start: start.before) - 1
    return (starts[place].name, number - starts[place].before) if place >= 0 else ("", number)


@attrs.frozen
class ListedFile:
    """A file of a list, as it was given or as a journal knows it."""

    name: str
    fingerprint: str
    imported: str = ""
    """When its import came to an end, for people; empty if it has not."""


@attrs.frozen
class Difference:
    """The differences of two lists of files, as places in these."""

    same: tuple[tuple[int, int], ...]
    """(place in the known list, place in the given one), in the order of the known one."""
    changed: tuple[tuple[int, int], ...]
    """The same for files of one name whose bytes are others."""
    gone: tuple[int, ...]
    """Places in the known list of files that were not given."""
    added: tuple[int, ...]
    """Places in the given list of files that are not known."""


def difference(known: Sequence[ListedFile], given: Sequence[ListedFile]) -> Difference:
    """The files that are known, whatever their names are now, and the others; each is counted once."""
    by_both: dict[tuple[str, str], list[int]] = {}
    for place, file in enumerate(given):
        by_both.setdefault((file.name, file.fingerprint), []).append(place)
    there: dict[int, int] = {}
    for place, file in enumerate(known):
        if found := by_both.get((file.name, file.fingerprint)):
            there[place] = found.pop(0)
    _match([file.fingerprint for file in known], [file.fingerprint for file in given], there)
    same = tuple(sorted(there.items()))
    _match([file.name for file in known], [file.name for file in given], there)
    return Difference(
        same,
        tuple(sorted(there.items() - set(same))),
        tuple(place for place in range(len(known)) if place not in there),
        tuple(sorted(set(range(len(given))) - set(there.values()))),
    )


def _match(known: Sequence[str], given: Sequence[str], there: dict[int, int]) -> None:
    """Put into ``there`` what is equal and was not there yet, the first with the first."""
    taken = set(there.values())
    places: dict[str, list[int]] = {}
    for place, text in enumerate(given):
        if place not in taken:
            places.setdefault(text, []).append(place)
    for place, text in enumerate(known):
        if place not in there and places.get(text):
            there[place] = places[text].pop(0)


def named(files: Iterable[str]) -> str:
    """The names of the first few files, and how many others there are."""
    names = [Path(file).name for file in files]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
