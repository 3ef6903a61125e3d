"""Processes of one outbox in PostgreSQL are killed and stopped, and PostgreSQL crashes: nothing is lost, in order."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import emulator_thread, judge, length
from tests.processes.programs.outbox_host import marks_of, told_by, wait_for
from tests.processes.programs.postgres_host import PostgresHost, postgres_host
from tests.processes.programs.redis_host import judge_machines

SEED = int(os.environ.get("POSTGRES_KILLS_SEED", str(random.randrange(10**9))))
TTL = 2.0
REALLY = {"flush_interval": 0.2, "bulk_threshold": 5, "max_wait": None}
BLOWS = ("holder killed", "server crashed", "producer killed", "holder stopped", "connections ended")


def strike(one: PostgresHost, server: Any, blow: str, chance: random.Random) -> None:
    """Do this to one of the processes, or to the server."""
    if blow == "server crashed":
        server.stop("immediate")
        time.sleep(chance.uniform(0.0, 0.5))  # an outage of some length
        server.start()
    elif blow == "connections ended":
        server.end_connections()
    elif blow == "producer killed":
        victim = next(worker for worker in one.living if worker.slot.startswith("producer"))
        one.kill(victim)
        one.ready(one.start(victim.slot, sender=False))
    else:
        holder = wait_for(one.holding, "somebody sends", 20.0)
        if blow == "holder killed":
            one.kill(holder)
            one.ready(one.start(holder.slot, users=0))
        else:
            one.freeze(holder)
            wait_for(lambda: one.holding() not in (None, holder), "another one sends", 15.0)
            one.thaw(holder)


@pytest.mark.night
def test_whoever_is_killed_and_however_often_postgresql_crashes_nothing_is_lost(
    tmp_path: Path, own_postgres: Callable[..., Any]
) -> None:
    print(f"POSTGRES_KILLS_SEED={SEED}")  # shown if it fails
    chance, struck = random.Random(SEED), Counter[str]()
    server = own_postgres(durable=True)
    with (
        emulator_thread("--latency", "0.03", "--speed", "20") as url,
        postgres_host(tmp_path, url, server, users=2, pause=0.6, settings=REALLY, outbox={"lease_ttl": TTL}) as one,
    ):
        for number in range(2):
            one.start(f"candidate{number}", users=0, backend=("asyncio", "trio")[number])
            one.start(f"producer{number}", sender=False, people=8 * number, backend=("asyncio", "trio")[number])
        one.ready(*one.workers)
        one.application.start()
        for blow in BLOWS * length.of(3):
            time.sleep(chance.uniform(0.3, 1.2))  # the instant
            strike(one, server, blow, chance)
            struck[blow] += 1
        time.sleep(0.5)  # some more calls after the last blow
        one.application.stop()
        one.finish(170.0, settings=REALLY)
        seen = judge_machines(one)
        arrived = {mark for write in told_by(url, "applied") for mark in marks_of(write)}

    print({**seen, **struck})
    judge.happened(struck, *BLOWS)
    judge.nothing_lost(dict.fromkeys(one.application.committed, 0), arrived)
    assert set() == one.application.undone & arrived, "a call arrived whose transaction was undone"
    assert 10 < len(one.application.committed)
    assert 0 == seen["refused"], "a client that is alone ran into the limit"
    assert [(0,)] == one.books.ask("SELECT count(*) FROM {}_inbox")
