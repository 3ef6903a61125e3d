"""By which calendar the calls of a file were dated, and what has become of that calendar since.

A call is dated when it is written, under the file's lock. The next holder of the lock checks first whether the
machine's calendar has been set, and notes by how much. So all calls below an id were dated by the old calendar, and all
others by the new one. Dates stay as they were written; each is corrected, when it is read, by what was noted after it.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from .._runtime.clocks import Boot
from .._schedule.calendar import EARLIEST, STEP

MOST_CHANGES = 100  # noted; of a calendar that is set more often while calls wait, the oldest are forgotten

Change = tuple[int, Literal["set", "seen"], float]
"""Calls below this id were dated before the calendar was set by so many seconds. Or they were dated before this library
was there, by a machine that did not know the time, and were seen first at this date.
"""


@attrs.define
class Dates:
    """A file's notes of the calendar by which its calls were dated."""

    boot: str = ""
    """The run of the machine in which that was, where it has a name."""
    machine: float = 0.0
    """From the steady clock to the kernel's calendar, then."""
    offset: float | None = None
    """From the steady clock to the calendar by which calls were dated; ``None`` if none were yet."""
    changes: list[Change] = attrs.field(factory=list)
    """Changes of the calendar, in their order."""

    def opened(self, boot: Boot | None, offset: float, next_id: int) -> float | None:
        """A process begins to use the file, in which ``next_id`` is the next: by how much the calendar was set since.

        ``None`` if there is nothing to note. Within one run of the machine its steady clock says how long that took;
        after another start that is unknown: then the calendar is believed, however far it is from the last one.
        """
        known = boot is not None and boot.id == self.boot
        step = boot.offset - self.machine if boot is not None and known else 0.0
        if known and abs(step) < STEP and self.offset is not None and abs(offset - self.offset) < STEP:
            return None
        self.boot, self.machine = (boot.id, boot.offset) if boot is not None else ("", 0.0)
        self.offset = offset
        return self._set(step, next_id)

    def moved(self, offset: float) -> bool:
        """The calendar is not where it was noted to be."""
        return self.offset is None or abs(offset - self.offset) >= STEP

    def stepped(self, boot: Boot | None, offset: float, next_id: int) -> float:
        """The calendar may have been set while the file was in use: by how much, if that was not noted yet.

        A machine that was started again in between has another steady clock, which says nothing of the calendar.
        """
        started_again = boot is not None and self.boot not in ("", boot.id)
        step = 0.0 if self.offset is None or started_again else offset - self.offset
        if self.moved(offset):
            self.boot, self.machine = (boot.id, boot.offset) if boot is not None else ("", 0.0)
            self.offset = offset
        return self._set(step, next_id)

    def _set(self, step: float, next_id: int) -> float:
        if abs(step) < STEP:
            return 0.0
        self._note((next_id, "set", step))
        return step

    def first_seen(self, today: float, next_id: int) -> None:
        """There are calls with impossible dates: they are as old as if they were of today."""
        self._note((next_id, "seen", today))

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        del self.changes[:-MOST_CHANGES]

    def corrected(self, call_id: int, at: float) -> float:
        """The date of a call, by the calendar of now, that was dated ``at`` when it was written."""
        for below, what, seconds in self.changes:
            if call_id < below:
                if what == "set":
                    at += seconds
                elif at < EARLIEST:
                    at = seconds
        return at

    def as_dict(self) -> dict[str, Any]:
        """The notes as JSON has them."""
        return {"boot": self.boot, "machine": self.machine, "offset": self.offset, "changes": self.changes}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Dates:
        """The notes that `as_dict` has given."""
        changes = [(below, what, seconds) for below, what, seconds in fields["changes"]]
        return cls(fields["boot"], fields["machine"], fields["offset"], changes)
