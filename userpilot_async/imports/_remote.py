"""Files in a bucket, ``s3://`` and ``gs://``, through `fsspec` where it is installed.

Only these two: a name is never followed to another protocol, neither to a web server (``http://``) nor through a chain
of them (``simplecache::…``), because what is imported should be what was named. Read where it lies, a block at a time;
nothing is written there, so the journal and the refused rows are files of this machine.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import attrs

from ._physical_lines import UnreadableFile

PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
"""The schemes that are read, and the package that brings each of them to `fsspec`."""

_BLOCK = 8 * 1024 * 1024  # bytes that are asked for at once
_DIGESTS = ("ETag", "etag", "md5Hash", "md5", "crc32c")  # what a bucket says of a file's bytes, under its own name


def is_remote(name: str) -> bool:
    """Whether a name has a scheme, as no path of this machine has."""
    return "://" in name


@attrs.frozen
class RemoteFile:
    """A file in a bucket, or all that begin with a folder's name; made without a request.

    Raises `UnreadableFile` for a scheme that is not read, or for want of a package. What a bucket refuses is an
    `OSError`.
    """

    url: str
    _found: Any = attrs.field(default=None, alias="found", repr=False, eq=False)
    """The details of a file of a folder, as its list has them."""
    _system: Any = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        scheme = self.url.partition("://")[0]
        if scheme not in PACKAGES:
            read = ", ".join(f"{one}://" for one in PACKAGES)
            raise UnreadableFile(f"{scheme}:// is not read: only paths of this machine are, and {read}")
        package = PACKAGES[scheme]
        try:
            system = import_module("fsspec").filesystem(scheme)
        except ImportError as exc:
            raise UnreadableFile(f"{scheme}:// is read by a package that is missing: pip install {package}") from exc
        object.__setattr__(self, "_system", system)

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self._path.rpartition("/")[2]

    @property
    def _path(self) -> str:
        return self.url.partition("://")[2].rstrip("/")

    def exists(self) -> bool:
        """Whether there is such a file, or one that begins with this folder's name."""
        with _translated(self.url):
            return bool(self._system.exists(self._path))

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        if self._found is not None:
            return False
        with _translated(self.url):
            return bool(self._system.isdir(self._path))

    def size(self) -> int:
        """Bytes of the file, as the bucket says."""
        return int(self._details()["size"] or 0)

    def digest(self) -> str | None:
        """The bucket's word on the file's bytes; ``None`` if it has none, and they must be read for it."""
        details = self._details()
        known = [f"{name} {details[name]}" for name in _DIGESTS if details.get(name)]
        return known[0] if known else None

    def files(self) -> dict[str, RemoteFile]:
        """The files of a folder and those below it, by their names within it."""
        scheme = self.url.partition("://")[0]
        with _translated(self.url):
            root = self._system._strip_protocol(self._path).strip("/")
            found = self._system.find(self._path, detail=True)
        return {
            name.strip("/")[len(root) + 1 :]: RemoteFile(f"{scheme}://{name.strip('/')}", found=details)
            for name, details in found.items()
            if details.get("type") != "directory" and not name.endswith("/")
        }

    def open(self, mode: str, buffering: int = 0) -> io.RawIOBase:
        """Open it to be read, from any place on; ``mode`` and ``buffering`` are those of a path of this machine."""
        with _translated(self.url):
            return _Reading(self._system.open(self._path, "rb", block_size=_BLOCK), self.url)

    def _details(self) -> Any:
        if self._found is not None:
            return self._found
        with _translated(self.url):
            return self._system.info(self._path)


class _Reading(io.RawIOBase):
    """An open file of a bucket, whose errors are `OSError`."""

    def __init__(self, file: Any, url: str) -> None:
        self._file = file
        self._url = url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _translated(self._url):
            taken = self._file.read(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)

    def seek(self, offset: int, whence: int = 0) -> int:
        with _translated(self._url):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Raise what a package of a bucket raises as `OSError`."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # of packages that have trees of exceptions of their own
        raise OSError(f"{url} cannot be read: {type(error).__name__}: {error}") from error
