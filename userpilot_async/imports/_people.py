"""The persons whom the anonymous ids of some files became, learnt for all of them before one is converted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import anyio
from anyio.to_thread import run_sync

from ._anonymous import WAITING, Learning
from ._conversion import Conversion
from ._files import File, ListedFile, Location, each
from ._identity_store import IdentityStore
from ._report import ImportProgress
from ._sources import fingerprint

OnProgress = Callable[[ImportProgress], object]


class People:
    """The first pass over the files of an import that joins anonymous people; nothing for other imports."""

    def __init__(self, paths: Iterable[File] = ()) -> None:
        """``paths``: all files that are to be learnt from, before the first of them is converted."""
        self._paths = list(paths)
        self._more: list[File] = []
        self._learnt: set[tuple[File, str]] = set()
        self._store: IdentityStore | None = None
        self._fingerprints: list[str] | None = None

    def also(self, paths: Iterable[File]) -> None:
        """Learn from these, too, behind the others, before a file is converted from now on."""
        self._more += paths

    async def joined(
        self, conversion: Conversion, location: Location, on_progress: OnProgress | None = None
    ) -> Conversion:
        """The conversion of a file, or of several, that knows who its people became; the same if nobody is joined.

        Raises `UnreadableFile` and `OSError`.
        """
        if conversion.anonymous != "join" or conversion.tool is None:
            return conversion
        known = [*self._paths, *self._more, *each(location)]
        unread = [one for one in dict.fromkeys(known) if (one, conversion.tool) not in self._learnt]
        if self._store is None:
            self._store = await run_sync(IdentityStore)
        if unread:
            await self._learn(unread, conversion.tool, self._store, on_progress)
        return conversion.joined(self._store)

    async def digest(self, conversion: Conversion, listed: Sequence[ListedFile] = ()) -> str:
        """A text that tells the files that are learnt from beforehand from others; empty if there are none.

        ``listed``: files that are imported as one, which are read in the order of their journal, whatever theirs is.
        """
        if conversion.anonymous != "join" or not (self._paths or listed):
            return ""
        if self._fingerprints is None:
            self._fingerprints = [await fingerprint(path) for path in self._paths]
        found = [*self._fingerprints, *sorted(one.fingerprint for one in listed)]
        return hashlib.sha256("\n".join(found).encode()).hexdigest()

    def close(self) -> None:
        """Forget whom the ids became."""
        if self._store is not None:
            self._store.close()
            self._store = None

    async def _learn(self, paths: list[File], tool: str, store: IdentityStore, on_progress: OnProgress | None) -> None:
        begun = anyio.current_time()
        learning = await run_sync(Learning, paths, tool, store)
        try:
            while not await run_sync(learning.step):
                if on_progress is not None:
                    on_progress(
                        ImportProgress(
                            bytes_read=learning.bytes_read,
                            bytes_total=learning.bytes_total,
                            waiting_for=WAITING,
                            elapsed=anyio.current_time() - begun,
                        )
                    )
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(learning.close)
        self._learnt |= {(path, tool) for path in paths}
