"""Files as they come: plain, packed with gzip, in a zip or tar archive, or many of them in a folder.

What a file is, its first bytes say, whatever its name. The files of an archive or a folder are read one after the
other, each unpacked if it is gzip, as if they were one: their lines have one numbering, and their rows share uploads.
Those of a zip and of a folder come in the order of their names, numbers in these by their value; those of a tar file,
which can be read in one direction only, as they lie there. Memory is that of one buffer, and of the list of names.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Protocol, cast

from ._files import File, Files, Location
from ._physical_lines import UnreadableFile
from ._remote import RemoteFile

_BUFFER = 256 * 1024  # bytes; reads of this size cost a file of a million lines nothing that can be measured
_BOM = b"\xef\xbb\xbf"
GZIP, ZIP, PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_USTAR, _USTAR_AT = b"ustar", 257  # in the header of a tar file's first member
_OURS = (".import", ".import-wal", ".import-shm", ".rejected.ndjson")  # what an import leaves beside a file
_NOT_DATA = ("__MACOSX/",)

_numbers_in = re.compile(r"\d+").sub
_BROKEN = (gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, NotImplementedError)


class Position(Protocol):
    """The place up to which a source was read."""

    def tell(self) -> int:
        """Bytes as they lie on the disk."""
        ...


Streams = Iterator[tuple[str, io.BufferedReader]]
"""The names of files within an archive or a folder, and their contents; a plain file is one without a name."""


@contextmanager
def opened(path: File) -> Generator[tuple[Position, Streams]]:
    """The position in the file or folder, and what is in it, unpacked and without byte order marks.

    Raises `UnreadableFile` for what cannot be read as text, or breaks off, and `OSError`.
    """
    if path.is_dir():
        with _Members(((name, one.open) for name, one in files_in(path)), path) as members, broken_off():
            yield members, members.streams()
        return
    with path.open("rb", buffering=0) as file:
        if not file.seekable():
            raise UnreadableFile("it must be a file that can be read again, not a pipe")
        with broken_off(), _unpacked(file, path) as found:
            yield found


def files_in(folder: File) -> Sequence[tuple[str, File]]:
    """The files of a folder and those below it, by their names within it, in the order in which they are read.

    Hidden ones are left out, and what an import or a dry run has left there.
    """
    found: Mapping[str, File]
    if isinstance(folder, RemoteFile):
        found = folder.files()
        return [(name, found[name]) for name in sorted(filter(_is_data, found), key=_natural)]
    found = {
        one.relative_to(folder).as_posix(): one
        for one in folder.rglob("*")
        if one.is_file() and not any(part.endswith(".upload") for part in one.relative_to(folder).parts[:-1])
    }
    return [(name, found[name]) for name in sorted(filter(_is_data, found), key=_natural)]


def size_of(path: Location) -> int:
    """Bytes of the file, or of all of several or of a folder, as they lie on the disk."""
    if isinstance(path, Files):
        return sum(size_of(one) for one in path.paths if one.exists())  # those that were read may be gone
    if path.is_dir():
        return sum(size_of(one) for _, one in files_in(path))
    return path.size() if isinstance(path, RemoteFile) else path.stat().st_size


def is_container(path: File) -> bool:
    """Whether it may have several files in it, whose lines are read as those of one."""
    if path.is_dir():
        return True
    with path.open("rb", buffering=0) as file:
        return file.read(len(ZIP)) == ZIP or _is_tar(file)


@contextmanager
def broken_off() -> Generator[None]:
    """Raise what is wrong with a packed file, or an archive, as `UnreadableFile`."""
    try:
        yield
    except _BROKEN as exc:
        raise UnreadableFile(f"the file breaks off: {exc}") from exc
    except RuntimeError as exc:  # zipfile's, for want of a password
        if "password" not in str(exc):
            raise
        raise UnreadableFile("the archive is encrypted") from exc


@contextmanager
def _unpacked(file: io.RawIOBase, path: File) -> Generator[tuple[Position, Streams]]:
    begins = file.read(len(ZIP))
    tar = _is_tar(file)
    file.seek(0)
    if begins == ZIP:
        if not zipfile.is_zipfile(cast("IO[bytes]", file)):
            raise UnreadableFile("the file is not text (it has zero bytes), but a zip archive that breaks off")
        file.seek(0)
        with zipfile.ZipFile(cast("IO[bytes]", file)) as archive:
            found = [one for one in archive.infolist() if not one.is_dir()]  # of one name there may be several
            found.sort(key=lambda one: _natural(one.filename))
            with _Members(((one.filename, _in_zip(archive, one)) for one in found), path) as members:
                yield file, members.streams()
    elif tar:
        with (
            tarfile.open(fileobj=cast("IO[bytes]", file), mode="r|*") as tape,
            _Members(_in_tar(tape), path) as members,
        ):
            yield file, members.streams()
    else:
        # GzipFile has the reading half of what RawIOBase is, which is all that is asked of it here.
        inner: Any = gzip.GzipFile(fileobj=cast("Any", file), mode="rb") if begins.startswith(GZIP) else file
        with io.BufferedReader(inner, _BUFFER) as stream:
            yield file, iter([("", without_mark(stream))])


def without_mark(stream: io.BufferedReader) -> io.BufferedReader:
    """The stream behind its byte order mark, if it begins with one."""
    if stream.peek(len(_BOM)).startswith(_BOM):
        stream.read(len(_BOM))
    return stream


def _is_tar(file: io.RawIOBase) -> bool:
    """Whether it begins as a tar file, packed or not; moves the position."""
    file.seek(0)
    packed = file.read(len(GZIP)) == GZIP
    file.seek(0)
    inner: Any = gzip.GzipFile(fileobj=cast("IO[bytes]", file), mode="rb") if packed else file
    try:
        return bool(inner.read(_USTAR_AT + len(_USTAR))[_USTAR_AT:] == _USTAR)
    except _BROKEN:
        return False  # it is found out again when it is read


def _in_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[str], IO[bytes]]:
    return lambda mode: archive.open(member)


def _in_tar(archive: tarfile.TarFile) -> Iterator[tuple[str, Callable[[str], IO[bytes]]]]:
    for member in archive:
        if member.isfile():
            inner = cast("IO[bytes]", archive.extractfile(member))
            yield member.name, _given(inner)


def _given(inner: IO[bytes]) -> Callable[[str], IO[bytes]]:
    return lambda mode: inner


def _is_data(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and not name.startswith(_NOT_DATA) and not name.endswith(_OURS)


def _natural(name: str) -> tuple[str, str]:
    """A text by which names sort, numbers in them by their value: hour 4 before hour 10."""
    return _numbers_in(lambda number: number[0].zfill(20), name), name


class _Members:
    """The files of an archive or a folder, one open at a time."""

    def __init__(self, members: Iterator[tuple[str, Callable[[str], Any]]], container: File) -> None:
        self._members = ((name, open_) for name, open_ in members if _is_data(name))
        self._container = container
        self._present: io.BufferedReader | None = None
        self._file: IO[bytes] | None = None
        self._passed = 0

    def __enter__(self) -> _Members:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_present()

    def tell(self) -> int:
        """Bytes of a folder's files as they lie on the disk, up to the place where reading stands."""
        return self._passed + (0 if self._file is None or self._file.closed else self._file.tell())

    def streams(self) -> Streams:
        """Each name, and the stream of what is in that file: closed when the next one is asked for."""
        for name, open_ in self._members:
            self._file = open_("rb")
            stream = io.BufferedReader(cast("Any", self._file), _BUFFER)
            if stream.peek(len(GZIP)).startswith(GZIP):
                stream = io.BufferedReader(cast("Any", gzip.GzipFile(fileobj=stream, mode="rb")), _BUFFER)
            begins = stream.peek(_USTAR_AT + len(_USTAR))
            if begins.startswith((ZIP, PARQUET)) or begins[_USTAR_AT:].startswith(_USTAR):
                kind = "a Parquet file" if begins.startswith(PARQUET) else "an archive"
                raise UnreadableFile(f"{name}, within {self._container.name}, is {kind}: JSON lines are read")
            self._present = without_mark(stream)
            yield name, self._present
            self._close_present()

    def _close_present(self) -> None:
        if self._file is not None and not self._file.closed:
            self._passed += self._file.tell()
        for stream in (self._present, self._file):
            if stream is not None:
                stream.close()
        self._present = self._file = None
