"""The rate limit: fixed clock-minute windows, one for each key and limited family of endpoints."""

from __future__ import annotations

import attrs

WINDOW = 60.0  # The documented sample reset, 1600854660000, is 09:51:00 UTC exactly: a clock minute ends there.


@attrs.frozen
class Window:
    """The requests that one key may still send to one family of endpoints in the current minute."""

    limit: int
    remaining: int
    ends_at: float

    def headers(self) -> dict[str, str]:
        """The three headers of every answer; the reset is in milliseconds since the epoch."""
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(int(self.ends_at * 1000)),
        }


class Windows:
    """Counts requests, the refused ones too: a client that goes on asking stays refused."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._spent: dict[tuple[str, str], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._spent)

    def take(self, account: str, family: str, now: float) -> bool:
        """Count one request; False if the minute was already used up."""
        minute = int(now // WINDOW)
        spent = self._spent_in(minute, account, family) + 1
        self._spent[account, family] = (minute, spent)
        return spent <= self.limit

    def peek(self, account: str, family: str, now: float) -> Window:
        minute = int(now // WINDOW)
        spent = self._spent_in(minute, account, family)
        return Window(self.limit, max(0, self.limit - spent), (minute + 1) * WINDOW)

    def shown(self, now: float) -> list[tuple[str, str, Window]]:
        """Account, family and window of each that was ever spent from, in that order."""
        return [(account, family, self.peek(account, family, now)) for account, family in sorted(self._spent)]

    def clear(self) -> None:
        self._spent.clear()

    def _spent_in(self, minute: int, account: str, family: str) -> int:
        counted_minute, spent = self._spent.get((account, family), (minute, 0))
        return spent if counted_minute == minute else 0
