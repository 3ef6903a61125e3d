"""Rows without a key queue: who has one, what becomes of it, and that nothing about the calls depends on it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.schedule.simulation import Job, Simulation
from userpilot_async import DeleteUser, Identify, IdentifyCompany, Settings, Track
from userpilot_async._calls.outcome import Outcome
from userpilot_async._calls.payload import PackedRow, packed, packed_at, packed_key
from userpilot_async._calls.rows import Row, unpacked
from userpilot_async._schedule import packed_calls
from userpilot_async._schedule.file_endings import CHORES, FileEndings
from userpilot_async._schedule.packed_rows import AT_ONCE, PackedRows
from userpilot_async._schedule.property_cache import PropertyCache
from userpilot_async._userpilot.destination import userpilot

CLOSED = Outcome("dropped", "closed")
LATE = Outcome("dropped", "queue_full")


def some_row(key: str, number: int) -> PackedRow:
    return packed(key, number, float(number // 3), 10, ({"n": number}, None, 10, None))


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "file", "back", "end", "unpack"]), st.integers(0, 9))))
def test_packed_rows_are_a_dict_in_the_order_of_their_acceptance(steps):
    """Whatever comes and goes: those that wait, those in files, and who is the oldest."""
    rows, waiting, filed = PackedRows(["user"]), OrderedDict[str, PackedRow](), dict[str, PackedRow]()
    for number, (step, n) in enumerate(steps):
        key, first = f"u{n}", next(iter(waiting), None)
        if step == "add" and rows.takes("user", key, float(number // 3)):
            waiting[key] = some_row(key, number)
            rows.add("user", waiting[key])
        elif step == "take":
            assert rows.take("user", key) is waiting.pop(key, None)
        elif step == "file" and first is not None:
            filed[first] = waiting.pop(first)
            rows.file("user", filed[first])
        elif step == "back" and filed:
            back, row = max(filed.items(), key=lambda item: packed_at(item[1]))
            rows.put_back("user", row)
            if first is None or packed_at(waiting[first]) >= packed_at(row):
                waiting[back] = filed.pop(back)
                waiting.move_to_end(back, last=False)
        elif step == "end" and key in filed:
            rows.end("user", [filed.pop(key)])
        elif step == "unpack":
            assert rows.take_filed("user", key) is filed.pop(key, None)

        assert list(waiting.values()) == list(rows.in_order("user"))
        assert next(iter(waiting.values()), None) is rows.first("user")
        assert (len(waiting), len(filed)) == (rows.waiting("user"), rows.filed())
        assert {*waiting, *filed} == {f"u{n}" for n in range(10) if rows.has("user", f"u{n}")}
        assert sorted(packed_at(row) for row in waiting.values()) == [packed_at(row) for row in waiting.values()]


@given(st.lists(st.booleans(), max_size=3 * AT_ONCE))
def test_rows_of_a_file_come_in_their_order_packed_ones_together(unpack):
    rows = PackedRows(["user"])
    in_file = [some_row(f"u{n}", n) for n in range(len(unpack))]
    for row, changes in zip(in_file, unpack, strict=True):
        rows.add("user", row)
        rows.file("user", row)
        if changes:
            rows.take_filed("user", packed_key(row))
            rows.unpacked(unpacked("user", row))

    groups = list(rows.groups("user", in_file))

    found = [one for group in groups for one in ([group] if isinstance(group, Row) else group)]
    assert [packed_key(row) for row in in_file] == [r.key if isinstance(r, Row) else packed_key(r) for r in found]
    assert unpack == [isinstance(row, Row) for row in found]
    assert all(isinstance(group, Row) or len(group) <= AT_ONCE for group in groups)


@given(st.permutations(range(1, 60)))
def test_rows_that_wait_no_more_are_forgotten_behind_one_that_waits_long(leaving):
    """Else they would take memory for as long as it waits, and time at once when it goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_calls, "MOST_GONE", 5)
        rows = PackedRows(["user"])
        for n in range(60):
            rows.add("user", some_row(f"u{n}", n))
        for n in leaving:
            rows.take("user", f"u{n}")

        assert 6 >= len(rows.all_of("user"))
    assert ["u0"] == [packed_key(row) for row in rows.in_order("user")]


def test_a_clock_that_was_set_back_matters_only_while_rows_wait():
    rows = PackedRows(["user"])
    rows.add("user", some_row("u1", 300))
    before = rows.takes("user", "u2", 50.0)
    rows.take("user", "u1")

    assert not before
    assert rows.takes("user", "u2", 50.0)


# ── in the schedule ──


def a_backlog(rows: int = 60, **settings: Any) -> Simulation:
    """As many people, with an identify each, whose calls are in the schedule."""
    run = Simulation(1, Settings(bulk_threshold=5, burst=1, **settings), latency=0.0)
    for n in range(rows):
        run.put(Identify(f"u{n}", {"n": n}))
    run.take_in()
    return run


def queues(run: Simulation) -> list[str]:
    return [queue.key for queue in run.schedule._queues]


def test_people_with_an_identify_each_have_no_queue_from_the_call_to_its_delivery():
    run = a_backlog()
    before = queues(run)
    run.run(1.5)
    running = queues(run)
    run.drain()

    assert ([], []) == (before, running)
    assert 1 == len(run.server.jobs)
    assert 60 == run.outbox.ledger.delivered
    run.check()


@pytest.mark.parametrize("call", [Identify("u7", {"b": 1}), Track("u7", "event", {"n": 1})])
def test_a_second_call_gives_its_key_a_queue(call):
    run = a_backlog()
    run.put(call)
    run.take_in()

    assert ["u7"] == queues(run)
    run.drain()
    run.check()


def test_an_identify_of_a_key_that_has_a_queue_waits_in_it():
    run = Simulation(1, Settings(bulk_threshold=5))
    run.put(Track("u1", "event", {"n": 1}))
    run.put(Identify("u1", {"n": 1}))
    run.take_in()

    assert (["u1"], 0) == (queues(run), len(run.schedule._queues.packed))


def test_a_file_of_people_names_their_companies():
    run = Simulation(1, Settings(bulk_threshold=5))
    for n in range(60):
        run.put(Identify(f"u{n}", {"n": n}, {"id": f"c{n % 7}"}))
    run.take_in()
    in_hand = len(run.schedule._queues.packed)
    run.drain()

    assert 60 == in_hand
    assert 1 == len(run.server.jobs)
    run.check()


def test_a_second_file_carries_what_was_said_since_the_first():
    run = a_backlog()
    run.run(1.5)
    for n in range(0, 60, 7):
        run.put(Identify(f"u{n}", {"n": -n}))
    run.drain()
    for n in range(60):
        run.put(Identify(f"u{n}", {"n": n + 100}))
    run.take_in()
    in_hand = len(run.schedule._queues.packed)
    run.drain()

    assert 60 == in_hand
    assert [n + 100 for n in range(60)] == [run.server.users[f"u{n}"]["n"] for n in range(60)]
    run.check()


def test_a_call_that_comes_while_a_file_carries_the_row_goes_after_it():
    run = a_backlog()
    run.run(1.5)
    for n in range(0, 60, 7):
        run.put(Identify(f"u{n}", {"n": -n}))
    run.take_in()
    in_hand = len(queues(run))
    run.drain()

    assert 9 == in_hand
    assert [-n for n in range(0, 60, 7)] == [run.server.users[f"u{n}"]["n"] for n in range(0, 60, 7)]
    run.check()


def test_rows_that_a_busy_server_does_not_take_wait_on_in_their_order():
    run = a_backlog()
    run.server.jobs.append(Job("foreign", "theirs.ndjson", "bulk_users", [], run.now + 600.0, fails=False))
    run.run(1.5)
    waiting = [packed_key(row) for row in run.schedule._queues.packed.in_order("user")]
    run.drain()

    assert run.server.conflicts
    assert [f"u{n}" for n in range(60) if f"u{n}" in waiting] == waiting
    assert len(waiting) >= 50  # but for those that went by themselves
    run.check()


def test_the_oldest_rows_are_given_up_first_whether_they_are_packed_or_not():
    run = Simulation(1, Settings(bulk_threshold=500))
    for n in range(20):
        run.now += 1.0
        run.put(Identify(f"u{n}", {"n": n}) if n % 2 else IdentifyCompany(f"c{n}", {"n": n}))
        if n % 5 == 0:
            run.put(Track(f"t{n}", "event", {"n": n}))
        run.take_in()
    for _ in range(10):
        assert run.schedule.drop_oldest(LATE)
    run.carry_on()

    assert 10 == run.outbox.ledger.dropped["queue_full"]
    assert ([], 14) == (queues(run), len(run.schedule._queues.packed) + run.schedule._queues.events.packed.number)
    run.drain()
    assert {f"u{n}" for n in range(9, 20, 2)} == set(run.server.users) - {f"t{n}" for n in range(0, 20, 5)}


def learned_in_each_turn(run: Simulation, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many people's properties are remembered in each turn of the loop from now on."""
    turns = [0]
    learn, do_chores = PropertyCache.learn, FileEndings.do_chores

    def learns(self, user_id, properties):
        turns[-1] += 1
        learn(self, user_id, properties)

    def turn(self):
        turns.append(0)
        return do_chores(self)

    monkeypatch.setattr(PropertyCache, "learn", learns)
    monkeypatch.setattr(FileEndings, "do_chores", turn)
    return turns


def test_what_is_remembered_of_people_in_a_file_takes_many_turns(monkeypatch):
    """Each row is unpacked for that: 800, as many as are settled in a turn otherwise, stop the loop for 3 ms."""
    run = a_backlog(rows=2_000, imports="when_late")
    turns = learned_in_each_turn(run, monkeypatch)
    run.drain()

    assert 2_000 == sum(turns)
    assert CHORES + AT_ONCE >= max(turns)
    run.check()


def test_packed_rows_die_of_age():
    run = a_backlog(max_age=100.0)
    run.server.down.update(("identify", "bulk_users"))
    run.run(200.0)

    assert {"expired": 60} == run.outbox.ledger.dead
    assert 0 == len(run.schedule._queues.packed)


def test_packed_rows_that_nothing_has_taken_are_given_up_at_the_end():
    run = a_backlog()
    list(run.schedule.abandon(CLOSED))
    calls = [one.call(userpilot(Settings())) for one in run.schedule.settled.done]
    run.carry_on()

    assert {(f"u{n}", n) for n in range(60)} == {(call.user_id, call.metadata["n"]) for call in calls}
    assert 60 == run.outbox.ledger.dropped["closed"]
    assert run.schedule._queues.are_empty


def test_packed_rows_in_a_job_of_the_server_are_not_given_up_at_the_end():
    run = a_backlog()
    run.run(1.5)
    run.put(Identify("u60", {"n": 60}))
    run.take_in()
    list(run.schedule.abandon(CLOSED))
    run.carry_on()
    ledger = run.outbox.ledger

    assert ({"closed": 1}, 60, 60) == (ledger.dropped, ledger.submitted, ledger.pending)


def test_a_failed_job_is_cut_down_and_every_row_arrives():
    run = a_backlog(rows=200)
    run.run(1.5)
    for job in run.server.jobs:
        job.fails = True
    run.drain()

    assert 200 == run.outbox.ledger.delivered
    run.check()


# ── events ──


def some_events(people: int, **settings: float) -> Simulation:
    """As many people, with an event each, whose calls are in the schedule."""
    run = Simulation(1, Settings(burst=1, **settings), latency=0.0)
    for n in range(people):
        run.put(Track(f"u{n}", "event", {"n": n}))
    run.take_in()
    return run


def test_people_with_an_event_each_have_no_queue_until_it_is_their_turn():
    run = some_events(60)
    before = queues(run)
    run.run(1.0)

    assert [] == before
    assert len(queues(run)) <= 2  # the one under way, and the next
    run.drain()
    assert list(range(60)) == [n for _, n in run.server.tracked]
    run.check()


@pytest.mark.parametrize("call", [Track("u7", "event", {"n": 99}), Identify("u7", {"b": 1})])
def test_a_second_call_does_not_cost_an_event_its_turn(call):
    run = some_events(60)
    run.put(call)
    run.take_in()

    assert ["u7"] == queues(run)
    run.drain()
    assert list(range(60)) == [n for _, n in run.server.tracked][:60]
    run.check()


def test_packed_events_die_of_age_and_make_room_the_oldest_first():
    run = some_events(60, max_age=100.0)
    run.server.down.add("track")
    for _ in range(10):
        assert run.schedule.drop_oldest(LATE)
    left = [packed_key(event) for event in run.schedule._queues.events.packed]
    run.run(200.0)

    assert [f"u{n}" for n in range(10, 60)] == left
    assert {"expired": 50} == run.outbox.ledger.dead
    assert run.schedule._queues.are_empty


def test_packed_events_are_given_up_at_the_end():
    run = some_events(60)
    list(run.schedule.abandon(CLOSED))
    run.carry_on()

    assert 60 == run.outbox.ledger.dropped["closed"]
    assert (0, True) == (run.schedule._queues.waiting_events, run.schedule._queues.are_empty)


@pytest.mark.parametrize("settings", [{"imports": "when_late"}])
def test_events_that_may_be_late_have_queues(settings):
    """What is late is looked for among queues; see `Destination.packs_events`."""
    assert 60 == len(queues(some_events(60, **settings)))


@given(st.lists(st.tuples(st.sampled_from(["event", "identify", "company", "deletion"]), st.integers(0, 5))))
def test_what_is_left_to_send_is_counted_call_by_call(calls: list[tuple[str, int]]) -> None:
    run = Simulation(1, Settings(bulk_threshold=1_000))
    made = {
        "event": lambda n: Track(f"u{n}", "event"),
        "identify": lambda n: Identify(f"u{n}", {"n": 1}),
        "company": lambda n: IdentifyCompany(f"c{n}", {"n": 1}),
        "deletion": lambda n: DeleteUser("gone"),
    }
    for what, n in calls:
        run.put(made[what](n))
        run.take_in()
    queues = run.schedule._queues
    waiting = Counter("track" if isinstance(call, tuple) else "identify" for queue in queues for call in queue.calls)
    waiting["track"] += queues.events.packed.number
    waiting["identify"] += queues.packed.waiting("user") + queues.packed.waiting("company")

    assert (waiting, 0) == run.schedule._outlook._requests()


def test_the_line_of_events_forgets_those_who_have_left_it():
    """Each user's events are dropped before it is their turn, again and again."""
    run = some_events(1)
    line, longest = run.schedule._queues.events, 0
    for n in range(6_000):
        run.put(Track(f"u{n % 500}", "event", {"n": n}))
        run.take_in()
        if n >= 1_000:
            run.schedule.drop_oldest(LATE)
            run.carry_on()
        longest = max(longest, len(line._line), len(line._standing))

    assert longest <= 2 * 1_000 + 1_000
    assert run.schedule._queues.waiting_events == 1_001


@pytest.mark.parametrize("moment", [0.0, 1.0])
def test_a_queue_with_an_older_call_makes_room_before_packed_calls_do(moment):
    run = Simulation(1, Settings(burst=1), latency=0.0)
    for user in ("u0", "u0", "u1"):
        run.put(Track(user, "event", {"n": 1}))
        run.now += moment
    run.take_in()
    left = []
    while run.schedule.drop_oldest(LATE):
        left.append((queues(run), run.schedule._queues.events.packed.number))

    assert [(["u0"], 1), ([], 1), ([], 0)] == left
