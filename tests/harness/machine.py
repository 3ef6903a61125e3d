"""A machine whose calendar is wrong, and set; which sleeps; and which is started again. It knows the truth."""

from __future__ import annotations

from itertools import count

from userpilot_async._runtime.clocks import Boot
from userpilot_async._schedule.calendar import Clocks

NOON = 1_790_000_000.0  # in September 2026: when every machine here begins


class Machine:
    """All of its clocks; ``wrong`` is by how many seconds its calendar is ahead of the truth."""

    def __init__(self, wrong: float = 0.0) -> None:
        self.truth = NOON
        self.wrong = wrong
        self._boots = count()
        self._started(0.0)

    def _started(self, running: float) -> None:
        self._up_since = self.truth - running
        self._running = running  # counted by itself: a loop's clock never goes back, not even by a rounding
        self._boot = f"boot {next(self._boots)}"

    def wall(self) -> float:
        """The calendar, in seconds since 1970."""
        return self.truth + self.wrong

    def steady(self) -> float:
        """The steady clock: seconds since the machine's start."""
        return self.truth - self._up_since

    def running(self) -> float:
        """Since the start, without the time that it slept."""
        return self._running

    def clocks(self) -> Clocks:
        """As the library reads them."""
        return Clocks(self.wall(), self.steady(), self.running())

    def boot(self) -> Boot | None:
        """The machine's present run, as the library knows it."""
        return Boot(self._boot, self.wall() - self.steady())

    def work(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.truth += seconds
        self._running += seconds

    def sleep(self, seconds: float) -> None:
        """Time passes, and no program notices."""
        self.truth += seconds

    def set(self, wrong: float = 0.0) -> None:
        """Somebody sets the calendar: it is this wrong from now on."""
        self.wrong = wrong

    def start_again(self, after: float = 0.0, wrong: float = 0.0) -> None:
        """Start the machine again, after it was off for so long."""
        self.truth += after
        self.wrong = wrong
        self._started(5.0)
