"""How many bytes the event names of this process take together."""

from __future__ import annotations

MAX_TOTAL = 512 * 1024  # bytes; docs.userpilot.com, "Track events API", read 2026-10: unique names all together


class EventNames:
    """Remembers names up to the vendor's limit; beyond it only that it was passed."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        """Names that were counted."""
        self._size = 0

    def fits(self, name: str) -> bool:
        """Count a name that is not known yet; false if it does not fit under the limit any more.

        Two threads may read `known` at the same time and come here with the same name, one after the other.
        """
        if name in self.known:
            return True
        size = len(name.encode())
        if self._size + size > MAX_TOTAL:
            return False
        self._size += size
        self.known.add(name)
        return True
