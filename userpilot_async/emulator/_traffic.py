"""The last requests with their bodies, and what a minute's requests came to: for people who look, not for tests.

The request log of `Store` is whole, and holds no bodies. This is bounded whatever comes: so many requests, so many
bytes of each, so many minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs

KEPT = 1_000  # requests
SHOWN = 16 * 1024  # bytes of a body: more than an event may have (10 KB)
MINUTES = 30  # that the chart of the page shows
MINUTE = 60.0  # seconds

Outcome: TypeAlias = Literal["accepted", "limited", "refused", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("accepted", "limited", "refused", "failed")


@attrs.frozen
class Exchange:
    """A request and its answer. The key is in neither: no header is kept."""

    number: int  # 1 for the first since the start or the last reset
    stamp: float  # when the server took it in
    method: str
    path: str  # as sent, still percent-quoted, without the query
    query: str
    family: str
    account: str  # fingerprint of the key
    status: int | None  # None: the connection was cut
    rows: int
    filename: str | None
    fault: str | None  # name of the fault that befell it
    applied: bool
    size: int  # bytes of the request's body
    body: bytes = attrs.field(repr=False)
    """The first `SHOWN` bytes; nothing of a body that was too large to be read."""
    answer_size: int
    answer: bytes = attrs.field(repr=False)
    """The first `SHOWN` bytes of the answer's body."""

    @property
    def searched(self) -> list[str]:
        """The text in which a search for a user or an event finds the request."""
        return [self.body.decode("utf-8", "replace")]

    @property
    def outcome(self) -> Outcome:
        """How the request ended, as far as a sender has to care."""
        return outcome_of(self.status)


def outcome_of(status: int | None) -> Outcome:
    """Tell what a status means for a sender: `None`, a cut connection, is a failure of the server's like a 5xx."""
    if status is None or status >= 500:
        return "failed"
    if status == 429:
        return "limited"
    return "accepted" if status < 300 else "refused"


class Traffic:
    """The last `KEPT` exchanges, oldest first, and counts of the last `MINUTES` minutes by outcome."""

    def __init__(self, on_exchange: Callable[[Exchange], object] | None = None) -> None:
        self.total: int = 0
        """Requests since the start or the last reset; also the number of the last exchange."""
        self.kept: deque[Exchange] = deque(maxlen=KEPT)
        """Read it freely; only `add` should change it."""
        self._minutes: dict[int, dict[Outcome, int]] = {}
        self._on_exchange = on_exchange

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange, whose number is `total` + 1, count it, and hand it on."""
        self.total = exchange.number
        self.kept.append(exchange)
        minute = int(exchange.stamp // MINUTE)
        if minute not in self._minutes:
            self._minutes[minute] = dict.fromkeys(OUTCOMES, 0)
            self._minutes = {one: self._minutes[one] for one in sorted(self._minutes)[-MINUTES:]}
        if minute in self._minutes:  # a clock that was set back may be before all that are kept
            self._minutes[minute][exchange.outcome] += 1
        if self._on_exchange is not None:
            self._on_exchange(exchange)

    def get(self, number: int) -> Exchange | None:
        """The exchange of this number, if it is still kept."""
        if not self.kept or not self.kept[0].number <= number <= self.total:
            return None
        return self.kept[number - self.kept[0].number]

    def minutes(self, now: float) -> list[dict[str, Any]]:
        """Counts of each of the last `MINUTES` minutes, oldest first: `begins_at`, in seconds, and each outcome.

        `Any`: numbers, for JSON.
        """
        last = int(now // MINUTE)
        nothing = dict.fromkeys(OUTCOMES, 0)
        return [
            {"begins_at": minute * MINUTE} | dict(self._minutes.get(minute, nothing))
            for minute in range(last - MINUTES + 1, last + 1)
        ]
