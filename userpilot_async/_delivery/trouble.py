"""Whether requests fail, and whether that is worth a line in the log yet."""

from __future__ import annotations

import math
from typing import Literal

import attrs

from .._account.losses import counted

LASTING = 1.0  # seconds that failures, or their end, last before they are said; a request that fails alone is normal
SURE = 2  # failures in a row that are said at once
DESERTED = 300.0  # seconds after its last failure in which others were answered: a route that fails asks every minute

Kind = Literal["held", "outage", "resumed"]


@attrs.frozen
class News:
    """What has changed, for one line in the log."""

    kind: Kind
    words: str
    about: str = ""
    """What tells it from other news of its kind."""


class Trouble:
    """What the log knows of the server's state; ``server`` is for messages."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._answered_at = -math.inf
        self._failed_at = math.inf
        self._works = False  # a request was answered since anything was wrong
        self._wrong_at = -math.inf  # when something was, the last time
        self._since: float | None = None
        self._failure = ""
        self._said: tuple[Kind | None, str] = (None, "")

    def answered(self, now: float) -> None:
        """A request was answered as it should be: from now on a single failure is not said at once."""
        self._answered_at, self._works = now, True

    def failed(self, now: float) -> None:
        """A request has failed."""
        self._failed_at = now

    def poll(self, now: float, held: str | None, failures: int, failure: str | None, waiting: int) -> News | None:
        """What to say now, if anything.

        ``held`` is why nothing is sent; ``failures`` is how many requests of a route have failed in a row, the last one
        with ``failure``; ``waiting`` is how many calls there are to send. That nothing fails is no proof that the
        server is well: the sender may have begun anew, or not asked. An outage is over when a request was `answered`.
        """
        deserted = self._answered_at >= self._failed_at + DESERTED  # nobody is left who would ask on that route
        self._failure = (failure or self._failure) if failures and not deserted else ""
        self._since = (now if self._since is None else self._since) if self._failure else None
        if held is None and self._since is None:
            return self._over(now)
        self._works, self._wrong_at = False, now
        waits = f"{counted(waiting)} {'waits' if waiting == 1 else 'wait'}"
        if held is not None:
            place = "a key or a URL where the client is made"
            remedy = f"correct that ({place}); one request a minute looks whether it is right again"
            words = f"nothing is sent, and nothing is lost: {held}; {waits}; {remedy}"
            return self._news("held", held, words)
        early = self._answered_at > -math.inf and failures < SURE and now < self._lasts_at()
        if self._said[0] == "outage" or early:
            return None
        remedy = "if that lasts, see whether the server is up, and the URL right"
        words = f"requests fail, {waits} and {'is' if waiting == 1 else 'are'} sent again: {self._failure}; {remedy}"
        return self._news("outage", "", words)

    def leave(self) -> News | None:
        """The client is left: its end is no reason to keep the end of an outage back."""
        return self._over(math.inf)

    def due(self) -> float:
        """When to look again, because something will have lasted long enough by then; ``inf`` if not for that."""
        if self._said[0] is None:
            return self._lasts_at()
        return self._wrong_at + LASTING if self._works else math.inf

    def _lasts_at(self) -> float:
        return math.inf if self._since is None else self._since + LASTING

    def _over(self, now: float) -> News | None:
        before = self._said[0]
        if before is None or not self._works or now < self._wrong_at + LASTING:
            return None
        self._said = (None, "")
        words = "takes calls again" if before == "held" else "answers again, and takes calls"
        return News("resumed", f"{self._server} {words}")

    def _news(self, kind: Kind, about: str, words: str) -> News | None:
        if self._said == (kind, about):
            return None
        self._said = (kind, about)
        return News(kind, words, about)
