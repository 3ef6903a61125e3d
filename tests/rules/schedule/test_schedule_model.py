"""The schedule against a sequential model: order, merging, conservation, under every kind of trouble."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import length
from tests.rules.schedule.simulation import Simulation
from userpilot_async import Identify, IdentifyCompany, Settings, Track
from userpilot_async._schedule.routes.route import Request
from userpilot_async._userpilot.calls import Call

USERS = ["u0", "u1", "u2", "u3"]
COMPANIES = ["acme", "beta"]
VALUES = st.one_of(st.none(), st.integers(0, 5), st.sampled_from(["a", "b", True]))
PROPERTIES = st.dictionaries(st.sampled_from("pqr"), VALUES, max_size=3)


@st.composite
def calls(draw: st.DrawFn) -> list[tuple[Call, float]]:
    """Calls with the time that passes before each."""
    made: list[tuple[Call, float]] = []
    for number in range(draw(st.integers(1, 40))):
        pause = draw(st.sampled_from([0.0, 0.0, 0.0, 0.2, 1.5, 20.0]))
        kind = draw(st.sampled_from(["track", "track", "identify", "identify", "move", "company"]))
        user = draw(st.sampled_from(USERS))
        if kind == "track":
            call: Call = Track(user, "event", {"n": number})
        elif kind == "identify":
            call = Identify(user, draw(PROPERTIES))
        elif kind == "move":
            company = {"id": draw(st.sampled_from(COMPANIES)), **draw(PROPERTIES)}
            call = Identify(user, draw(PROPERTIES), company)
        else:
            call = IdentifyCompany(draw(st.sampled_from(COMPANIES)), draw(PROPERTIES))
        made.append((call, pause))
    return made


@settings(max_examples=length.of(400), deadline=None)
@given(
    made=calls(),
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    bulk_threshold=st.sampled_from([0, 1, 3, 50]),
    flush_interval=st.sampled_from([0.0, 1.0]),
)
def test_whatever_happens_the_server_ends_up_where_sequential_calls_would_have_put_it(
    made: list[tuple[Call, float]], seed: int, trouble: float, bulk_threshold: int, flush_interval: float
) -> None:
    """Every call delivered or merged; order by user; the state and every event's company equal the model's."""
    run = Simulation(seed, Settings(bulk_threshold=bulk_threshold, flush_interval=flush_interval), trouble)

    for call, pause in made:
        run.run(pause)
        run.put(call)
    run.run(100.0)
    run.drain()

    run.check()


@settings(max_examples=length.of(60), deadline=None)
@given(seed=st.integers(0, 2**32), trouble=st.sampled_from([0.0, 0.3]))
def test_a_crowd_goes_through_bulk_jobs_and_still_ends_up_right(seed: int, trouble: float) -> None:
    run = Simulation(seed, Settings(bulk_threshold=5), trouble)

    for number in range(600):
        user = f"u{run.chance.randrange(60)}"
        what = run.chance.random()
        if what < 0.2:
            run.put(Track(user, "event", {"n": number}))
        elif what < 0.4:
            run.put(Identify(user, {"p": number}, {"id": run.chance.choice(COMPANIES), "size": number}))
        else:
            run.put(Identify(user, {run.chance.choice("pqr"): run.chance.choice([None, number])}))
        run.run(run.chance.choice([0.0, 0.0, 0.0, 0.5]))
    run.drain()

    run.check()
    if not trouble:  # or all files may have been refused, or had to wait while their rows went one by one
        assert run.server.jobs


@pytest.mark.parametrize("on_ambiguous", ["send", "drop"])
def test_an_answer_that_got_lost_means_a_double_or_a_gap_as_the_settings_say(on_ambiguous: str) -> None:
    run = Simulation(1, Settings(on_ambiguous=on_ambiguous))  # type: ignore[arg-type]
    run.server.trouble = 0.4

    for number in range(100):
        run.put(Track("u1", "event", {"n": number}))
    run.run(60.0)
    run.drain()

    sent = [n for _, n in run.server.tracked]
    if on_ambiguous == "send":
        assert set(range(100)) == set(sent)
        assert len(sent) - 100 <= run.schedule.possible_duplicates
    else:
        assert len(sent) == len(set(sent))
        assert run.outbox.ledger.dropped["ambiguous"] == run.server.lost_tracks > 0


def test_one_user_with_100_000_events_does_not_starve_the_others() -> None:
    run = Simulation(1)
    for number in range(100_000):
        run.put(Track("hot", "event", {"n": number}))
    run.run(5.0)

    run.put(Track("cold", "event", {"n": 0}))
    run.run(2.0)

    assert ("cold", 0) in run.server.tracked


def test_a_million_identifies_of_ten_thousand_users_are_one_job() -> None:
    run = Simulation(1)
    for number in range(1_000_000 // 20):  # a twentieth of it: the property does not depend on the size
        run.put(Identify(f"u{number % 500}", {"n": number}))

    run.drain()

    assert len(run.server.jobs) == 1
    assert (run.outbox.ledger.delivered, run.outbox.ledger.merged) == (500, 49_500)


def test_calls_die_of_age_and_never_of_attempts() -> None:
    run = Simulation(1, Settings(max_age=3_600.0))
    run.server.trouble = 1.0
    run.server.chance.choice = lambda kinds: 500  # type: ignore[method-assign]
    for number in range(20):
        run.put(Track(f"u{number}", "event", {"n": number}))

    run.run(3_500.0)
    alive = run.outbox.ledger.pending
    run.run(200.0)

    assert alive == 20
    assert run.outbox.ledger.dead == {"expired": 20}


def test_an_idle_schedule_asks_for_no_time_at_all() -> None:
    run = Simulation(1)
    run.put(Track("u1", "event", {"n": 1}))
    run.drain()

    assert math.inf == run.schedule.next(run.now)


def test_identifies_that_would_move_a_user_do_not_overtake_a_track() -> None:
    run = Simulation(1, Settings(flush_interval=0.0))
    for n, company in enumerate(["acme", "beta", "acme"]):
        run.put(Identify("u1", {}, {"id": company}))
        run.put(Track("u1", "event", {"n": n}))

    run.drain()

    assert [event.company_id for event in run.server.events] == ["acme", "beta", "acme"]


def test_identifies_that_do_not_move_the_user_merge_ahead_of_tracks() -> None:
    run = Simulation(1)
    run.put(Identify("u1", {"a": 1}, {"id": "acme"}))
    run.put(Track("u1", "event", {"n": 0}))
    run.put(Identify("u1", {"b": 2}))
    run.put(Identify("u1", {"c": 3}, {"id": "acme"}))

    run.drain()

    assert run.outbox.ledger.merged == 2
    assert run.server.users == {"u1": {"a": 1, "b": 2, "c": 3}}


def test_a_row_never_grows_beyond_500_properties_by_merging() -> None:
    run = Simulation(1)
    run.put(Identify("u1", {f"a{n}": n for n in range(300)}))
    run.put(Identify("u1", {f"b{n}": n for n in range(300)}))

    run.drain()

    assert run.outbox.ledger.merged == 0
    assert len(run.server.users["u1"]) == 600


def test_a_track_behind_a_row_in_a_job_waits_for_a_repeat_in_realtime_not_for_the_job() -> None:
    run = Simulation(1, Settings(bulk_threshold=5), latency=0.0)
    for n in range(3_000):
        run.put(Identify(f"u{n}", {"n": n}))
    run.run(5.0)
    run.put(Track("u7", "event", {"n": 0}))

    run.run(5.0)

    assert not run.server.jobs[0].over
    assert run.server.tracked == [("u7", 0)]
    run.drain()
    run.check()


def test_a_later_identify_waits_for_the_job_that_holds_an_older_row_of_the_user() -> None:
    run = Simulation(1, Settings(bulk_threshold=5), latency=0.0)
    for n in range(3_000):
        run.put(Identify(f"u{n}", {"plan": "old"}))
    run.run(5.0)
    run.put(Identify("u7", {"plan": "new"}))
    run.run(5.0)
    before = run.server.users.get("u7")

    run.drain()

    assert before is None
    assert run.server.users["u7"] == {"plan": "new"}


def test_nothing_more_than_the_concurrency_is_ever_in_flight() -> None:
    run = Simulation(1, Settings(concurrency=3))
    for n in range(50):
        run.put(Track(f"u{n}", "event", {"n": n}))
    for ticket in run.outbox.take(100):
        run.schedule.add(ticket)

    given_out = [found for found in (run.schedule.next(run.now) for _ in range(10)) if isinstance(found, Request)]

    assert len(given_out) == 3
