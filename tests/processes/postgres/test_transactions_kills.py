"""Events of transactions, by each driver, while applications and senders are killed and PostgreSQL crashes.

`LENGTH=soak` is ten thousand transactions that commit. The instants are new in each run; a failure says which seed
brings them back.
"""

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
from tests.processes.programs.outbox_host import wait_for
from tests.processes.programs.transactions_host import (
    DRIVERS,
    TransactionsHost,
    judge_transactions,
    transactions_host,
)

for driver in ("asyncpg", "django", "sqlalchemy"):
    pytest.importorskip(driver)

SEED = int(os.environ.get("TRANSACTIONS_SEED", str(random.randrange(10**9))))
COMMITTED = length.of(600, soak=10_000)
LIMIT = 6_000 if length.CHOSEN == "soak" else 1_200  # a minute; at the vendor's own, 30,000 events take 50
PAUSE = 0.02 if length.CHOSEN == "soak" else 0.2  # seconds between two transactions of one of the twenty users
REALLY = {"track_per_minute": LIMIT, "max_wait": None}
APPLICATIONS = ("web0", "web1", "web2", "web3")
BLOWS = ("holder killed", "server crashed", "application killed")
ROUNDS = length.of(2, soak=10)
LAST = 900.0  # seconds for the last process to send what the others have left


def strike(one: TransactionsHost, server: Any, blow: str, chance: random.Random) -> None:
    """Do this to one of the processes, or to the server."""
    if blow == "server crashed":
        server.stop("immediate")
        time.sleep(chance.uniform(0.0, 0.5))  # an outage of some length
        server.start()
    elif blow == "holder killed":
        holder = wait_for(one.holding, "somebody sends", 20.0)
        one.kill(holder)
        one.start(holder.slot, users=0)
    else:
        victim = chance.choice([worker for worker in one.living if worker.slot in APPLICATIONS])
        one.kill(victim)
        one.ready(one.start(victim.slot, sender=False, drivers=DRIVERS))


@pytest.mark.night
def test_what_is_delivered_is_what_was_committed_whoever_is_killed(
    tmp_path: Path, own_postgres: Callable[..., Any]
) -> None:
    print(f"TRANSACTIONS_SEED={SEED}")  # shown if it fails
    chance, struck, server = random.Random(SEED), Counter[str](), own_postgres(durable=True)
    with (
        emulator_thread("--rate-limit", str(LIMIT), "--latency", "0.01") as url,
        transactions_host(
            tmp_path, url, server, users=1, pause=PAUSE, settings=REALLY, outbox={"lease_ttl": 2.0}
        ) as one,
    ):
        for number in range(2):
            one.start(f"candidate{number}", users=0, backend=("asyncio", "trio")[number])
        for slot in APPLICATIONS:
            one.start(slot, sender=False, drivers=DRIVERS)
        one.ready(*one.workers)
        blows = BLOWS * ROUNDS
        for number, blow in enumerate(blows, 1):
            enough = COMMITTED * number // (len(blows) + 1)
            wait_for(lambda enough=enough: one.transactions() >= enough, "transactions are committed", 300.0)
            time.sleep(chance.uniform(0.0, 0.3))  # the instant
            strike(one, server, blow, chance)
            struck[blow] += 1
        wait_for(lambda: one.transactions() >= COMMITTED, "all transactions are committed", 300.0)
        one.ready(*one.living)  # before that, SIGTERM would find no handler
        one.finish(LAST)
        seen = judge_transactions(one, LIMIT)

    print({**seen, **struck})
    judge.happened(struck, *BLOWS)
    judge.happened(seen, *DRIVERS, "holders killed")
    assert 0 == seen["refused"], "a client that is alone ran into the limit"
