"""Time, a line and bad luck: what simulations of any destination share around the real schedule."""

from __future__ import annotations

import heapq
import json
import math
import random
from abc import ABC, abstractmethod
from itertools import count
from typing import Any

import attrs

from tests.contract.inline import Client, at_once
from userpilot_async._outbox.memory import MemoryOutbox
from userpilot_async._protocol.verdict import Verdict, of_answer, of_failure
from userpilot_async._schedule.destination import Destination
from userpilot_async._schedule.routes.route import Request
from userpilot_async._schedule.schedule import Schedule
from userpilot_async._settings import DeliverySettings


@attrs.define
class FaultyServer(ABC):
    """Applies what it is sent; misbehaves as often as its chance says, until it is told to be well."""

    chance: random.Random
    trouble: float = 0.0

    def handle(self, work: Request, now: float) -> Verdict:
        """Apply a request, or not, and answer it, or not."""
        trouble = self.chance.random() < self.trouble
        kind = self.chance.choice(["unsent", "lost", "applied_lost", 500, 503, 429, 401, 502]) if trouble else None
        if kind == "unsent":
            return of_failure("ConnectError", sent=False)
        self.stamp(work, now)
        if kind in (429, 500, 503, 401):
            return of_answer(int(kind), {}, b"")
        if kind in ("lost", 502):
            self.note_lost(work)
            return of_failure("ReadError", sent=True) if kind == "lost" else of_answer(502, {}, b"")
        status, body = self.apply(work, now)
        if kind == "applied_lost":
            self.note_lost(work)
            return of_failure("ReadError", sent=True)
        return of_answer(status, {}, json.dumps(body).encode())

    def be_well(self) -> None:
        """No trouble from now on."""
        self.trouble = 0.0

    @abstractmethod
    def stamp(self, work: Request, now: float) -> None:
        """Write down that a request has come."""

    @abstractmethod
    def note_lost(self, work: Request) -> None:
        """Write down that a request gets no answer that says what became of it."""

    @abstractmethod
    def apply(self, work: Request, now: float) -> tuple[int, Any]:
        """What the documentation says a request does: a status and a body."""


class World:
    """Calls go in at their times, requests take as long as chance says, and the account is kept."""

    def __init__(
        self,
        chance: random.Random,
        server: FaultyServer,
        settings: DeliverySettings,
        destination: Destination,
        latency: float,
    ) -> None:
        self.chance = chance
        self.now = 1_000.0
        self.outbox = MemoryOutbox()
        at_once(self.outbox.open(Client().opening()))
        self._server = server
        self._latency = latency
        self._names = count()
        self._tie = count()
        self._arriving: list[tuple[float, int, Request]] = []
        self._answering: list[tuple[float, int, Request, Verdict]] = []
        self.schedule = Schedule(
            settings,
            destination,
            chance=chance.random,
            filename=lambda: f"file-{next(self._names)}",
            now=self.now,
        )

    def take_in(self) -> None:
        """Move what was put into the schedule, and send nothing."""
        for ticket in self.outbox.take(10**9):
            self.schedule.add(ticket)
        self.carry_on()

    def step(self, until: float) -> bool:
        """Make the next thing happen that is due before ``until``; false if there is none."""
        self.take_in()
        found = self.schedule.next(self.now)
        self.carry_on()
        if isinstance(found, Request):
            self.sending(found)
            heapq.heappush(self._arriving, (self.now + self._delay(), next(self._tie), found))
            return True
        times = [found, self._arriving[0][0] if self._arriving else math.inf,
                 self._answering[0][0] if self._answering else math.inf]  # fmt: skip
        if min(times) > until or min(times) == math.inf:
            self.now = max(self.now, until) if until < math.inf else self.now
            return False
        self.now = max(self.now, min(times))
        while self._arriving and self._arriving[0][0] <= self.now:
            at, _, work = heapq.heappop(self._arriving)
            verdict = self._server.handle(work, at)
            heapq.heappush(self._answering, (self.now + self._delay(), next(self._tie), work, verdict))
        while self._answering and self._answering[0][0] <= self.now:
            _, _, work, verdict = heapq.heappop(self._answering)
            self.schedule.done(work, verdict, self.now)
            self.carry_on()
            self.landed(work, verdict)
        return True

    def sending(self, work: Request) -> None:
        """A request is about to be made."""

    def landed(self, work: Request, verdict: Verdict) -> None:
        """A request has ended with this verdict."""

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        until = self.now + seconds
        while self.step(until):
            pass

    def drain(self, steps: int = 200_000) -> None:
        """The server is well from now on; until nothing is pending."""
        self._server.be_well()
        for _ in range(steps):
            if not self.step(math.inf) or not self.outbox.ledger.pending:
                break

    def carry_on(self) -> None:
        """The sender's bookkeeping, without its waiting."""
        settled = self.schedule.settled
        self.outbox.merged(settled.merged, settled.freed)
        settled.merged, settled.freed = [], 0
        for ids, submitted, size in settled.marks:
            self.outbox.submitted(ids, submitted, size)
        settled.marks = []
        for settlement in settled.done:
            self.outbox.settle(settlement)
        settled.done = []
        for filename in settled.forgotten:
            self.outbox.send_log.forget(filename)
        settled.forgotten = []

    def _delay(self) -> float:
        return self.chance.random() * self._latency
