"""`userpilot-async demo --transactions`: events commit with a shop's orders, whoever is killed meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import attrs
from anyio import to_thread
from anyio.abc import TaskGroup

from ..._outbox.admin import Inspection
from ..._outbox.url import admin_at
from .._emulate import emulator_process, records
from .._exits import Exit, Failed
from .._progress import Progress
from .._text import account_counts, account_text
from . import _shop
from ._postgres_server import Programs, postgres_process
from ._processes import Process, State, running

PROCESSES = 4
LEASE = 2.0  # seconds; ten by default, which is long to watch
LATENCY = 0.2  # seconds until the emulator answers: so that requests are under way at any moment
FIRST_KILL, SECOND_KILL, CLOSING = 60, 150, 300  # transactions that have begun by then
POLL = 0.25  # seconds between two looks whether anything waits
PATIENCE = 120.0  # seconds for all of it; it takes some fifteen
NEXT = (
    "",
    "Next:",
    "  userpilot-async docs transactions       the same with SQLAlchemy, asyncpg, psycopg and Django",
    "  userpilot-async docs postgres           an outbox in your PostgreSQL, made by `userpilot-async outbox migrate`",
    "  userpilot-async demo --pods 3           the sender of three processes is killed; with Redis",
)


@attrs.frozen
class Death:
    """The state in which a killed process left its transactions, and the outbox."""

    pid: int
    was_sender: bool
    waiting: int
    """Calls that had been committed, and not delivered."""
    under_way: int
    """Requests that may or may not have reached the server."""


@attrs.define
class Told:
    """The transactions of the shop, as its processes told of them before they ended."""

    began: set[int] = attrs.field(factory=set)
    committed: set[int] = attrs.field(factory=set)
    rolled_back: set[int] = attrs.field(factory=set)

    def hear(self, state: State) -> None:
        """Note what a line of a process says."""
        for name in ("began", "committed", "rolled_back"):
            if name in state:
                getattr(self, name).add(state[name])

    @property
    def open(self) -> set[int]:
        """Transactions that have begun, and not ended; those cut off by a kill, after it."""
        return self.began - self.committed - self.rolled_back


@attrs.frozen
class Comparison:
    """The shop's table of orders beside the events of the emulator."""

    transactions: int
    committed: int
    rolled_back: int
    cut_off: int
    """Transactions that were under way in processes that were killed."""
    cut_off_committed: int
    """How many of those the database has all the same: the kill came between the commit and the word of it."""
    orders: int
    events: int
    missing: int
    """Number of orders without an event."""
    unfounded: int
    """Number of events without an order: of transactions that were rolled back, or cut off."""
    twice: int
    untrue: int
    """Orders that are there though they were rolled back, or are not there though they were committed."""

    def fine_but_for(self, possible_duplicates: int) -> bool:
        """Orders and events are the same set; so many events at most are there twice."""
        return not (self.missing or self.unfounded or self.untrue) and self.twice <= possible_duplicates


def compare(told: Told, orders: Iterable[int], events: Iterable[int]) -> Comparison:
    """Compare the ids in the table of orders with those in the events."""
    there, arrived = set(orders), Counter(events)
    return Comparison(
        transactions=len(told.began),
        committed=len(told.committed),
        rolled_back=len(told.rolled_back),
        cut_off=len(told.open),
        cut_off_committed=len(told.open & there),
        orders=len(there),
        events=sum(arrived.values()),
        missing=len(there - arrived.keys()),
        unfounded=len(arrived.keys() - there),
        twice=sum(number - 1 for number in arrived.values()),
        untrue=len(told.committed - there) + len(there - told.committed - told.open),
    )


@attrs.frozen
class ShopReport:
    """The result of `demo --transactions`."""

    deaths: list[Death]
    takeover: float
    """Seconds from the sender's death until another process sent."""
    account: dict[str, int]
    possible_duplicates: int
    comparison: Comparison
    elapsed: float

    @property
    def exit_code(self) -> Exit:
        """`Exit.FINE` if the sender and another process were killed amid transactions, and orders and events agree."""
        found = self.comparison
        killed = sorted(death.was_sender for death in self.deaths) == [False, True] and found.cut_off > 0
        proves = killed and found.rolled_back and any(death.waiting for death in self.deaths)
        agree = found.fine_but_for(self.possible_duplicates) and self.account["delivered"] == found.orders > 0
        return Exit.FINE if proves and agree else Exit.LOST

    def as_text(self) -> list[str]:
        """The report in lines, the conservation law first."""
        found = self.comparison
        said = [
            account_text(self.account),
            f"{PROCESSES} processes began {found.transactions:,} transactions: {found.committed:,} committed, "
            f"{found.rolled_back:,} were rolled back, {found.cut_off:,} were cut off by a kill"
            + (f" ({found.cut_off_committed:,} of them after the commit)" if found.cut_off_committed else ""),
            *(
                f"process {death.pid}{', the sender,' if death.was_sender else ''} was killed with {death.waiting:,} "
                f"events waiting, {death.under_way} requests under way"
                for death in self.deaths
            ),
            f"another process sent {self.takeover:.1f} s later; possible duplicates: {self.possible_duplicates:,}",
            f"orders in the database: {found.orders:,}; events at the emulator: {found.events:,}, {found.missing:,} "
            f"missing, {found.twice:,} twice, {found.unfounded:,} of transactions that did not commit",
        ]
        if found.untrue:
            said.append(f"{found.untrue:,} orders are not as their transactions ended")
        if not (found.missing or found.unfounded):
            said.append("orders and events are the same set")
        return [*said, *NEXT] if self.exit_code is Exit.FINE else said

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        own = attrs.asdict(self, filter=lambda field, _: field.name not in ("account", "comparison"))
        return {"exit_code": int(self.exit_code), **own, **self.account, **attrs.asdict(self.comparison)}


async def perform(programs: Programs, progress: Progress) -> ShopReport:
    """Start PostgreSQL, the emulator and the shop, kill two processes of it, and compare.

    Raises `Failed` if a process misbehaves.
    """
    started = anyio.current_time()
    async with postgres_process(programs) as database, emulator_process("--latency", str(LATENCY)) as url:
        outbox = f"{database}&lease_ttl={LEASE}"
        shop = Shop(outbox, progress)
        await to_thread.run_sync(_make_tables, shop.admin, database)
        progress.print(f"emulator on {url}; orders and events are in {shop.admin.place}, a PostgreSQL started for this")
        async with AsyncExitStack() as processes:
            for number in range(1, PROCESSES + 1):
                process = await processes.enter_async_context(running(_shop, url, database, outbox, str(number)))
                shop.processes.append(process)
            seen = await shop.run()
            orders = await to_thread.run_sync(_orders, database)
        progress.print("the shop is closed, and nothing waits any more; comparing with the emulator")
        events = await records(url, "events")
    return ShopReport(
        deaths=shop.deaths,
        takeover=shop.takeover,
        account=account_counts(seen.account),
        possible_duplicates=seen.account.ambiguous,
        comparison=compare(shop.told, orders, [event["metadata"]["order"] for event in events]),
        elapsed=anyio.current_time() - started,
    )


def _make_tables(admin: Any, database: str) -> None:  # Any: only an outbox in PostgreSQL has tables to be made
    import psycopg

    admin.migrate()
    with psycopg.connect(database) as connection:
        connection.execute(_shop.ORDERS)


def _orders(database: str) -> list[int]:
    import psycopg

    with psycopg.connect(database) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM orders")]


class Shop:
    """The processes of the shop: watched, killed, closed."""

    def __init__(self, outbox: str, progress: Progress) -> None:
        self.admin = admin_at(outbox)
        self.processes: list[Process] = []
        self.told = Told()
        self.deaths: list[Death] = []
        self.takeover = 0.0
        self._progress = progress
        self._sender: Process | None = None
        self._killed: list[Process] = []
        self._killed_at = 0.0
        self._closed = 0

    async def run(self) -> Inspection:
        """Kill a process, then the sender; close the others, and wait until nothing waits. Raises `Failed`."""
        seen = None
        with anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as watchers:
                for process in self.processes:
                    watchers.start_soon(self._watch, process, watchers)
                seen = await self._wait_sent()
                watchers.cancel_scope.cancel()
        if seen is None:
            raise Failed("a process of the demonstration ended by itself, or did not send within two minutes")
        return seen

    async def _watch(self, process: Process, watchers: TaskGroup) -> None:
        mine = Told()  # of this process
        is_closing = False
        while (state := await process.state()) is not None:
            self.told.hear(state)
            mine.hear(state)
            self._closed += "closed" in state
            if process in self._killed:
                continue  # what it had printed before
            if state["is_sender"]:
                self._follow(process)
            if self._is_to_be_killed(process, mine, state):
                await self._kill(process)
            elif self.takeover and len(self.told.began) >= CLOSING and not is_closing:
                is_closing = True
                process.process.terminate()
        if process not in self._killed:
            watchers.cancel_scope.cancel()

    def _follow(self, sender: Process) -> None:
        if sender is self._sender:
            return
        if self._sender in self._killed and not self.takeover:
            self.takeover = anyio.current_time() - self._killed_at
            self._progress.print(f"process {sender.pid} sends now, {self.takeover:.1f} s later")
        self._sender = sender

    def _is_to_be_killed(self, process: Process, mine: Told, state: State) -> bool:
        """Amid transactions of its own: first one that does not send, then the one that does, with requests on the way.

        ``mine`` are the transactions of this process.
        """
        began = len(self.told.began)
        if self._sender is None or not mine.open or not mine.committed or not mine.rolled_back:
            return False
        if not self._killed:
            return began >= FIRST_KILL and process is not self._sender
        is_amid = state["delivered"] and state["in_flight"] and process is self._sender
        return bool(len(self._killed) == 1 and began >= SECOND_KILL and is_amid)

    async def _kill(self, process: Process) -> None:
        process.kill()
        self._killed.append(process)
        self._killed_at = anyio.current_time()
        seen = await to_thread.run_sync(self.admin.inspect)
        was_sender = process is self._sender
        death = Death(process.pid, was_sender, seen.inbox + seen.account.waiting, seen.under_way)
        self.deaths.append(death)
        self._progress.print(
            f"killed process {death.pid} (SIGKILL){', the sender' if was_sender else ''}, amid its transactions: "
            f"{seen.account.delivered:,} events were delivered, {death.waiting:,} wait"
        )

    async def _wait_sent(self) -> Inspection:
        while True:
            await anyio.sleep(POLL)
            if self._closed == PROCESSES - 2:
                seen = await to_thread.run_sync(self.admin.inspect)
                if not seen.inbox and not seen.account.waiting:
                    return seen
