"""A process that starts with a backlog, and tells how long that took, how much memory it needs, and what it sent.

python -m tests.processes.programs.outbox_backlog FILE
"""

from __future__ import annotations

import os
import sys
import time

import anyio

from tests.processes.programs.outbox_worker import account, say
from userpilot_async import Settings, UserpilotClient
from userpilot_async.sqlite import SQLiteOutbox

SENT = 1_000  # calls that are delivered before the memory is looked at


def memory() -> int:
    """Resident bytes of this process, now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def main(file: str) -> None:
    async with UserpilotClient(outbox=SQLiteOutbox(file + ".other")) as userpilot:  # what any first use costs
        await userpilot.track("u", "warm")
        await userpilot.flush(10)
    before, started = memory(), time.monotonic()
    settings = Settings(track_per_minute=600_000, burst=600, identify_per_minute=600_000)
    async with UserpilotClient(outbox=SQLiteOutbox(file), settings=settings) as userpilot:
        say("ready", time.monotonic() - started)
        pending = userpilot.statistics().pending
        most = memory()
        while userpilot.statistics().delivered == 0:
            await anyio.sleep(0.002)
        say("first", time.monotonic() - started)
        while userpilot.statistics().delivered < SENT:
            most = max(most, memory())
            await anyio.sleep(0.01)
        say("told", {"pending": pending, "grown": most - before})
        await userpilot.aclose(0)
    say("account", account(userpilot))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
