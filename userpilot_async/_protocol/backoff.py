"""How long to leave the server alone: full jitter, a gate before each route, and the pace of uploaded files."""

from __future__ import annotations

import math
from collections.abc import Callable

FIRST_BACKOFF = 0.5  # seconds
LONGEST_BACKOFF = 60.0
PROBE_AFTER = 5  # failures in a row; after that one request at a time
LONGEST_PROBE = 30.0  # seconds between two probes, so that an outage's end is noticed within half a minute
BUSY_FIRST, BUSY_LONGEST = 5.0, 30.0  # seconds to wait after a 409, doubling
HOLD_PROBE = 60.0  # seconds between two probes whether a refused key or a wrong URL is right again


def backoff(attempts: int, chance: float, longest: float = LONGEST_BACKOFF) -> float:
    """Full jitter: anything between 0 and the doubled pause, ``chance`` in 0 … 1.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: spreads a herd best.
    """
    ceiling: float = min(longest, FIRST_BACKOFF * 2.0 ** min(attempts, 16))
    return chance * ceiling


class Gate:
    """Open, shut for a while, or open for one at a time."""

    def __init__(self) -> None:
        self.until = 0.0
        self._taken_at = -math.inf
        self._newest_taken = -1
        self._refusals = 0
        self._failures = 0
        self._limits = 0
        self._inside = 0

    @property
    def failures(self) -> int:
        """Requests in a row that came to nothing."""
        return self._failures

    @property
    def failing(self) -> bool:
        """Several requests in a row came to nothing."""
        return self._failures >= PROBE_AFTER

    def opens_at(self, now: float) -> float:
        """When the next request may pass; ``inf`` while a probe is under way."""
        if self._failures >= PROBE_AFTER and self._inside:
            return math.inf
        return max(now, self.until)

    def enter(self) -> None:
        """A request goes through; it must `leave` again."""
        self._inside += 1

    def leave(self) -> None:
        """The request has ended, in whatever way."""
        self._inside -= 1

    def succeeded(self, now: float, number: int) -> None:
        """The server takes requests: everybody may go. ``number`` counts requests as they begin."""
        self._failures = self._limits = self._refusals = 0
        self._taken_at = now
        self._newest_taken = max(self._newest_taken, number)

    def is_past(self, number: int) -> bool:
        """A request that had begun later was taken: what is said of this one was true before that."""
        return number < self._newest_taken

    def refused(self, now: float, *, at_once: bool = True) -> bool:
        """A request was refused in a way that speaks of key or URL; true if that is to be believed.

        Where others were taken within a minute it may be about the one; a second in a row is not. Nor is the first
        one believed that may be an accident (``at_once`` is false): an answer that broke off.
        """
        self._refusals += 1
        return self._refusals > 1 or (at_once and now - self._taken_at > HOLD_PROBE)

    def failed(self, now: float, asked: float, chance: float) -> None:
        """The server is not well. ``asked`` is how long it asked to be left alone, in seconds."""
        self._failures += 1
        pause = asked
        if self._failures >= PROBE_AFTER:
            pause = max(asked, backoff(self._failures - PROBE_AFTER + 1, chance, LONGEST_PROBE))
        self.until = max(self.until, now + pause)

    def limited(self, now: float, asked: float) -> None:
        """429: the whole route waits; longer each time in a row, for a server that does not say how long."""
        if now >= self.until:  # the others that were in flight say the same thing again
            self._limits += 1
        self.until = max(self.until, now + max(asked, min(LONGEST_BACKOFF, 2.0 ** min(self._limits - 1, 16))))


class Pace:
    """How long to leave the server alone after failures in a row; the files of one owner share it.

    ``chance`` gives numbers in 0 … 1 for the jitter; ``shortest`` is the least pause after a failure, in seconds.
    """

    def __init__(self, chance: Callable[[], float], shortest: float = 0.0) -> None:
        self.failures: int = 0
        """Requests in a row that came to nothing."""
        self._chance = chance
        self._shortest = shortest
        self._conflicts = 0

    def answered(self) -> None:
        """The server has answered a request."""
        self.failures = 0

    def taken(self) -> None:
        """The server has taken a file."""
        self.failures = self._conflicts = 0

    def failed(self, asked: float, now: float) -> float:
        """When to try again after a failure; ``asked`` is how many seconds the server wants to be left alone."""
        self.failures += 1
        return now + max(asked, self._shortest, backoff(self.failures, self._chance()))

    def conflicted(self, asked: float, now: float) -> float:
        """When to try again after a 409; ``asked`` as in `failed`."""
        self._conflicts += 1
        return now + max(asked, min(BUSY_LONGEST, BUSY_FIRST * 2.0 ** min(self._conflicts - 1, 16)))
