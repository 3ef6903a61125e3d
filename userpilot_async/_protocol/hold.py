"""A refused key, a wrong URL, a web page in place of the API: nothing is sent, and one request a minute probes."""

from __future__ import annotations

import math

from .backoff import HOLD_PROBE


class Hold:
    """Why nothing is sent, if so, and when one request may probe whether it is still so.

    Requests have numbers, in the order in which they began. Answers come in any order: one to a request that had
    begun before the hold says nothing new, unless it is a yes.
    """

    def __init__(self) -> None:
        self.why: str | None = None
        self._about: object = None
        self._last_before = -1  # the newest request that had begun when the hold did
        self._probe = -1  # the number of the request that probes; -1 if none does
        self._probe_at = 0.0

    def opens_at(self, now: float) -> float:
        """When the next request may begin; ``inf`` while one probes."""
        if self.why is None:
            return now
        return math.inf if self._probe >= 0 else max(now, self._probe_at)

    def began(self, number: int, now: float) -> None:
        """A request begins; while something is held, it is the probe."""
        if self.why is not None:
            self._probe, self._probe_at = number, now + HOLD_PROBE

    def ended(self, number: int) -> None:
        """The request of this number has ended, in whatever way."""
        if number == self._probe:
            self._probe = -1

    def close(self, why: str, ids: str, number: int, newest: int, now: float, *, about: object = None) -> None:
        """The answer to this request says that nothing will be taken; ``newest`` is the last one that has begun.

        ``ids`` differ from answer to answer, and ``why`` with the route that was asked: a hold that goes on ``about``
        the same thing (by default, of the same words) keeps its first text, or each probe would be news.
        """
        about = why if about is None else about
        if self.why is not None and number <= self._last_before:
            return
        if self.why is None or about != self._about:
            self.why, self._about = f"{why} {ids}".rstrip(), about
        self._last_before, self._probe_at = newest, now + HOLD_PROBE

    def lift(self, number: int, *, taken: bool) -> None:
        """The server has answered this request in some other way; ``taken`` says that it took it."""
        if taken or number > self._last_before:
            self.why = None
