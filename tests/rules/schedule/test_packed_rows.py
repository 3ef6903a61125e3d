"""Rows without a key queue: who has one, what becomes of it, and that nothing about the calls depends on it."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.schedule.simulation import Job, Simulation
from userpilot_async import Identify, IdentifyCompany, Settings, Track
from userpilot_async._calls.outcome import Outcome
from userpilot_async._calls.payload import PackedRow, packed, packed_at, packed_key
from userpilot_async._calls.rows import Row, unpacked
from userpilot_async._schedule.packed_rows import AT_ONCE, PackedRows
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


# ── in the schedule ──


def a_backlog(rows: int = 60, **settings: float) -> Simulation:
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
    assert 14 == run.schedule._queues.packed.waiting("user") + run.schedule._queues.packed.waiting("company") + len(
        queues(run)
    )
    run.drain()
    assert {f"u{n}" for n in range(9, 20, 2)} == set(run.server.users) - {f"t{n}" for n in range(0, 20, 5)}


def test_packed_rows_die_of_age():
    run = a_backlog(max_age=100.0)
    run.server.down.update(("identify", "bulk_users"))
    run.run(200.0)

    assert {"expired": 60} == run.outbox.ledger.dead
    assert 0 == len(run.schedule._queues.packed)


def test_packed_rows_that_nothing_has_taken_are_given_up_at_the_end():
    run = a_backlog()
    run.schedule.abandon(CLOSED)
    calls = [one.call(userpilot(Settings())) for one in run.schedule.settled.done]
    run.carry_on()

    assert {(f"u{n}", n) for n in range(60)} == {(call.user_id, call.metadata["n"]) for call in calls}
    assert 60 == run.outbox.ledger.dropped["closed"]
    assert run.schedule._queues.are_empty


def test_a_failed_job_is_cut_down_and_every_row_arrives():
    run = a_backlog(rows=200)
    run.run(1.5)
    for job in run.server.jobs:
        job.fails = True
    run.drain()

    assert 200 == run.outbox.ledger.delivered
    run.check()
