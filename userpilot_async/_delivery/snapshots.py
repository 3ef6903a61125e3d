"""The numbers of an open client: `Statistics` at one moment, in any thread, and the `Report` of a flush or a close."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._account.statistics import Report, Statistics
from .._outbox.protocol import Outbox
from .admission import Admission
from .dead_letters import DeadLetters
from .inbox import Inbox
from .sender import Sender

if TYPE_CHECKING:
    from .connection import Connection

TRIES = 1_000  # of another thread to see the account balanced: the loop is never long between two numbers


class Snapshots:
    """Puts the numbers together that the parts of a client keep."""

    def __init__(
        self,
        outbox: Outbox,
        inbox: Inbox,
        admission: Admission,
        connection: Connection,
        sender: Sender,
        dead_letters: DeadLetters,
        now: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._inbox = inbox
        self._admission = admission
        self._connection = connection
        self._sender = sender
        self._dead_letters = dead_letters
        self._now = now

    def from_another_thread(self) -> Statistics:
        """Give statistics that balance, while the loop goes on in its own thread."""
        for _ in range(TRIES):
            try:
                seen = self.here(elsewhere=True)
            except RuntimeError:  # a dict that the loop has just written to
                pass
            else:
                if seen.accepted == seen.delivered + seen.dead + seen.dropped + seen.merged + seen.pending:
                    return seen
            time.sleep(0)  # lets the loop write the other half
        raise RuntimeError("the account does not balance")

    def here(self, *, elsewhere: bool = False) -> Statistics:
        """Give the statistics of this moment; ``elsewhere`` is a thread that must not change anything by asking."""
        ledger, schedule = self._outbox.ledger, self._sender.schedule
        now = self._now() if self._admission.is_open else 0.0
        return Statistics.of(
            ledger,
            self._outbox.waiting_bytes,
            in_flight=schedule.in_flight,
            requests=dict(self._connection.requests),
            retries=schedule.retries,
            possible_duplicates=max(schedule.possible_duplicates, ledger.ambiguous),
            rate_limited=schedule.rate_limited,
            jobs_completed=schedule.jobs_completed,
            job=schedule.job,
            import_job=schedule.import_job,
            imports_closed=schedule.imports_closed,
            rate_limit_remaining={
                name: bucket.glance(now) if elsewhere else bucket.left(now) for name, bucket in schedule.buckets.items()
            },
            paused=schedule.paused,
            outage=schedule.outage,
            on_dead_failures=self._dead_letters.failures,
            is_sender=self._outbox.sends,
            unpersisted=self._outbox.unheld + self._inbox.on_its_way,
        )

    def report(self, started: float, mark: int | None = None, coming: int = 0) -> Report:
        """Report on calls with ids below ``mark`` (all, if ``None``), and on ``coming`` calls from other threads.

        ``started`` is when the flush or close began, in the loop's seconds.
        """
        ledger = self._outbox.ledger
        left = ledger.pending_before(ledger.next_id if mark is None else mark) + coming
        slots = [slot for slot in self._sender.schedule.slots if slot.job is not None and slot.batch is not None]
        jobs = tuple((slot.job and slot.job.job_id) or (slot.batch and slot.batch.filename) or "" for slot in slots)
        return Report(
            complete=not left,
            elapsed=self._now() - started,
            remaining=left,
            jobs=jobs,
            statistics=self.here(),
            persisted_in=self._outbox.place if self._outbox.durable else None,
        )
