"""What a sender says in the log: losses, how the server is, and at DEBUG each request; never an id or a value."""

from __future__ import annotations

import logging
import math
from functools import partial

import attrs

from .._account.losses import Close, closing_line, counted, refused_words, unknown_budget_words, why_lost
from .._protocol.verdict import CANCELLED, Meaning, Verdict
from .._runtime.log import RateLimitedLog, log, logger
from .._schedule.destination import Destination
from .._schedule.routes.route import Request
from .._schedule.schedule import Schedule
from .._schedule.settlement import Settlement
from .trouble import News, Trouble

LEVELS = {"held": logging.ERROR, "outage": logging.WARNING}
CLOSING = 10.0  # seconds between two lines of a close that waits until all is sent


@attrs.define
class Lost:
    """Calls that were lost for one reason since the last look."""

    first: Settlement
    calls: int = 0
    merged: int = 0


class Reporting:
    """Puts what the schedule knows into words, through `RateLimitedLog`, which say when."""

    def __init__(self, notices: RateLimitedLog, destination: Destination, server: str) -> None:
        self._notices = notices
        self._destination = destination
        self._server = server
        self._trouble = Trouble(server)
        self._retries = 0
        self._refusal = ""
        self._lost: dict[str, Lost] = {}
        self.answered_at = -math.inf
        """When the server answered last."""

    @property
    def detailed(self) -> bool:
        """Each request is logged. Asked once for each, so that it costs nothing where it is not."""
        return logger.isEnabledFor(logging.DEBUG)

    # ── losses ──

    def settled(self, settlement: Settlement) -> None:
        """Count calls that have met their fate, if they are lost; `say_losses` says how many."""
        reason = settlement.outcome.reason
        if reason is not None:
            lost = self._lost.get(reason) or self._lost.setdefault(reason, Lost(settlement))
            lost.calls += len(settlement.carriers)
            lost.merged += len(settlement.merged)

    def say_losses(self, schedule: Schedule) -> None:
        """Say what was counted, now or when that may be."""
        losses, self._lost = self._lost, {}
        for reason, lost in losses.items():
            why = partial(self._why, reason, lost.first, schedule)
            self._notices.lost(reason, lost.calls, lost.merged, why=why)

    def _why(self, reason: str, first: Settlement, schedule: Schedule) -> str:
        if reason not in ("invalid", "too_large"):
            return why_lost(reason, schedule.settings, schedule.failure)
        if not first.detail:
            return self._refusal
        words = refused_words(first.detail, first.call(self._destination).as_dict())
        return f"{self._refusal} ({words})" if words else f"{self._refusal}, in words that quote the call"

    # ── how the server is ──

    def answered(self, verdict: Verdict, work: Request, schedule: Schedule, now: float) -> None:
        """The schedule has taken in what became of a request."""
        if verdict.status is not None:
            self.answered_at = now
            if schedule.failure is None:
                self._trouble.answered(now)
        if schedule.retries != self._retries:
            self._retries = schedule.retries
            self._trouble.failed(now)
        if self._destination.reads(verdict).meaning in (Meaning.INVALID, Meaning.TOO_LARGE):
            answer = f"answered {verdict.status}" if verdict.status is not None else verdict.detail
            self._refusal = f"{self._server} {answer} on {work.endpoint.name}"

    def look(self, schedule: Schedule, waiting: int, now: float) -> None:
        """Say how the server is, if that has changed."""
        failure = schedule.failure or schedule.outage
        self._say(self._trouble.look(now, schedule.held, schedule.failures, failure, waiting))

    def leave(self) -> None:
        """The client is left. What fails from now on is what it breaks off itself."""
        self._say(self._trouble.leave())

    def _say(self, news: News | None) -> None:
        if news is None:
            return
        if news.kind == "resumed":
            self._notices.over(logging.WARNING, news.words)
        else:
            self._notices.state(LEVELS[news.kind], news.kind, news.words, news.about)

    def budgets_unknown(self, schedule: Schedule, place: str, now: float) -> None:
        """The sender has taken over from one of whose requests something is unknown: say for how long none goes."""
        words = unknown_budget_words(schedule.budget_waits(now), place)
        if words is not None:
            self._notices.say(logging.WARNING, "budget", words)

    def due(self) -> float:
        """When something is to be said that nothing else wakes the sender for."""
        return min(self._notices.due(), self._trouble.due())

    def say_due(self) -> None:
        """Say it."""
        self._notices.say_due()

    # ── the end ──

    def closing(self, left: int, close: Close) -> None:
        """Say how far a close is that waits until all is sent."""
        self._notices.tell(logging.WARNING, closing_line(left, close))

    # ── at DEBUG ──

    def request(self, work: Request) -> None:
        """A request is about to be made."""
        what = "a look"
        if work.rows:
            what = counted(len(work.rows), "row")
        elif work.body:
            what = f"{counted(work.load.calls if work.load is not None else 1)}, {len(work.body)} bytes"
        log(logging.DEBUG, f"request: {work.endpoint.method} {work.endpoint.path}, {what}")

    def answer(self, work: Request, verdict: Verdict, seconds: float) -> None:
        """It has ended."""
        request_id = getattr(verdict, "request_id", None)
        by = f", request {request_id}" if request_id else ""
        what = str(verdict.status) if verdict.status is not None else f"none ({verdict.detail})"
        if verdict.detail == CANCELLED:
            what = "not waited for"
        log(logging.DEBUG, f"answer: {what} on {work.endpoint.name} after {1_000 * seconds:.0f} ms{by}")

    def file(self, work: Request, size: int) -> None:
        """A file is about to be uploaded."""
        log(logging.DEBUG, f"file: {work.filename}, {counted(len(work.rows), 'row')}, {size} bytes")

    def merge(self, calls: int) -> None:
        """Calls went into later ones."""
        log(logging.DEBUG, f"merge: {counted(calls)} went into later ones")

    def wait(self, schedule: Schedule, until: float, now: float) -> None:
        """There is nothing to do for a while."""
        how_long = f"{until - now:.3f} s" if until < math.inf else "until something is added or answered"
        log(logging.DEBUG, f"wait: {how_long}, for {schedule.waits_for(now)}")
