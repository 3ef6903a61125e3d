"""The short way into a row that is all that waits of its key: nothing about the calls depends on it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import length
from tests.rules.schedule.simulation import Simulation
from tests.rules.schedule.test_schedule_model import calls
from userpilot_async import Identify, IdentifyCompany, Settings
from userpilot_async._calls.payload import NOTHING_LEFT, Ticket
from userpilot_async._calls.values import MAX_PROPERTIES
from userpilot_async._schedule.intake import Intake
from userpilot_async._userpilot.calls import Call, DeleteCompany, DeleteUser


def simulations(seed: int = 1, **given: Any) -> tuple[Simulation, Simulation]:
    """Two alike, of which the second knows the long way only."""
    short, long = Simulation(seed, **given), Simulation(seed, **given)
    long.schedule._intake._merging = {}
    return short, long


def account(run: Simulation) -> tuple[Any, ...]:
    """All that can be seen of a run at this moment."""
    ledger, server = run.outbox.ledger, run.server
    pages = {number: bytes(page) for number, page in ledger.pages.by_number.items()}
    return (
        ledger.pending, ledger.submitted, ledger.delivered, ledger.merged, ledger.dropped, pages,
        run.outbox.waiting_calls, run.outbox.waiting_bytes, run.now, run.schedule._urgency.newest,
        server.users, server.companies, server.company_of, server.events, server.stamps, server.uploads,
    )  # fmt: skip


@settings(max_examples=length.of(100), deadline=None)
@given(
    made=calls(),
    deletions=st.dictionaries(st.integers(0, 40), st.sampled_from([DeleteUser("u0"), DeleteCompany("acme")])),
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.1, 0.5]),
    bulk_threshold=st.sampled_from([0, 1, 3, 50]),
    flush_interval=st.sampled_from([0.0, 1.0]),
)
def test_the_short_way_leads_where_the_long_one_does(
    made: list[tuple[Call, float]],
    deletions: dict[int, Call],
    seed: int,
    trouble: float,
    bulk_threshold: int,
    flush_interval: float,
) -> None:
    rules = Settings(bulk_threshold=bulk_threshold, flush_interval=flush_interval)
    runs = simulations(seed, settings=rules, trouble=trouble)
    for number, (call, pause) in enumerate(made):
        for run in runs:
            run.run(pause)
            run.put(call)
            if number in deletions:
                run.put(deletions[number])
            run.take_in()
        assert account(runs[0]) == account(runs[1])
    for run in runs:
        run.drain()
    assert account(runs[0]) == account(runs[1])


@pytest.mark.parametrize("second", [Identify("u1", {"b": 2}), IdentifyCompany("acme", {"b": 2})])
def test_the_third_call_of_a_key_goes_the_short_way(second: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one waits packed, the second makes a row of it: from then on there is something to merge into."""
    run = Simulation(1)
    run.put(second)
    run.put(second)
    run.take_in()

    def add_identify(*given: object) -> None:
        raise AssertionError("the long way")

    monkeypatch.setattr(Intake, "_add_identify", add_identify)
    run.put(second)
    run.take_in()
    assert (run.outbox.waiting_calls, run.outbox.ledger.merged) == (1, 2)


@pytest.mark.parametrize("calls_before", [1, 2, 3])
def test_an_identify_that_has_nothing_left_to_say_merges_into_no_row(calls_before: int) -> None:
    """It is delivered at once: the row could be lost, and the server has what this one said."""
    run = Simulation(1)
    for _ in range(calls_before):
        run.put(Identify("u1", {"a": 1}))
    run.take_in()
    call_id = run.outbox.put("user", "u1", (NOTHING_LEFT, None, 7, None), 7, run.now).id
    run.take_in()
    ledger = run.outbox.ledger
    assert (ledger.delivered, ledger.pending) == (1, 1)
    assert ledger.pages.outcome(call_id, ledger.pages.newest).status == "delivered"


def test_a_row_that_is_full_takes_no_more() -> None:
    runs = simulations()
    for run in runs:
        for part in range(3):
            run.put(Identify("u1", {f"{part}-{n}": n for n in range(MAX_PROPERTIES // 2)}))
        run.take_in()
        assert run.outbox.waiting_calls == 2
    assert account(runs[0]) == account(runs[1])


def test_while_a_file_that_was_taken_over_comes_in_nobody_goes_the_short_way() -> None:
    """Its calls are counted as they come in, so that the file is whole in the end."""
    run, came = Simulation(1), list[int]()
    for _ in range(2):
        run.put(Identify("u1", {"a": 1}))
    run.take_in()

    class Resumed:
        resuming = None

        def rejoin_row(self, queue: object, row: object) -> None:
            """Not of this file."""

        def came_in(self, call_id: int, accepted_at: float) -> None:
            came.append(call_id)

    intake: Any = run.schedule._intake
    intake._rejoining = [Resumed()]
    ticket: Ticket = (2, run.now, "user", "u1", ({"a": 2}, None, 7, None))
    intake.add_all([ticket], lambda call_id: False)
    assert came == [2]
