"""The token bucket: how many requests may go, and when the next one may.

The promise is at most ``limit`` requests in *any* 60 seconds as the server counts them. A token goes out
with its request and comes back 60 s after the *response*: the server stamped the request somewhere in
between, so two stamps of the same token are always more than 60 s apart, under any network delay and for any
window the server may use. A bucket keyed on the time of sending cannot promise that.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

PERIOD = 60.0  # seconds; the vendor's limits are per minute
LOST = 30.0  # seconds more for an answer that never came: the server may still be about to stamp the request
_WHOLE = 1.0 - 1e-9  # a token, give or take what floats lose when a clock is added up
LONGEST_RESET = PERIOD  # a window is a minute, so no reset lies further off than this


class Bucket:
    """``limit`` tokens for a sliding minute, at most ``burst`` of them at once, the rest spaced evenly."""

    def __init__(self, limit: int | None, burst: int, now: float) -> None:
        self._configured = math.inf if limit is None else limit
        self.limit = self._configured
        """Requests a minute: what was configured (``inf`` for no limit), or less if the server says less."""
        self._burst = float(min(burst, self.limit)) if limit is not None else math.inf
        self._level = self._burst  # how much of a burst is saved up
        self._level_at = now
        self._in_flight = 0
        self._returning: list[float] = []  # heap: when each used token comes back
        self._server_left: float = math.inf  # what the server's window still takes
        self._server_until = now

    def ready_at(self, now: float) -> float:
        """The earliest time at which a token can be taken: ``now``, or later; ``inf`` until a response comes."""
        self._refresh(now)
        earliest = now
        missing = self._in_flight + len(self._returning) + 1 - self.limit  # over 1 where the limit was lowered
        if missing > len(self._returning):
            return math.inf
        if missing > 0:
            earliest = max(earliest, heapq.nsmallest(int(missing), self._returning)[-1])
        if self._level < _WHOLE:
            earliest = max(earliest, self._level_at + (1.0 - self._level) * self._interval)
        if self._server_left < _WHOLE and self._server_until > now:
            earliest = max(earliest, self._server_until)
        return earliest

    def take(self, now: float) -> bool:
        """Take a token if there is one. Each token taken must come back by `answered` or `lost`."""
        if self.ready_at(now) > now:
            return False
        self._in_flight += 1
        self._level -= 1.0
        self._server_left -= 1.0
        return True

    def answered(self, now: float) -> None:
        """The response to a request arrived: its token comes back in a minute."""
        self._comes_back(now + PERIOD)

    def lost(self, now: float) -> None:
        """No response arrived: the server may stamp the request a little later still."""
        self._comes_back(now + PERIOD + LOST)

    def unsent(self) -> None:
        """The request never left this machine: its token is back at once."""
        self._in_flight -= 1
        self._level = min(self._burst, self._level + 1.0)
        self._server_left += 1.0

    def heard(self, limit: int | None, remaining: int | None, reset: float | None, now: float) -> None:
        """Believe the rate headers where they ask for less; ``reset`` is a delay in seconds from ``now``.

        Other processes and other tools spend from the same budget, and ``remaining`` is the only word about them.
        Requests of ours that are still in flight may not be counted in it yet.
        """
        if limit is not None and limit > 0:
            self.limit = min(self._configured, limit)
        if remaining is None or reset is None or remaining < 0:
            return
        self._refresh(now)
        until = now + min(max(reset, 0.0), LONGEST_RESET)
        left = float(max(remaining - self._in_flight, 0))
        if until > self._server_until + PERIOD / 2:  # the next window
            self._server_left, self._server_until = left, until
        elif until > self._server_until - PERIOD / 2:  # the same one, as far as clocks of whole seconds can tell
            self._server_left, self._server_until = min(self._server_left, left), max(self._server_until, until)

    def inherit(self, returning: Iterable[float], now: float) -> None:
        """Tokens that others took, who are gone: each comes back in so many seconds."""
        returning = list(returning)
        self._refresh(now)
        self._returning += [now + seconds for seconds in returning]
        heapq.heapify(self._returning)
        self._level = max(0.0, self._level - len(returning))

    def inherit_nothing(self, seconds: float, now: float) -> None:
        """Count the whole budget as spent for so many seconds: what others took is not known."""
        if math.isfinite(self.limit):
            self.inherit([seconds] * int(self.limit - len(self._returning)), now)

    def time_for(self, requests: int, now: float) -> float:
        """Seconds until so many requests can have gone, one after the other."""
        self._refresh(now)
        ready = self.ready_at(now)
        first = ready - now if ready < math.inf else 0.0
        return max(first, (requests - self._level) * self._interval) if requests else 0.0

    def left(self, now: float) -> int | None:
        """Tokens that could still be taken within this minute; ``None`` without a limit."""
        self._refresh(now)
        free = min(self.limit - self._in_flight - len(self._returning), self._server_left)
        return None if free == math.inf else max(0, int(free))

    def glance(self, now: float) -> int | None:
        """As `left`, and changes nothing: for a thread that reads while another one takes."""
        returning = sum(at > now for at in list(self._returning))
        free = min(
            self.limit - self._in_flight - returning, math.inf if self._server_until <= now else self._server_left
        )
        return None if free == math.inf else max(0, int(free))

    def _comes_back(self, at: float) -> None:
        self._in_flight -= 1
        if self.limit < math.inf:  # without one, 2,000 a second would be remembered for a minute
            heapq.heappush(self._returning, at)

    @property
    def _interval(self) -> float:
        return PERIOD / self.limit

    def _refresh(self, now: float) -> None:
        while self._returning and self._returning[0] <= now:
            heapq.heappop(self._returning)
        if now > self._level_at:
            self._level = min(self._burst, self._level + (now - self._level_at) * self.limit / PERIOD)
            self._level_at = now
        if self._server_until <= now:
            self._server_left = math.inf
