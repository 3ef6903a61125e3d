"""`userpilot-async demo --pods`: several processes put into Redis or PostgreSQL, and the one that sends is killed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import click
from anyio import to_thread
from anyio.abc import TaskGroup

from ..._outbox.admin import Inspection, OutboxAdmin
from ..._outbox.url import admin_at
from .._emulate import emulator_process, records
from .._exits import Exit, Failed, NotPossible
from .._outbox_place import OutboxPlace
from .._progress import Progress
from .._text import account_counts, account_text
from . import _app, _pod
from ._oracle import Judgement, expected, judge, shown
from ._processes import Process, State, running
from ._redis_server import redis_process

SENDERS = 2
LEASE = 2.0  # seconds; ten by default, which is long to watch
LATENCY = 0.05  # seconds until the emulator answers: so that requests are under way at any moment
PATIENCE = 120.0  # seconds for all of it; it takes some fifteen
MINUTE, A_MINUTE = 60.0, 600  # seconds, and requests in any of them: the limit of Userpilot


@attrs.frozen
class Death:
    """The state in which the killed sender left the outbox."""

    pid: int
    sent: int
    """Calls that had an outcome by then, merged ones among them."""
    waiting: int
    under_way: int
    """Requests that may or may not have reached the server."""
    takeover: float
    """Seconds until the other process sent."""

    @property
    def proves(self) -> bool:
        """Whether the sender was killed in mid-flight."""
        return bool(self.sent and self.waiting and self.under_way)


@attrs.frozen
class FailoverReport:
    """The result of `demo --pods`."""

    pods: list[int]
    """Calls that each pod has put."""
    death: Death
    sent_after: int
    """Calls that the other sender has settled."""
    account: dict[str, int]
    """The account of the outbox, at the end."""
    valid: int
    """Valid calls in the sample."""
    possible_duplicates: int
    worst_minute: int
    """Requests of one kind that the emulator got within any 60 seconds, at most."""
    bulk_jobs: int
    refused_jobs: int
    """Jobs that were submitted while another one was running."""
    judgement: Judgement
    elapsed: float

    @property
    def exit_code(self) -> Exit:
        """`Exit.FINE` if the sender was killed in mid-flight, everything has arrived, and all rules were kept."""
        lost = self.account["dead"] + self.account["dropped"] + self.account["pending"]
        all_put = sum(self.pods) == self.account["accepted"] == self.valid
        arrived = self.judgement.fine_but_for(self.possible_duplicates) and not lost
        kept = self.worst_minute <= A_MINUTE and not self.refused_jobs
        return Exit.FINE if self.death.proves and all_put and arrived and kept else Exit.LOST

    def as_text(self) -> list[str]:
        """The report in lines, the conservation law first."""
        death, put = self.death, " + ".join(f"{count:,}" for count in self.pods)
        return [
            account_text(self.account),
            f"{len(self.pods)} pods have put {put} calls; in the sample: {self.valid:,}",
            f"process {death.pid} sent {death.sent:,} of them, and was killed with {death.waiting:,} waiting, "
            f"{death.under_way} requests under way",
            f"the other sender took over after {death.takeover:.1f} s, and sent {self.sent_after:,}",
            f"possible duplicates: {self.possible_duplicates:,}",
            str(self.judgement),
            f"emulator: {self.worst_minute:,} requests of a kind in any minute at most, {self.bulk_jobs:,} bulk jobs, "
            f"{self.refused_jobs:,} while another one was running",
        ]

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        own = attrs.asdict(self, filter=lambda field, _: field.name not in ("account", "valid", "judgement"))
        emulator = attrs.asdict(self.judgement)
        return {"exit_code": int(self.exit_code), **own, **self.account, "calls": self.valid, "emulator": emulator}


@attrs.frozen
class Started:
    """An outbox in a Redis that is started for the demonstration, by this program."""

    program: str

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[str, str]]:
        """The URL of the outbox, and whose server it is, in words."""
        async with redis_process(self.program) as redis:
            yield f"{redis}?lease_ttl={LEASE}", "a Redis started for this"


@attrs.frozen
class Given:
    """An outbox of the user's own, at this URL."""

    url: str = attrs.field(repr=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[str, str]]:
        """The URL of the outbox, and whose server it is, in words."""
        yield self.url if "lease_ttl=" in self.url else _with_option(self.url, f"lease_ttl={LEASE}"), "yours"


def given(url: str) -> Given:
    """The outbox at this URL, if nothing has ever been in it; ends the command if something has, or it is no outbox."""
    try:
        admin = OutboxPlace().convert(url, None, None)
    except click.BadParameter as error:
        raise click.UsageError(f"--outbox: {error.message}") from None
    if admin.kind not in ("redis", "postgres"):
        raise click.UsageError("--outbox takes an outbox that pods can share: redis://… or postgresql://…")
    seen = admin.inspect()
    if seen.account.accepted or seen.inbox or seen.destination is not None:
        raise NotPossible(
            f"{admin.place} has been in use; the demo needs a new outbox: end the URL with another ?name=…"
        )
    return Given(url)


def _with_option(url: str, option: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{option}"


async def perform(sample: Path, pods: int, place: Started | Given, progress: Progress) -> FailoverReport:
    """Start the emulator, pods and senders, kill the sender, and compare. Raises `Failed` if one misbehaves."""
    started = anyio.current_time()
    lines = _app.lines_of(sample)
    should = expected(lines)
    valid = len(lines) - len(should.refused)
    async with place.running() as (url_of_outbox, whose), emulator_process("--latency", str(LATENCY)) as url:
        admin = admin_at(url_of_outbox)
        progress.print(f"emulator on {url}; calls wait in {admin.place}, {whose}")
        failover = Failover(admin, valid, progress)
        async with AsyncExitStack() as processes:
            for _ in range(SENDERS):
                failover.senders.append(await processes.enter_async_context(running(_pod, "send", url, url_of_outbox)))
            for pod in range(pods):
                share = (str(sample), str(pod), str(pods))
                failover.pods.append(
                    await processes.enter_async_context(running(_pod, "put", url, url_of_outbox, *share))
                )
            death = await failover.run()
            seen = await failover.inspect()
        progress.print("everything has an outcome; comparing with the emulator")
        found = shown(*[await records(url, name) for name in ("users", "companies", "events")])
        requests, jobs = await records(url, "requests"), await records(url, "jobs")
    return FailoverReport(
        pods=[count for _, count in sorted(failover.put.items())],
        death=death,
        sent_after=_settled(seen) - death.sent,
        account=account_counts(seen.account),
        valid=valid,
        possible_duplicates=seen.account.ambiguous,
        worst_minute=worst_minute(requests),
        bulk_jobs=sum(job["type"].startswith("bulk") for job in jobs),
        refused_jobs=sum(request["status"] == 409 for request in requests),
        judgement=judge(should, found),
        elapsed=anyio.current_time() - started,
    )


class Failover:
    """The processes of the demonstration, and the kill of the one that sends."""

    def __init__(self, admin: OutboxAdmin, valid: int, progress: Progress) -> None:
        self.senders: list[Process] = []
        self.pods: list[Process] = []
        self.put: dict[int, int] = {}
        self._admin = admin
        self._valid = valid
        self._progress = progress
        self._killed: Process | None = None
        self._killed_at = self._takeover = 0.0
        self._seen: Inspection | None = None

    async def run(self) -> Death:
        """Kill the sender half-way, and wait until nothing waits any more. Raises `Failed`."""
        with anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as watchers:
                for sender in self.senders:
                    watchers.start_soon(self._watch, sender, watchers)
                for number, pod in enumerate(self.pods, 1):
                    watchers.start_soon(self._await_share, number, pod)
        if self._killed is None or self._seen is None or not self._takeover or len(self.put) < len(self.pods):
            raise Failed("a process of the demonstration ended by itself, or printed nothing")
        seen = self._seen
        return Death(self._killed.pid, _settled(seen), seen.account.waiting, seen.under_way, self._takeover)

    async def inspect(self) -> Inspection:
        """Inspect the outbox from outside."""
        return await to_thread.run_sync(self._admin.inspect)

    async def _await_share(self, number: int, pod: Process) -> None:
        state = await pod.state()
        if state is not None:
            self.put[number] = state["put"]
            self._progress.print(f"pod {number} has put {state['put']:,} calls")

    async def _watch(self, sender: Process, watchers: TaskGroup) -> None:
        while (state := await sender.state()) is not None:
            if not state["is_sender"]:
                continue
            if self._killed is None and self._is_half_way(state):
                await self._kill(sender)
            elif self._killed not in (None, sender):
                if not self._takeover:
                    self._takeover = anyio.current_time() - self._killed_at
                    self._progress.print(f"process {sender.pid} sends now, {self._takeover:.1f} s later")
                if len(self.put) == len(self.pods) and state["accepted"] == self._valid and not state["pending"]:
                    watchers.cancel_scope.cancel()

    def _is_half_way(self, state: State) -> bool:
        """Whether half of what is delivered in the end is: about half of all calls, since the others are merged."""
        return state["delivered"] >= self._valid // 4 and bool(state["pending"] and state["in_flight"])

    async def _kill(self, sender: Process) -> None:
        sender.kill()
        self._killed, self._killed_at = sender, anyio.current_time()
        self._seen = seen = await self.inspect()
        self._progress.print(
            f"killed process {sender.pid} (SIGKILL), the sender: {_settled(seen):,} calls have an outcome, "
            f"{seen.account.waiting:,} wait, {seen.under_way} requests were under way"
        )


def _settled(seen: Inspection) -> int:
    return seen.account.accepted - seen.account.waiting


def worst_minute(requests: Iterable[Mapping[str, Any]]) -> int:
    """The most requests of one kind within any minute: each kind has a limit of its own."""
    worst: Counter[str] = Counter()
    recent: dict[str, deque[float]] = {}
    for request in sorted(requests, key=lambda one: float(one["stamp"])):
        stamps = recent.setdefault(request["family"], deque())
        stamps.append(request["stamp"])
        while request["stamp"] - stamps[0] >= MINUTE:
            stamps.popleft()
        worst[request["family"]] = max(worst[request["family"]], len(stamps))
    return max(worst.values(), default=0)
