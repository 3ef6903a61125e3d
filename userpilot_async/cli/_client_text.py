"""The state of an open client while calls are on their way: one line for a log, one table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import attrs
from rich.console import RenderableType
from rich.table import Table

from .._account.statistics import Statistics
from .._delivery.client import DeliveryClient
from ._console import cell
from ._progress import bar
from ._text import job_text

RateLimits: TypeAlias = Mapping[str, int | None]
"""Requests a minute, by the names of `UserpilotClient.rate_limits`; ``None`` for no limit."""


@attrs.frozen
class ClientView:
    """A client's statistics, read anew for each line and each table."""

    client: DeliveryClient

    def line(self) -> str:
        """The present state in one line."""
        return line(self.client.statistics(), self.client.rate_limits)

    def table(self, elapsed: float) -> Table:
        """The present state for a terminal, ``elapsed`` seconds after the start."""
        return table(self.client.statistics(), self.client.rate_limits, elapsed)


def line(seen: Statistics, limits: RateLimits) -> str:
    """The statistics of one moment in one line."""
    parts = [
        f"{seen.accepted:,} accepted",
        f"{seen.merged:,} merged",
        f"{seen.delivered:,} delivered",
        f"{seen.pending:,} pending",
    ]
    if spent := used(seen, limits):
        parts.append("rate limit used: " + ", ".join(f"{count} {name}" for name, count in spent.items()))
    if seen.job is not None:
        parts.append(f"job {job_text(seen.job)}")
    if seen.paused is not None:
        parts.append(f"paused: {seen.paused}")
    elif seen.outage is not None:
        parts.append(f"requests fail: {seen.outage}")
    return ", ".join(parts)


def table(seen: Statistics, limits: RateLimits, elapsed: float) -> Table:
    """The statistics of one moment for a terminal, ``elapsed`` seconds after the start."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", min_width=16)
    grid.add_column(justify="right", min_width=8)
    grid.add_column()
    done = seen.accepted - seen.pending
    grid.add_row("accepted", f"{seen.accepted:,}", bar(done, max(1, seen.accepted)))
    grid.add_row("merged", f"{seen.merged:,}", "")
    grid.add_row("delivered", f"{seen.delivered:,}", "")
    if lost := seen.dead + seen.dropped:
        grid.add_row("lost", cell(f"{lost:,}", "red"), cell(", ".join(sorted(seen.lost_by_reason))))
    grid.add_row("pending", f"{seen.pending:,}", f"{seen.submitted:,} of them in a job" if seen.submitted else "")
    for name, spent in used(seen, limits).items():
        grid.add_row(f"{name} limit", f"{spent:,}", _limit(spent, limits[name] or 0))
    if seen.job is not None or seen.jobs_completed:
        grid.add_row("job", "", _job(seen))
    grid.add_row("time", f"{elapsed:.0f} s", cell(seen.paused, "red") if seen.paused is not None else "")
    return grid


def used(seen: Statistics, limits: RateLimits) -> dict[str, int]:
    """Requests of this minute that are spent, by the name of their limit; those without a limit are left out."""
    left = seen.rate_limit_remaining
    return {name: limit - (left.get(name) or 0) for name, limit in limits.items() if limit is not None}


def _job(seen: Statistics) -> RenderableType:
    if seen.job is None:
        return cell(f"none ({seen.jobs_completed:,} completed)", "dim")
    return cell(job_text(seen.job))


def _limit(spent: int, limit: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(bar(spent, limit), f"of {limit:,} a minute")
    return grid
