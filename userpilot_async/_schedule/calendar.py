"""The date that a moment on the schedule's clock has, although the calendar is set and the machine sleeps meanwhile.

The schedule counts in its loop's clock, which never jumps, and stands still while the machine sleeps. A date is made
of such a moment when it is needed, and not once for all: a client may open before the machine has heard from a time
server. Three clocks tell apart what has happened (`Clocks`):

- *The calendar was set.* It was wrong before: all dates move along, also those of calls that were accepted then.
- *The machine slept.* Calls accepted before that keep their dates, later ones have later dates.

A virtual machine that was halted looks, from inside, as if its calendar had been set: no clock of its own went on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

STEP = 0.5  # seconds; a calendar that moves by less was not set: time servers slew what is less (ntpd: 128 ms)
SHORTEST_SLEEP = 0.1  # seconds; less may be the time between two readings of clocks on a busy machine
AS_FAST = 0.1  # seconds that two clocks may be apart between two readings, and be taken to go as fast as one another
MOST_SLEEPS = 1_000  # remembered: three years of a laptop that is shut every night
EARLIEST = 1_704_067_200.0  # 2024-01-01 UTC, before this library was begun: no call was accepted earlier


@attrs.frozen
class Clocks:
    """Three clocks, read at the same moment; all in seconds."""

    wall: float
    """The calendar, since 1970, which may be set."""
    steady: float
    """Goes on while the machine sleeps, and is never set."""
    running: float
    """Stands still while the machine sleeps, and is never set."""


class Calendar:
    """The date of a moment, and the other way round: see the module.

    ``clocks`` reads the three clocks; ``now`` is the schedule's clock at this moment.
    """

    def __init__(self, clocks: Callable[[], Clocks], now: float) -> None:
        self._clocks = clocks
        self._last = first = clocks()
        self._read_at = now
        self._difference = first.wall - now
        """From the schedule's clock to the calendar, at present."""
        self._opened_with = first.wall - first.steady - self._difference
        self._asleep = 0.0
        self._napped = first.steady - first.running
        # Up to which moment the machine was awake, when it was seen that it had slept, and for how long.
        self._sleeps: list[tuple[float, float, float]] = []
        self._follows_loop = False

    def read(self, now: float) -> None:
        """See what has become of the calendar; ``now`` is the schedule's clock.

        A machine that has slept since the last reading is taken to have slept from that reading on.
        """
        seen, last = self._clocks(), self._last
        napped = seen.steady - seen.running
        if abs(napped - self._napped) >= SHORTEST_SLEEP:
            self._sleeps.append((self._read_at, now, napped - self._napped))
            self._asleep += napped - self._napped
            self._napped = napped
            del self._sleeps[:-MOST_SLEEPS]
        # Tests jump the loop's clock. Whether they have their calendar jump with it is seen while it is not set.
        by_loop = abs((seen.wall - last.wall) - (now - self._read_at))
        by_steady = abs((seen.wall - last.wall) - (seen.steady - last.steady))
        if min(by_loop, by_steady) < AS_FAST and max(by_loop, by_steady) >= STEP:
            self._follows_loop = by_loop < by_steady
        if self._follows_loop:
            self._difference = seen.wall - now
        else:
            self._difference = seen.wall - seen.steady - self._opened_with + self._asleep
        self._last, self._read_at = seen, now

    def date(self, moment: float) -> float:
        """The date, in seconds since 1970, of a moment on the schedule's clock, by what the last reading has shown."""
        slept = 0.0
        for awake_until, _, seconds in reversed(self._sleeps):
            if moment > awake_until:
                break
            slept += seconds
        return moment + self._difference - slept

    def moments(self, now: float, today: float) -> Callable[[float], float]:
        """A function that turns dates into moments; it is ``today`` in the calendar of these dates, and ``now`` here.

        That calendar is as it was when the dates were read: it may have been set since.
        """
        self.read(now)
        date, moment = self.date(now), self.moment
        return lambda at: moment(date - age(at, today))

    def moment(self, date: float) -> float:
        """The moment on the schedule's clock that has this date: the other way round.

        A date just before a sleep shows that the machine was awake for longer than the readings showed.
        """
        moment = date - self._difference
        for place in range(len(self._sleeps) - 1, -1, -1):
            awake_until, noticed_at, seconds = self._sleeps[place]
            if moment > awake_until:
                break
            earlier = moment + seconds
            if earlier > noticed_at:  # nothing is dated while the machine sleeps: it was just after, or before
                was_after = awake_until - moment < earlier - noticed_at
                return math.nextafter(awake_until, math.inf) if was_after else awake_until
            self._sleeps[place] = (max(awake_until, earlier), noticed_at, seconds)
            moment = earlier
        return moment


def never_set(now: float = 0.0, wall: float | None = None) -> Calendar:
    """A calendar that goes with the schedule's clock: at ``now`` it shows ``wall``, or the same."""
    return Calendar(lambda: Clocks(now if wall is None else wall, 0.0, 0.0), now)


def age(date: float, today: float) -> float:
    """How long ago something was dated, in seconds, by the same calendar; never negative.

    A date before this library was there is that of a machine that had not set its clock: its age is unknown, and it
    counts as of now. So does a date to come.
    """
    if date < EARLIEST <= today:
        return 0.0
    return max(0.0, today - date)
