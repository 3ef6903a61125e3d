"""Receipts, asked and waited for without a loop: a thread settles, another one waits."""

from __future__ import annotations

from threading import Thread
from typing import Any

import anyio
import pytest

from userpilot_async._account.memory_ledger import MemoryLedger
from userpilot_async._calls.outcome import DELIVERED, PENDING, Outcome
from userpilot_async._outbox.receipt import Receipt

DROPPED = Outcome("dropped", "queue_full")


def waiting(receipt: Receipt, seen: list[Any]) -> Thread:
    """A thread that waits for this receipt; it has begun to when this returns."""
    thread = Thread(target=lambda: seen.append(receipt.wait(30)), daemon=True)
    thread.start()
    while not (receipt._pages._watchers or getattr(receipt, "_listeners", None)):
        assert thread.is_alive()
    return thread


def accepted(ledger: MemoryLedger) -> Receipt:
    return Receipt(ledger.pages, ledger.accept())


def test_what_is_known_already_is_given_at_once():
    ledger = MemoryLedger()
    receipt = accepted(ledger)
    ledger.settle(receipt.id, DELIVERED)

    assert DELIVERED == receipt.wait()


def test_a_thread_that_waits_is_told():
    ledger, seen = MemoryLedger(), []
    receipt = accepted(ledger)
    thread = waiting(receipt, seen)
    ledger.deliver([receipt.id])
    thread.join(30)

    assert ([DELIVERED], {}) == (seen, ledger.pages._watchers)


def test_waiting_has_an_end():
    with pytest.raises(TimeoutError, match="call 0 is still pending"):
        accepted(MemoryLedger()).wait(0)
    with pytest.raises(TimeoutError):
        Receipt(MemoryLedger().pages).wait(0)


def test_who_gives_up_waiting_leaves_nothing_behind():
    ledger = MemoryLedger()
    receipt, late = accepted(ledger), Receipt(ledger.pages)
    for one in (receipt, late):
        with pytest.raises(TimeoutError):
            one.wait(0)

    assert ({}, []) == (ledger.pages._watchers, late._listeners)


def test_when_nobody_settles_any_more_all_are_told_what_is_known():
    ledger, seen = MemoryLedger(), []
    receipt = accepted(ledger)
    thread = waiting(receipt, seen)
    ledger.pages.release()
    thread.join(30)

    assert [PENDING] == seen
    assert PENDING == receipt.wait()
    assert PENDING == anyio.run(receipt.outcome)


def test_a_late_receipt_is_pending_until_its_number_is_known():
    ledger = MemoryLedger()
    late = Receipt(ledger.pages)
    before = (late.id, late.status, late.reason, late.route)
    late.follow(accepted(ledger))
    ledger.deliver([0])

    assert (-1, "pending", None, None) == before
    assert (0, "delivered", "realtime") == (late.id, late.status, late.route)


def test_who_waits_for_a_late_receipt_is_told_in_the_end():
    ledger, seen = MemoryLedger(), []
    late = Receipt(ledger.pages)
    thread = waiting(late, seen)
    late.follow(accepted(ledger))
    ledger.deliver([0])
    thread.join(30)

    assert [DELIVERED] == seen


def test_who_waits_for_a_late_receipt_of_a_call_that_failed_is_told():
    ledger, seen = MemoryLedger(), []
    late = Receipt(ledger.pages)
    thread = waiting(late, seen)
    late.failed(DROPPED)
    thread.join(30)

    assert [DROPPED] == seen


def test_a_late_receipt_follows_another_late_one():
    """A durable outbox gives one of its own, for a call that a thread has one for already."""
    ledger = MemoryLedger()
    late, own = Receipt(ledger.pages), Receipt(ledger.pages)
    late.follow(own)
    before = late.id
    own.held(ledger.accept(), ledger.pages.newest)
    ledger.deliver([0])

    assert (-1, 0, "delivered") == (before, late.id, late.status)


def test_a_late_receipt_follows_one_that_fails_and_is_numbered_afterwards():
    ledger = MemoryLedger()
    late, own = Receipt(ledger.pages), Receipt(ledger.pages)
    late.follow(own)
    own.failed(DROPPED)
    failed = (late.id, late.status)
    own.held(7, bytearray(65_536))

    assert ((-1, "dropped"), 7, "dropped") == (failed, late.id, late.status)


def test_a_late_receipt_follows_one_that_has_failed_before():
    ledger = MemoryLedger()
    late, own = Receipt(ledger.pages), Receipt(ledger.pages)
    own.failed(DROPPED)
    late.follow(own)
    own.held(7, bytearray(65_536))

    assert (7, "dropped", "queue_full") == (late.id, late.status, late.reason)
