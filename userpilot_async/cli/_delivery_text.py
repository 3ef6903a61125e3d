"""What became of every call: for people, and for scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from .._account.shared_ledger import Account
    from ._delivery import Delivery

COUNTS = ("accepted", "delivered", "dead", "dropped", "merged", "pending")
"""The account: the first one is the sum of the others."""
ENDPOINTS = {
    "identify_company": "company",
    "bulk_users": "bulk users",
    "bulk_companies": "bulk companies",
    "jobs": "job list",
    "job": "job status",
    "knock": "key check",
}
"""Names of endpoints where they need explaining."""


def as_text(delivery: Delivery) -> Iterator[str]:
    """The report, line by line; the conservation law first."""
    report, seen = delivery.report, delivery.report.statistics
    yield account_text({name: getattr(seen, name) for name in COUNTS})
    if delivery.found:
        yield f"{delivery.found:,} of them waited already"
    if seen.lost_by_reason:
        yield "lost: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(seen.lost_by_reason.items()))
    if seen.outbox_resets:
        yield "lost besides: what the outbox had, and has no more; how many calls that was is unknown"
    often_first = sorted(seen.requests.items(), key=lambda item: -item[1])
    requests = ", ".join(f"{count:,} {ENDPOINTS.get(name, name)}" for name, count in often_first)
    total = sum(seen.requests.values())
    carried = seen.delivered + seen.merged + seen.submitted
    if total:
        yield f"{total:,} requests carried {carried:,} calls ({requests}), in {delivery.elapsed:.1f} s"
    else:
        yield f"no requests were made here, in {delivery.elapsed:.1f} s" + ("; others send" if carried else "")
    if seen.jobs_completed:  # Parcelvoy knows none
        yield f"background jobs: {seen.jobs_completed:,} completed"
    if report.jobs:
        yield f"{seen.submitted:,} calls are in an unfinished job: userpilot-async jobs watch {report.jobs[0]}"
    yield f"possible duplicates: {seen.possible_duplicates:,}"
    if delivery.source is not None:
        yield f"rejected lines: {delivery.rejections.count:,}"
    if delivery.durable and seen.pending:
        yield f"{waiting_text(seen.pending)} in {delivery.to.client._outbox.place}"


def as_dict(delivery: Delivery) -> dict[str, Any]:
    """The report as one JSON object."""
    report, seen, rejections = delivery.report, delivery.report.statistics, delivery.rejections
    return {
        "exit_code": int(delivery.exit_code),
        "elapsed": round(delivery.elapsed, 3),
        "interrupted": delivery.interrupted,
        "error": None if delivery.trouble is None else delivery.trouble.message,
        **{name: getattr(seen, name) for name in (*COUNTS, "submitted")},
        "found_waiting": delivery.found,
        "lost_by_reason": dict(seen.lost_by_reason),
        "outbox_resets": seen.outbox_resets,
        "requests": dict(seen.requests),
        "requests_total": sum(seen.requests.values()),
        "retries": seen.retries,
        "rate_limited": seen.rate_limited,
        "possible_duplicates": seen.possible_duplicates,
        "jobs_completed": seen.jobs_completed,
        "unfinished_jobs": list(report.jobs),
        "rejected": rejections.count,
        "rejected_lines": [attrs.asdict(rejection) for rejection in rejections.kept],
    }


def account_counts(account: Account) -> dict[str, int]:
    """The numbers of an account that is kept on disk."""
    dead, dropped = sum(account.dead.values()), sum(account.dropped.values())
    known = (account.accepted, account.delivered, dead, dropped, account.merged, account.waiting)
    return dict(zip(COUNTS, known, strict=True))


def calls_text(count: int) -> str:
    """So many calls."""
    return "1 call" if count == 1 else f"{count:,} calls"


def waiting_text(count: int) -> str:
    """So many calls wait."""
    return f"{calls_text(count)} {'waits' if count == 1 else 'wait'}"


def account_text(counts: Mapping[str, int]) -> str:
    """The conservation law, with these numbers."""
    accepted, *others = (f"{counts[name]:,} {name}" for name in COUNTS)
    return f"{accepted} = {' + '.join(others)}"
