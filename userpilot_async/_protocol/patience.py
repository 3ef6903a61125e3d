"""How long a request waits for its answer, where the server goes on with what has timed out."""

from __future__ import annotations


class Patience:
    """The seconds to wait for an answer, by endpoint: after each time-out twice as long, up to the longest.

    A server that goes on with what has timed out does it all once more each time that it is sent again.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._grown: dict[str, float] = {}

    def seconds(self, endpoint: str) -> float:
        """The seconds that the next request to this endpoint may take."""
        return self._grown.get(endpoint, self._shortest)

    def too_short(self, endpoint: str) -> None:
        """A request was not answered in that time."""
        self._grown[endpoint] = min(2 * self.seconds(endpoint), self._longest)

    def answered(self, endpoint: str, took: float) -> None:
        """An answer came after so many seconds: one within the usual time ends the longer ones."""
        if self._grown and took <= self._shortest:
            self._grown.pop(endpoint, None)
