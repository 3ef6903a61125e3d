"""Files that are too large for a server, at a size that no page tells: how many uploads it takes to find it."""

from __future__ import annotations

import pytest

from tests.rules.schedule.simulation import Simulation
from userpilot_async import Identify, Settings


def filed(rows: int, largest_file: int, *, large: range = range(0), story: int = 0) -> Simulation:
    """Identify so many users by a server that takes files up to a size; those in ``large`` have 62 kB each."""
    run = Simulation(1, Settings(flush_interval=0))
    run.server.largest_file = largest_file
    for n in range(rows):
        run.put(Identify(f"u{n}", {"n": n, "story": "s" * (62_000 if n in large else story)}))
    run.drain()
    assert 0 == run.outbox.ledger.pending
    return run


@pytest.mark.parametrize("at", [0, 700, 1_499])
@pytest.mark.parametrize("largest_file", [20_000, 50_000])
def test_one_row_among_1500_that_no_file_can_hold_is_found_in_a_handful_of_uploads(largest_file, at):
    """Halves by number took 10 to 13 refusals, and 9 to 12 jobs for the neighbours."""
    run = filed(1_500, largest_file, large=range(at, at + 1))

    assert {"too_large": 1} == run.outbox.ledger.dead
    assert 1_499 == run.outbox.ledger.delivered
    assert 4 >= run.server.too_large
    assert 8 >= len(run.server.jobs)


def test_a_row_that_fits_alone_is_delivered_however_small_the_files_have_become():
    run = filed(1_500, 64_000, large=range(700, 701), story=20)

    assert 1_500 == run.outbox.ledger.delivered
    assert {} == run.outbox.ledger.dead


def test_a_size_is_learned_once_for_all_files_that_wait():
    """Each half found out for itself: 63 refusals for as many files."""
    run = filed(1_500, 20_000, story=400)

    assert 1_500 == run.outbox.ledger.delivered
    assert 6 >= run.server.too_large
    assert 64 >= len(run.server.jobs)
