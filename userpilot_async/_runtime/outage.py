"""Outages, as the log knows them: when one is worth a line, and when its end is. Pure: handed ``now``, in seconds.

    well ──wrong──▶ doubted ──sure, or it lasts `LASTING`──▶ kept back ──below──▶ logged ──over, and it lasts──▶ well
                       │                                         │                    (another wrong: kept back again)
                       └──lull, over──▶ well, and no line        └──over, and it lasts──▶ well, and no line

What is kept back is logged at once, unless a line of its reason came within `QUIET` seconds: then as soon as those are
over, or it has lasted `MATTERS` seconds. So whatever lasts has a line with its end, and blips cannot fill the log.
"""

from __future__ import annotations

import math

import attrs

QUIET = 30.0  # seconds between two lines of the same reason
MATTERS = 5.0  # seconds that a state lasts before it is logged anyway: outages that follow a blip are not swallowed
LASTING = 1.0  # seconds that failures, or their end, last before they are logged; a request that fails alone is normal


@attrs.frozen
class Line:
    """A line for the log, with its level."""

    level: int
    message: str


@attrs.frozen
class Complaint:
    """Something that is wrong now, with the line about it."""

    line: Line
    reason: str
    """Lines of one reason are `QUIET` seconds apart."""
    about: str = ""
    """Distinguishes complaints of one reason; each is logged once, until the end or another."""

    @property
    def key(self) -> tuple[str, str]:
        """Reason and detail: what was logged already is not logged again."""
        return self.reason, self.about


@attrs.frozen
class _Kept:
    complaint: Complaint
    since: float
    """When something was first wrong that was not logged."""


@attrs.frozen
class _End:
    line: Line
    at: float
    """When it has lasted long enough."""


class Outage:
    """The states above. Each method gives the line to log now, if any."""

    def __init__(self) -> None:
        self._reason: str | None = None  # of what is wrong now
        self._wrong_since = self._wrong_at = -math.inf  # for this reason, and for any
        self._doubted: Complaint | None = None
        self._kept: _Kept | None = None
        self._logged: tuple[str, str] | None = None
        self._end: _End | None = None
        self._quiet_until: dict[str, float] = {}

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong, and no line is to come: neither `lull` nor `over` would change anything."""
        return self._reason is None and self._kept is None and self._logged is None

    def wrong(self, now: float, complaint: Complaint, *, sure: bool = True) -> Line | None:
        """Take note that something is wrong, or still is; without ``sure`` it may be a hiccup, until it lasts."""
        self._wrong_at, self._end = now, None
        if complaint.reason != self._reason:
            self._reason, self._wrong_since = complaint.reason, now
        is_known = self._logged is not None and self._logged[0] == complaint.reason
        is_known = is_known or (self._kept is not None and self._kept.complaint.reason == complaint.reason)
        if not sure and not is_known and now < self._wrong_since + LASTING:
            self._doubted = complaint
            return None
        self._doubted = None
        if self._logged == complaint.key:
            self._kept = None
            return None
        self._kept = _Kept(complaint, now if self._kept is None else self._kept.since)
        return self._kept_line(now)

    def lull(self) -> None:
        """Take note that nothing is wrong now, and nothing shows that all is well: no end is logged for that."""
        self._reason = self._doubted = None

    def over(self, now: float, line: Line, after: float = 0.0) -> Line | None:
        """Take note of the end, which ``line`` says once nothing has been wrong for ``after`` seconds."""
        self.lull()
        if self._kept is None and self._logged is None:
            return None
        self._end = _End(line, self._wrong_at + after)
        return self._end_line(now)

    def due(self) -> float:
        """When `next_line` will give one; ``inf`` if nothing is to be logged."""
        ends = math.inf if self._end is None else self._end.at
        lasts = math.inf if self._doubted is None else self._wrong_since + LASTING
        return min(ends, lasts, self._kept_until())

    def next_line(self, now: float) -> Line | None:
        """Give the line that is due."""
        if self._end is not None and now >= self._end.at:
            return self._end_line(now)
        if self._doubted is not None and now >= self._wrong_since + LASTING:
            return self.wrong(now, self._doubted)
        return self._kept_line(now)

    def last_end(self) -> Line | None:
        """Give the line about an end that has been seen and has not lasted yet: there is no time to wait for that."""
        return self._end_line(math.inf)

    def last_line(self, now: float) -> Line | None:
        """Give the line that is kept back: there is no time to wait until it is due."""
        return self._log(now)

    def _kept_until(self) -> float:
        if self._kept is None:
            return math.inf
        quiet_until = self._quiet_until.get(self._kept.complaint.reason, -math.inf)
        return min(quiet_until, self._kept.since + MATTERS)

    def _kept_line(self, now: float) -> Line | None:
        return self._log(now) if now >= self._kept_until() else None

    def _log(self, now: float) -> Line | None:
        kept, self._kept = self._kept, None
        if kept is None:
            return None
        self._logged = kept.complaint.key
        self._quiet_until[kept.complaint.reason] = now + QUIET
        return kept.complaint.line

    def _end_line(self, now: float) -> Line | None:
        """Be well again, if the end has lasted; its line is logged where a beginning was."""
        end = self._end
        if end is None or now < end.at:
            return None
        logged, self._logged, self._kept, self._end = self._logged, None, None, None
        return end.line if logged is not None else None
