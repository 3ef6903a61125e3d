"""Events that fail for ever, in crowds: who shares an array, a line or a gate with them must not suffer for it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.rules.schedule.parcelvoy_simulation import POISON, ParcelvoySimulation, track
from userpilot_async.parcelvoy import ParcelvoySettings

HOUR = 3_600.0
# 400 and 500 may be the server's own trouble; the others may be a firewall that minds a word.
FOR_EVER = [400, 500, 403, 404, 415]


def simulation(status: int, **settings: float) -> ParcelvoySimulation:
    run = ParcelvoySimulation(1, ParcelvoySettings(max_age=HOUR, **settings), latency=0.1)  # type: ignore[arg-type]
    run.server.poison_status = status
    return run


def innocents(run: ParcelvoySimulation, guilty: set[int]) -> dict[str, int]:
    statuses = [receipt.status for receipt in run.receipts if receipt.id not in guilty]
    return {status: statuses.count(status) for status in set(statuses)}


@pytest.mark.parametrize("status", FOR_EVER)
def test_those_in_the_same_array_are_delivered(status: int) -> None:
    run = simulation(status)
    for n in range(500):
        run.put(track(n, POISON if n == 7 else "event", external_id=f"u{n}"))
    run.run(0.5 * HOUR)

    assert {"delivered": 499} == innocents(run, {7})


@pytest.mark.parametrize("status", [400, 500])
def test_a_hundred_of_them_do_not_keep_the_gate_shut_for_the_others(status: int) -> None:
    run, guilty = simulation(status), set(range(100))
    for n in guilty:
        run.put(track(n, POISON, external_id=f"p{n}"))
    delivered, number = [], 100
    for _ in range(6):
        for _ in range(300):
            run.put(track(number, external_id=f"u{number}"))
            number += 1
            run.run(1.0)
        delivered.append(run.outbox.ledger.delivered)

    assert all(200 <= after - before for before, after in pairwise(delivered)), delivered
    assert set(innocents(run, guilty)) <= {"delivered", "pending"}


@pytest.mark.parametrize("status", FOR_EVER)
def test_one_in_two_hundred_of_a_stream_costs_nobody_else_anything(status: int) -> None:
    run, guilty = simulation(status), set(range(0, 9_000, 200))
    for n in range(9_000):
        run.put(track(n, POISON if n in guilty else "event", external_id=f"u{n}"))
        if n % 5 == 0:
            run.run(1.0)
    run.run(1.5 * HOUR)

    assert {"delivered": 9_000 - len(guilty)} == innocents(run, guilty)
    assert {"expired": len(guilty)} == run.outbox.ledger.dead


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_of_everything_still_holds_everything(status: int) -> None:
    """Two in a row are no accident: one request a minute from then on."""
    run = simulation(status)
    for n in range(50):
        run.put(track(n, external_id=f"u{n}"))
    run.run(10.0)
    before = len(run.server.requests)
    for n in range(50, 500):
        run.put(track(n, POISON, external_id=f"u{n}"))
    run.run(600.0)

    assert run.schedule.paused is not None
    assert 24 >= len(run.server.requests) - before
