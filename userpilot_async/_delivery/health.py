"""How the server is, as requests to it show: it refuses them, they fail, or one was answered since."""

from __future__ import annotations

import math
from typing import Literal

import attrs

from .._account.losses import counted

SURE = 2  # failures in a row that are no hiccup
DESERTED = 300.0  # seconds after its last failure in which others were answered: a route that fails asks every minute


@attrs.frozen
class Finding:
    """How the server is at one moment. When that is worth a line, `Outage` decides."""

    state: Literal["paused", "outage", "unproven", "well"]
    """Nothing is sent, requests fail, nothing shows how it is, or a request was answered since anything was wrong."""
    message: str = ""
    about: str = ""
    """Why nothing is sent, where that is so."""
    sure: bool = True
    """No hiccup: more than one request in a row has failed, or none was ever answered."""


class ServerHealth:
    """Judges the server by what the schedule knows of requests to it; ``server`` is its URL, for messages."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._answered_at = -math.inf
        self._failed_at = math.inf
        self._works = False  # a request was answered since anything was wrong
        self._was_paused = False
        self._failure = ""

    def answered(self, now: float) -> None:
        """Take note that a request was answered as it should be: from now on a single failure may be a hiccup."""
        self._answered_at, self._works = now, True

    def failed(self, now: float) -> None:
        """Take note that a request has failed."""
        self._failed_at = now

    def poll(self, now: float, paused: str | None, failures: int, failure: str | None, waiting: int) -> Finding:
        """Say how the server is.

        ``paused`` is why nothing is sent; ``failures`` is how many requests of a route have failed in a row, the last
        one with ``failure``; ``waiting`` is how many calls there are to send. That nothing fails is no proof that the
        server is well: the sender may have begun anew, or not asked. An outage is over when a request was `answered`.
        """
        deserted = self._answered_at >= self._failed_at + DESERTED  # no call is left that would ask on that route
        self._failure = (failure or self._failure) if failures and not deserted else ""
        if paused is None and not self._failure:
            words = "takes calls again" if self._was_paused else "answers again, and takes calls"
            return Finding("well" if self._works else "unproven", f"{self._server} {words}")
        self._works, self._was_paused = False, paused is not None
        waits = f"{counted(waiting)} {'waits' if waiting == 1 else 'wait'}"
        if paused is not None:
            place = "a key or a URL where the client is made"
            remedy = f"correct that ({place}); one request a minute checks whether it is right again"
            return Finding("paused", f"nothing is sent, and nothing is lost: {paused}; {waits}; {remedy}", paused)
        remedy = "if that lasts, see whether the server is up, and the URL right"
        words = f"requests fail, {waits} and {'is' if waiting == 1 else 'are'} sent again: {self._failure}; {remedy}"
        return Finding("outage", words, sure=self._answered_at == -math.inf or failures >= SURE)
