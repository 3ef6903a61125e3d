"""The machine's clocks, read together, to be handed to pure code."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import attrs

from .._schedule.calendar import Clocks

T = TypeVar("T")

CLOSE = 0.02  # seconds; readings further apart are not of one moment: the process was stopped in between
TRIES = 10  # to have them of one moment; a machine that is too busy for ten has clocks a little apart
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux: man 4 random
_STEADY: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))  # Windows has neither


def wall() -> float:
    """The calendar, in seconds since 1970. By its name each time: a test that sets `time.time` sets this."""
    return time.time()


def steady() -> float:
    """Seconds that go on while this machine sleeps, where there is such a clock: on Linux, and on macOS."""
    return time.monotonic() if _STEADY is None else time.clock_gettime(_STEADY)


def running() -> float:
    """Seconds that stand still while this machine sleeps, as those of event loops do."""
    return time.monotonic()


def read() -> Clocks:
    """Read all clocks, at one moment."""
    return _together(lambda: Clocks(wall(), steady(), running()), steady)


def offset(calendar: Callable[[], float] = wall, steadily: Callable[[], float] = steady) -> float:
    """Give the seconds from the steady clock to the calendar, which change when the calendar is set, and only then."""
    before, today, after = steadily(), calendar(), steadily()
    if after - before < CLOSE:  # as `_together` does, with less to do: this is asked with each call into a file
        return today - after
    return _together(lambda: calendar() - steadily(), steadily)


def _together(clocks: Callable[[], T], steadily: Callable[[], float]) -> T:
    """Give what several clocks show at one moment: they are read again, if the process was stopped in between."""
    tries = 0
    while True:
        tries += 1
        before = steadily()
        seen = clocks()
        if steadily() - before < CLOSE or tries == TRIES:
            return seen


@attrs.frozen
class Boot:
    """A run of a machine, from its start to its end, in which the steady clock goes on through all processes."""

    id: str
    offset: float
    """Seconds from the steady clock to the kernel's calendar."""


def boot_here() -> Boot | None:
    """Give the run of the machine that we are in; ``None`` where it has no name.

    By the kernel's clocks, and not by `wall`: what one process makes of its `time.time` sets no machine's clock.
    """
    with suppress(OSError, AttributeError):
        boot_id = BOOT_ID.read_bytes().decode().strip()
        return Boot(boot_id, offset(lambda: time.clock_gettime(time.CLOCK_REALTIME)))
    return None
