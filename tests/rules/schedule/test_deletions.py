"""Deletions through the schedule: a person who is deleted stays deleted, and what comes after is a new one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import length
from tests.rules.schedule.simulation import Simulation
from tests.rules.schedule.takeovers import Heirs
from userpilot_async import DeleteCompany, DeleteUser, Identify, IdentifyCompany, Settings, Track
from userpilot_async._calls.outcome import Outcome
from userpilot_async._calls.payload import has_fields
from userpilot_async._calls.rows import Row
from userpilot_async._userpilot.calls import Call

USERS = ["u0", "u1", "u2"]


@st.composite
def calls(draw: st.DrawFn) -> list[tuple[Call, float]]:
    """Calls of a few users, deletions among them, with the time that passes before each."""
    made: list[tuple[Call, float]] = []
    for number in range(draw(st.integers(1, 40))):
        pause = draw(st.sampled_from([0.0, 0.0, 0.0, 0.4, 1.5, 20.0]))
        kind = draw(st.sampled_from(["track", "track", "identify", "identify", "move", "delete"]))
        user = draw(st.sampled_from(USERS))
        if kind == "track":
            call: Call = Track(user, "event", {"n": number})
        elif kind == "identify":
            call = Identify(user, {draw(st.sampled_from("pq")): number})
        elif kind == "move":
            call = Identify(user, {"p": number}, {"id": draw(st.sampled_from(["acme", "beta"])), "size": number})
        else:
            call = DeleteUser(user)
        made.append((call, pause))
    return made


TROUBLE = st.sampled_from([0.0, 0.1, 0.5])


@settings(max_examples=length.of(500), deadline=None)
@given(made=calls(), seed=st.integers(0, 2**32), trouble=TROUBLE, bulk_threshold=st.sampled_from([0, 1, 50]))
def test_the_server_ends_up_where_sequential_calls_and_deletions_would_have_put_it(
    made: list[tuple[Call, float]], seed: int, trouble: float, bulk_threshold: int
) -> None:
    run = Simulation(seed, Settings(bulk_threshold=bulk_threshold), trouble)

    for call, pause in made:
        run.run(pause)
        run.put(call)
    run.run(100.0)
    run.drain()
    run.run(100.0)  # for what a dropped identify has said of a company: no call stands for that

    run.check()


@settings(max_examples=length.of(100), deadline=None)
@given(made=calls(), seed=st.integers(0, 2**32), trouble=TROUBLE, deaths=st.sets(st.integers(0, 40), max_size=4))
def test_a_sender_that_dies_leaves_its_deletions_to_the_next_one(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[Call, float]], seed: int, trouble: float,
    deaths: set[int],
) -> None:  # fmt: skip
    run = Heirs(Path(tmp_path_factory.mktemp("heirs")), seed, Settings(bulk_threshold=1), trouble)
    try:
        for number, (call, pause) in enumerate(made):
            run.run(pause)
            run.put(call)
            if number in deaths:
                run.take_over()
        run.run(100.0)
        run.drain()
        run.run(100.0)

        run.check()
    finally:
        run.end()


def test_what_a_dropped_identify_says_of_a_company_survives_the_death_of_the_sender(tmp_path: Path) -> None:
    """No other call stands for it: the identify waits in the outbox until the company has it, and says only that."""
    run = Heirs(tmp_path, 1)
    try:
        run.put(Identify("u1", {"email": "ann@example.com"}, {"id": "acme", "size": 2}))
        run.put(DeleteUser("u1"))
        run.run(0.0)
        run.take_over()
        run.drain()

        assert run.server.companies == {"acme": {"size": 2}}
        assert run.server.users == {}
        run.check()
    finally:
        run.end()


def test_what_waits_of_a_deleted_user_is_dropped_and_never_sent() -> None:
    run = Simulation(1)
    run.put(Identify("u1", {"email": "ann@example.com"}))
    for number in range(1_000):
        run.put(Track("u1", "event", {"n": number}))
    run.put(DeleteUser("u1"))
    run.put(Track("u2", "event", {"n": -1}))

    run.drain()

    assert run.outbox.ledger.dropped == {"deleted": 1_001}
    assert run.outbox.ledger.delivered == 2
    assert run.server.tracked == [("u2", -1)]
    assert run.server.users == {}


def test_what_comes_after_a_deletion_waits_for_the_end_of_its_job() -> None:
    run = Simulation(1)
    run.server.chance.choice = lambda ends: ends[-1]  # type: ignore[method-assign]  # after 40 s
    run.put(DeleteUser("u1"))
    run.put(Track("u1", "event", {"n": 1}))
    run.put(Track("u2", "event", {"n": 2}))

    run.run(39.0)
    assert run.server.tracked == [("u2", 2)]
    run.drain()

    assert run.server.tracked == [("u2", 2), ("u1", 1)]
    assert run.server.events[-1].user_id == "u1"


def test_an_import_says_nothing_of_a_person_that_was_on_its_way_when_the_deletion_came() -> None:
    """An import blanks what it leaves out, so what was sent of a person is remembered: but not beyond a deletion."""
    run = Simulation(1, Settings(imports="when_late", late_after=10.0))
    run.put(Identify("u1", {"email": "ann@example.com"}))
    run.put(Track("u1", "event", {"n": 1}))
    while not run._arriving:
        run.step(run.now + 5.0)
    run.put(DeleteUser("u1"))
    run.run(60.0)
    run.server.down = {"track", "identify"}
    run.put(Identify("u1", {"plan": "pro"}))
    run.put(Track("u1", "event", {"n": 2}))
    run.run(600.0)
    run.server.down = set()
    run.drain()

    assert [row["event_type"] for row in run.server.imported] == ["identify_user", "track"]
    assert run.server.users == {"u1": {"plan": "pro"}}


def test_deletions_that_come_together_share_a_request() -> None:
    run = Simulation(1)
    for number in range(250):
        run.put(DeleteUser(f"u{number}"))

    run.drain()

    assert sorted(len(job.rows) for job in run.server.jobs) == [50, 100, 100]
    assert run.outbox.ledger.delivered == 250


def test_a_job_that_takes_a_day_holds_up_no_other_deletion() -> None:
    run = Simulation(1)
    run.server.chance.choice = lambda ends: 80_000.0  # type: ignore[method-assign,assignment]
    for number in range(10):
        run.put(DeleteUser(f"u{number}"))
        run.run(60.0)

    assert len(run.server.jobs) == 10
    looks = len(run.server.stamps["identify"])
    run.run(81_000.0)

    assert run.outbox.ledger.delivered == 10
    assert len(run.server.stamps["identify"]) - looks < 1_500  # a look serves all, of two pages


def test_a_deletion_whose_job_fails_goes_again_until_it_is_too_old() -> None:
    run = Simulation(1, Settings(max_age=3_600.0))
    run.put(DeleteUser("u1"))
    run.server.spoilt = "u1"

    run.run(3_500.0)
    assert len(run.server.jobs) > 30
    assert run.outbox.ledger.pending == 1
    run.run(300.0)

    assert run.outbox.ledger.dead == {"expired": 1}


def test_a_deletion_that_spoils_a_job_is_alone_soon() -> None:
    run = Simulation(1)
    run.server.spoilt = "u13"
    for number in range(100):
        run.put(DeleteUser(f"u{number}"))

    run.run(900.0)

    assert (run.outbox.ledger.delivered, run.outbox.ledger.pending) == (99, 1)


def test_a_deleted_company_is_not_made_anew_by_what_waited_of_it() -> None:
    run = Simulation(1)
    run.put(IdentifyCompany("acme", {"size": 1}))
    run.put(Identify("u1", {"plan": "pro"}, {"id": "acme", "size": 2}))
    run.put(DeleteCompany("acme"))

    run.drain()

    assert run.server.companies == {}
    assert run.server.users == {"u1": {"plan": "pro"}}
    assert run.server.company_of == {}
    assert run.outbox.ledger.dropped == {"deleted": 1}
    assert run.outbox.ledger.delivered == 2  # the user's identify, without what it said of the company


def test_a_company_that_is_named_after_its_deletion_is_a_new_one() -> None:
    run = Simulation(1)
    run.put(IdentifyCompany("acme", {"size": 1}))
    run.put(DeleteCompany("acme"))
    run.put(IdentifyCompany("acme", {"seats": 5}))

    run.drain()

    assert run.server.companies == {"acme": {"seats": 5}}


def test_at_the_end_a_deletion_that_the_server_has_taken_is_submitted_and_one_it_has_not_is_lost() -> None:
    run = Simulation(1)
    run.server.chance.choice = lambda ends: ends[-1]  # type: ignore[method-assign]
    run.put(DeleteUser("u1"))
    run.run(10.0)
    run.put(Identify("u1", {"p": 1}))
    run.put(DeleteUser("u2"))

    run.take_in()
    run.schedule.abandon(Outcome("dropped", "closed"))
    run.carry_on()

    ledger = run.outbox.ledger
    assert (ledger.pending, ledger.submitted, ledger.dropped) == (1, 1, {"closed": 2})


def test_a_deletion_alone_is_no_room_for_a_million_calls() -> None:
    """Calls are dropped a few at a time, so that the loop is not held up; nothing of them goes meanwhile."""
    run = Simulation(1)
    for number in range(5_000):
        run.put(Track("u1", "event", {"n": number}))
    run.put(DeleteUser("u1"))
    run.take_in()

    assert run.schedule.next(run.now) == run.now

    run.carry_on()
    assert 0 < run.outbox.ledger.dropped["deleted"] < 1_000
    run.drain()
    assert run.outbox.ledger.dropped == {"deleted": 5_000}


def test_a_deletion_that_is_given_up_takes_no_later_queue_of_the_person_with_it() -> None:
    """It was displaced by a newer call, before what waited in front of it was looked through."""
    run = Simulation(1)
    run.put(DeleteUser("u1"))
    run.take_in()
    assert run.schedule.drop_oldest(Outcome("dropped", "queue_full"))
    run.put(Track("u1", "event", {"n": 1}))
    run.take_in()
    run.schedule.next(run.now)

    assert run.schedule.waiting("user", ["u1"]) == 1


def test_a_deletion_said_again_before_it_was_sent_shares_its_job() -> None:
    """Each job may take a day: a list that has an id a hundred times would hold the person up for a hundred days."""
    run = Simulation(1)
    for number in range(3):
        run.put(DeleteUser("u1"))
        run.put(Track("u1", "event", {"n": number}))
    run.put(DeleteUser("u1"))
    run.put(DeleteUser("u1"))
    run.put(Track("u1", "event", {"n": 4}))

    run.drain()

    assert [job.rows for job in run.server.jobs] == [["u1"]]
    assert run.server.tracked == [("u1", 4)]
    ledger = run.outbox.ledger
    assert (ledger.delivered, ledger.merged, ledger.dropped) == (2, 4, {"deleted": 3})
    run.check()


def test_a_deletion_said_again_after_it_was_sent_is_sent_again() -> None:
    run = Simulation(1)
    run.put(DeleteUser("u1"))
    while not run.server.jobs:
        run.step(run.now + 5.0)
    run.put(DeleteUser("u1"))

    run.drain()

    assert len(run.server.jobs) == 2


def test_a_user_whose_row_is_in_a_file_is_not_said_again_before_the_deletion() -> None:
    run = Simulation(1, Settings(bulk_threshold=0))
    for number in range(200):
        run.put(Identify(f"u{number}", {"p": number}))
    while not run.server.jobs:
        run.step(run.now + 1.0)
    sent: list[str] = []
    run.sending = lambda work: sent.append(work.endpoint.name)  # type: ignore[method-assign]
    run.put(DeleteUser("u1"))

    run.drain()

    assert "delete_users" in sent
    assert "identify" not in sent
    assert "u1" not in run.server.users


def named(run: Simulation) -> int:
    """So many rows wait that name a company."""
    queues = run.schedule._queues
    calls = [call for queue in queues for call in queue.calls]
    packed = map(has_fields, queues.packed.in_order("user"))
    return sum(isinstance(call, Row) and call.fields is not None for call in calls) + sum(packed)


@pytest.mark.parametrize("again", [False, True])
def test_people_of_a_deleted_company_lose_it_a_few_at_a_time(again: bool) -> None:
    """All people may have something that waits: to look through it at once would hold the loop up."""
    run = Simulation(1, Settings(bulk_threshold=0))
    for number in range(600):
        run.put(Identify(f"early{number}", {"p": number}))
    while not run.server.jobs:  # which has the slot, so that the others wait
        run.step(run.now + 1.0)
    for number in range(5_000):
        run.put(Identify(f"u{number}", {"p": number}, {"id": "acme"}))
    run.put(DeleteCompany("acme"))

    run.take_in()
    most, before, total = 0, named(run), named(run)
    while before and run.step(run.now + 60.0):
        left = named(run)
        if again and left < total:  # said again while people are looked through
            again = False
            run.put(Identify("u0", {"p": -1}, {"id": "acme"}))
            run.put(DeleteCompany("acme"))
            left = before
        most, before = max(most, before - left), left
    run.drain()

    assert total == 5_000
    assert 0 < most < 1_000
    assert run.server.company_of == {}
    assert run.server.companies == {}
    run.check()


def test_a_stream_of_deletions_shares_ever_more_of_the_jobs_that_take_a_day() -> None:
    run = Simulation(1)
    run.server.chance.choice = lambda ends: 80_000.0  # type: ignore[method-assign,assignment]
    for number in range(600):
        run.put(DeleteUser(f"u{number}"))
        run.run(4.0)
    run.run(200.0)

    assert run.outbox.ledger.submitted == 600
    assert len(run.server.jobs) < 60
