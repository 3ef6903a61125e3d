"""Being away: a place across a network that does not answer, or not now."""

from __future__ import annotations

import logging
import random
from functools import partial

from .._account.losses import counted, lost_calls_line
from .._errors.tree import OutboxError
from .._runtime.clocks import steady
from .._runtime.log import RateLimitedLog
from .remote_listener import RemoteListener
from .store import Notify


class Away(Exception):
    """The place does not answer, or not now. A step that was under way may have been done.

    ``does`` is what is said of it, before the words in brackets.
    """

    does = "does not answer"

    def __init__(self, words: str = "", does: str | None = None) -> None:
        super().__init__(words)
        if does is not None:
            self.does = does


class Full(Away):
    """The server has no room left: nothing that adds to what it has can be written."""

    does = "takes no more calls"


class OtherGeneration(Exception):
    """The place has started again, was emptied, or has older data than this process has seen there."""


FAILURES = (Away, OtherGeneration, OutboxError, OSError, MemoryError)
"""By what a step of ours fails, and is made again: also this machine's own troubles. All else is a bug."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 0.5  # seconds between two tries to reach a server that is away; callers wait for it


class Reach:
    """Whether a place is there: *away* until it has been opened, and whenever something that was asked of it fails.

    ``server`` is the kind of it, for messages. In the writer's thread.
    """

    def __init__(self, server: str, outbox: RemoteListener, notify: Notify, log: RateLimitedLog) -> None:
        self.away = False
        """The place is not there, as far as is known."""
        self._server = server
        self._outbox = outbox
        self._notify = notify
        self._log = log
        self.retry_at = 0.0
        """When it is to be tried whether it is back, by the steady clock."""
        self._pause = FIRST_PAUSE

    @property
    def is_time(self) -> bool:
        """Now may be tried whether it is back."""
        return steady() >= self.retry_at

    def found(self) -> None:
        """Note that the place is there, and answers."""
        self.away, self._pause = False, FIRST_PAUSE

    def again(self) -> None:
        """Have the place opened anew, at once."""
        self.away, self.retry_at = True, 0.0

    def lost(self, error: Exception) -> None:
        """Note that the place is not to be had at present, for this reason."""
        if isinstance(error, OutboxError):
            message = f"calls wait, and cannot be put: {error}; see to the rights and the settings of {self._server}"
            self._log.state(logging.ERROR, "unusable", message, str(error))
        else:
            does = error.does if isinstance(error, Away) else Away.does
            why = str(error) or type(error).__name__
            message = f"{self._outbox.place} {does} ({why}); calls wait meanwhile; see whether {self._server} is up"
            self._log.state(logging.WARNING, "away", message)
        if not self.away:
            self._notify(self._outbox.is_away)
        self.away = True
        self.retry_at = steady() + self._pause * (0.5 + random.random() / 2)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def report_set_back(self, remedy: str, lost: int, under_way: int | None) -> None:
        """Log what it has cost that the place has older data than it had, and what can be done about it.

        So many calls that waited are lost; others were under way, and may have arrived (``None``: how many of the lost
        ones were is unknown). In any thread.
        """
        place = self._outbox.place
        if lost:
            words = partial(lost_calls_line, place, under_way, remedy)
            self._log.count("lost calls", lost, words=lambda: words, level=logging.ERROR)
            return
        cost = "no call that waited is lost, as far as this process knows"
        if under_way:
            cost = f"{counted(under_way)} that {'was' if under_way == 1 else 'were'} just being sent may have arrived"
        again = "what was sent, and is not noted there, is sent again and counted in possible_duplicates"
        message = f"{place} came back with older data, or was emptied: {cost}; {again}; {remedy}"
        self._log.warn("set back", message)
