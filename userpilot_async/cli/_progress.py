"""What one sees while calls are on their way: a live table on a terminal, else a plain line now and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import anyio
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from .._account.statistics import Statistics
from .._delivery.client import DeliveryClient
from .._protocol.jobs import Job
from ._console import cell

FRAME = 0.2  # seconds between two pictures on a terminal
PLAIN = 3.0  # seconds between two plain lines; a log is read later
BAR = 30  # characters

Budgets = Mapping[str, "int | None"]
"""Requests a minute, by the names of `UserpilotClient.rate_limits`."""


class Progress:
    """Watches a client, or an import, until it is cancelled."""

    def __init__(self, console: Console, pause: float = PLAIN, *, only_news: bool = False) -> None:
        """``pause`` is between two plain lines; ``only_news``: no line that says the same as the last."""
        self._console = console
        self._pause = pause
        self._only_news = only_news
        # Not `is_terminal` alone: FORCE_COLOR, which CI sets, makes it true for a log file.
        self._live = console.is_terminal and console.file.isatty()

    def say(self, text: str) -> None:
        """A line that stays, above the live table; as it is, whatever brackets and colons it has."""
        with suppress(OSError):  # the terminal is gone; that is no reason to lose calls
            self._console.print(cell(text), soft_wrap=True)

    async def follow(self, client: DeliveryClient) -> None:
        """Show where its calls are, again and again; and a last time when it is cancelled."""

        def said() -> str:
            return words(client.statistics(), client.rate_limits)

        def drawn(elapsed: float) -> RenderableType:
            return table(client.statistics(), client.rate_limits, elapsed)

        await self.watch(said, drawn)

    async def watch(self, said: Callable[[], str], drawn: Callable[[float], RenderableType]) -> None:
        """Show a moment, as one line or as a picture of so many seconds after the start; else as `follow`."""
        started = anyio.current_time()
        if self._live:
            with suppress(OSError):  # the same
                await self._watch_live(drawn, started)
        last = ""
        while True:
            await anyio.sleep(self._pause)
            news = said()
            if news != last or not self._only_news:
                self.say(f"{anyio.current_time() - started:4.0f} s: {news}")
            last = news

    async def _watch_live(self, drawn: Callable[[float], RenderableType], started: float) -> None:
        def picture() -> RenderableType:
            return drawn(anyio.current_time() - started)

        with Live(picture(), console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    await anyio.sleep(FRAME)
                    live.update(picture(), refresh=True)
            finally:
                live.update(picture(), refresh=True)


def words(seen: Statistics, budgets: Budgets) -> str:
    """One moment in one line."""
    said = [
        f"{seen.accepted:,} accepted",
        f"{seen.merged:,} merged",
        f"{seen.delivered:,} delivered",
        f"{seen.pending:,} pending",
    ]
    if spent := used(seen, budgets):
        said.append("budget used: " + ", ".join(f"{count} {name}" for name, count in spent.items()))
    if seen.job is not None:
        said.append(f"job {job_words(seen.job)}")
    if seen.paused is not None:
        said.append(f"paused: {seen.paused}")
    elif seen.outage is not None:
        said.append(f"no success: {seen.outage}")
    return ", ".join(said)


def table(seen: Statistics, budgets: Budgets, elapsed: float) -> Table:
    """One moment, for a terminal."""
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
    for name, spent in used(seen, budgets).items():
        grid.add_row(f"{name} budget", f"{spent:,}", _budget(spent, budgets[name] or 0))
    if seen.job is not None or seen.jobs_completed:
        grid.add_row("job", "", _job(seen))
    grid.add_row("time", f"{elapsed:.0f} s", cell(seen.paused, "red") if seen.paused is not None else "")
    return grid


def used(seen: Statistics, budgets: Budgets) -> dict[str, int]:
    """Requests of this minute that are spent, by budget; those without a limit are not among them."""
    left = seen.rate_limit_remaining
    return {name: limit - (left.get(name) or 0) for name, limit in budgets.items() if limit is not None}


def job_words(job: Job) -> str:
    """Its status, and its rows if the server counts them."""
    if job.total_rows is None:
        return job.status.value
    return f"{job.status.value}, {job.completed_rows or 0:,} of {job.total_rows:,} rows"


def _job(seen: Statistics) -> RenderableType:
    if seen.job is None:
        return cell(f"none ({seen.jobs_completed:,} completed)", "dim")
    return cell(job_words(seen.job))


def bar(done: int, total: int) -> ProgressBar:
    """So much of it."""
    return ProgressBar(total=total, completed=done, width=BAR)


def _budget(spent: int, limit: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(bar(spent, limit), f"of {limit:,} a minute")
    return grid
