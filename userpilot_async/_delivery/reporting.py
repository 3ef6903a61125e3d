"""The sender's lines in the log: losses, how the server is, and at DEBUG each request; never an id or a value."""

from __future__ import annotations

import logging
import math
from functools import partial

import attrs

from .._account.losses import Close, closing_line, counted, refused_words, unknown_budget_words, why_lost
from .._protocol.verdict import CANCELLED, Meaning, Verdict
from .._runtime.log import RateLimitedLog, logger
from .._runtime.log import log as log_line
from .._runtime.outage import LASTING
from .._schedule.destination import Destination
from .._schedule.routes.route import Request
from .._schedule.schedule import Schedule
from .._schedule.settlement import Settlement
from .health import ServerHealth

LEVELS = {"paused": logging.ERROR, "outage": logging.WARNING}
CLOSING = 10.0  # seconds between two lines of a close that waits until all is sent


@attrs.define
class Lost:
    """Calls that were lost for one reason since its last line."""

    first: Settlement
    calls: int = 0
    merged: int = 0


class Reporting:
    """Puts what the schedule knows into words, for `RateLimitedLog`, which says when. ``server`` is its URL."""

    def __init__(self, log: RateLimitedLog, destination: Destination, server: str) -> None:
        self._log = log
        self._destination = destination
        self.server = server
        self._health = ServerHealth(server)
        self._imports_closed: str | None = None
        self._retries = 0
        self._refusal = ""
        self._lost: dict[str, Lost] = {}
        self.answered_at = -math.inf
        """When the server answered last."""

    @property
    def detailed(self) -> bool:
        """Whether each request is logged. Asked once for each, so that it costs nothing where it is not."""
        return logger.isEnabledFor(logging.DEBUG)

    # ── losses ──

    def settled(self, settlement: Settlement) -> None:
        """Count calls that have an outcome now, if they are lost; `log_losses` says how many."""
        reason = settlement.outcome.reason
        if reason is not None and (settlement.carriers or settlement.riders):  # not a post that no call stands for
            lost = self._lost.get(reason) or self._lost.setdefault(reason, Lost(settlement))
            lost.calls += len(settlement.carriers)
            lost.merged += len(settlement.merged)

    def log_losses(self, schedule: Schedule) -> None:
        """Log the losses that were counted, now or when that may be."""
        losses, self._lost = self._lost, {}
        for reason, lost in losses.items():
            why = partial(self._why, reason, lost.first, schedule)
            self._log.lost(reason, lost.calls, lost.merged, why=why)

    def _why(self, reason: str, first: Settlement, schedule: Schedule) -> str:
        if reason not in ("invalid", "too_large"):
            return why_lost(reason, schedule.settings, schedule.failure)
        if not first.detail:
            return self._refusal
        words = refused_words(first.detail, first.call(self._destination).as_dict())
        return f"{self._refusal} ({words})" if words else f"{self._refusal}, in words that quote the call"

    # ── how the server is ──

    def answered(self, verdict: Verdict, request: Request, schedule: Schedule, now: float) -> None:
        """Take note of an answer, or a failure, that the schedule has taken in."""
        if verdict.status is not None:
            self.answered_at = now
            if schedule.failure is None:
                self._health.answered(now)
        if schedule.retries != self._retries:
            self._retries = schedule.retries
            self._health.failed(now)
        if self._destination.reads(verdict).meaning in (Meaning.INVALID, Meaning.TOO_LARGE):
            answer = f"answered {verdict.status}" if verdict.status is not None else verdict.detail
            self._refusal = f"{self.server} {answer} on {request.endpoint.name}"

    def poll(self, schedule: Schedule, waiting: int, now: float) -> None:
        """Log how the server is, if that has changed; ``waiting`` is how many calls wait."""
        failure = schedule.failure or schedule.outage
        found = self._health.poll(now, schedule.paused, schedule.failures, failure, waiting)
        if found.state == "unproven":
            self._log.lull()
        elif found.state == "well":
            self._log.over(logging.WARNING, found.message, LASTING)
        else:
            self._log.state(LEVELS[found.state], found.state, found.message, found.about, sure=found.sure)

    def imports(self, closed: str | None) -> None:
        """Log, if that is new, that late events are ``closed`` out of the Import API, and why."""
        if closed == self._imports_closed:
            return
        self._imports_closed = closed
        if closed is not None:
            slow = "late events go through the realtime endpoint, which dates them on arrival"
            self._log.warn("imports", f"{slow}: {closed}; one file an hour checks whether that has changed")

    def budgets_unknown(self, schedule: Schedule, place: str, now: float) -> None:
        """Log for how long no request goes, because it is unknown which ones the sender before has made."""
        words = unknown_budget_words(schedule.budget_waits(now), place)
        if words is not None:
            self._log.warn("budget", words)

    # ── the end ──

    def closing(self, left: int, close: Close) -> None:
        """Log how far a close is that waits until all is sent; ``left`` is a number of calls."""
        self._log.always(logging.WARNING, closing_line(left, close))

    # ── at DEBUG ──

    def request(self, request: Request) -> None:
        """Log that a request is about to be made."""
        what = "a poll"
        if request.rows:
            what = counted(len(request.rows), "row")
        elif request.body:
            what = f"{counted(request.load.calls if request.load is not None else 1)}, {len(request.body)} bytes"
        log_line(logging.DEBUG, f"request: {request.endpoint.method} {request.endpoint.path}, {what}")

    def answer(self, request: Request, verdict: Verdict, seconds: float) -> None:
        """Log how a request has ended, and after how many seconds."""
        request_id = getattr(verdict, "request_id", None)
        by = f", request {request_id}" if request_id else ""
        what = str(verdict.status) if verdict.status is not None else f"none ({verdict.detail})"
        if verdict.detail == CANCELLED:
            what = "not waited for"
        log_line(logging.DEBUG, f"answer: {what} on {request.endpoint.name} after {1_000 * seconds:.0f} ms{by}")

    def file(self, request: Request, size: int) -> None:
        """Log that a file of ``size`` bytes is about to be uploaded."""
        log_line(logging.DEBUG, f"file: {request.filename}, {counted(len(request.rows), 'row')}, {size} bytes")

    def merge(self, calls: int) -> None:
        """Log that a number of calls went into later ones."""
        log_line(logging.DEBUG, f"merge: {counted(calls)} went into later ones")

    def wait(self, schedule: Schedule, until: float, now: float) -> None:
        """Log that there is nothing to do before ``until``, in the loop's seconds, and what is waited for."""
        how_long = f"{until - now:.3f} s" if until < math.inf else "until something is added or answered"
        log_line(logging.DEBUG, f"wait: {how_long}, for {schedule.waits_for(now)}")
