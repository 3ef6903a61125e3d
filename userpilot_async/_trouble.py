"""Whether requests fail, and whether that is worth a line in the log yet."""

from __future__ import annotations

import math
from typing import Literal

import attrs

from ._losses import counted

LASTING = 1.0  # seconds that failures last before they are said; one request that fails alone is everyday life
SURE = 2  # failures in a row that are said at once

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
        self._answered = False
        self._since: float | None = None
        self._failure = ""
        self._said: tuple[Kind | None, str] = (None, "")

    def answered(self) -> None:
        """A request was answered as it should be: from now on a single failure is not said at once."""
        self._answered = True

    def look(self, now: float, held: str | None, failures: int, failure: str | None, waiting: int) -> News | None:
        """What to say now, if anything.

        ``held`` is why nothing is sent; ``failures`` is how many requests of a route have failed in a row, the last one
        with ``failure``; ``waiting`` is how many calls there are to send.
        """
        self._failure = (failure or self._failure) if failures else ""
        self._since = (now if self._since is None else self._since) if self._failure else None
        if held is None and self._since is None and self._said[0] is None:
            return None
        waits = f"{counted(waiting)} {'waits' if waiting == 1 else 'wait'}"
        if held is not None:
            place = "a key or a URL where the client is made"
            remedy = f"correct that ({place}); one request a minute looks whether it is right again"
            words = f"nothing is sent, and nothing is lost: {held}; {waits}; {remedy}"
            return self._news("held", held, words)
        if self._since is not None:
            early = self._answered and failures < SURE and now < self._since + LASTING
            if self._said[0] == "outage" or early:
                return None
            remedy = "if that lasts, see whether the server is up, and the URL right"
            return self._news(
                "outage",
                "",
                f"requests fail, {waits} and {'is' if waiting == 1 else 'are'} sent again: {self._failure}; {remedy}",
            )
        before = self._said[0]
        self._said = (None, "")
        if before == "held":
            return News("resumed", f"{self._server} takes calls again")
        return News("resumed", f"{self._server} answers again, and takes calls") if before == "outage" else None

    def due(self) -> float:
        """When to look again, because failures will have lasted long enough by then; ``inf`` if not for that."""
        return math.inf if self._since is None or self._said[0] is not None else self._since + LASTING

    def _news(self, kind: Kind, about: str, words: str) -> News | None:
        if self._said == (kind, about):
            return None
        self._said = (kind, about)
        return News(kind, words, about)
