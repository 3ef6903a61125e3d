"""The log: at most one line in 30 seconds for each reason, numbers that add up, and no data of users.

What a line had to leave out is in the next one of its reason: as soon as the quiet time is over, and at the latest
when the client is closed. May be called in any thread.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from functools import partial

import attrs

from .._account.losses import Losses, loss_line
from .._errors.printable import printable
from .outage import QUIET, Complaint, Line, Outage

logger = logging.getLogger("userpilot_async")

MOST_REASONS = 100  # remembered before those are forgotten whose quiet time is over
CLOSED = "closed"  # the reason whose line waits for the end of a close, which knows how many there were, and why

Words = Callable[[Losses], str]
"""Makes the line about so many lost calls."""


def log(level: int, message: str, error: BaseException | None = None) -> bool:
    """Log one line; false if a handler of the application's raised, which must not stop the sender."""
    try:
        logger.log(level, "userpilot: %s", printable(message), exc_info=error)
    except Exception:  # whatever a handler raises
        return False
    return True


@attrs.define
class _Unlogged:
    """The calls lost for one reason since its last line."""

    level: int
    words: Words
    calls: int = 0
    merged: int = 0


class RateLimitedLog:
    """Logs each reason at most once in `QUIET` seconds, and later what it has only counted. ``now`` gives seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last_now = -math.inf
        self._lock = threading.RLock()  # a signal handler of the application may make a call that is lost
        self._quiet_until: dict[str, float] = {}
        self._unlogged: dict[str, _Unlogged] = {}
        self._in_all: dict[str, int] = {}
        self._outage = Outage()
        self._closed = False
        self.failures = 0
        """Lines lost because a logging handler raised."""

    # ── what happens ──

    def warn(self, reason: str, message: str, *, level: int = logging.WARNING, error: Exception | None = None) -> None:
        """Log ``message``, with the traceback of ``error``, unless a line of ``reason`` came within `QUIET` seconds."""
        if self._may_log(reason):
            self._log(level, message, error)

    def lost(
        self, reason: str, calls: int, merged: int = 0, *, why: Callable[[], str], level: int | None = None
    ) -> None:
        """Log that so many calls are lost, with those that were merged into them.

        ``why`` is asked for the first of them only. ``level`` is WARNING if it is not given.
        """
        self.count(reason, calls, merged, words=lambda: partial(loss_line, reason, why()), level=level)

    def count(
        self, reason: str, calls: int, merged: int = 0, *, words: Callable[[], Words], level: int | None = None
    ) -> None:
        """Log what ``words`` make of the numbers since the last line of this ``reason``; now, or when that may be."""
        with self._lock:
            unlogged = self._unlogged.get(reason)
            if unlogged is None:
                unlogged = self._unlogged[reason] = _Unlogged(logging.WARNING if level is None else level, words())
            unlogged.calls += calls
            self._in_all[reason] = self._in_all.get(reason, 0) + calls
            unlogged.merged += merged
        if self._closed or (reason != CLOSED and self._may_log(reason)):
            self._log_losses(reason)

    def state(self, level: int, reason: str, message: str, about: str = "", *, sure: bool = True) -> None:
        """Log what is wrong now, or still is: ``reason``, and ``about`` what; `Outage` says when.

        Without ``sure`` it may be a hiccup, which is not worth a line.
        """
        with self._lock:
            line = self._outage.wrong(self._moment(), Complaint(Line(level, message), reason, about), sure=sure)
        self._log_line(line)

    def lull(self) -> None:
        """Take note that nothing is wrong now, although nothing shows that all is well."""
        if not self._outage.is_well:
            with self._lock:
                self._outage.lull()

    def over(self, level: int, message: str, after: float = 0.0) -> None:
        """Log the end of what the log said was wrong, once nothing has been wrong for ``after`` seconds."""
        if not self._outage.is_well:
            with self._lock:
                line = self._outage.over(self._moment(), Line(level, message), after)
            self._log_line(line)

    def end_outage(self) -> None:
        """Log the end of what was wrong, if it was seen, however short it has lasted: the client is left."""
        with self._lock:
            line = self._outage.last_end()
        self._log_line(line)

    def always(self, level: int, message: str) -> None:
        """Log ``message``, whenever the last line was."""
        self._log(level, message)

    # ── later ──

    def due(self) -> float:
        """When `flush_due` will log something, in the clock's seconds; ``inf`` if all is logged."""
        if not self._unlogged and self._outage.is_well:
            return math.inf
        with self._lock:
            reasons = [reason for reason in self._unlogged if reason != CLOSED]
            due = min((self._quiet_until.get(reason, -math.inf) for reason in reasons), default=math.inf)
            return min(due, self._outage.due())

    def flush_due(self) -> None:
        """Log what was only counted, as far as the quiet time of its reason is over."""
        if not self._unlogged and self._outage.is_well:
            return
        for reason in [reason for reason in list(self._unlogged) if reason != CLOSED]:
            if self._may_log(reason):
                self._log_losses(reason)
        with self._lock:
            line = self._outage.next_line(self._moment())
        self._log_line(line)

    def flush(self) -> None:
        """Log all that was only counted, whenever the last line was: there may be no later time for it."""
        for reason in list(self._unlogged):
            self._log_losses(reason)
        with self._lock:
            line = self._outage.last_line(self._moment())
        self._log_line(line)

    def close(self, closing: Words | None = None) -> None:
        """Log the rest; ``closing`` words the calls that the close dropped. Later losses are logged at once."""
        with self._lock:
            self._closed = True
            if closing is not None and CLOSED in self._unlogged:
                self._unlogged[CLOSED].words = closing
        self.flush()

    # ── one line ──

    def _may_log(self, reason: str) -> bool:
        """Whether the quiet time of this reason is over; if so, the next begins before the line about to be logged.

        A handler may make calls that are lost, too.
        """
        with self._lock:
            now = self._moment()
            if now < self._quiet_until.get(reason, -math.inf):
                return False
            if len(self._quiet_until) > MOST_REASONS:  # some are whole messages, with names and numbers in them
                self._quiet_until = {one: until for one, until in self._quiet_until.items() if until > now}
            self._quiet_until[reason] = now + QUIET
            return True

    def _moment(self) -> float:
        try:
            self._last_now = self._now()
        except RuntimeError:  # trio's clock, asked outside of its loop: the last moment that is known must do
            return self._last_now
        return self._last_now

    def _log_losses(self, reason: str) -> None:
        with self._lock:
            unlogged = self._unlogged.pop(reason, None)
        if unlogged is not None and (unlogged.calls or unlogged.merged):
            self._log(unlogged.level, unlogged.words(Losses(unlogged.calls, unlogged.merged, self._in_all[reason])))

    def _log_line(self, line: Line | None) -> None:
        if line is not None:
            self._log(line.level, line.message)

    def _log(self, level: int, message: str, error: Exception | None = None) -> None:
        if not log(level, message, error):
            self.failures += 1
