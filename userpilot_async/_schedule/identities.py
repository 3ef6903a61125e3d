"""Keys that are one person's (union-find): aliases say so, and are remembered."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

MAX_KEYS = 100_000  # joined keys remembered, about 20 MB
SCANNED = 100  # of the oldest, for one to forget: first whose person has nothing waiting, so that no order is lost


class Identities:
    """Each joined key points to the one that its person's calls wait under."""

    def __init__(self) -> None:
        self._leads_to: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._leads_to)

    def find(self, key: str) -> str:
        """The key that stands for this person."""
        end = key
        while end in self._leads_to:
            end = self._leads_to[end]
        while key != end:  # next time the way is short
            self._leads_to[key], key = end, self._leads_to[key]
        return end

    def join(self, key: str, to: str, in_use: Callable[[str], bool]) -> None:
        """From now on ``key`` is the same as ``to``; both stand for their persons, and differ."""
        if len(self._leads_to) >= MAX_KEYS:
            oldest = [known for known in islice(self._leads_to, SCANNED) if not in_use(known)]
            idle = (known for known in oldest if not in_use(self.find(known)))
            forgotten = next(idle, oldest[0] if oldest else None)
            if forgotten is not None:
                del self._leads_to[forgotten]
        self._leads_to[key] = to
