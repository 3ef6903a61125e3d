"""Between the outbox and the schedule: calls go in, and what became of them comes back. Nothing here waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import uuid4

from .._calls.outcome import Outcome
from .._outbox.protocol import Outbox
from .._runtime.log import RateLimitedLog
from .._schedule.calendar import Calendar
from .._schedule.destination import Destination
from .._schedule.schedule import Schedule
from .._schedule.settlement import Settlement
from .._settings import DeliverySettings
from .dead_letters import DeadLetters, lost_settlement
from .reporting import Reporting

TAKE = 250  # calls moved into the schedule in one go: about half a millisecond of the application's loop


def schedules(
    settings: DeliverySettings, destination: Destination, chance: Callable[[], float], calendar: Calendar, server: str
) -> Callable[[float], Schedule]:
    """Give a function that makes a schedule of the time it is made at: one client's, whose files have names alike."""
    name = f"{destination.name}-async-{uuid4().hex[:12]}"

    def new_schedule(now: float) -> Schedule:
        return Schedule(
            settings, destination, chance=chance, now=now, calendar=calendar, server=server,
            filename=lambda: f"{name}-{uuid4().hex}.ndjson",
        )  # fmt: skip

    return new_schedule


class Handover:
    """Moves calls from the outbox into the schedule, and the schedule's decisions into the account and the log.

    An outbox may be taken over by another process. The calls that were taken before are that one's then: see
    `is_current`.
    """

    def __init__(
        self,
        outbox: Outbox,
        new_schedule: Callable[[], Schedule],
        destination: Destination,
        dead_letters: DeadLetters,
        log: RateLimitedLog,
        reporting: Reporting,
        now: Callable[[], float],
    ) -> None:
        self.schedule = new_schedule()
        self._new_schedule = new_schedule
        self._term = outbox.send_log.term
        self._outbox = outbox
        self._destination = destination
        self._dead_letters = dead_letters
        self._log = log
        self._reporting = reporting
        self._now = now

    @property
    def is_current(self) -> bool:
        """Whether the schedule's calls are ours still: no other process has taken over."""
        return self._term == self._outbox.send_log.term

    def begin_anew(self) -> None:
        """Forget all calls in hand, which another process has taken over; the counts stay."""
        before, self.schedule = self.schedule, self._new_schedule()
        self.schedule.succeed(before)
        self._term = self._outbox.send_log.term

    def take_in(self) -> int:
        """Move up to `TAKE` calls from the outbox into the schedule; gives their number."""
        if not self.is_current:
            return 0
        takeover = self._outbox.send_log.inherited()
        if takeover is not None:
            now = self._now()
            self.schedule.inherit(takeover, now)
            if takeover.unknown:
                self._reporting.budgets_unknown(self.schedule, self._outbox.place, now)
        tickets = self._outbox.take(TAKE)
        self.schedule.add_all(tickets, self._outbox.send_log.was_sent)
        return len(tickets)

    def write_down(self) -> bool:
        """Write what the schedule has decided into the account; true if calls have an outcome now that had none."""
        settled = self.schedule.settled
        if settled.merged or settled.freed:
            merged, freed = settled.merged, settled.freed
            settled.merged, settled.freed = [], 0
            self._outbox.merged(merged, freed)
            if merged and self._reporting.detailed:
                self._reporting.merge(len(merged))
        if settled.marks:
            marks, settled.marks = settled.marks, []
            for ids, submitted, size in marks:
                self._outbox.submitted(ids, submitted, size)
        done = settled.done
        if done:
            settled.done = []
            for settlement in done:
                self._settle(settlement)
            self._reporting.log_losses(self.schedule)
        self._reporting.imports(self.schedule.imports_closed)
        if settled.forgotten:
            for filename in settled.forgotten:
                self._outbox.send_log.forget(filename)
            settled.forgotten = []
        return bool(done)

    def _settle(self, settlement: Settlement) -> None:
        self._outbox.settle(settlement)
        self._reporting.settled(settlement)
        if settlement.carriers and settlement.outcome.reason is not None:
            self._dead_letters.post(partial(lost_settlement, self._destination, settlement))

    def drop_pending(self, outcome: Outcome) -> None:
        """Give this outcome to every call that has none and cannot wait: for a schedule that a bug has broken."""
        calls = self._outbox.drop_pending(outcome)
        if calls:
            self._log.lost(outcome.reason or "", calls, why=str)
