"""The report of a delivery, which says what became of every call: as text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ._delivery import Delivery
from ._text import COUNTS, account_text, waiting_text

ENDPOINTS = {
    "identify_company": "company",
    "bulk_users": "bulk users",
    "bulk_companies": "bulk companies",
    "jobs": "job list",
    "job": "job status",
    "probe": "key check",
}
"""Names of endpoints that need explaining, as the report has them."""


def as_text(delivery: Delivery) -> Iterator[str]:
    """The report, line by line; the conservation law first."""
    report, seen = delivery.report, delivery.report.statistics
    yield account_text({name: getattr(seen, name) for name in COUNTS})
    if delivery.found:
        yield f"{delivery.found:,} of them waited already"
    if seen.lost_by_reason:
        yield "lost: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(seen.lost_by_reason.items()))
    if seen.outbox_resets:
        yield "lost besides: an unknown number of calls, which the outbox had before it was reset"
    often_first = sorted(seen.requests.items(), key=lambda item: -item[1])
    requests = ", ".join(f"{count:,} {ENDPOINTS.get(name, name)}" for name, count in often_first)
    total = sum(seen.requests.values())
    carried = seen.delivered + seen.merged + seen.submitted
    if total:
        carriers, calls = "request" if total == 1 else "requests", "call" if carried == 1 else "calls"
        yield f"{total:,} {carriers} carried {carried:,} {calls} ({requests}), in {delivery.elapsed:.1f} s"
    else:
        others = "; another process sends" if carried else ""
        yield f"no requests were made here, in {delivery.elapsed:.1f} s{others}"
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
