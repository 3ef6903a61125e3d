"""Calls that leave unsent: by age, for want of room, at the end; and those whose fate is tied to them."""

from __future__ import annotations

from tests.rules.schedule.simulation import Job, Simulation
from userpilot_async import Identify, Settings, Track
from userpilot_async._calls.outcome import Outcome

FULL = Outcome("dropped", "queue_full")
CLOSED = Outcome("dropped", "closed")


def test_a_row_dies_of_the_age_of_what_it_says_last() -> None:
    """In a long outage a user who is updated every hour keeps the newest state."""
    run = Simulation(1, Settings(max_age=100.0))
    run.server.trouble = 1.0
    run.server.chance.choice = lambda kinds: 500  # type: ignore[method-assign]
    run.put(Identify("u1", {"n": 1}))
    run.run(99.0)
    run.put(Identify("u1", {"n": 2}))
    run.run(50.0)

    alive = run.outbox.ledger.pending
    run.run(100.0)

    assert 1 == alive
    assert {"expired": 1} == run.outbox.ledger.dead


def test_a_company_row_is_not_given_up_under_its_users() -> None:
    run = Simulation(1)
    for n in range(100):
        run.put(Identify(f"u{n}", {}, {"id": "acme", "name": "Acme"}))
    run.take_in()

    for _ in range(10):
        run.schedule.drop_oldest(FULL)
    run.drain()

    assert (90, 10) == (run.outbox.ledger.delivered, run.outbox.ledger.dropped["queue_full"])
    assert {"name": "Acme"} == run.server.companies["acme"]


def test_a_hundred_drops_on_one_lane_leave_it_in_its_line_once() -> None:
    run = Simulation(1)
    for n in range(1_000):
        run.put(Track("u1", "event", {"n": n}))
    run.take_in()

    for _ in range(500):
        run.schedule.drop_oldest(FULL)

    assert 1 == len(run.schedule._queues.events._line)
    run.drain()
    assert list(range(500, 1_000)) == [n for _, n in run.server.tracked]


def test_users_whose_companys_job_is_running_at_the_end_are_dropped_with_a_reason() -> None:
    """The users were never sent: pending for ever would be no outcome."""
    run = Simulation(1, Settings(bulk_threshold=5), latency=0.0)
    for n in range(60):
        run.put(Identify(f"u{n}", {"n": n}, {"id": f"c{n}", "name": "Acme"}))
    run.run(1.5)
    running = [job.kind for job in run.server.jobs]

    run.schedule.abandon(CLOSED)
    run.carry_on()

    assert ["bulk_companies"] == running
    assert (0, 60) == (run.outbox.ledger.pending, run.outbox.ledger.dropped["closed"])


def test_rows_in_a_running_job_are_submitted_at_the_end_and_nothing_else_is() -> None:
    run = Simulation(1, Settings(bulk_threshold=5), latency=0.0)
    for n in range(60):
        run.put(Identify(f"u{n}", {"n": n}))
    run.run(1.5)
    run.put(Identify("u0", {"n": "later"}))
    run.put(Track("elsewhere", "event", {"n": 1}))
    run.take_in()

    run.schedule.abandon(CLOSED)
    run.carry_on()

    assert (60, 60) == (run.outbox.ledger.pending, run.outbox.ledger.submitted)
    assert 2 == run.outbox.ledger.dropped["closed"]


def test_a_merged_call_is_not_settled_before_the_row_that_took_it_in() -> None:
    run = Simulation(1)
    run.put(Identify("u1", {"n": 1}))
    run.put(Identify("u1", {"n": 2}))
    run.take_in()

    before = run.outbox.ledger.oldest_pending()
    run.drain()

    assert (0, 2) == (before, run.outbox.ledger.oldest_pending())


def test_rows_that_go_back_after_a_409_go_on_merging() -> None:
    run = Simulation(1, Settings(bulk_threshold=5, burst=1), latency=0.0)  # few get through in realtime
    run.server.jobs.append(_foreign_job(run))
    for n in range(100):
        run.put(Identify(f"u{n}", {"a": n}))
    run.run(1.5)
    refused = len(run.server.conflicts)
    for n in range(100):
        run.put(Identify(f"u{n}", {"b": n}))
    run.take_in()

    assert 1 == refused
    assert 90 <= run.outbox.ledger.merged


def _foreign_job(run: Simulation) -> Job:
    return Job("foreign", "theirs.ndjson", "bulk_users", [], run.now + 600.0, fails=False)
