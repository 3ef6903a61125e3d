"""People are deleted by processes with one outbox in Redis, whose sender is killed while a deletion job runs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness import emulator_thread, judge, length
from tests.processes.programs.deletions import EMULATOR, ORDERS, judge_deletions, kill_senders
from tests.processes.programs.redis_host import redis_host

SEED = int(os.environ.get("KILL_SEED", str(random.randrange(10**9))))


def test_a_deleted_person_stays_deleted_whichever_machine_dies(tmp_path: Path, own_redis: Callable[..., Any]) -> None:
    print(f"KILL_SEED={SEED}")  # shown if it fails
    with (
        emulator_thread(*EMULATOR) as url,
        redis_host(tmp_path, url, own_redis(), **ORDERS, outbox={"lease_ttl": 2.0}) as one,
    ):
        during = kill_senders(one, random.Random(SEED), length.of(10, least=2, soak=100))
        seen = judge_deletions(one, during)

    print(seen)
    judge.happened(seen, "deleted", "killed during a job")
