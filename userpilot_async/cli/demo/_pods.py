"""`userpilot-async demo --pods`: many put into Redis, one sends; it is killed, and another one goes on."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import attrs
from anyio import to_thread
from anyio.abc import TaskGroup

from ..._outbox.admin import Inspection
from ..._outbox.url import outbox_at
from .._emulate import emulator_process, records
from .._exits import Exit, Failed
from .._outbox_place import Place
from .._progress import Progress
from .._report import account_counts, account_text
from . import _app, _pod
from ._oracle import Judgement, expected, judge, shown
from ._processes import Moment, Process, living
from ._redis_server import redis_process

SENDERS = 2
LEASE = 2.0  # seconds; ten by default, which nobody wants to watch
LATENCY = 0.05  # seconds until the emulator answers: so that requests are under way at any moment
PATIENCE = 120.0  # seconds for all of it; it takes some fifteen
MINUTE, A_MINUTE = 60.0, 600  # seconds, and requests in any of them: the limit of Userpilot


@attrs.frozen
class Death:
    """Of the sender that was killed."""

    pid: int
    sent: int
    """Calls that had been settled by then, merged ones among them."""
    waiting: int
    under_way: int
    """Requests of which nobody knows whether they have reached the server."""
    takeover: float
    """Seconds until the other one sent."""

    @property
    def proves(self) -> bool:
        """It was killed in mid-flight."""
        return bool(self.sent and self.waiting and self.under_way)


@attrs.frozen
class FailoverReport:
    """How it went."""

    pods: list[int]
    """Calls that each of them has put."""
    death: Death
    sent_after: int
    """Calls that the other one has settled."""
    account: dict[str, int]
    """Of the outbox, at the end."""
    valid: int
    """Calls in the sample."""
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
        """Fine is: killed in mid-flight, everything has arrived all the same, and the server's rules were kept."""
        lost = self.account["dead"] + self.account["dropped"] + self.account["pending"]
        all_put = sum(self.pods) == self.account["accepted"] == self.valid
        arrived = self.judgement.fine_but_for(self.possible_duplicates) and not lost
        kept = self.worst_minute <= A_MINUTE and not self.refused_jobs
        return Exit.FINE if self.death.proves and all_put and arrived and kept else Exit.LOST

    def as_text(self) -> list[str]:
        """The report; the conservation law first."""
        death, put = self.death, " + ".join(f"{count:,}" for count in self.pods)
        return [
            account_text(self.account),
            f"{len(self.pods)} pods have put {put} calls; in the sample: {self.valid:,}",
            f"process {death.pid} sent {death.sent:,} of them, and was killed with {death.waiting:,} waiting, "
            f"{death.under_way} requests under way",
            f"the other one took over after {death.takeover:.1f} s, and sent {self.sent_after:,}",
            f"possible duplicates: {self.possible_duplicates:,}",
            str(self.judgement),
            f"emulator: {self.worst_minute:,} requests of a kind in any minute at most, {self.bulk_jobs:,} bulk jobs, "
            f"{self.refused_jobs:,} while another one was running",
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        said = attrs.asdict(self, filter=lambda field, _: field.name not in ("account", "valid", "judgement"))
        emulator = attrs.asdict(self.judgement)
        return {"exit_code": int(self.exit_code), **said, **self.account, "calls": self.valid, "emulator": emulator}


async def perform(sample: Path, pods: int, program: str, progress: Progress) -> FailoverReport:
    """Start a Redis, the emulator, pods and senders; kill one; compare. Raises `Failed` if that cannot be."""
    started = anyio.current_time()
    lines = _app.lines_of(sample)
    should = expected(lines)
    valid = len(lines) - len(should.refused)
    async with redis_process(program) as redis, emulator_process("--latency", str(LATENCY)) as url:
        url_of_outbox = f"{redis}?lease_ttl={LEASE}"
        outbox = outbox_at(url_of_outbox)
        progress.say(f"emulator on {url}; calls wait in {outbox.place}, a Redis of its own")
        stage = Stage(Place("redis", outbox, outbox.place), valid, progress)
        async with AsyncExitStack() as processes:
            for _ in range(SENDERS):
                stage.senders.append(await processes.enter_async_context(living(_pod, "send", url, url_of_outbox)))
            for pod in range(pods):
                share = (str(sample), str(pod), str(pods))
                stage.pods.append(await processes.enter_async_context(living(_pod, "put", url, url_of_outbox, *share)))
            death = await stage.play()
            seen = await stage.look()
        progress.say("everything has an outcome; asking the emulator what it holds")
        held = shown(*[await records(url, name) for name in ("users", "companies", "events")])
        requests, jobs = await records(url, "requests"), await records(url, "jobs")
    return FailoverReport(
        pods=[count for _, count in sorted(stage.put.items())],
        death=death,
        sent_after=_settled(seen) - death.sent,
        account=account_counts(seen.account),
        valid=valid,
        possible_duplicates=seen.account.ambiguous,
        worst_minute=worst_minute(requests),
        bulk_jobs=sum(job["type"].startswith("bulk") for job in jobs),
        refused_jobs=sum(request["status"] == 409 for request in requests),
        judgement=judge(should, held),
        elapsed=anyio.current_time() - started,
    )


class Stage:
    """The processes, what they say, and who of them is killed."""

    def __init__(self, place: Place, valid: int, progress: Progress) -> None:
        self.senders: list[Process] = []
        self.pods: list[Process] = []
        self.put: dict[int, int] = {}
        self._place = place
        self._valid = valid
        self._progress = progress
        self._killed: Process | None = None
        self._killed_at = self._takeover = 0.0
        self._seen: Inspection | None = None

    async def play(self) -> Death:
        """Until nothing waits any more. Raises `Failed`."""
        with anyio.move_on_after(PATIENCE):
            async with anyio.create_task_group() as watchers:
                for life in self.senders:
                    watchers.start_soon(self._watch, life, watchers)
                for number, life in enumerate(self.pods, 1):
                    watchers.start_soon(self._hear, number, life)
        if self._killed is None or self._seen is None or not self._takeover or len(self.put) < len(self.pods):
            raise Failed("a process of the demonstration ended by itself, or kept silent")
        seen = self._seen
        return Death(self._killed.pid, _settled(seen), seen.account.waiting, seen.under_way, self._takeover)

    async def look(self) -> Inspection:
        """At the outbox, from outside."""
        return await to_thread.run_sync(self._place.look)

    async def _hear(self, number: int, pod: Process) -> None:
        moment = await pod.moment()
        if moment is not None:
            self.put[number] = moment["put"]
            self._progress.say(f"pod {number} has put {moment['put']:,} calls")

    async def _watch(self, life: Process, watchers: TaskGroup) -> None:
        while (moment := await life.moment()) is not None:
            if not moment["is_sender"]:
                continue
            if self._killed is None and self._is_half_way(moment):
                await self._kill(life)
            elif self._killed not in (None, life):
                if not self._takeover:
                    self._takeover = anyio.current_time() - self._killed_at
                    self._progress.say(f"process {life.pid} sends now, {self._takeover:.1f} s later")
                if len(self.put) == len(self.pods) and moment["accepted"] == self._valid and not moment["pending"]:
                    watchers.cancel_scope.cancel()

    def _is_half_way(self, moment: Moment) -> bool:
        """Of what is delivered in the end, which is about half of all: the others are merged."""
        return moment["delivered"] >= self._valid // 4 and bool(moment["pending"] and moment["in_flight"])

    async def _kill(self, life: Process) -> None:
        life.kill()
        self._killed, self._killed_at = life, anyio.current_time()
        self._seen = seen = await self.look()
        self._progress.say(
            f"killed process {life.pid} (SIGKILL), which was sending: {_settled(seen):,} calls are settled, "
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
