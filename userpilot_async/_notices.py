"""What the log says: at most one line in 30 seconds for each reason, and never any data of users."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock

logger = logging.getLogger("userpilot_async")

QUIET = 30.0  # seconds between two lines of the same reason


class Notices:
    """Counts what it does not say, and says it with the next line."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._quiet_until: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        self._lock = Lock()  # other threads may say something; not held while it is logged, which may take locks, too
        self.failures = 0
        """Lines lost because a logging handler raised."""

    def say(self, level: int, reason: str, message: str, count: int | None = None) -> None:
        """Log ``message``, with the ``count`` of what happened since the last line of this ``reason`` before it."""
        with self._lock:
            if count is not None:
                count += self._unsaid.get(reason, 0)
                self._unsaid[reason] = count
            if self._now() < self._quiet_until.get(reason, float("-inf")):
                return
            self._quiet_until[reason] = self._now() + QUIET
            self._unsaid.pop(reason, None)
        try:
            if count is None:
                logger.log(level, "%s", message)
            else:
                logger.log(level, "%d %s", count, message)
        except Exception:  # a handler of the application's: its failure must not stop the sender
            self.failures += 1
