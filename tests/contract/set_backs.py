"""Processes with one outbox whose place is set back: what they do, and what arrives, whatever the place is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any

from tests.contract.inline import at_once
from userpilot_async._calls.outcome import DELIVERED, Outcome
from userpilot_async._calls.payload import Ticket
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote

EXPIRED = Outcome("dead", "expired")


class Process:
    """A process with the outbox open, and a sender without a schedule: it sends what it has taken in whatever order."""

    def __init__(self, outbox: Any) -> None:
        self.outbox = outbox
        self.hand: list[Ticket] = []
        self.under_way: list[tuple[RequestNote, list[Ticket]]] = []
        self.term = 0

    def poll(self) -> None:
        self.outbox.store.reach.retry_at = 0.0
        self.outbox.poll()

    def begin_anew(self) -> None:
        """As the sender does that has lost the lease meanwhile: what was in hand is the next one's."""
        if self.term != self.outbox.send_log.term:
            self.term, self.hand, self.under_way = self.outbox.send_log.term, [], []

    def take(self, most: int) -> list[Ticket]:
        self.begin_anew()
        self.hand += self.outbox.take(most)
        taken, self.hand = self.hand[:most], self.hand[most:]
        return taken


class Scene:
    """Processes with one outbox, and a server of calls. What sets the outbox back is each kind's own."""

    def __init__(self, outboxes: Sequence[Any]) -> None:
        self.processes = [Process(outbox) for outbox in outboxes]
        self.marks = count()
        self.arrived: Counter[bytes] = Counter()
        self.receipts: dict[bytes, Receipt] = {}

    # ── what processes do ──

    def put(self, number: int, calls: int) -> None:
        for _ in range(calls):
            mark = b"%d" % next(self.marks)
            self.receipts[mark] = self.processes[number].outbox.put("track", "u", mark, len(mark), 0.0)

    def send(self, number: int, calls: int) -> None:
        """A request with so many calls reaches the server; its answer is on its way."""
        process = self.processes[number]
        tickets = process.take(calls)
        request = RequestNote("track", [ticket[0] for ticket in tickets])
        if tickets and self._is_noted(process, request):
            self.arrived.update(ticket[4] for ticket in tickets)  # type: ignore[misc]  # bytes, here
            process.under_way.append((request, tickets))
        else:
            process.hand[:0] = tickets
            process.begin_anew()

    def _is_noted(self, process: Process, request: RequestNote) -> bool:
        try:
            return at_once(process.outbox.send_log.sending(request))
        except (AssertionError, RuntimeError):  # it waits until the place is there again: this one gives up
            return False

    def answer(self, number: int, how: str) -> None:
        """The oldest request under way ends."""
        process = self.processes[number]
        process.begin_anew()
        if not process.under_way:
            return
        request, tickets = process.under_way.pop(0)
        if how == "lost":
            process.hand[:0] = tickets
        else:
            outcome = EXPIRED if how == "dead" else DELIVERED
            process.outbox.settle(Settlement(request.ids, (), outcome, 1, b""))
        process.outbox.send_log.landed(request, answered=how != "lost", lost=False)

    # ── the end ──

    def drain(self) -> None:
        """The holder of the lease sends all that is there."""
        for _ in range(3):
            for process in self.processes:
                process.poll()
        for _ in range(20):
            for number, process in enumerate(self.processes):
                process.poll()
                while process.under_way:
                    self.answer(number, "delivered")
                self.send(number, 10)
        for process in self.processes:
            process.poll()

    @property
    def twice(self) -> int:
        return sum(self.arrived.values()) - len(self.arrived)

    @property
    def counted(self) -> int:
        return min(process.outbox.ledger.ambiguous for process in self.processes)
