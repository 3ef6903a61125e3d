"""The lease of an outbox across a network: who has lost it changes nothing, and the next one goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.inline import at_once
from tests.contract.inline_remote import InlineRemote, ids_of, put, taken
from userpilot_async._calls.outcome import DELIVERED
from userpilot_async._outbox import lease
from userpilot_async._runtime.clocks import steady
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote

pytestmark = pytest.mark.parametrize("process", ["redis", "postgres"], indirect=True)

NewProcess = Callable[..., InlineRemote]


def hand_over(old: InlineRemote, new: InlineRemote) -> None:
    """The lease ends, and the other one is quicker; then the old one hears of it."""
    old.end_lease()
    new.poll()
    old.store.lease.renew_at = 0.0
    old.poll()


def test_who_has_lost_the_lease_changes_nothing_even_before_it_knows(process: NewProcess) -> None:
    old, new = process(), process()
    ids = ids_of(put(old, 3))
    old.take(3)
    old.end_lease()
    new.poll()

    old.settle(Settlement(ids[:1], (), DELIVERED, 2, None))  # is told by this that it has lost it

    assert (False, True) == (old.sends, new.sends)
    assert ids == taken(new)
    assert (0, 3) == (new.ledger.delivered, new.ledger.pending) == (old.ledger.delivered, old.ledger.pending)


def test_a_request_of_one_who_has_lost_the_lease_is_not_to_be_made(process: NewProcess) -> None:
    old, new = process(), process()
    ids = ids_of(put(old))
    old.take(1)
    old.end_lease()
    new.poll()

    assert not at_once(old.send_log.sending(RequestNote("track", ids)))
    left = new.send_log.inherited()
    assert left is not None
    assert {} == left.spent


def test_a_request_is_not_to_be_made_when_the_lease_may_have_ended_though_nobody_else_has_it(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = process()
    ids = ids_of(put(outbox))
    outbox.take(1)
    later = steady() + 8.0
    monkeypatch.setattr("userpilot_async._outbox.remote_session.steady", lambda: later)

    assert not at_once(outbox.send_log.sending(RequestNote("track", ids)))


def test_one_who_was_idle_when_it_lost_the_lease_goes_on_putting_and_sends_again_later(process: NewProcess) -> None:
    old, new = process(), process()
    hand_over(old, new)
    ids = ids_of(put(old, 2))
    new.poll()

    assert (1, False, 0) == (old.send_log.term, old.sends, old.unheld)
    assert ids == taken(new)
    new.die()
    old.poll()
    assert (True, ids) == (old.sends, taken(old))


def test_what_a_deposed_sender_had_merged_and_settled_is_decided_by_the_next(process: NewProcess) -> None:
    old, new = process(), process()
    ids = ids_of(put(old, 4))
    old.take(4)
    old.merged(ids[:1], 2)
    old.submitted(ids[2:3], True, 2)
    hand_over(old, new)
    before = (old.ledger.merged, old.ledger.submitted, old.ledger.pending)
    taken(new)
    new.settle(Settlement(ids, (), DELIVERED, 8, None))
    old.poll()

    assert (0, 0, 4) == before
    assert (4, 0) == (old.ledger.delivered, old.ledger.pending)


def test_a_loop_that_stands_still_gives_the_lease_to_somebody_else(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = process(), process()
    later = steady() + 61.0
    stuck.store.lease.valid_until = later + 5.0
    with monkeypatch.context() as patched:
        patched.setattr(lease, "steady", lambda: later)
        stuck.store.lease.keep()
    other.poll()

    assert (False, True) == (stuck.sends, other.sends)
