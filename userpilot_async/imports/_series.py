"""Files of one history: what one of them says of a user or a company is carried into the rows of the next."""

from __future__ import annotations

import hashlib
from os import PathLike

from anyio.to_thread import run_sync

from ._checking import checked_lines
from ._conversion import Conversion
from ._files import Location, file_of
from ._journal import Journal
from ._people import People
from ._remote import RemoteFile
from ._schema import About


class Series:
    """Of a history in several files: hand the same one to `import_file` for each of them, the oldest first.

    What it knows lies in a file without a name, and goes with the process or with `close`. A file that an earlier run
    imported to its end is not sent, but read again before the next one goes. Not for two imports at once.

    A conversion that joins anonymous people learns from all files of the series who they became, before the first one
    goes, if it was given the ``paths`` of them all; else from each file, and from those before it.
    """

    def __init__(self, *paths: str | PathLike[str] | RemoteFile) -> None:
        self.journal: Journal = Journal(None)
        self.journal.begin(About(name="series", source="series"), 0)
        self.so_far: str = ""
        """A digest that distinguishes the files so far from others."""
        self.people: People = People([file_of(path) for path in paths])
        """Who the anonymous ids of its files became."""
        self._unread: list[tuple[Location, Conversion]] = []

    async def catch_up(self) -> None:
        """Read the files that were passed over."""
        while self._unread:
            path, conversion = self._unread[0]
            await checked_lines(path, await self.people.joined(conversion, path), 0, into=self.journal)
            del self._unread[0]

    def pass_over(self, path: Location, conversion: Conversion, source: str) -> None:
        """A file that has been imported before."""
        self.read_first(path, conversion)
        self._note(source)

    def read_first(self, path: Location, conversion: Conversion) -> None:
        """A file of the next import that an earlier one had: its profiles are known to the rest of it."""
        self._unread.append((path, conversion))

    async def learn(self, journal: Journal, source: str) -> None:
        """Take the profiles of a file that has been imported now."""
        await run_sync(self._learn, journal)
        self._note(source)

    def close(self) -> None:
        """Forget all profiles of the series."""
        self.people.close()
        self.journal.close()

    def _learn(self, journal: Journal) -> None:
        with self.journal.change():
            self.journal.connection.executemany(
                "INSERT OR REPLACE INTO profiles VALUES (?, ?, ?)",
                journal.connection.execute("SELECT kind, key, known FROM profiles"),
            )

    def _note(self, source: str) -> None:
        self.so_far = hashlib.sha256(f"{self.so_far}\n{source}".encode()).hexdigest()
