"""What the log says: at most one line in 30 seconds for each reason, numbers that add up, and no data of users.

What a line had to leave unsaid is said by the next one of its reason: as soon as the quiet time is over, and at the
latest when the client is closed. May be called in any thread.
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

logger = logging.getLogger("userpilot_async")

QUIET = 30.0  # seconds between two lines of the same reason
MATTERS = 5.0  # seconds that a state lasts before it is said all the same: outages that follow a blip are not swallowed
MOST_REASONS = 100  # remembered before those are forgotten whose quiet time is over
CLOSED = "closed"  # the reason whose line waits for the end of a close, which knows how many there were, and why

Words = Callable[[Losses], str]
"""The line about so many."""


def log(level: int, message: str, error: BaseException | None = None) -> bool:
    """One line; false if a handler of the application's raised, whose failure must not stop the sender."""
    try:
        logger.log(level, "userpilot: %s", printable(message), exc_info=error)
    except Exception:  # whatever a handler raises
        return False
    return True


@attrs.define
class _Unsaid:
    """What has happened for one reason since its last line."""

    level: int
    words: Words
    calls: int = 0
    merged: int = 0


@attrs.frozen
class _State:
    """What is wrong now, and was not said yet."""

    level: int
    reason: str
    message: str
    about: str
    since: float
    """When something was first wrong that was not said."""


class RateLimitedLog:
    """Counts what it does not say, and says it later. ``now`` is a clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last_now = -math.inf
        self._lock = threading.RLock()  # a signal handler of the application may make a call that is lost
        self._quiet_until: dict[str, float] = {}
        self._unsaid: dict[str, _Unsaid] = {}
        self._in_all: dict[str, int] = {}
        self._state: _State | None = None
        self._state_said: tuple[str, str] | None = None  # until it is over
        self._closed = False
        self.failures = 0
        """Lines lost because a logging handler raised."""

    # ── what may be said ──

    def warn(self, reason: str, message: str, *, level: int = logging.WARNING, error: Exception | None = None) -> None:
        """Log ``message``, with the traceback of ``error``, unless a line of ``reason`` came within `QUIET` seconds."""
        if self._may_speak(reason):
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
            unsaid = self._unsaid.get(reason)
            if unsaid is None:
                unsaid = self._unsaid[reason] = _Unsaid(logging.WARNING if level is None else level, words())
            unsaid.calls += calls
            self._in_all[reason] = self._in_all.get(reason, 0) + calls
            unsaid.merged += merged
        if self._closed or (reason != CLOSED and self._may_speak(reason)):
            self._say(reason)

    def state(self, level: int, reason: str, message: str, about: str = "") -> None:
        """Log what is wrong now: ``reason``, and ``about`` what.

        Within `QUIET` seconds of a line of this reason that waits, until it has lasted `MATTERS` seconds; if it is over
        by then, it was a blip, and is not said. So every state that lasts has a line, and blips cannot fill the log.
        """
        with self._lock:
            before, self._state = self._state, None
            if self._state_said == (reason, about):
                return
            self._state = _State(level, reason, message, about, self._moment() if before is None else before.since)
        self._say_state_if_due()

    def over(self, level: int, message: str) -> None:
        """Nothing is wrong any more. Logged at once, if what was wrong has been; if it has not, neither is this."""
        if self._state is None and self._state_said is None:
            return
        with self._lock:
            said, self._state, self._state_said = self._state_said, None, None
        if said is not None:
            self._log(level, message)

    def always(self, level: int, message: str) -> None:
        """Log ``message``, whenever the last line was."""
        self._log(level, message)

    # ── what is said later ──

    def due(self) -> float:
        """When `flush_due` will have something to say; ``inf`` if all is said."""
        if not self._unsaid and self._state is None:
            return math.inf
        with self._lock:
            reasons = [reason for reason in self._unsaid if reason != CLOSED]
            due = min((self._quiet_until.get(reason, -math.inf) for reason in reasons), default=math.inf)
            return min(due, self._state_due())

    def flush_due(self) -> None:
        """Say what was left unsaid, as far as the quiet time of its reason is over."""
        if not self._unsaid and self._state is None:
            return
        for reason in [reason for reason in list(self._unsaid) if reason != CLOSED]:
            if self._may_speak(reason):
                self._say(reason)
        self._say_state_if_due()

    def flush(self) -> None:
        """Say all that was left unsaid, whenever the last line was: nobody may be there to say it later."""
        for reason in list(self._unsaid):
            self._say(reason)
        self._say_state()

    def close(self, closing: Words | None = None) -> None:
        """Say the rest; ``closing`` are the words for calls that the close dropped. Later losses are said at once."""
        with self._lock:
            self._closed = True
            if closing is not None and CLOSED in self._unsaid:
                self._unsaid[CLOSED].words = closing
        self.flush()

    # ── saying it ──

    def _may_speak(self, reason: str) -> bool:
        """The quiet time of this reason is over; and another one begins, before the line that is about to be said:
        a handler may make calls that are lost, too.
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

    def _say(self, reason: str) -> None:
        with self._lock:
            unsaid = self._unsaid.pop(reason, None)
        if unsaid is not None and (unsaid.calls or unsaid.merged):
            self._log(unsaid.level, unsaid.words(Losses(unsaid.calls, unsaid.merged, self._in_all[reason])))

    def _state_due(self) -> float:
        if self._state is None:
            return math.inf
        return min(self._quiet_until.get(self._state.reason, -math.inf), self._state.since + MATTERS)

    def _say_state_if_due(self) -> None:
        with self._lock:
            due = self._state is not None and self._moment() >= self._state_due()
        if due:
            self._say_state()

    def _say_state(self) -> None:
        with self._lock:
            state, self._state = self._state, None
            if state is None:
                return
            self._state_said = (state.reason, state.about)
            self._quiet_until[state.reason] = self._moment() + QUIET
        self._log(state.level, state.message)

    def _log(self, level: int, message: str, error: Exception | None = None) -> None:
        if not log(level, message, error):
            self.failures += 1
