"""SQLiteOutbox: a file, on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .._errors.foreign import must_be
from .._errors.tree import ConfigurationError
from .._outbox.durable import DurableOutbox
from .._outbox.url import flag_in_url, may_be_url, quoted
from ._file import SYNCHRONOUS, Durability, File
from ._store import SQLiteStore

if TYPE_CHECKING:
    from ._admin import SQLiteAdmin

MAX_BYTES = 1024**3


def _file(path: str | os.PathLike[str]) -> Path:
    try:
        file = Path(path)
    except TypeError:
        raise ConfigurationError(f"path {must_be('str or os.PathLike', path)}") from None
    if not file.name or "\0" in str(file):
        raise ConfigurationError("path is no name of a file")
    if str(file) == ":memory:":  # SQLite's own word
        raise ConfigurationError("path names SQLite's database in memory, which keeps nothing: use memory://, or none")
    if may_be_url(str(file)) and not os.path.exists(file):
        raise ConfigurationError(
            "path is a URL, not the name of a file: give it as outbox=, and check how it is written"
        )
    return file.absolute()


class SQLiteOutbox(DurableOutbox):
    """A file in which accepted calls wait.

    When `track` returns, the call is in the file: it survives a ``kill -9`` (``durability="process"``), or a power cut
    too (``"power"``, for which each commit waits for the disk). All processes of one host that open the same file share
    one sender; when that ends, in whatever way, another one goes on. With ``sender=False`` this process only puts.

    ``max_bytes`` of encoded calls wait at most (the file is about a quarter larger); then `Settings.when_full` decides.
    ``rebind`` gives the file to the account and the server of the client that opens it. Raises `ConfigurationError`;
    opening raises `OutboxError`.
    The file must be on a local disk, and this user's own; links in its place or beside it are refused.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "power",
        sender: bool = True,
        max_bytes: int = MAX_BYTES,
        rebind: bool = False,
    ) -> None:
        if not isinstance(durability, str) or durability not in SYNCHRONOUS:
            raise ConfigurationError('durability must be "power" or "process"')
        for name, flag in (("sender", sender), ("rebind", rebind)):
            if type(flag) is not bool:
                raise ConfigurationError(f"{name} {must_be('True or False', flag)}")
        super().__init__(sender=sender, max_bytes=max_bytes, rebind=rebind)
        self.path: Path = _file(path)
        self.place: str = str(self.path)
        self._durability: Durability = durability

    @classmethod
    def from_url(cls, url: str) -> SQLiteOutbox:
        """``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db``.

        Options are written as ``?durability=process&sender=false&max_bytes=1000000``. Raises `ConfigurationError`.
        """
        forms = "a SQLite outbox is sqlite:///events.db, or sqlite:////var/lib/app/events.db; in memory it is memory://"
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ConfigurationError(forms) from None
        path = unquote(parts.path)[1:]
        if parts.netloc or parts.fragment or not path:
            raise ConfigurationError(forms)
        options: dict[str, Any] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name == "durability":
                options[name] = value
            elif name == "sender":
                options[name] = flag_in_url(name, value)
            elif name == "max_bytes":
                if not value.isdecimal() or len(value) > 18:
                    raise ConfigurationError(f"max_bytes must be a whole number of bytes, not {quoted(value)}")
                options[name] = int(value)
            else:
                known = "durability, sender and max_bytes"
                raise ConfigurationError(f"{quoted(name)} is no option of a SQLite outbox; those are {known}")
        return cls(path, **options)

    def that_sends(self) -> SQLiteOutbox:
        """The same, not open, for a process that may send, too."""
        return type(self)(
            self.path, durability=self._durability, max_bytes=self._max_bytes, rebind=self._rebind, sender=True
        )

    def _new_store(self) -> SQLiteStore:
        file = File(self.path, self._durability, pause=self._pause, warn=self._warn)
        return SQLiteStore(file, may_send=self._may_send, learn=self._session.learn_pairs)

    def admin(self) -> SQLiteAdmin:
        """The file from outside, for people, whether this is open or not."""
        from ._admin import SQLiteAdmin  # which clients do not need

        return SQLiteAdmin(self.path)
