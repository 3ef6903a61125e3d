"""What became of every call: for people, and for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs

from ._delivery import Delivery

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
    yield (
        f"{seen.accepted:,} accepted = {seen.delivered:,} delivered + {seen.dead:,} dead + {seen.dropped:,} dropped"
        f" + {seen.merged:,} merged + {seen.pending:,} pending"
    )
    if seen.reasons:
        yield "lost: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(seen.reasons.items()))
    often_first = sorted(seen.requests.items(), key=lambda item: -item[1])
    requests = ", ".join(f"{count:,} {ENDPOINTS.get(name, name)}" for name, count in often_first)
    total = sum(seen.requests.values())
    carried = seen.delivered + seen.merged + seen.submitted
    yield f"{total:,} requests carried {carried:,} calls ({requests}), in {delivery.elapsed:.1f} s"
    if seen.jobs_completed:  # Parcelvoy knows none
        yield f"background jobs: {seen.jobs_completed:,} completed"
    if report.jobs:
        yield f"{seen.submitted:,} calls are in an unfinished job: userpilot-async jobs watch {report.jobs[0]}"
    yield f"possible duplicates: {seen.possible_duplicates:,}"
    yield f"rejected lines: {delivery.rejections.count:,}"


def as_dict(delivery: Delivery) -> dict[str, Any]:
    """The report as one JSON object."""
    report, seen, rejections = delivery.report, delivery.report.statistics, delivery.rejections
    counted = ("accepted", "delivered", "dead", "dropped", "merged", "pending", "submitted")
    return {
        "exit_code": int(delivery.exit_code),
        "elapsed": round(delivery.elapsed, 3),
        "interrupted": delivery.interrupted,
        "error": None if delivery.trouble is None else delivery.trouble.message,
        **{name: getattr(seen, name) for name in counted},
        "reasons": dict(seen.reasons),
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


def encoded(fields: dict[str, Any]) -> str:
    """JSON for stdout; ASCII, so that no terminal and no pipe can spoil it."""
    return json.dumps(fields, indent=2)
