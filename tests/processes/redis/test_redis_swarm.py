"""Row 65: producers come and go, candidates for the lease are killed and stopped, the limit is the vendor's own.

`LENGTH=soak` is a minute of twenty producers and three candidates. The instants are new in each run; a failure says
which seed brings them back.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.harness import emulator_thread, judge, length
from tests.processes.programs.outbox_host import Worker, wait_for
from tests.processes.programs.redis_host import RedisHost, judge_machines, redis_host

SEED = int(os.environ.get("REDIS_SWARM_SEED", str(random.randrange(10**9))))
TTL = 2.0
REALLY = {"flush_interval": 0.2, "bulk_threshold": 5, "max_wait": None}


@attrs.frozen
class Swarm:
    producers: int
    candidates: int
    seconds: float
    pause: float
    """Seconds between two calls of one of a producer's two users."""


SWARM = Swarm(20, 3, 60.0, 1.5) if length.CHOSEN == "soak" else Swarm(6, 2, length.of(12), 0.8)
MUST_HAPPEN = ("holder killed", "holder stopped", "producer killed")
LONGEST = 60.0  # seconds more, until all of that has


@attrs.define
class Weather:
    """What happens to the machines."""

    one: RedisHost
    chance: random.Random
    frozen: dict[float, Worker] = attrs.field(factory=dict)
    counts: dict[str, int] = attrs.field(factory=dict)
    turns: int = 0

    def start(self, slot: str) -> None:
        backend = "trio" if slot.endswith("1") else "asyncio"
        if slot.startswith("candidate"):
            self.one.start(slot, users=0, people=0, backend=backend)
        else:
            self.one.start(slot, sender=False, backend=backend, people=8 if slot.endswith("2") else 0)

    def thaw(self, until: float) -> None:
        for at in [at for at in self.frozen if at <= until]:
            self.one.thaw(self.frozen.pop(at))

    def freeze(self, worker: Worker, seconds: float) -> None:
        self.one.freeze(worker)
        self.frozen[time.monotonic() + seconds] = worker

    def free(self, kind: str) -> list[Worker]:
        """The processes of a kind that are at work."""
        at_work = [worker for worker in self.one.living if worker not in self.frozen.values()]
        return [worker for worker in at_work if worker.slot.startswith(kind) and worker.notes("open")]

    def strike(self) -> None:
        """Kill, stop or cut off one of the processes."""
        holder, self.turns = self.one.holding(), self.turns + 1
        producer = self.chance.choice(self.free("producer") or [None])
        if holder in self.frozen.values():
            holder = None
        if holder is not None and self.turns % 3 == 1:
            if self.turns % 2:
                self.note("holder killed")
                self.one.kill(holder)
                self.start(holder.slot)
            else:
                self.note("holder stopped")
                self.freeze(holder, TTL * self.chance.uniform(0.5, 2.5))
        elif producer is None:
            return
        elif self.turns % 3 == 2:
            self.note("producer killed")
            self.one.kill(producer)
            self.start(producer.slot)
        elif self.chance.random() < 0.5:
            self.note("producer left")
            self.one.stop(producer)
            self.start(producer.slot)
        else:
            self.note("producer stopped")
            self.freeze(producer, self.chance.uniform(0.2, 3.0))

    def has_done(self, *what: str) -> bool:
        return all(self.counts.get(one) for one in what)

    def note(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


@pytest.mark.night
def test_row_65_a_swarm_of_producers_loses_nothing_and_keeps_to_the_limit_whoever_dies(
    tmp_path: Path, own_redis: Callable[..., Any]
) -> None:
    print(f"REDIS_SWARM_SEED={SEED}")  # shown if it fails
    with (
        emulator_thread("--latency", "0.03", "--speed", "20") as url,
        redis_host(
            tmp_path, url, own_redis(), users=2, pause=SWARM.pause, settings=REALLY, outbox={"lease_ttl": TTL}
        ) as one,
    ):
        weather = Weather(one, random.Random(SEED))
        for number in range(SWARM.candidates):
            weather.start(f"candidate{number}")
        for number in range(SWARM.producers):
            weather.start(f"producer{number}")
        one.ready(*one.workers)
        wait_for(one.holding, "somebody sends")
        end = time.monotonic() + SWARM.seconds
        while time.monotonic() < end or not (weather.has_done(*MUST_HAPPEN) or time.monotonic() > end + LONGEST):
            time.sleep(weather.chance.uniform(0.1, 1.0 if SWARM.producers > 6 else 0.7))  # the instant
            weather.thaw(time.monotonic())
            weather.strike()
        weather.thaw(float("inf"))
        one.ready(*one.living)  # before that, SIGTERM would find no handler
        one.finish(170.0, settings=REALLY)
        seen = judge_machines(one)

    print({**seen, **weather.counts})
    judge.happened(weather.counts, *MUST_HAPPEN)
    judge.happened(seen, "jobs")
    assert seen["leases"] > 2, "hardly any takeover: little was tested"
    assert 0 == seen["refused"], "a client that is alone ran into the limit"
