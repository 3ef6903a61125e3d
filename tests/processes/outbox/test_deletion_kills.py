"""People are deleted by processes with one file, whose sender is killed, also between a deletion and its job's end."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.harness import emulator_thread, judge, length
from tests.processes.programs.deletions import EMULATOR, ORDERS, judge_deletions, kill_senders
from tests.processes.programs.outbox_host import host

SEED = int(os.environ.get("KILL_SEED", str(random.randrange(10**9))))


def test_a_deleted_person_stays_deleted_whichever_sender_is_killed(tmp_path: Path) -> None:
    print(f"KILL_SEED={SEED}")  # shown if it fails
    with emulator_thread(*EMULATOR) as url, host(tmp_path, url, **ORDERS) as one:
        during = kill_senders(one, random.Random(SEED), length.of(10, least=2, soak=100))
        seen = judge_deletions(one, during)

    print(seen)
    judge.happened(seen, "deleted", "killed during a job")
