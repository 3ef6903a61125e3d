"""A process among several that take in webhooks: it calls `track` for each delivery, with the fact's name as `dedupe`.

    python -m tests.processes.programs.webhook_worker '{"file": …, "witness": …, "deliveries": [1, 2, 2, …]}'

What it writes down, and how it ends, is what `outbox_worker` says. ``file`` may be the URL of an outbox in Redis. It
kills itself when it has put so many calls, between a put and its answer.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import deque

import anyio
import attrs

from tests.processes.programs import outbox_worker
from userpilot_async import UserpilotClient
from userpilot_async._outbox.protocol import Outbox
from userpilot_async._outbox.url import outbox_at

AT_ONCE = 20


@attrs.frozen(kw_only=True)
class Orders(outbox_worker.Orders):
    """Orders with the facts that are to be told."""

    deliveries: list[int] = attrs.field(factory=list)
    dies_after: int = 0
    """Puts after which the process kills itself; 0 for never."""


class Worker(outbox_worker.Worker):
    """Tells facts, some at once, in the order in which they were delivered."""

    orders: Orders

    def outbox(self) -> Outbox:
        return super().outbox() if "://" not in self.orders.file else outbox_at(self.orders.file)

    async def work(self, userpilot: UserpilotClient) -> None:
        self.left, self.put = deque(self.orders.deliveries), 0
        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(self.answer, userpilot)
        outbox_worker.say("answered")

    async def answer(self, userpilot: UserpilotClient) -> None:
        """Answer one webhook after the other."""
        while self.left:
            fact = self.left.popleft()
            receipt = await userpilot.track(f"u{fact % 50}", "paid", {"mark": fact}, dedupe=f"evt_{fact}")
            self.put += 1
            if self.put == self.orders.dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
            self.witness.note("answered", fact, receipt.id, int(receipt.is_duplicate))


if __name__ == "__main__":
    outbox_worker.main(Worker, Orders(**json.loads(sys.argv[1])))
