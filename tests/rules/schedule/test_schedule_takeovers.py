"""A sender dies and another one goes on: order, merging, files, budgets and the account are as if it had been one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import length
from tests.rules.schedule.takeovers import Heirs
from tests.rules.schedule.test_schedule_model import calls
from userpilot_async import DeleteUser, Identify, IdentifyCompany, Settings, Track
from userpilot_async._userpilot.calls import Call


@contextmanager
def heirs(seed: int = 1, settings: Settings | None = None, **rest: float) -> Iterator[Heirs]:
    """With a folder of its own, which Hypothesis has no fixture for."""
    with tempfile.TemporaryDirectory() as folder:
        run = Heirs(Path(folder), seed, settings, **rest)
        yield run
        run.end()


def live_and_die(run: Heirs, made: list[tuple[Call, float]], deaths: dict[int, float], end: float) -> None:
    """Senders die so many seconds after calls of these numbers, and once more at the end; the last one drains."""
    for number, (call, pause) in enumerate(made):
        run.run(pause)
        run.put(call)
        if number in deaths:
            run.run(deaths[number])
            run.take_over()
    run.run(end)
    run.take_over()
    run.run(100.0)
    run.drain()


@settings(max_examples=length.of(150), deadline=None)
@given(
    made=calls(),
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    bulk_threshold=st.sampled_from([0, 1, 3, 50]),
    flush_interval=st.sampled_from([0.0, 1.0]),
    deaths=st.dictionaries(st.integers(0, 40), st.sampled_from([0.0, 0.05, 0.1, 0.4, 1.5]), max_size=4),
    end=st.sampled_from([0.3, 1.0, 4.0]),
)
def test_whoever_sends_the_server_ends_up_where_sequential_calls_would_have_put_it(
    made: list[tuple[Call, float]],
    seed: int,
    trouble: float,
    bulk_threshold: int,
    flush_interval: float,
    deaths: dict[int, float],
    end: float,
) -> None:
    with heirs(seed, Settings(bulk_threshold=bulk_threshold, flush_interval=flush_interval), trouble=trouble) as run:
        live_and_die(run, made, deaths, end)

        run.check()


# ── what a call says of its company ──


def test_a_delivered_row_whose_company_still_waits_does_not_come_back_over_a_newer_one() -> None:
    with heirs(latency=0.0) as run:
        run.server.down = {"identify_company"}
        run.put(Identify("u1", {"plan": "old"}, {"id": "acme", "name": "Acme"}))
        run.run(2.0)
        run.put(Identify("u1", {"plan": "new"}, {"id": "beta"}))
        run.run(2.0)
        before = dict(run.server.users["u1"])
        run.take_over()
        run.server.down.clear()
        run.drain()

        assert {"plan": "new"} == before
        run.check()


def test_a_call_merged_into_a_row_whose_company_still_waits_does_not_come_back_over_a_newer_one() -> None:
    with heirs(latency=0.0) as run:
        run.server.down = {"identify_company"}
        run.put(Identify("u1", {"plan": "old"}))
        run.put(Identify("u1", {"seats": 1}, {"id": "acme", "name": "Acme"}))
        run.run(2.0)
        run.put(Identify("u1", {"plan": "new"}, {"id": "beta"}))
        run.run(2.0)
        before = dict(run.server.users["u1"])
        run.take_over()
        run.server.down.clear()
        run.drain()

        assert {"plan": "new", "seats": 1} == before
        run.check()


def test_what_was_delivered_of_a_company_does_not_come_back_over_what_is_newer() -> None:
    with heirs(latency=0.0) as run:
        run.server.down = {"identify"}
        run.put(Identify("u1", {"plan": "pro"}, {"id": "acme", "name": "Old"}))
        run.run(2.0)
        run.put(IdentifyCompany("acme", {"name": "New"}))
        run.run(2.0)
        before = dict(run.server.companies["acme"])
        run.take_over()
        run.server.down.clear()
        run.drain()

        assert {"name": "New"} == before
        run.check()


def test_what_a_merged_call_says_of_a_company_is_not_in_the_file_that_an_earlier_call_went_with() -> None:
    with heirs(settings=Settings(bulk_threshold=0, flush_interval=0.0)) as run:
        run.put(Identify("u1", {}, {"id": "beta", "p": None}))
        run.run(0.5)
        run.put(Identify("u1", {}, {"id": "beta", "p": 0}))
        run.run(1.9)
        run.take_over()
        run.drain()

        assert {"beta": {"p": 0}} == run.server.companies
        run.check()


# ── answers that never came ──


def test_events_under_way_when_their_sender_died_are_possible_duplicates() -> None:
    with heirs(latency=0.5) as run:
        for n in range(5):
            run.put(Track(f"u{n}", "event", {"n": n}))
        run.run(0.1)
        under_way = run.schedule.in_flight
        run.take_over()
        run.drain()

        assert 5 == under_way == run.possible_duplicates
        run.check()


def test_events_under_way_when_their_sender_died_are_dropped_where_a_gap_is_better_than_a_double() -> None:
    with heirs(settings=Settings(on_ambiguous="drop"), latency=0.5) as run:
        for n in range(5):
            run.put(Track(f"u{n}", "event", {"n": n}))
        run.run(0.1)
        run.take_over()
        run.put(Track("u9", "event", {"n": 9}))
        run.drain()
        sent = [n for _, n in run.server.tracked]

        assert ({"ambiguous": 5}, 1) == (run.outbox.ledger.dropped, run.outbox.ledger.delivered)
        assert sorted(set(sent)) == sorted(sent)
        assert 0 == run.possible_duplicates


# ── files ──


def crowd(run: Heirs, count: int = 60) -> None:
    """So many users are identified, so that a file takes them."""
    for n in range(count):
        run.put(Identify(f"u{n}", {"n": n}))


def test_a_file_whose_sender_died_while_the_job_ran_is_found_by_its_name_and_not_sent_again() -> None:
    with heirs(settings=Settings(bulk_threshold=5), latency=0.0) as run:
        crowd(run, 900)  # half a minute
        run.run(5.0)
        running = [job.over for job in run.server.jobs]
        run.take_over()
        run.drain()

        assert [False] == running
        assert [900] == [len(job.rows) for job in run.server.jobs]
        assert [] == run.server.stamps["identify"][100:]
        run.check()


def test_a_job_that_ended_while_nobody_looked_is_settled_without_a_second_submission() -> None:
    with heirs(settings=Settings(bulk_threshold=5), latency=0.0) as run:
        crowd(run)
        run.run(1.5)
        run.take_over()
        run.now += 600.0
        run.drain()

        assert 1 == len(run.server.jobs)
        run.check()


def test_a_file_that_never_arrived_is_sent_again_under_the_same_name() -> None:
    with heirs(settings=Settings(bulk_threshold=5), latency=0.5) as run:
        crowd(run)
        while not any(request.filename for request in run._under_way.values()):
            assert run.step(run.now + 60.0)
        (noted,) = run._under_way.values()
        run._arriving.clear()  # it never left
        run.take_over()
        run.drain()

        assert [noted.filename] == [job.filename for job in run.server.jobs]
        run.check()


def test_calls_that_came_after_a_file_do_not_join_it() -> None:
    """Later calls would be taken for delivered with the file, and were never in it."""
    with heirs(settings=Settings(bulk_threshold=5), latency=0.0) as run:
        crowd(run, 300)
        run.run(3.0)
        run.put(Identify("u7", {"later": True}))
        run.put(Track("u7", "event", {"n": 1}))
        run.take_over()
        run.drain()

        assert {"n": 7, "later": True} == run.server.users["u7"]
        assert 300 == len(run.server.jobs[0].rows)
        run.check()


def test_a_row_with_something_before_it_that_was_not_there_is_sent_again() -> None:
    """A track that waited for the row to be repeated in realtime: what it waits behind must go before it."""
    with heirs(settings=Settings(bulk_threshold=5), latency=0.0) as run:
        crowd(run, 300)
        run.run(3.0)
        run.server.down = {"identify"}
        run.put(Track("u7", "event", {"n": 1}))
        run.run(1.0)
        run.take_over()
        run.server.down.clear()
        run.run(20.0)
        run.drain()

        assert [("u7", 1)] == run.server.tracked
        run.check()


def test_a_file_that_failed_is_tried_again_by_the_heir_too() -> None:
    with heirs(settings=Settings(bulk_threshold=5), latency=0.0) as run:
        crowd(run, 300)
        run.run(3.0)
        run.server.jobs[0].fails = True
        run.take_over()
        run.run(30.0)
        run.drain()

        assert 2 == len(run.server.jobs)
        run.check()


def test_a_sender_that_dies_again_and_again_submits_a_file_once() -> None:
    with heirs(settings=Settings(bulk_threshold=5), latency=0.0) as run:
        crowd(run, 900)
        for _ in range(6):
            run.run(2.5)
            run.take_over()
        run.drain()

        assert 1 == len(run.server.jobs)
        run.check()


# ── imports ──


@settings(max_examples=length.of(150), deadline=None)
@given(
    made=calls(),
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    bulk_threshold=st.sampled_from([0, 50]),
    late_after=st.sampled_from([0.1, 1.0]),
    track_per_minute=st.sampled_from([3, 30]),
    deaths=st.dictionaries(st.integers(0, 40), st.sampled_from([0.0, 0.05, 0.1, 0.4, 1.5]), max_size=4),
    end=st.sampled_from([0.3, 1.0, 4.0]),
)
def test_a_backlog_that_one_sender_imports_and_another_one_ends_up_where_sequential_calls_would_have_put_it(
    made: list[tuple[Call, float]],
    seed: int,
    trouble: float,
    bulk_threshold: int,
    late_after: float,
    track_per_minute: int,
    deaths: dict[int, float],
    end: float,
) -> None:
    settings = Settings(
        imports="when_late", late_after=late_after, track_per_minute=track_per_minute, burst=2,
        bulk_threshold=bulk_threshold,
    )  # fmt: skip
    with heirs(seed, settings, trouble=trouble) as run:
        run.server.blanks = False  # what an earlier sender was told of a person, its heir does not know
        live_and_die(run, made, deaths, end)

        run.check()


def test_an_import_whose_sender_died_while_the_job_ran_is_found_by_its_name_and_not_sent_again() -> None:
    with heirs(settings=Settings(imports="when_late"), latency=0.0) as run:
        run.put(Identify("u0", {"plan": "pro"}))
        for n in range(4_000):
            run.put(Track(f"u{n % 20}", "event", {"n": n}))
        run.run(10.0)
        running = [job.over for job in run.server.jobs if job.kind == "imports"]
        run.take_over()
        run.put(Track("u0", "event", {"n": 4_000}))
        run.drain()

        assert [False] == running
        assert 1 == sum(job.kind == "imports" for job in run.server.jobs)
        assert 0 == run.possible_duplicates
        run.check()


# ── budgets ──


@settings(max_examples=length.of(40), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    limit=st.sampled_from([1, 5, 20]),
    runs=st.lists(st.sampled_from([0.5, 5.0, 30.0, 61.0]), min_size=1, max_size=5),
    latency=st.sampled_from([0.0, 0.3, 5.0]),
)
def test_no_takeover_makes_more_requests_of_a_minute_than_it_has(
    seed: int, limit: int, runs: list[float], latency: float
) -> None:
    with heirs(seed, Settings(track_per_minute=limit, burst=20), latency=latency) as run:
        for n in range(3 * limit):
            run.put(Track(f"u{n}", "event", {"n": n}))
        for seconds in runs:
            run.run(seconds)
            run.take_over()
        run.drain()

        run.check()
        assert run.takeovers


def test_a_user_who_was_deleted_does_not_come_back_with_the_rest_of_what_their_calls_say() -> None:
    """The heir has a call of which a company's part is left, and one that merged into it: nothing of the user."""
    with heirs(latency=0.0) as run:
        run.server.down = {"identify_company"}
        run.put(Identify("u1", {"p": 1}))
        run.put(Identify("u1", {"q": 1}, {"id": "acme", "size": 2}))
        run.put(DeleteUser("u1"))
        run.run(100.0)
        before = dict(run.server.users)
        run.take_over()
        run.server.down.clear()
        run.drain()

        assert ({}, {}) == (before, run.server.users)
        assert {"acme": {"size": 2}} == run.server.companies
