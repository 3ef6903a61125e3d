"""Receipts of calls within transactions: they learn of the call's id when it is admitted, in whatever process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.inline import at_once
from tests.harness.postgres_server import missing

if missing():
    pytest.skip(str(missing()), allow_module_level=True)

import psycopg

from tests.contract.inline_postgres import InlinePostgresOutbox, NewProcess, processes
from userpilot_async import Receipt, Track
from userpilot_async._calls.outcome import DELIVERED
from userpilot_async._calls.payload import ticket_id
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._userpilot.destination import as_put
from userpilot_async.postgres._failures import TryAgain
from userpilot_async.postgres._steps import WriteSteps


@pytest.fixture
def process(postgres_url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would."""
    with processes(postgres_url) as process:
        yield process


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the application's."""
    with psycopg.connect(postgres_url.partition("?")[0]) as connection:
        yield connection


def put_within(outbox: InlinePostgresOutbox, connection: object, *users: str) -> list[Receipt]:
    """An event of each user, in the transaction."""
    puts = outbox.within(connection)
    return [puts.put(*as_put(Track(user, "paid")), None) for user in users]


def ids_of(receipts: list[Receipt]) -> list[int]:
    return [receipt.id for receipt in receipts]


def test_receipts_of_any_process_learn_of_ids_and_outcomes(
    process: NewProcess, connection: psycopg.Connection[Any]
) -> None:
    sender, other = process(), process(sender=False)
    receipts = [one for outbox in (other, sender, other) for one in put_within(outbox, connection, "u1")]
    sender.poll()
    before = ids_of(receipts), sender.ledger.accepted
    connection.commit()
    sender.poll()
    other.poll()
    known = ids_of(receipts)
    taken = [ticket_id(one) for one in sender.take(10)]
    sender.settle(Settlement(taken[:2], [], DELIVERED, 0, None))
    sender.poll()
    other.poll()

    assert ([-1, -1, -1], 0) == before
    assert [0, 1, 2] == known == taken
    assert ["delivered", "delivered", "pending"] == [receipt.status for receipt in receipts]


def test_a_put_of_any_process_admits_what_was_committed_before_it(
    process: NewProcess, connection: psycopg.Connection[Any]
) -> None:
    sender, other = process(), process(sender=False)
    (theirs,), (ours,) = put_within(sender, connection, "u1"), put_within(other, connection, "u1")
    connection.commit()
    direct = other.put(*as_put(Track("u1", "paid")), 0.0)
    before = ids_of([theirs, ours, direct])
    sender.poll()

    assert [-1, 1, 2] == before
    assert 0 == theirs.id


def test_who_takes_the_lease_admits_and_hears_of_its_own_calls(
    process: NewProcess, connection: psycopg.Connection[Any]
) -> None:
    sender, heir = process(), process()
    receipts = put_within(heir, connection, "u1", "u2")
    sender.die()
    connection.commit()
    heir.poll()

    assert heir.sends
    assert [0, 1] == ids_of(receipts)


def test_a_receipt_whose_transaction_is_rolled_back_stays_pending_and_leaves_nothing(
    process: NewProcess, connection: psycopg.Connection[Any]
) -> None:
    sender = process()
    kept = put_within(sender, connection, "u1", "u2")[1:]
    connection.rollback()
    sender.poll()
    gc.collect()

    assert [(-1, "pending")] == [(receipt.id, receipt.status) for receipt in kept]
    assert 1 == len(sender._tickets)
    assert 0 == sender.ledger.accepted


def test_an_admission_that_was_undone_is_announced_as_it_was_made(
    process: NewProcess, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = process(sender=False)
    receipts = put_within(outbox, connection, "u1", "u2")
    connection.commit()
    write, finish, undone = WriteSteps._write, WriteSteps._finish, list[object]()

    def fail_once(*given: Any) -> None:
        if not undone:
            undone.append(given)
            raise TryAgain
        finish(*given)

    def write_after_others(*given: Any) -> Any:
        try:
            return write(*given)
        except TryAgain:
            outbox.run("DELETE FROM {}_inbox WHERE key = '\"u1\"'")
            raise

    monkeypatch.setattr(WriteSteps, "_finish", fail_once)
    monkeypatch.setattr(WriteSteps, "_write", write_after_others)
    direct = outbox.put(*as_put(Track("u3", "paid")), 0.0)

    assert [-1, 0, 1] == ids_of([*receipts, direct])
    assert 2 == outbox.ledger.accepted


def test_calls_that_were_put_without_a_client_or_by_one_that_has_ended_are_admitted_as_well(
    process: NewProcess, connection: psycopg.Connection[Any]
) -> None:
    outbox = process(sender=False)
    put_within(outbox, connection, "u1")
    connection.commit()
    at_once(outbox.aclose())
    connection.execute(f"UPDATE {outbox.name}_inbox SET size = -7")  # type: ignore[arg-type]  # what may be there
    connection.commit()
    sender = process()
    sender.poll()

    assert [0] == [ticket_id(one) for one in sender.take(10)]
    assert 0 == sender.waiting_bytes
