"""The contract of `Outbox`, for every implementation: nothing lost, nothing twice, in order, on a balanced account."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.contract.conftest import NewOutbox, those
from tests.contract.inline import Client, at_once, open_now
from tests.contract.puts import PUTS
from tests.harness import length
from userpilot_async._calls.outcome import BY_BULK, BY_IMPORT, DELIVERED, Outcome
from userpilot_async._calls.payload import Ticket
from userpilot_async._delivery.client import Checked
from userpilot_async._outbox.protocol import Outbox
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote

EXPIRED = Outcome("dead", "expired")
NO_ROOM = Outcome("dropped", "queue_full")
OUTCOMES = [DELIVERED, Outcome("delivered"), BY_IMPORT, EXPIRED, NO_ROOM]  # one is equal to another, as after a restart


def put_all(outbox: Outbox, puts: Sequence[Checked]) -> list[int]:
    """Put calls, one a second; their ids."""
    return [outbox.put(*copy.deepcopy(one), float(at)).id for at, one in enumerate(puts)]


def filled(outbox: Outbox, sizes: Sequence[int]) -> list[int]:
    """Put tracks of these sizes; their ids."""
    return [outbox.put("track", "u1", b"x" * size, size, 0.0).id for size in sizes]


def hold(outbox: Outbox, call: Checked, now: float = 0.0) -> Receipt:
    """Hold a call; it is."""
    receipt = at_once(outbox.hold(*copy.deepcopy(call), now, None))
    assert receipt is not None
    return receipt


def balance(outbox: Outbox) -> int:
    """What all accepted calls should come to."""
    ledger = outbox.ledger
    return ledger.delivered + sum(ledger.losses().values()) + ledger.merged + ledger.pending


# ── put and take ──


@pytest.mark.parametrize("kind", PUTS)
def test_a_call_is_taken_as_it_was_put(outbox: Outbox, kind: str) -> None:
    (call_id,) = put_all(outbox, [PUTS[kind]])
    ((taken_id, accepted_at, *call),) = outbox.take(10)

    assert call_id == taken_id
    assert 0.0 >= accepted_at  # it was put then, or, as far as calendars can tell, a little earlier
    assert list(PUTS[kind][:3]) == call


def test_keys_of_several_ids_and_facts_come_back_as_tuples(outbox: Outbox) -> None:
    """The schedule tells calls apart by that; a list, as JSON would have it, is not the same."""
    put_all(outbox, list(PUTS.values()))

    for ticket, (_, key, said, _) in zip(outbox.take(100), PUTS.values(), strict=True):
        assert (tuple, type(key), type(said)) == (type(ticket), type(ticket[3]), type(ticket[4]))


def test_calls_of_all_kinds_are_taken_in_the_order_in_which_they_were_put(outbox: Outbox) -> None:
    ids = put_all(outbox, list(PUTS.values()) * 3)
    taken = [ticket for _ in range(6) for ticket in outbox.take(7)]

    assert ids == [ticket[0] for ticket in taken] == sorted(set(ids))


@those(keeps_time=True)
def test_a_call_is_taken_with_the_time_at_which_it_was_put(outbox: Outbox) -> None:
    ids = put_all(outbox, list(PUTS.values()))

    assert [float(at) for at in range(len(ids))] == [ticket[1] for ticket in outbox.take(100)]


@those(keeps_time=False)
def test_a_call_that_was_read_is_taken_with_the_time_for_which_it_has_waited(outbox: Outbox) -> None:
    """By the clock of whoever takes it; that of whoever put it may have been another one."""
    put_all(outbox, list(PUTS.values()))
    times = [ticket[1] for ticket in outbox.take(100)]

    assert 0.0 >= max(times)
    assert -600.0 < min(times)


def test_a_call_is_taken_once(outbox: Outbox) -> None:
    put_all(outbox, list(PUTS.values()))
    outbox.take(100)

    assert [] == list(outbox.take(100))


def test_no_more_are_taken_than_asked_for(outbox: Outbox) -> None:
    filled(outbox, [1] * 10)

    assert [4, 4, 2, 0] == [len(outbox.take(4)) for _ in range(4)]


def test_calls_put_while_others_are_taken_come_after_them(outbox: Outbox) -> None:
    first = filled(outbox, [1, 1])
    taken = [outbox.take(1)[0][0]]
    second = filled(outbox, [1])
    taken += [ticket[0] for ticket in outbox.take(10)]

    assert first + second == taken


def test_taking_from_an_empty_one_gives_nothing(outbox: Outbox) -> None:
    assert [] == list(outbox.take(10))


def test_what_is_settled_is_never_taken_again(outbox: Outbox) -> None:
    ids = filled(outbox, [1, 1])
    outbox.take(1)
    outbox.settle(Settlement(ids[:1], (), DELIVERED, 1, None))

    assert ids[1:] == [ticket[0] for ticket in outbox.take(10)]


# ── room ──


@those(counts_calls=True)
def test_there_is_room_for_as_many_calls_as_the_limit_says(new_outbox: NewOutbox) -> None:
    outbox = new_outbox(max_calls=3, max_bytes=10**6)
    rooms = []
    for _ in range(3):
        rooms.append(outbox.has_room(1))
        filled(outbox, [1])

    assert [True, True, True, False] == [*rooms, outbox.has_room(1)]


@those(counts_calls=True)
def test_a_call_that_was_taken_still_needs_its_place(new_outbox: NewOutbox) -> None:
    outbox = new_outbox(max_calls=1)
    filled(outbox, [1])
    outbox.take(1)

    assert not outbox.has_room(1)


@those(counts_calls=False)
def test_calls_in_a_file_are_not_limited_by_their_number(new_outbox: NewOutbox) -> None:
    outbox = new_outbox(max_calls=1)
    filled(outbox, [1] * 10)

    assert outbox.has_room(1)


def test_there_is_room_for_as_many_bytes_as_the_limit_says(new_outbox: NewOutbox) -> None:
    outbox = new_outbox(max_bytes=100)
    filled(outbox, [60])

    assert (True, False) == (outbox.has_room(40), outbox.has_room(41))


def test_a_call_larger_than_the_whole_limit_goes_into_an_empty_queue(new_outbox: NewOutbox) -> None:
    """Or nobody could ever send it, and whoever waits for room would wait for ever."""
    outbox = new_outbox(max_bytes=100)
    before = outbox.has_room(500)
    ids = filled(outbox, [500])
    meanwhile = outbox.has_room(1)
    outbox.take(1)
    outbox.settle(Settlement(ids, (), DELIVERED, 500, None))

    assert (True, False, True) == (before, meanwhile, outbox.has_room(500))


def test_a_call_that_was_taken_still_needs_its_room(new_outbox: NewOutbox) -> None:
    outbox = new_outbox(max_bytes=100)
    filled(outbox, [100])
    outbox.take(1)

    assert (100, False) == (outbox.waiting_bytes, outbox.has_room(1))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.status)
def test_a_settled_call_frees_its_room(new_outbox: NewOutbox, outcome: Outcome) -> None:
    outbox = new_outbox(max_bytes=100)
    ids = filled(outbox, [30, 70])
    outbox.take(2)
    outbox.settle(Settlement(ids[:1], (), outcome, 30, b""))

    assert 70 == outbox.waiting_bytes
    assert (True, False) == (outbox.has_room(30), outbox.has_room(31))


def test_it_is_known_by_which_way_a_call_went(outbox: Outbox) -> None:
    receipts = [outbox.put("track", "u1", b"x", 1, 0.0) for _ in range(6)]
    ids = [receipt.id for receipt in receipts]
    outbox.take(6)
    outbox.submitted(ids[2:5], True, 3)
    outbox.submitted(ids[4:5], False, 1)
    waiting = [(receipt.status, receipt.route) for receipt in receipts[2:5]]
    outbox.settle(Settlement(ids[:1], (), DELIVERED, 1, None))
    outbox.settle(Settlement(ids[1:2], (), BY_BULK, 1, None))
    outbox.merged(array("Q", ids[2:3]), 1)
    outbox.settle(Settlement(ids[3:4], ids[2:3], BY_IMPORT, 1, None))
    outbox.settle(Settlement(ids[4:5], (), EXPIRED, 1, b"x"))

    assert [("submitted", None), ("submitted", None), ("pending", None)] == waiting
    assert ["realtime", "bulk", "import", "import", None, None] == [receipt.route for receipt in receipts]
    assert {"realtime": 1, "bulk": 1, "import": 1} == outbox.ledger.routes()


def test_calls_delivered_together_free_the_room_of_all(new_outbox: NewOutbox) -> None:
    outbox = new_outbox(max_bytes=100)
    ids = filled(outbox, [30, 30, 40])
    outbox.take(3)
    outbox.settle(Settlement(ids, (), DELIVERED, 100, None))

    assert (0, 3, 0) == (outbox.waiting_bytes, outbox.ledger.delivered, outbox.ledger.pending)
    assert outbox.has_room(100)


@those(merging_frees=True)
def test_merged_calls_free_what_the_row_does_not_need(new_outbox: NewOutbox) -> None:
    outbox = new_outbox(max_calls=2, max_bytes=100)
    ids = filled(outbox, [40, 60])
    outbox.take(2)
    outbox.merged(ids[:1], 25)

    assert 75 == outbox.waiting_bytes
    assert (True, False) == (outbox.has_room(25), outbox.has_room(26))


def test_merged_calls_have_freed_their_room_when_they_are_settled(new_outbox: NewOutbox) -> None:
    """At the latest, and all of it, whatever the row came to meanwhile."""
    outbox = new_outbox(max_bytes=100)
    ids = filled(outbox, [40, 30, 30])
    outbox.take(3)
    outbox.merged(ids[:1], 25)
    outbox.settle(Settlement(ids[1:2], ids[:1], DELIVERED, 45, None))

    assert 30 == outbox.waiting_bytes
    assert (True, False) == (outbox.has_room(70), outbox.has_room(71))


@those(merging_frees=False)
def test_merged_calls_in_a_file_take_their_room_until_they_are_settled(new_outbox: NewOutbox) -> None:
    outbox = new_outbox(max_bytes=100)
    ids = filled(outbox, [40, 60])
    outbox.take(2)
    outbox.merged(ids[:1], 25)

    assert (100, False) == (outbox.waiting_bytes, outbox.has_room(1))


@those(merging_frees=True)
def test_a_row_that_grows_takes_room(new_outbox: NewOutbox) -> None:
    """What an identify says of a company is charged when its row is made; two estimates need not add up."""
    outbox = new_outbox(max_calls=10, max_bytes=100)
    filled(outbox, [40])
    outbox.take(1)
    outbox.merged([], -20)

    assert 60 == outbox.waiting_bytes
    assert (True, False) == (outbox.has_room(40), outbox.has_room(41))


@those(merging_frees=True)
def test_a_settlement_without_a_carrier_frees_bytes_and_no_call(new_outbox: NewOutbox) -> None:
    """A company's row, made of what users' identifies say of it."""
    outbox = new_outbox(max_calls=1, max_bytes=100)
    ids = filled(outbox, [40])
    outbox.take(1)
    outbox.merged([], -20)
    outbox.settle(Settlement((), (), DELIVERED, 20, None))

    assert (40, 1) == (outbox.waiting_bytes, outbox.ledger.pending)
    assert not outbox.has_room(1)
    outbox.settle(Settlement(ids, (), DELIVERED, 40, None))
    assert outbox.has_room(100)


def test_a_settlement_of_nobody_changes_no_account(outbox: Outbox) -> None:
    """The same row, where its bytes are not counted."""
    ids = filled(outbox, [40])
    outbox.take(1)
    outbox.merged([], -20)
    outbox.settle(Settlement((), (), DELIVERED, 20, None))

    assert (1, 1) == (outbox.ledger.accepted, outbox.ledger.pending)
    outbox.settle(Settlement(ids, (), DELIVERED, 40, None))
    assert (0, 1, 0) == (outbox.ledger.pending, outbox.ledger.delivered, outbox.waiting_bytes)


@those(merging_frees=False)
def test_what_was_never_counted_frees_no_room_in_a_file(outbox: Outbox) -> None:
    filled(outbox, [40])
    outbox.take(1)
    outbox.merged([], -20)
    outbox.settle(Settlement((), (), DELIVERED, 20, None))

    assert 40 == outbox.waiting_bytes


def test_whoever_waits_for_room_is_told_when_there_is_some(outbox: Outbox) -> None:
    told = []
    ids = filled(outbox, [10, 10, 10])
    outbox.take(3)
    outbox.merged(ids[:1], 5)
    outbox.when_room = lambda: told.append(outbox.waiting_bytes)
    outbox.settle(Settlement(ids[1:2], ids[:1], EXPIRED, 15, b""))
    outbox.when_room = None
    outbox.settle(Settlement(ids[2:], (), DELIVERED, 10, None))

    assert 10 == told[-1]
    assert 0 == outbox.waiting_bytes


@those(merging_frees=True)
def test_whoever_waits_for_room_is_told_when_merging_makes_some(outbox: Outbox) -> None:
    told = []
    ids = filled(outbox, [10, 10, 10])
    outbox.take(3)
    outbox.when_room = lambda: told.append(outbox.waiting_bytes)
    outbox.merged(ids[:1], 5)
    outbox.settle(Settlement(ids[1:2], (), EXPIRED, 10, b""))
    outbox.when_room = None
    outbox.settle(Settlement(ids[2:], ids[:1], DELIVERED, 15, None))

    assert [25, 15] == told


# ── the account ──


def test_merged_calls_share_the_fate_of_the_one_that_carries_them(outbox: Outbox) -> None:
    receipts = [outbox.put("track", "u1", b"{}", 2, 0.0) for _ in range(3)]
    ids = [receipt.id for receipt in receipts]
    outbox.take(3)
    outbox.merged(array("Q", ids[:2]), 20)
    before = [receipt.status for receipt in receipts]
    outbox.settle(Settlement(array("Q", ids[2:]), array("Q", ids[:2]), EXPIRED, 10, b""))

    assert ["merged", "merged", "pending"] == before
    assert [("merged", "expired")] * 2 + [("dead", "expired")] == [(one.status, one.reason) for one in receipts]
    assert (2, 2, {"expired": 1}) == (outbox.ledger.merged, outbox.ledger.merged_lost, outbox.ledger.dead)


def test_a_call_merged_into_one_that_was_delivered_long_ago_is_settled_without_a_carrier(outbox: Outbox) -> None:
    """An alias that was made again."""
    ids = filled(outbox, [10])
    outbox.take(1)
    outbox.merged(ids, 10)
    outbox.settle(Settlement((), ids, DELIVERED, 0, None))

    assert (1, 0, 0) == (outbox.ledger.merged, outbox.ledger.pending, outbox.waiting_bytes)
    assert outbox.ledger.accepted == outbox.ledger.oldest_pending()


def test_a_refused_call_is_accepted_and_gone_at_once(outbox: Outbox) -> None:
    before = filled(outbox, [10])
    receipt = outbox.refuse(NO_ROOM)
    after = filled(outbox, [10])

    assert before[0] < receipt.id < after[0]
    assert (3, 2, {"queue_full": 1}) == (outbox.ledger.accepted, outbox.ledger.pending, outbox.ledger.dropped)
    assert ("dropped", "queue_full") == (receipt.status, receipt.reason)
    assert 20 == outbox.waiting_bytes
    assert before + after == [ticket[0] for ticket in outbox.take(10)]


def test_a_call_settled_twice_is_a_bug_that_does_not_go_unnoticed(outbox: Outbox) -> None:
    ids = filled(outbox, [10])
    outbox.take(1)
    outbox.settle(Settlement(ids, (), DELIVERED, 10, None))

    with pytest.raises((RuntimeError, KeyError)):
        outbox.settle(Settlement(ids, (), DELIVERED, 10, None))


# ── calls that are held when `hold` returns ──


@pytest.mark.parametrize("kind", PUTS)
def test_a_call_is_held_when_hold_returns(outbox: Outbox, kind: str) -> None:
    receipt = hold(outbox, PUTS[kind])
    ((call_id, _, *call),) = outbox.take(10)

    assert ("pending", receipt.id) == (receipt.status, call_id)
    assert list(PUTS[kind][:3]) == call


def test_calls_held_and_calls_put_share_one_order(outbox: Outbox) -> None:
    ids = [*filled(outbox, [1]), hold(outbox, ("track", "u1", b"{}", 2)).id, *filled(outbox, [1])]

    assert ids == sorted(ids) == [ticket[0] for ticket in outbox.take(10)]


def test_what_is_done_is_recorded(outbox: Outbox) -> None:
    ids = filled(outbox, [10])
    outbox.take(1)
    outbox.settle(Settlement(ids, (), DELIVERED, 10, None))
    at_once(outbox.recorded())

    assert (1, 0) == (outbox.ledger.delivered, outbox.ledger.pending)


# ── what one sender leaves to the next ──


def test_a_call_that_nobody_has_sent_was_not_sent(outbox: Outbox) -> None:
    ids = filled(outbox, [1])
    outbox.take(1)

    assert not outbox.send_log.was_sent(ids[0])


def test_an_empty_one_has_nothing_to_inherit(outbox: Outbox) -> None:
    left = outbox.send_log.inherited()

    assert left is None or ({}, []) == (dict(left.spent), list(left.files))
    assert outbox.send_log.inherited() is None  # once


def test_a_request_may_be_made_after_it_is_noted_and_its_end_is_noted_too(outbox: Outbox) -> None:
    ids = filled(outbox, [1])
    outbox.take(1)
    request = RequestNote("track", ids)

    assert at_once(outbox.send_log.sending(request))
    outbox.send_log.landed(request, answered=True, lost=False)
    outbox.settle(Settlement(ids, (), DELIVERED, 1, None))
    assert (1, 0) == (outbox.ledger.delivered, outbox.ledger.pending)


# ── open and close ──


def test_one_that_is_in_use_is_not_opened_again(outbox: Outbox) -> None:
    with pytest.raises(ValueError, match="in use"):
        open_now(outbox)


def test_a_refused_opening_changes_no_limit(outbox: Outbox) -> None:
    filled(outbox, [10])
    with pytest.raises(ValueError, match="in use"):
        open_now(outbox, Client().opening(1, 1))

    assert outbox.has_room(10)


def test_one_that_was_closed_may_be_opened_again(outbox: Outbox) -> None:
    first = filled(outbox, [1])
    outbox.take(1)
    outbox.settle(Settlement(first, (), DELIVERED, 1, None))
    at_once(outbox.aclose())
    open_now(outbox)
    second = filled(outbox, [1])

    assert second == [ticket[0] for ticket in outbox.take(10)]
    assert (1, balance(outbox)) == (outbox.ledger.pending, outbox.ledger.accepted)


@those(counts_calls=True)
def test_one_that_was_closed_may_be_opened_again_with_other_limits(outbox: Outbox) -> None:
    at_once(outbox.aclose())
    open_now(outbox, Client().opening(10, 5))

    assert (True, False) == (outbox.has_room(5), filled(outbox, [1]) and outbox.has_room(5))


def test_closing_one_twice_or_before_it_is_open_is_harmless(new_outbox: NewOutbox) -> None:
    outbox = new_outbox.unopened()
    at_once(outbox.aclose())
    open_now(outbox)
    at_once(outbox.aclose())
    at_once(outbox.aclose())

    assert 0 == outbox.ledger.accepted


# ── all of it, in any order ──


class AnyOrder(RuleBasedStateMachine):
    """Whatever is done, in whatever order: the account and the room are those of a list kept beside it."""

    MAX_CALLS = 8
    MAX_BYTES = 2_000

    def __init__(self, new_outbox: NewOutbox) -> None:
        super().__init__()
        self.is_like = new_outbox.is_like
        self.clean_up = new_outbox.clean_up
        self.outbox = new_outbox(self.MAX_CALLS, self.MAX_BYTES)
        self.outbox.when_room = self.note_room
        self.told = 0
        self.waiting: list[Ticket] = []
        self.taken: list[tuple[int, int]] = []  # ids and what room they take, with all that is merged into them
        self.riders: dict[int, list[int]] = {}  # ids merged into the one that carries them
        self.sizes: dict[int, int] = {}
        self.receipts: dict[int, Receipt] = {}
        self.statuses: dict[int, str] = {}

    def teardown(self) -> None:
        self.clean_up()

    def note_room(self) -> None:
        self.told += 1

    @rule(kind=st.sampled_from(sorted(PUTS)), now=st.floats(0, 1e6))
    def put(self, kind: str, now: float) -> None:
        self.note_put(kind, now, self.outbox.put(*copy.deepcopy(PUTS[kind]), now))

    @rule(kind=st.sampled_from(sorted(PUTS)), now=st.floats(0, 1e6))
    def hold(self, kind: str, now: float) -> None:
        self.note_put(kind, now, hold(self.outbox, PUTS[kind], now))

    def note_put(self, kind: str, now: float, receipt: Receipt) -> None:
        assert receipt.id not in self.statuses
        self.waiting.append((receipt.id, now, *PUTS[kind][:3]))
        self.sizes[receipt.id] = PUTS[kind][3]
        self.receipts[receipt.id] = receipt
        self.statuses[receipt.id] = "pending"

    @rule(outcome=st.sampled_from([EXPIRED, NO_ROOM]))
    def refuse(self, outcome: Outcome) -> None:
        receipt = self.outbox.refuse(outcome)
        self.receipts[receipt.id] = receipt
        self.statuses[receipt.id] = outcome.status

    @rule(limit=st.integers(1, 5))
    def take(self, limit: int) -> None:
        taken = list(self.outbox.take(limit))
        keeps_time = self.is_like.keeps_time
        assert self.waiting[:limit] == [(one[0], one[1] if keeps_time else put[1], *one[2:])
                                        for one, put in zip(taken, self.waiting, strict=False)]  # fmt: skip
        del self.waiting[:limit]
        self.taken += [(ticket[0], self.sizes[ticket[0]]) for ticket in taken]

    @precondition(lambda self: len(self.taken) > 1)
    @rule(data=st.data(), grows=st.integers(-20, 20))
    def merge(self, data: st.DataObject, grows: int) -> None:
        at = data.draw(st.integers(0, len(self.taken) - 2))
        (earlier, before), (later, size) = self.taken[at], self.taken[at + 1]
        told = self.told
        self.outbox.merged([earlier], before - grows)
        frees = self.is_like.merging_frees
        self.taken[at : at + 2] = [(later, size + (grows if frees else before))]
        self.riders[later] = [*self.riders.pop(earlier, []), earlier, *self.riders.pop(later, [])]
        self.statuses[earlier] = "merged"
        assert self.told > told or not frees

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def settle_one(self, data: st.DataObject, outcome: Outcome) -> None:
        carrier, size = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.outbox.settle(Settlement((carrier,), self.riders.pop(carrier, []), outcome, size, b""))
        self.statuses[carrier] = outcome.status

    @precondition(lambda self: self.taken)
    @rule(count=st.integers(1, 5))
    def deliver_together(self, count: int) -> None:
        together, self.taken = self.taken[:count], self.taken[count:]
        told = self.told
        riders = [rider for carrier, _ in together for rider in self.riders.pop(carrier, [])]
        ids = array("Q", [carrier for carrier, _ in together])
        self.outbox.settle(Settlement(ids, riders, DELIVERED, sum(size for _, size in together), None))
        for carrier in ids:
            self.statuses[carrier] = "delivered"
        assert self.told > told

    @rule()
    def in_use_is_in_use(self) -> None:
        with pytest.raises(ValueError, match="in use"):
            open_now(self.outbox, Client().opening(1, 1))

    @invariant()
    def the_account_balances(self) -> None:
        ledger = self.outbox.ledger
        assert ledger.accepted == len(self.statuses) == balance(self.outbox)
        assert len(self.waiting) + len(self.taken) == ledger.pending
        assert self.statuses == {call_id: receipt.status for call_id, receipt in self.receipts.items()}

    @invariant()
    def the_room_is_what_the_waiting_leave(self) -> None:
        used = sum(self.sizes[ticket[0]] for ticket in self.waiting) + sum(size for _, size in self.taken)
        calls = len(self.waiting) + len(self.taken)
        assert used == self.outbox.waiting_bytes
        for size in (1, self.MAX_BYTES - used, self.MAX_BYTES - used + 1):
            too_many = self.is_like.counts_calls and calls >= self.MAX_CALLS
            fits = not too_many and (used + size <= self.MAX_BYTES or not calls)
            assert fits == self.outbox.has_room(size)


def test_the_contract_holds_in_any_order_of_methods(new_outbox: NewOutbox) -> None:
    run_state_machine_as_test(
        lambda: AnyOrder(new_outbox),  # type: ignore[arg-type]  # a factory is documented, and typed as a class
        settings=settings(max_examples=length.of(100), stateful_step_count=40, deadline=None),
    )
