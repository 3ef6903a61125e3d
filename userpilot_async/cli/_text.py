"""Counts and durations in words, and the account in one line: what the texts of several commands share.

`_client_text`, `_delivery_text`, `_import_text` and `_outbox_text` are built from these; nothing here prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._account.account import Account
    from .._protocol.jobs import Job

COUNTS = ("accepted", "delivered", "dead", "dropped", "merged", "pending")
"""Names of the account's counts: the first one is the sum of the others."""


def account_counts(account: Account) -> dict[str, int]:
    """The counts of an account that an outbox keeps, by the names of `COUNTS`."""
    dead, dropped = sum(account.dead.values()), sum(account.dropped.values())
    known = (account.accepted, account.delivered, dead, dropped, account.merged, account.waiting)
    return dict(zip(COUNTS, known, strict=True))


def account_text(counts: Mapping[str, int]) -> str:
    """The conservation law in one line; ``counts`` has the names of `COUNTS`."""
    accepted, *others = (f"{counts[name]:,} {name}" for name in COUNTS)
    return f"{accepted} = {' + '.join(others)}"


def calls_text(count: int) -> str:
    """The number of calls, with its noun."""
    return "1 call" if count == 1 else f"{count:,} calls"


def waiting_text(count: int) -> str:
    """A sentence that so many calls wait."""
    return f"{calls_text(count)} {'waits' if count == 1 else 'wait'}"


def files_text(count: int) -> str:
    """The number of files, with its noun."""
    return "1 file" if count == 1 else f"{count:,} files"


def job_text(job: Job) -> str:
    """A job's status, with its rows if the server counts them."""
    if job.total_rows is None:
        return job.status.value
    return f"{job.status.value}, {job.completed_rows or 0:,} of {job.total_rows:,} rows"


def duration_text(seconds: float) -> str:
    """A duration in seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h"
