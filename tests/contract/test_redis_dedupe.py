"""Keys of ``dedupe=`` in Redis where the answer to a step gets lost, and its callers may be gone when it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.inline import at_once
from tests.contract.inline_redis import InlineRedisOutbox, NewProcess, processes
from userpilot_async._calls.dedupe import DedupeKey
from userpilot_async._calls.outcome import DELIVERED, Outcome
from userpilot_async._outbox.batch import Batch, Put
from userpilot_async._schedule.settlement import Settlement
from userpilot_async.redis._failures import Away


@pytest.fixture
def process(redis_url: str) -> Iterator[NewProcess]:
    with processes(redis_url) as new:
        yield new


def begin(outbox: InlineRedisOutbox, *names: str | None) -> list[tuple[Put, Batch]]:
    """Awaited calls with these keys, in one batch, on their way."""
    outbox.writer.runs = False
    keys = [None if name is None else DedupeKey.of(name, 60.0) for name in names]
    return [outbox._session.incoming.put("track", "u1", b"{}", 2, 0.0, True, key) for key in keys]


def write(outbox: InlineRedisOutbox) -> None:
    outbox.writer.runs = True
    outbox.writer.wake()


def lose_answer(outbox: InlineRedisOutbox, *, reached: bool, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Write, and lose the answer, whether the step has ``reached`` the server or not."""
    link = outbox.store.access.link
    run = link.run

    def lose(step: Any, **how: Any) -> Any:
        if step.name != "write":
            return run(step, **how)
        link.run = run
        if reached:
            run(step, **how)
        raise Away("its answer got lost")

    link.run = lose
    write(outbox)
    meanwhile()


def go_on(outbox: InlineRedisOutbox) -> None:
    outbox.store.reach.retry_at = 0.0
    outbox.poll()


def facts(outbox: InlineRedisOutbox) -> tuple[int, int, int]:
    return outbox.ledger.accepted, outbox.ledger.pending, outbox.ledger.duplicates


@pytest.mark.parametrize("reached", [False, True], ids=["not made", "made"])
def test_a_step_with_duplicates_whose_answer_got_lost_is_made_once(process: NewProcess, reached: bool) -> None:
    outbox = process()
    puts = begin(outbox, "a", None, "a", "b", "a", None)
    lose_answer(outbox, reached=reached)
    go_on(outbox)

    assert [0, 1, 0, 2, 0, 3] == [put.receipt.id for put, _ in puts]
    assert [False, False, True, False, True, False] == [put.receipt.is_duplicate for put, _ in puts]
    assert (4, 4, 2) == facts(outbox)


@pytest.mark.parametrize("reached", [False, True], ids=["not made", "made"])
def test_a_call_that_is_taken_back_gives_its_key_back(process: NewProcess, reached: bool) -> None:
    outbox = process()
    puts = begin(outbox, None, "a", "b")
    lose_answer(outbox, reached=reached)
    outbox._session.incoming._withdraw(*puts[1])
    go_on(outbox)
    ((again, _),) = begin(outbox, "a")
    write(outbox)

    assert ([0, 1] if not reached else [0, 2]) == [puts[0][0].receipt.id, puts[2][0].receipt.id]
    assert not again.receipt.is_duplicate
    assert (3, 3, 0) == facts(outbox)


@pytest.mark.parametrize("reached", [False, True], ids=["not made", "made"])
def test_a_duplicate_that_is_taken_back_takes_nothing_along(process: NewProcess, reached: bool) -> None:
    outbox = process()
    puts = begin(outbox, "a", "a", None, "b")
    lose_answer(outbox, reached=reached)
    outbox._session.incoming._withdraw(*puts[1])
    go_on(outbox)

    assert [0, 1, 2] == [puts[place][0].receipt.id for place in (0, 2, 3)]
    assert (3, 3, 0) == facts(outbox)


def test_a_call_behind_a_duplicate_is_taken_back_by_its_own_id(process: NewProcess) -> None:
    outbox = process()
    puts = begin(outbox, "a", "a", "b", "c")
    lose_answer(outbox, reached=True)
    outbox._session.incoming._withdraw(*puts[2])
    go_on(outbox)

    assert [0, 0, 2] == [puts[place][0].receipt.id for place in (0, 1, 3)]
    assert [0, 2] == [ticket[0] for ticket in outbox.take(10)]
    assert (2, 2, 1) == facts(outbox)


def test_a_call_that_others_were_told_of_is_not_taken_back(process: NewProcess) -> None:
    """The other caller has answered its webhook, which does not come again."""
    outbox, other = process(), process(sender=False)
    puts = begin(outbox, "a")
    told: list[Put] = []

    def tell() -> None:
        told.extend(put for put, _ in begin(other, "a"))
        write(other)

    lose_answer(outbox, reached=True, meanwhile=tell)
    outbox._session.incoming._withdraw(*puts[0])
    go_on(outbox)
    taken = [ticket[0] for ticket in outbox.take(10)]

    assert [True] == [put.receipt.is_duplicate for put in told]
    assert [0] == taken
    assert (1, 1, 1) == facts(outbox)


def test_of_two_calls_in_one_step_the_second_keeps_what_the_first_would_have_taken_back(process: NewProcess) -> None:
    outbox = process()
    puts = begin(outbox, "a", "a")
    lose_answer(outbox, reached=True)
    outbox._session.incoming._withdraw(*puts[0])
    go_on(outbox)
    receipt = puts[1][0].receipt
    outbox.take(10)
    outbox.settle(Settlement([0], (), DELIVERED, 2, None))

    assert Outcome("merged", None, DELIVERED) == at_once(receipt.outcome())
    assert 1 == outbox.ledger.delivered


def test_data_that_was_set_back_has_neither_the_call_nor_its_key(process: NewProcess) -> None:
    outbox = process()
    begin(outbox, "a")
    write(outbox)
    outbox.redis.flushdb()
    outbox.poll()
    ((again, _),) = begin(outbox, "a")
    write(outbox)
    go_on(outbox)

    assert (False, "pending") == (again.receipt.is_duplicate, again.receipt.status)
