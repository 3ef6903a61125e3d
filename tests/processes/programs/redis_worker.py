"""A process among several with one outbox in Redis; what it does and writes down is what `_outbox_worker` says.

python -m tests.processes.programs.redis_worker '{"file": "redis://…", "witness": …}'
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import anyio
import attrs

from tests.processes.programs import outbox_worker as _outbox_worker
from tests.processes.programs.outbox_worker import account, say
from userpilot_async import Settings, UserpilotClient
from userpilot_async.redis import RedisOutbox


@attrs.frozen(kw_only=True)
class Orders(_outbox_worker.Orders):
    """Orders in which ``file`` is a URL."""

    outbox: dict[str, Any] = attrs.field(factory=dict)
    """More options of the outbox in Redis."""


class Worker(_outbox_worker.Worker):
    """The same work, another place."""

    async def run(self) -> None:
        orders = self.orders
        assert isinstance(orders, Orders)
        outbox = RedisOutbox(orders.file, sender=orders.sender, **orders.outbox)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.listen)
            async with UserpilotClient(outbox=outbox, settings=Settings(**orders.settings)) as userpilot:
                self.witness.note("open", 0, time.monotonic())
                say("ready")
                tasks.start_soon(self.watch, userpilot)
                await self.work(userpilot)
                if orders.flush:
                    report = await userpilot.flush(orders.flush)
                    say("flushed", {"complete": report.complete, "left": report.remaining})
                else:
                    await self.stopping.wait()
                report = await userpilot.aclose()
                say("left", report.remaining)
            say("account", account(userpilot))
            tasks.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="LOG %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    orders = Orders(**json.loads(sys.argv[1]))
    anyio.run(Worker(orders).run, backend=orders.backend)
