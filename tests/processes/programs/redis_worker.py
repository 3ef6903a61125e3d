"""A process among several with one outbox in Redis; what it does and writes down is what `outbox_worker` says.

python -m tests.processes.programs.redis_worker '{"file": "redis://…", "witness": …}'
"""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs

from tests.processes.programs import outbox_worker
from userpilot_async._outbox.protocol import Outbox
from userpilot_async.redis import RedisOutbox


@attrs.frozen(kw_only=True)
class Orders(outbox_worker.Orders):
    """Orders in which ``file`` is a URL."""

    outbox: dict[str, Any] = attrs.field(factory=dict)
    """More options of the outbox in Redis."""


class Worker(outbox_worker.Worker):
    """The same work, another place."""

    orders: Orders

    def outbox(self) -> Outbox:
        return RedisOutbox(self.orders.file, sender=self.orders.sender, **self.orders.outbox)


if __name__ == "__main__":
    outbox_worker.main(Worker, Orders(**json.loads(sys.argv[1])))
