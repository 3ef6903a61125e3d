"""A process among several with one outbox in PostgreSQL; what it does and writes down is what `outbox_worker` says.

python -m tests.processes.programs.postgres_worker '{"file": "postgresql://…", "witness": …}'
"""

from __future__ import annotations

import json
import sys

from tests.processes.programs import outbox_worker, redis_worker
from userpilot_async._outbox.protocol import Outbox
from userpilot_async.postgres import PostgresOutbox


class Worker(outbox_worker.Worker):
    """The same work, another place."""

    orders: redis_worker.Orders

    def outbox(self) -> Outbox:
        return PostgresOutbox(self.orders.file, sender=self.orders.sender, **self.orders.outbox)


if __name__ == "__main__":
    outbox_worker.main(Worker, redis_worker.Orders(**json.loads(sys.argv[1])))
