"""Calls that came into an outbox and left it, from samples of its account; kept only while a page asks for them."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Any

import attrs

from ..._account.account import Account

EVERY = 4.0  # seconds between two samples that are kept, at least
WINDOW = 600.0  # seconds that are shown
GAP = 15.0  # seconds without a sample: no page was open


@attrs.frozen
class Sample:
    """The account's sums at one moment of the steady clock."""

    at: float
    accepted: int
    settled: int


class Traffic:
    """Samples of the last `WINDOW` seconds."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, at: float, account: Account) -> None:
        """Take a sample ``at`` this second of the steady clock, unless one has just been taken."""
        new = Sample(at, account.accepted, account.accepted - account.waiting)
        if self._samples:
            last = self._samples[-1]
            if new.accepted < last.accepted or new.settled < last.settled:
                self._samples.clear()  # the outbox was set back, or is another one
            elif at - last.at < EVERY:
                return
        self._samples.append(new)
        while self._samples[0].at < at - WINDOW:
            self._samples.popleft()

    def as_list(self, now: float) -> list[dict[str, Any]]:
        """Calls a minute between samples, the oldest first; ``seconds`` is how long a stretch was, ``ago`` its end.

        Stretches in which no page was open are left out.
        """
        return [
            {
                "ago": round(now - after.at, 3),
                "seconds": round(after.at - before.at, 3),
                "in": round(_a_minute(before, after, after.accepted - before.accepted), 1),
                "out": round(_a_minute(before, after, after.settled - before.settled), 1),
            }
            for before, after in pairwise(self._samples)
            if after.at - before.at <= GAP
        ]


def _a_minute(before: Sample, after: Sample, calls: int) -> float:
    return calls * 60.0 / (after.at - before.at)
