"""The account: it adds up after every step, knows each call by id, and forgets only what is over."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.harness import length
from userpilot_async import Receipt
from userpilot_async._account.memory_ledger import MemoryLedger
from userpilot_async._calls.outcome import DELIVERED, MERGED, PENDING, SUBMITTED, Outcome

PAGE = 65_536  # calls
EXPIRED = Outcome("dead", "expired")
NO_ROOM = Outcome("dropped", "queue_full")


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


def accept(ledger: MemoryLedger) -> tuple[int, Receipt]:
    call_id = ledger.accept()
    return call_id, Receipt(ledger.pages, call_id)


def deliver(ledger: MemoryLedger, count: int) -> None:
    """So many calls come and go."""
    for _ in range(count):
        ledger.settle(ledger.accept(), DELIVERED)


def balance(ledger: MemoryLedger) -> int:
    """What all accepted calls should come to."""
    lost = sum(ledger.dead.values()) + sum(ledger.dropped.values())
    return ledger.delivered + lost + ledger.merged + ledger.pending


def all_numbers(ledger: MemoryLedger) -> dict[str, object]:
    names = ("accepted", "pending", "submitted", "delivered", "merged", "dead", "dropped")
    return {name: getattr(ledger, name) for name in names}


# ── one call ──


def test_ids_count_from_0(ledger):
    assert [0, 1, 2] == [ledger.accept() for _ in range(3)]


@pytest.mark.parametrize("outcome", [DELIVERED, EXPIRED, NO_ROOM], ids=lambda outcome: outcome.status)
def test_a_receipt_says_what_became_of_its_call(ledger, outcome):
    call_id, receipt = accept(ledger)
    ledger.settle(call_id, outcome)

    assert (outcome.status, outcome.reason) == (receipt.status, receipt.reason)


def test_a_call_that_a_job_holds_is_submitted_and_still_pending(ledger):
    call_id, receipt = accept(ledger)
    ledger.submit([call_id])

    assert "submitted" == receipt.status
    assert (1, 1) == (ledger.pending, ledger.submitted)


def test_a_call_whose_job_came_to_nothing_is_pending_again(ledger):
    call_id, receipt = accept(ledger)
    ledger.submit([call_id])
    ledger.submit([call_id], False)

    assert "pending" == receipt.status
    assert (1, 0) == (ledger.pending, ledger.submitted)


def test_a_merged_call_shares_the_fate_of_its_row(ledger):
    first, receipt = accept(ledger)
    last, _ = accept(ledger)
    ledger.merge([first])
    before = ledger.pages.outcome(first, ledger.pages.newest)
    ledger.settle(last, EXPIRED)
    ledger.settle_merged([first], EXPIRED)

    assert MERGED == before
    assert Outcome("merged", "expired", EXPIRED) == ledger.pages.outcome(first, ledger.pages.newest)
    assert ("merged", "expired") == (receipt.status, receipt.reason)
    assert 1 == ledger.merged_lost


@pytest.mark.parametrize("first", [DELIVERED, EXPIRED, NO_ROOM, MERGED], ids=lambda outcome: outcome.status)
@pytest.mark.parametrize("second", ["settle", "merge"])
def test_a_call_cannot_be_settled_twice(ledger, first, second):
    call_id = ledger.accept()
    if first is MERGED:
        ledger.merge([call_id])
    else:
        ledger.settle(call_id, first)
    before = all_numbers(ledger)

    with pytest.raises(RuntimeError, match=f"call {call_id} was settled twice"):
        ledger.settle(call_id, DELIVERED) if second == "settle" else ledger.merge([call_id])
    assert before == all_numbers(ledger)


@pytest.mark.parametrize("call_id", [-1, 1, PAGE, 10**9])
def test_a_call_that_was_never_accepted_cannot_be_settled(ledger, call_id):
    ledger.accept()
    before = all_numbers(ledger)

    with pytest.raises(RuntimeError):
        ledger.settle(call_id, DELIVERED)
    assert before == all_numbers(ledger)


@pytest.mark.parametrize("outcome", [PENDING, SUBMITTED, MERGED], ids=lambda outcome: outcome.status)
def test_what_is_no_end_cannot_settle_a_call(ledger, outcome):
    call_id = ledger.accept()

    with pytest.raises(ValueError, match=f"{outcome.status} is no way to settle a call"):
        ledger.settle(call_id, outcome)


@pytest.mark.parametrize("outcome", [PENDING, SUBMITTED, MERGED], ids=lambda outcome: outcome.status)
def test_the_account_adds_up_after_a_settlement_that_was_refused(ledger, outcome):
    call_id = ledger.accept()
    with pytest.raises(ValueError, match="is no way to settle a call"):
        ledger.settle(call_id, outcome)

    assert ledger.accepted == balance(ledger)


def test_reasons_that_are_sentences_are_refused_before_the_account_grows(ledger):
    for number in range(252):  # 256 kinds, less the four that are there from the start
        ledger.settle(ledger.accept(), Outcome("dead", f"reason {number}"))
    call_id = ledger.accept()

    with pytest.raises(RuntimeError, match="reasons must be labels, not sentences"):
        ledger.settle(call_id, Outcome("dead", "one more"))
    assert 1 == ledger.pending


def test_losses_are_counted_by_reason(ledger):
    for outcome in [EXPIRED, EXPIRED, NO_ROOM]:
        ledger.settle(ledger.accept(), outcome)

    assert {"expired": 2, "queue_full": 1} == ledger.losses()


# ── being told ──


def test_a_watcher_is_told_once(ledger):
    told = []
    call_id = ledger.accept()
    ledger.pages.watch(call_id, told.append)
    ledger.settle(call_id, DELIVERED)

    assert [DELIVERED] == told


def test_a_watcher_of_a_merged_call_is_told_when_its_row_is_settled(ledger):
    told = []
    first, last = ledger.accept(), ledger.accept()
    ledger.pages.watch(first, told.append)
    ledger.merge([first])
    told_early = list(told)
    ledger.settle(last, DELIVERED)
    ledger.settle_merged([first], DELIVERED)

    assert [] == told_early
    assert [Outcome("merged", None, DELIVERED)] == told


def test_a_watcher_may_leave_and_the_others_are_told(ledger):
    left, stayed = [], []
    call_id = ledger.accept()
    leave = ledger.pages.watch(call_id, left.append)
    ledger.pages.watch(call_id, stayed.append)
    leave()
    leave()
    ledger.settle(call_id, DELIVERED)

    assert ([], [DELIVERED]) == (left, stayed)


# ── waiting for the end ──


@pytest.mark.anyio
@pytest.mark.virtual
async def test_a_receipt_waits_for_the_end_of_its_call(ledger):
    call_id, receipt = accept(ledger)
    ledger.submit([call_id])
    outcomes = []

    async def wait():
        outcomes.append(await receipt.outcome())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(wait)
        await anyio.sleep(5)
        outcomes_early = list(outcomes)
        ledger.settle(call_id, EXPIRED)

    assert [] == outcomes_early
    assert [EXPIRED, EXPIRED] == outcomes
    assert EXPIRED == await receipt.outcome()


@pytest.mark.anyio
@pytest.mark.virtual
async def test_a_receipt_of_a_merged_call_waits_for_the_row(ledger):
    first, receipt = accept(ledger)
    last = ledger.accept()
    ledger.merge([first])

    async def settle():
        await anyio.sleep(5)
        ledger.settle(last, DELIVERED)
        ledger.settle_merged([first], DELIVERED)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(settle)
        outcome = await receipt.outcome()

    assert ("merged", DELIVERED) == (outcome.status, outcome.row)


@pytest.mark.anyio
@pytest.mark.virtual
async def test_a_receipt_waits_no_longer_than_it_is_told_and_leaves_nothing_behind(ledger):
    _, receipt = accept(ledger)
    with pytest.raises(TimeoutError):
        await receipt.outcome(timeout=3)

    assert 3 == anyio.current_time()
    assert {} == ledger.pages._watchers


def test_a_receipt_shows_its_number_and_its_status(ledger):
    _, receipt = accept(ledger)

    assert "<Receipt 0 pending>" == repr(receipt)


# ── memory ──


def test_of_three_million_settled_calls_seventeen_pages_are_kept(ledger):
    deliver(ledger, 3_000_000)

    assert 17 >= len(ledger.pages.by_number)
    assert 3_000_000 == balance(ledger)


def test_a_receipt_answers_after_its_page_was_forgotten(ledger):
    call_id, receipt = accept(ledger)
    ledger.settle(call_id, EXPIRED)
    deliver(ledger, 18 * PAGE)

    assert 0 not in ledger.pages.by_number
    assert ("dead", "expired") == (receipt.status, receipt.reason)


def test_a_page_with_a_pending_call_is_never_forgotten(ledger):
    call_id, receipt = accept(ledger)
    deliver(ledger, 18 * PAGE)
    ledger.settle(call_id, EXPIRED)

    assert ("dead", "expired") == (receipt.status, receipt.reason)
    assert ledger.accepted == ledger.oldest_pending()


def test_a_merged_call_learns_the_fate_of_its_row_a_million_calls_later(ledger):
    """Identifies merge without limit during an outage; `await receipt.outcome()` on one of the first never returns."""
    first, receipt = accept(ledger)
    row, _ = accept(ledger)
    ledger.merge([first])
    for _ in range(18 * PAGE):
        merged, row = row, ledger.accept()
        ledger.merge([merged])
    ledger.settle(row, DELIVERED)
    ledger.settle_merged([first], DELIVERED)

    assert Outcome("merged", None, DELIVERED) == ledger.pages.outcome(receipt.id, receipt._page)


# ── any sequence ──

OUTCOMES = [DELIVERED, EXPIRED, NO_ROOM, Outcome("dead", "invalid"), Outcome("dropped", "closed")]


class Bookkeeping(RuleBasedStateMachine):
    """The ledger beside a dict that is too simple to be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = MemoryLedger()
        self.fates: dict[int, Outcome] = {}
        self.receipts: dict[int, Receipt] = {}
        self.delivered_unseen = 0

    def having(self, *outcomes: Outcome) -> list[int]:
        return [call_id for call_id, outcome in self.fates.items() if outcome in outcomes]

    @property
    def pending(self) -> list[int]:
        return self.having(PENDING, SUBMITTED)

    @rule(count=st.integers(1, 20))
    def accept(self, count: int) -> None:
        for _ in range(count):
            call_id, receipt = accept(self.ledger)
            self.fates[call_id], self.receipts[call_id] = PENDING, receipt

    # Up to the page's end and over it, but not so far that pages are forgotten.
    @precondition(lambda self: self.ledger.accepted < 3 * PAGE)
    @rule(count=st.sampled_from([PAGE - 3, PAGE, PAGE + 3]))
    def deliver_a_page(self, count: int) -> None:
        deliver(self.ledger, count)
        self.delivered_unseen += count

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), submitted=st.booleans())
    def submit(self, data: st.DataObject, submitted: bool) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.pending), unique=True))
        self.ledger.submit(chosen, submitted)
        self.fates.update(dict.fromkeys(chosen, SUBMITTED if submitted else PENDING))

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.pending), unique=True))
        self.ledger.merge(chosen)
        self.fates.update(dict.fromkeys(chosen, MERGED))

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def settle(self, data: st.DataObject, outcome: Outcome) -> None:
        carrier = data.draw(st.sampled_from(self.pending))
        merged = self.having(MERGED)
        riders = data.draw(st.lists(st.sampled_from(merged), unique=True)) if merged else []
        self.ledger.settle(carrier, outcome)
        self.ledger.settle_merged(riders, outcome)
        self.fates[carrier] = outcome
        self.fates.update(dict.fromkeys(riders, Outcome("merged", outcome.reason, outcome)))

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def deliver_some(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.pending), unique=True))
        self.ledger.deliver(chosen)
        self.fates.update(dict.fromkeys(chosen, DELIVERED))

    @precondition(lambda self: len(self.fates) > len(self.pending))
    @rule(data=st.data(), again=st.sampled_from(["settle", "merge"]))
    def settle_twice(self, data: st.DataObject, again: str) -> None:
        call_id = data.draw(st.sampled_from([one for one in self.fates if one not in self.pending]))
        with pytest.raises(RuntimeError):
            self.ledger.settle(call_id, DELIVERED) if again == "settle" else self.ledger.merge([call_id])

    @invariant()
    def it_adds_up(self) -> None:
        assert self.ledger.accepted == balance(self.ledger)

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        fates = list(self.fates.values())

        assert len(fates) + self.delivered_unseen == self.ledger.accepted
        assert len(self.pending) == self.ledger.pending
        assert fates.count(SUBMITTED) == self.ledger.submitted
        assert fates.count(DELIVERED) + self.delivered_unseen == self.ledger.delivered
        assert sum("merged" == fate.status for fate in fates) == self.ledger.merged
        for status in ("dead", "dropped"):
            reasons = [fate.reason for fate in fates if fate.status == status]
            assert {reason: reasons.count(reason) for reason in reasons} == getattr(self.ledger, status)

    @invariant()
    def the_oldest_pending_is_that_of_the_model(self) -> None:
        assert min(self.unsettled(), default=self.ledger.accepted) == self.ledger.oldest_pending()

    def unsettled(self) -> list[int]:
        """Pending, or merged into a row that is: a merged call shares the fate of its row."""
        return [*self.pending, *(call_id for call_id, fate in self.fates.items() if fate == Outcome("merged"))]

    @invariant()
    def the_pending_before_a_call_are_those_of_the_model(self) -> None:
        for mark in {0, *self.pending[:3], self.ledger.accepted // 2, PAGE, self.ledger.accepted}:
            mark = min(mark, self.ledger.accepted)
            assert sum(call_id < mark for call_id in self.unsettled()) == self.ledger.pending_before(mark)

    @invariant()
    def each_receipt_says_the_fate_of_its_call(self) -> None:
        for call_id, fate in self.fates.items():
            assert (fate.status, fate.reason) == (self.receipts[call_id].status, self.receipts[call_id].reason)


TestBookkeeping = Bookkeeping.TestCase
TestBookkeeping.settings = settings(max_examples=length.of(40), stateful_step_count=40, deadline=None)


def test_what_is_dropped_at_the_end_of_all_is_every_call_without_an_outcome_and_those_merged_into_one() -> None:
    ledger = MemoryLedger()
    calls = [ledger.accept() for _ in range(4)]
    receipts = [Receipt(ledger.pages, call_id) for call_id in calls]
    ledger.merge(calls[:1])
    ledger.deliver(calls[3:])

    assert 2 == ledger.drop_pending(Outcome("dropped", "closed"))

    assert ["merged", "dropped", "dropped", "delivered"] == [receipt.status for receipt in receipts]
    assert (4, 1, 1, 2, 0) == (
        ledger.accepted, ledger.delivered, ledger.merged, ledger.dropped["closed"], ledger.pending
    )  # fmt: skip
    assert 1 == ledger.merged_lost
