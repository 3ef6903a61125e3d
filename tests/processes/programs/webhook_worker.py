"""A process among several that take in webhooks: it calls `track` for each delivery, with the fact's name as `dedupe`.

    python -m tests.processes.programs.webhook_worker '{"file": …, "witness": …, "deliveries": [1, 2, 2, …]}'

What it writes down, and how it ends, is what `outbox_worker` says. ``file`` may be the URL of an outbox in Redis. It
kills itself when it has put so many calls, between a put and its answer. With ``within`` a put is a transaction.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import attrs

from tests.processes.programs import outbox_worker
from userpilot_async import UserpilotClient
from userpilot_async._outbox.protocol import Outbox
from userpilot_async._outbox.url import outbox_at

AT_ONCE = 20
CONNECTIONS = 5


@attrs.frozen(kw_only=True)
class Orders(outbox_worker.Orders):
    """Orders with the facts that are to be told."""

    deliveries: list[int] = attrs.field(factory=list)
    within: bool = False
    """Each is told in a transaction, in the database of the outbox."""
    dies_after: int = 0
    """Puts after which the process kills itself; 0 for never."""


class Worker(outbox_worker.Worker):
    """Tells facts, some at once, in the order in which they were delivered."""

    orders: Orders
    pool: Any = None

    def outbox(self) -> Outbox:
        return super().outbox() if "://" not in self.orders.file else outbox_at(self.orders.file)

    async def work(self, userpilot: UserpilotClient) -> None:
        self.left, self.put = deque(self.orders.deliveries), 0
        async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
            if self.orders.within:
                import asyncpg  # which the other places do without

                database = self.orders.file.partition("?")[0]
                self.pool = await stack.enter_async_context(
                    asyncpg.create_pool(database, min_size=1, max_size=CONNECTIONS)
                )
            for _ in range(AT_ONCE):
                tasks.start_soon(self.answer, userpilot)
        outbox_worker.say("answered")

    @asynccontextmanager
    async def calls(self, userpilot: UserpilotClient) -> AsyncIterator[Any]:
        """What takes a call: the client, or a transaction, which commits at the end."""
        if self.pool is None:
            yield userpilot
        else:
            async with self.pool.acquire() as connection, connection.transaction():
                yield userpilot.within(connection)

    async def answer(self, userpilot: UserpilotClient) -> None:
        """Answer one webhook after the other."""
        while self.left:
            fact = self.left.popleft()
            async with self.calls(userpilot) as calls:
                receipt = await calls.track(f"u{fact % 50}", "paid", {"mark": fact}, dedupe=f"evt_{fact}")
            self.put += 1
            if self.put == self.orders.dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
            self.witness.note("answered", fact, receipt.id, int(receipt.is_duplicate))


if __name__ == "__main__":
    outbox_worker.main(Worker, Orders(**json.loads(sys.argv[1])))
