"""The keys of ``dedupe=`` that were accepted in this process, and which calls have them: bounded, and for a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .._calls.dedupe import DedupeKey

MOST_KEYS = 100_000  # kept: some 30 MB

Entry = tuple[bytes, float, int, bytearray]
"""A key's digest, until when it counts, the id of the call that has it, and the page where its outcome is written."""


class AcceptedKeys:
    """The newest ``most`` keys. ``forgets`` is called each time that one goes which counted still."""

    def __init__(self, most: int = MOST_KEYS, forgets: Callable[[], object] = lambda: None) -> None:
        self._most = most
        self._forgets = forgets
        self._entries: dict[bytes, Entry] = {}
        self._in_order: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: DedupeKey, now: float) -> tuple[int, bytearray] | None:
        """The call that was accepted with this key: its id and page; ``None`` if none was, or too long ago."""
        entry = self._entries.get(key.digest)
        if entry is None:
            return None
        _, until, call_id, page = entry
        return (call_id, page) if now < until else None

    def add(self, key: DedupeKey, now: float, call_id: int, page: bytearray) -> None:
        """A call with this key is accepted, and no other one has it."""
        entry = key.digest, now + key.seconds, call_id, page
        self._entries[key.digest] = entry
        self._in_order.append(entry)
        while self._in_order:
            digest, until, _, _ = oldest = self._in_order[0]
            counts = now < until
            if counts and len(self._in_order) <= self._most:
                return
            self._in_order.popleft()
            if self._entries.get(digest) is oldest:  # or it was accepted anew since
                del self._entries[digest]
            if counts:
                self._forgets()

    def shift(self, seconds: float) -> None:
        """Go on by another clock, which is ahead of the last one by so much."""
        moved = [(digest, until + seconds, call_id, page) for digest, until, call_id, page in self._in_order]
        self._in_order = deque(moved)
        self._entries = {entry[0]: entry for entry in moved}  # of two with one key the later one, as before
