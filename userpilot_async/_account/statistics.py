"""The numbers a client gives of itself: frozen snapshots, in which the conservation law holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .._protocol.jobs import Job
from .ledger import Ledger


@attrs.frozen(kw_only=True)
class Statistics:
    """The account at one moment: ``accepted == delivered + dead + dropped + merged + pending``."""

    accepted: int
    """Calls taken since the outbox was made: for a durable one, by all that ever used it."""
    delivered: int
    """Calls the server has, confirmed by a 2xx or by a completed job."""
    dead: int
    """Calls given up for a reason that lies in the call (`invalid`, `too_large`) or in its age (`expired`)."""
    dropped: int
    """Calls given up for want of room, time, or an answer (`queue_full`, `closed`, `ambiguous`), or not wanted
    (`disabled`).
    """
    merged: int
    """Identifies that went into a later one of the same user; their data travels with it, and shares its outcome."""
    merged_lost: int = 0
    """Merged calls whose row is dead or dropped."""
    routes: Mapping[str, int] = attrs.field(factory=dict)
    """Delivered calls by the way they went: ``realtime``, ``bulk``, ``import``."""
    pending: int
    """Calls without an outcome yet."""
    submitted: int
    """Pending calls whose background job the server has accepted but not completed."""
    in_flight: int = 0
    """Requests under way at this moment."""
    waiting_bytes: int
    """Bytes that the pending calls take, against `Settings.max_queue_bytes`."""
    lost_by_reason: Mapping[str, int]
    """Dead and dropped calls by reason."""
    requests: Mapping[str, int] = attrs.field(factory=dict)
    """HTTP requests sent, by endpoint: ``track``, ``identify``, ``identify_company``, ``bulk_users``, …"""
    retries: int = 0
    """Requests whose calls had to be sent again. 429 and 409 are not among them."""
    possible_duplicates: int = 0
    """Calls sent again after an answer was lost, or after the outbox came back without the knowledge that they were
    sent: the server may hold them twice. An upper bound; of a durable outbox, for as long as there has been one.
    """
    rate_limited: int = 0
    """Answers with status 429 so far."""
    jobs_completed: int = 0
    """Background jobs that were watched to `completed`."""
    job: Job | None = None
    """The bulk job that is running now, as last seen."""
    import_job: Job | None = None
    """The import job of ours that is running now, as last seen."""
    imports_closed: str | None = None
    """Why no late events go by the Import API, although `Settings.imports` wants it."""
    rate_limit_remaining: Mapping[str, int | None] = attrs.field(factory=dict)
    """Requests that could still go within this minute, by budget (Userpilot's are ``track`` and ``identify``, which is
    for everything else); ``None`` where there is no limit.
    """
    paused: str | None = None
    """Why nothing is sent at present (a wrong key, a wrong URL), or ``None``."""
    outage: str | None = None
    """The last failure, while requests keep failing: five in a row or more. Everything is kept and sent again."""
    on_dead_failures: int = 0
    """How often `on_dead` raised or could not be called."""
    unpersisted: int = 0
    """Calls on their way from another thread into the client's loop, or into a durable outbox, or, with
    ``fallback="memory"``, in memory until it is back: a crash loses them, and the account has them as soon as they are
    held.
    """
    duplicates_refused: int = 0
    """Calls that told a fact once more: an earlier one has the same ``dedupe``. They were not accepted, and are in no
    other number; of a durable outbox, those of all that ever used it.
    """
    outbox_resets: int = 0
    """How often the outbox came back without calls that it had held: how many those were in all is unknown, and they
    are in no other number.
    """
    is_sender: bool = True
    """True if this client sends what is in the outbox; if not, another one does, or none (`sender=False`)."""

    @property
    def track_budget(self) -> int | None:
        """Requests that Userpilot's ``/v1/track`` could take within this minute."""
        return self.rate_limit_remaining.get("track")

    @property
    def identify_budget(self) -> int | None:
        """The same for everything else there."""
        return self.rate_limit_remaining.get("identify")

    @classmethod
    def of(cls, ledger: Ledger, waiting_bytes: int, **rest: Any) -> Statistics:
        """The account, and whatever else is known."""
        return cls(
            accepted=ledger.accepted,
            delivered=ledger.delivered,
            dead=sum(ledger.dead.values()),
            dropped=sum(ledger.dropped.values()),
            merged=ledger.merged,
            merged_lost=ledger.merged_lost,
            pending=ledger.pending,
            submitted=ledger.submitted,
            lost_by_reason=dict(ledger.losses()),
            routes=dict(ledger.routes()),
            waiting_bytes=waiting_bytes,
            duplicates_refused=ledger.duplicates,
            outbox_resets=ledger.resets,
            **rest,
        )


@attrs.frozen(kw_only=True)
class Report:
    """The result of `flush` and `aclose`: the account at their end, and what is left, by reason."""

    complete: bool
    """Everything accepted before the call has an outcome."""
    elapsed: float
    """Seconds that the call took."""
    remaining: int
    """Calls that were accepted before and have no outcome yet; after `aclose` only submitted ones."""
    jobs: tuple[str, ...]
    """Ids of accepted but unfinished background jobs: the server goes on working on them."""
    statistics: Statistics
    """All numbers of the client, at this moment."""
    persisted_in: str | None = None
    """Where what is left waits for the next sender, if that outlives the client."""

    def __str__(self) -> str:
        s = self.statistics
        parts = [
            f"{s.accepted:,} accepted = {s.delivered:,} delivered + {s.dead:,} dead + {s.dropped:,} dropped"
            f" + {s.merged:,} merged + {s.pending:,} pending"
        ]
        if s.lost_by_reason:
            lost = ", ".join(f"{count:,} {reason}" for reason, count in sorted(s.lost_by_reason.items()))
            parts.append(f"lost: {lost}" + (f" (and {s.merged_lost:,} merged into them)" if s.merged_lost else ""))
        if s.unpersisted:
            parts.append(f"{s.unpersisted:,} more not held yet")
        if s.duplicates_refused:
            parts.append(f"{s.duplicates_refused:,} duplicates refused")
        if s.outbox_resets:
            times = f"{s.outbox_resets} time{'s' if s.outbox_resets > 1 else ''}"
            parts.append(f"and an unknown number that the outbox has lost, {times}")
        if self.jobs:
            parts.append(f"{s.submitted:,} submitted in {', '.join(self.jobs)}")
        if self.remaining and self.persisted_in is not None:
            parts.append(f"{self.remaining:,} wait in {self.persisted_in}")
        return "; ".join(parts)
