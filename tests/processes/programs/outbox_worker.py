"""A process among several with one file: it puts calls, and bears witness of each that was accepted.

    python -m tests.processes.programs.outbox_worker '{"file": …, "witness": …}'

The witness is a file of its own, appended to only after the call has returned, so that it survives what is done to the
process. SIGTERM ends the work and leaves the client's block.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import attrs

from userpilot_async import OutboxError, QueueFull, Receipt, Settings, UserpilotClient
from userpilot_async._outbox.protocol import Outbox
from userpilot_async.sqlite import SQLiteOutbox
from userpilot_async.sqlite._locks import Lock

WATCH = 0.005  # seconds between two checks whether this process sends


@attrs.frozen(kw_only=True)
class Orders:
    """What the test wants of a worker."""

    file: str
    witness: str
    slot: str = "w"
    life: int = 0
    """How many processes of this slot there were before."""
    backend: str = "asyncio"
    users: int = 3
    pause: float = 0.03
    """Seconds between two calls of one user."""
    people: int = 0
    """So many others are identified together, now and then: enough for a bulk job."""
    deleted: int = 0
    """So many more are deleted after a few calls, again and again: each is another person."""
    at_most: int = 1_000_000
    """Calls that each user makes."""
    flush: float = 0.0
    """Seconds to wait for the outcome of all there is, before the program ends by itself."""
    durability: str = "process"
    sender: bool = True
    max_bytes: int = 1024**3
    settings: dict[str, Any] = attrs.field(factory=dict)


class Witness:
    """Lines of a file that is written without buffers."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, *words: object) -> None:
        """Write a line, in one piece."""
        os.write(self._descriptor, (" ".join(map(str, words)) + "\n").encode())


def stop_with_the_lock_when_asked() -> None:
    """Have SIGUSR1 stop this process at the next instant at which it has the lock for writing, as SIGSTOP does."""
    asked: list[int] = []
    take = Lock.try_take

    def try_take(lock: Lock) -> bool:
        taken = take(lock)
        if taken and asked and lock.path.suffix == ".lock":
            asked.clear()
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # before it goes on with the lock
        return taken

    Lock.try_take = try_take  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, lambda number, frame: asked.append(number))


def say(what: str, value: object = None) -> None:
    """To the test, on stdout."""
    os.write(1, f"SAID {what} {json.dumps(value)}\n".encode())


class Worker:
    """The work of one process."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.witness = Witness(orders.witness)
        self.stopping = anyio.Event()

    def outbox(self) -> Outbox:
        """The outbox of the orders, not open yet."""
        orders = self.orders
        return SQLiteOutbox(
            orders.file,
            durability=orders.durability,  # type: ignore[arg-type]  # out of JSON
            sender=orders.sender,
            max_bytes=orders.max_bytes,
        )

    async def run(self) -> None:
        orders, outbox = self.orders, self.outbox()
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
            say("reasons", dict(userpilot.statistics().lost_by_reason))
            say("twice", userpilot.statistics().possible_duplicates)
            tasks.cancel_scope.cancel()

    async def listen(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                say("stopping")
                self.stopping.set()

    async def watch(self, userpilot: UserpilotClient) -> None:
        """Note when this process begins to send, and when it stops."""
        sends = False
        while True:
            if userpilot.statistics().is_sender != sends:
                sends = not sends
                self.witness.note("sends", int(sends), time.monotonic())
            await anyio.sleep(WATCH)

    async def work(self, userpilot: UserpilotClient) -> None:
        async with anyio.create_task_group() as users:
            for number in range(self.orders.users):
                users.start_soon(self.use, userpilot, number)
            if self.orders.people:
                users.start_soon(self.crowd, userpilot)
            for number in range(self.orders.deleted):
                users.start_soon(self.come_and_go, userpilot, number)

    async def use(self, userpilot: UserpilotClient, number: int) -> None:
        """Make a user's calls: an identify first, and now and then; tracks otherwise."""
        user = f"{self.orders.slot}-{number}"
        for n in range(self.orders.at_most):
            if self.stopping.is_set():
                return
            mark = f"{user}.{self.orders.life}.{n}"
            if n % 7:
                await self.attempt(mark, userpilot.track, user, "clicked", {"mark": mark})
            else:
                await self.attempt(mark, userpilot.identify, user, {f"mark {mark}": 1})
            await anyio.sleep(self.orders.pause)

    async def crowd(self, userpilot: UserpilotClient) -> None:
        """Identify many others at once, again and again."""
        for n in range(self.orders.at_most):
            if self.stopping.is_set():
                return
            async with anyio.create_task_group() as calls:
                for number in range(self.orders.people):
                    person = f"{self.orders.slot}-p{number}"
                    mark = f"{person}.{self.orders.life}.{n}"
                    calls.start_soon(self.attempt, mark, userpilot.identify, person, {f"mark {mark}": 1})
            await anyio.sleep(10 * self.orders.pause)

    async def come_and_go(self, userpilot: UserpilotClient, number: int) -> None:
        """Have one person after the other make some calls, and delete each; every other one comes back at once."""
        for n in range(self.orders.at_most):
            if self.stopping.is_set():
                return
            user = f"gone-{self.orders.slot}-{number}-{self.orders.life}-{n}"
            await userpilot.identify(user, {"mail": user})
            for _ in range(3):
                await userpilot.track(user, "clicked", {"mark": user})
                await anyio.sleep(self.orders.pause)
            await userpilot.delete_users([user])
            if n % 2:
                self.witness.note("deleted", user)
            else:
                await userpilot.identify(user, {"back": True})
                self.witness.note("back", user)

    async def attempt(self, mark: str, call: Callable[..., Any], *said: object) -> None:
        """Make a call, and note what became of it."""
        self.witness.note("tried", mark)
        try:
            receipt: Receipt = await call(*said)
        except (OutboxError, QueueFull) as error:
            self.witness.note("refused", mark, type(error).__name__)
            return
        if receipt.status == "dropped":
            self.witness.note("refused", mark, receipt.reason)
        else:
            self.witness.note("accepted", mark, receipt.id)


def account(userpilot: UserpilotClient) -> dict[str, Any]:
    """The numbers of the law of conservation."""
    statistics = userpilot.statistics()
    names = ("accepted", "delivered", "dead", "dropped", "merged", "pending")
    return {name: getattr(statistics, name) for name in names}


def main(worker: type[Worker], orders: Orders) -> None:
    """Do as ordered, with a log on stderr."""
    logging.basicConfig(level=logging.INFO, format="LOG %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    anyio.run(worker(orders).run, backend=orders.backend)


if __name__ == "__main__":
    stop_with_the_lock_when_asked()
    main(Worker, Orders(**json.loads(sys.argv[1])))
