"""A limit without documentation, learned from what the server refuses: of a file's bytes, and of its lines."""

from __future__ import annotations


class LearnedLimit:
    """At most ``most`` at first; half of what was refused after that, and twice as much after ``tries`` that fitted.

    The one that was refused may have been one row's fault, so that a larger one is tried now and then.
    """

    def __init__(self, most: int, tries: int) -> None:
        self.value = most
        """What may go at once."""
        self._most = most
        self._tries = tries
        self._fitting = 0

    def fitted(self) -> None:
        """The server has taken what was within the limit."""
        self._fitting += 1
        if self._fitting >= self._tries:
            self._fitting, self.value = 0, min(self._most, 2 * self.value)

    def refused(self, size: int) -> None:
        """The server has refused so much at once."""
        # Half, not a byte less: the next one would be filled up to what was just refused, and be refused.
        self._fitting, self.value = 0, max(1, min(self.value, size // 2))
