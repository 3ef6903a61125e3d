"""The account that several processes share: each hears the same news, and each knows the same of every call."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.harness import length
from userpilot_async._account.account import Account
from userpilot_async._account.pages import PAGE
from userpilot_async._account.shared_ledger import SharedLedger
from userpilot_async._calls.outcome import Outcome
from userpilot_async._calls.stored import Concluded
from userpilot_async._outbox.receipt import Receipt

DELIVERED = Outcome("delivered")
EXPIRED = Outcome("dead", "expired")
NO_ROOM = Outcome("dropped", "queue_full")
PURGED = Outcome("dropped", "purged")
MERGED = Outcome("merged")
PENDING = Outcome("pending")
SUBMITTED = Outcome("submitted")


def said(outcome: Outcome, carriers: list[int], merged: list[int] | None = None) -> Concluded:
    """News that these calls have this outcome."""
    return Concluded.of(outcome, carriers, merged or [])


def account_of(next_id: int, *news: Concluded) -> Account:
    """After so many calls, and these news."""
    account = Account(next_id=next_id, accepted=next_id)
    for one in news:
        sizes = [sum(last - first + 1 for first, last in some) for some in (one.carriers, one.merged)]
        account.conclude(one.outcome, *sizes)
    return account


def balance(ledger: SharedLedger) -> int:
    """What all accepted calls should come to."""
    return ledger.delivered + sum(ledger.losses().values()) + ledger.merged + ledger.pending


def ledger_of(calls: int, before: int = 0) -> SharedLedger:
    """Opened when there were ``before`` calls; so many have come since."""
    ledger = SharedLedger()
    ledger.start(before)
    ledger.sync(account_of(before + calls), 0)
    return ledger


def outcome(ledger: SharedLedger, call_id: int) -> Outcome:
    return ledger.pages.outcome(call_id, ledger.pages.of(call_id))


# ── the account itself ──


@given(
    before=st.integers(0, 3),
    ahead=st.integers(0, 3),
    batches=st.lists(st.integers(1, 2 * PAGE), min_size=1, max_size=5),
)
def test_calls_that_come_in_and_nothing_else_are_counted_without_the_account(
    before: int, ahead: int, batches: list[int]
) -> None:
    heard, counted, calls = ledger_of(2 + ahead, before), ledger_of(2 + ahead, before), before + 2
    for ledger in (heard, counted):
        ledger.sync(account_of(calls), 0)  # an older copy of the file has been put back, if ids were ahead
    for one in batches:
        calls += one
        heard.sync(account_of(calls), 0)
        counted.came_in(one, calls)

    known = [{**vars(ledger), "pages": None} for ledger in (heard, counted)]
    assert known[0] == known[1]
    assert heard.pages.open == counted.pages.open


def test_an_account_survives_json() -> None:
    account = account_of(9, said(EXPIRED, [1, 2], [3]), said(DELIVERED, [4]))

    assert account == Account.of(account.as_dict())
    assert 5 == account.waiting


def test_what_a_later_version_has_counted_is_ignored() -> None:
    assert Account(next_id=3) == Account.of({"next_id": 3, "something_new": 7})


def test_merged_calls_of_a_row_that_was_lost_are_counted_as_such() -> None:
    account = account_of(4, said(EXPIRED, [3], [0, 1]), said(DELIVERED, [], [2]))

    assert (3, 2, {"expired": 1}) == (account.merged, account.merged_lost, account.dead)


# ── one process ──


def test_calls_of_others_are_accepted_and_pending() -> None:
    ledger = ledger_of(3)

    assert (3, 3, 3) == (ledger.accepted, ledger.pending, ledger.next_id)
    assert [PENDING] * 3 == [outcome(ledger, one) for one in range(3)]


def test_what_was_merged_here_is_merged_at_once_and_again_pending_nowhere() -> None:
    ledger = ledger_of(3)
    ledger.merge([0])
    before = (ledger.merged, ledger.pending, outcome(ledger, 0))
    news = said(DELIVERED, [1], [0])
    ledger.sync(account_of(3, news), 2, [news])

    assert (1, 2, MERGED) == before
    assert (1, 1, Outcome("merged", None, DELIVERED)) == (ledger.merged, ledger.pending, outcome(ledger, 0))


def test_a_merged_call_and_its_room_in_the_account_are_counted_once_while_others_settle() -> None:
    ledger = ledger_of(4)
    ledger.merge([0])
    news = said(DELIVERED, [3])
    ledger.sync(account_of(4, news), 0, [news])

    assert (4, 1, 1, 2) == (ledger.accepted, ledger.merged, ledger.delivered, ledger.pending)
    assert 4 == balance(ledger)


def test_calls_that_a_job_holds_are_submitted_and_pending() -> None:
    ledger = ledger_of(3, before=2)
    ledger.submit([1, 2])
    marked = (ledger.submitted, ledger.pending, outcome(ledger, 2))
    ledger.submit([1], False)
    one_less = ledger.submitted
    news = said(DELIVERED, [2])
    ledger.sync(account_of(5, news), 0, [news])

    assert (2, 5, SUBMITTED) == marked
    assert (1, 0) == (one_less, ledger.submitted)


def test_a_submitted_call_from_before_that_is_settled_is_submitted_no_more() -> None:
    ledger = ledger_of(0, before=2)
    ledger.submit([0, 1])
    news = said(DELIVERED, [0])
    ledger.sync(account_of(2, news), 1, [news])

    assert (1, 1) == (ledger.submitted, ledger.delivered)


def test_a_call_from_before_is_counted_and_nothing_else_is_known_of_it() -> None:
    ledger = ledger_of(1, before=70_000)
    news = said(EXPIRED, [5, 70_000])
    ledger.sync(account_of(70_001, news), 6, [news])

    assert {"expired": 2} == ledger.dead
    assert EXPIRED == outcome(ledger, 70_000)


def test_the_oldest_pending_is_what_the_file_says() -> None:
    ledger = ledger_of(3)
    before = ledger.oldest_pending()
    news = said(DELIVERED, [0, 1, 2])
    ledger.sync(account_of(3, news), None, [news])

    assert (0, 3) == (before, ledger.oldest_pending())


def test_a_watcher_is_told_what_another_process_has_made_of_the_call() -> None:
    ledger, told = ledger_of(3), list[Outcome]()
    ledger.pages.watch(1, told.append)
    ledger.pages.watch(2, told.append)
    news = said(EXPIRED, [1], [2])
    ledger.sync(account_of(3, news), 0, [news])

    assert [EXPIRED, Outcome("merged", "expired", EXPIRED)] == told


def test_what_is_known_to_be_settled_stays_as_it_is() -> None:
    """A repaired file may give out calls again that were settled before."""
    ledger = ledger_of(2)
    first, again = said(DELIVERED, [0]), said(EXPIRED, [0])
    ledger.sync(account_of(2, first), 1, [first])
    ledger.sync(account_of(2, again), 1, [again])

    assert (DELIVERED, PENDING) == (outcome(ledger, 0), outcome(ledger, 1))


# ── somebody purges ──


def test_a_merged_call_that_somebody_purged_never_was_merged() -> None:
    ledger = ledger_of(3)
    ledger.merge([0])
    news = said(PURGED, [0])
    ledger.sync(account_of(3, news), 1, [news])

    assert (0, 2, {"purged": 1}) == (ledger.merged, ledger.pending, ledger.dropped)
    assert PURGED == outcome(ledger, 0)
    assert 3 == balance(ledger)


def test_a_call_is_not_merged_after_somebody_purged_it() -> None:
    ledger = ledger_of(3)
    news = said(PURGED, [0])
    ledger.sync(account_of(3, news), 1, [news])
    ledger.merge([0, 1])

    assert (1, 1, 3) == (ledger.merged, ledger.pending, balance(ledger))


def test_a_merged_call_from_before_that_somebody_purged_never_was_merged() -> None:
    """A backlog: the sender was started when these calls had been there for long."""
    ledger = ledger_of(0, before=3)
    ledger.merge([0])
    news = said(PURGED, [0])
    ledger.sync(account_of(3, news), 1, [news])
    rest = said(DELIVERED, [1, 2])
    ledger.sync(account_of(3, news, rest), None, [rest])

    assert (0, 0, 2) == (ledger.merged, ledger.pending, ledger.delivered)


# ── memory ──


def test_pages_of_calls_long_settled_are_forgotten_and_receipts_answer_all_the_same() -> None:
    ledger = ledger_of(1)
    receipt = Receipt(ledger.pages, 0)
    end = 20 * PAGE
    news = said(EXPIRED, [0])
    ledger.sync(account_of(1, news), None, [news])
    ledger.sync(account_of(end, news), 1)
    rest = said(DELIVERED, list(range(1, end)))
    ledger.sync(account_of(end, news, rest), None, [rest])
    ledger.sync(account_of(end + 1, news, rest), end)

    assert 17 >= len(ledger.pages.by_number)
    assert ("dead", "expired") == (receipt.status, receipt.reason)


def test_news_of_calls_that_nobody_made_are_heard_at_once() -> None:
    """What another program wrote in the place of the outbox may name any id, and the loop waits meanwhile."""
    ledger = ledger_of(3)
    news = attrs.evolve(said(EXPIRED, [1]), carriers=[(1, 2**70)])
    ledger.sync(account_of(3), 2**70, [news], complete=True)

    assert EXPIRED == outcome(ledger, 1)
    assert 1 == len(ledger.pages.by_number)


def test_a_million_calls_from_before_cost_no_page() -> None:
    ledger = ledger_of(0, before=1_000_000)

    assert {} == ledger.pages.by_number
    assert (1_000_000, 1_000_000) == (ledger.pending, ledger.pending_before(1_000_000))


# ── any sequence ──

OUTCOMES = st.sampled_from([DELIVERED, EXPIRED, NO_ROOM])


class OneAccount(RuleBasedStateMachine):
    """A sender and an onlooker, of one account, beside a dict that is too simple to be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.fates: dict[int, Outcome] = {}
        self.merging: set[int] = set()
        self.in_jobs: set[int] = set()
        self.account = Account()
        self.news: list[Concluded] = []
        self.sender, self.onlooker = SharedLedger(), SharedLedger()
        self.bases: dict[int, int] = {}
        self.heard_by_onlooker = 0

    @initialize(before=st.sampled_from([0, 1, PAGE - 7, PAGE - 1, PAGE, 3 * PAGE - 7]))
    def start(self, before: int) -> None:
        """Many calls have come and gone already: up to a page's end, or nearly."""
        self.delivered_unseen = before
        self.account = account_of(before, said(DELIVERED, list(range(before))))
        for ledger in (self.sender, self.onlooker):
            ledger.start(before)
            self.bases[id(ledger)] = before
            self.sync(ledger)

    def having(self, *outcomes: Outcome) -> list[int]:
        return [call_id for call_id, fate in self.fates.items() if fate in outcomes]

    def pending(self) -> list[int]:
        return [call_id for call_id in self.having(PENDING) if call_id not in self.merging]

    def oldest(self) -> int | None:
        return min(self.having(PENDING), default=None)

    def sync(self, ledger: SharedLedger, news: Sequence[Concluded] = ()) -> None:
        ledger.sync(Account.of(self.account.as_dict()), self.oldest(), news)

    @rule(count=st.integers(1, 20))
    def accept(self, count: int) -> None:
        for _ in range(count):
            self.fates[self.account.next_id] = PENDING
            self.account.next_id += 1
            self.account.accepted += 1
        self.sync(self.sender)

    def conclude(self, outcome: Outcome, carriers: list[int], merged: list[int]) -> None:
        self.account.conclude(outcome, len(carriers), len(merged))
        self.fates.update(dict.fromkeys(carriers, outcome))
        self.fates.update(dict.fromkeys(merged, Outcome("merged", outcome.reason, outcome)))
        self.merging -= set(merged)
        self.in_jobs -= {*carriers, *merged}
        one = said(outcome, carriers, merged)
        self.news.append(one)
        self.sync(self.sender, [one])

    @precondition(lambda self: len(self.pending()) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.pending()[:-1]), unique=True))
        self.sender.merge(chosen)
        self.merging.update(chosen)
        self.in_jobs -= set(chosen)

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), submitted=st.booleans())
    def submit(self, data: st.DataObject, submitted: bool) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.pending()), unique=True))
        self.sender.submit(chosen, submitted)
        (self.in_jobs.update if submitted else self.in_jobs.difference_update)(chosen)

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), outcome=OUTCOMES)
    def settle(self, data: st.DataObject, outcome: Outcome) -> None:
        carriers = data.draw(st.lists(st.sampled_from(self.pending()), unique=True, max_size=4))
        riders = sorted(self.merging)
        merged = data.draw(st.lists(st.sampled_from(riders), unique=True, max_size=4)) if riders else []
        if carriers or merged:
            self.conclude(outcome, carriers, merged)

    @precondition(lambda self: self.pending())
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        """By a third process: both hear of it."""
        chosen = data.draw(st.lists(st.sampled_from(self.having(PENDING)), unique=True, min_size=1, max_size=3))
        chosen = [one for one in chosen if one >= self.bases[id(self.sender)] or one not in self.merging]
        if not chosen:
            return
        self.account.conclude(PURGED, len(chosen), 0)
        self.fates.update(dict.fromkeys(chosen, PURGED))
        self.merging -= set(chosen)
        self.in_jobs -= set(chosen)
        self.news.append(said(PURGED, chosen))
        self.sync(self.sender, self.news[-1:])

    @rule()
    def the_sender_is_another_process_now(self) -> None:
        """What the one before it had merged is pending again."""
        self.merging.clear()
        self.in_jobs.clear()
        self.sender = SharedLedger()
        self.sender.start(self.account.next_id)
        self.bases[id(self.sender)] = self.account.next_id
        self.sync(self.sender)

    @rule()
    def the_onlooker_looks(self) -> None:
        unheard, self.heard_by_onlooker = self.news[self.heard_by_onlooker :], len(self.news)
        self.sync(self.onlooker, unheard)
        self.agrees(self.onlooker, set())

    @invariant()
    def the_sender_agrees(self) -> None:
        self.agrees(self.sender, self.merging)
        assert len(self.in_jobs) == self.sender.submitted

    def agrees(self, ledger: SharedLedger, merging: set[int]) -> None:
        fates, end = list(self.fates.values()), self.account.next_id
        merged = sum(fate.status == "merged" for fate in fates)
        assert len(fates) + self.delivered_unseen == ledger.accepted == ledger.next_id == balance(ledger)
        assert fates.count(DELIVERED) + self.delivered_unseen == ledger.delivered
        assert merged + len(merging) == ledger.merged
        assert fates.count(PENDING) - len(merging) == ledger.pending
        assert (self.oldest() if fates.count(PENDING) else end) == ledger.oldest_pending()
        for status in ("dead", "dropped"):
            reasons = [fate.reason for fate in fates if fate.status == status]
            assert {reason: reasons.count(reason) for reason in reasons} == getattr(ledger, status)
        base = self.bases[id(ledger)]
        for call_id, fate in self.fates.items():
            if call_id >= base:
                waiting = MERGED if call_id in merging else PENDING
                marked = SUBMITTED if ledger is self.sender and call_id in self.in_jobs else waiting
                assert (marked if fate == PENDING else fate) == outcome(ledger, call_id)
        for mark in {base, (base + end) // 2, end}:
            assert sum(one < mark for one in self.having(PENDING)) == ledger.pending_before(mark)


TestOneAccount = OneAccount.TestCase
TestOneAccount.settings = settings(max_examples=length.of(60), stateful_step_count=30, deadline=None)


def test_a_job_that_has_delivered_nothing_but_merged_calls_is_no_way_by_which_calls_went() -> None:
    account = account_of(2, said(Outcome("delivered", by="import"), [], [0]))

    assert ({}, 1) == (account.by, account.merged)


# ── when another one takes over, and when the place starts again ──


def test_what_a_sender_has_merged_and_submitted_is_undecided_again_when_another_one_takes_over() -> None:
    ledger = ledger_of(5)
    ledger.merge([0, 1])
    ledger.submit([2])
    ledger.sync(account_of(5, said(DELIVERED, [4])), 0, [said(DELIVERED, [4])])

    ledger.undecide()

    assert [PENDING] * 4 + [DELIVERED] == [outcome(ledger, call_id) for call_id in range(5)]
    assert (0, 0, 4, 1) == (ledger.merged, ledger.submitted, ledger.pending, ledger.delivered)
    assert ledger.accepted == balance(ledger)


def test_calls_that_are_gone_say_that_nobody_knows_and_what_is_still_there_stays_pending() -> None:
    ledger = ledger_of(10)
    receipts = [receipt_of(ledger, call_id) for call_id in range(10)]
    told: list[Outcome] = []
    ledger.pages.watch(8, told.append)

    ledger.lose(6, PAGE)
    ledger.sync(account_of(6), 0)

    assert ["pending"] * 6 + ["dropped"] * 4 == [receipt.status for receipt in receipts]
    assert {"unknown"} == {receipt.reason for receipt in receipts[6:]}
    assert [Outcome("dropped", "unknown")] == told


def test_no_more_calls_are_lost_than_waited_though_ids_were_left_out_that_nobody_told_of() -> None:
    ledger = ledger_of(3)
    ledger.sync(attrs.evolve(account_of(3), next_id=2 * PAGE), 0)

    assert (3, 0) == ledger.lose(0, 3 * PAGE)


def test_a_new_call_is_not_taken_for_a_lost_one_that_had_the_same_number() -> None:
    ledger = ledger_of(3)
    lost = receipt_of(ledger, 1)

    ledger.lose(0, 0)
    ledger.sync(account_of(3), 0)
    new = receipt_of(ledger, 1)
    ledger.sync(account_of(3, said(DELIVERED, [1])), 0, [said(DELIVERED, [1])])

    assert ("dropped", "delivered") == (lost.status, new.status)


def test_ids_that_nobody_gets_do_not_count_as_pending() -> None:
    ledger = ledger_of(10)

    ledger.skip(10)
    ledger.sync(Account(next_id=PAGE + 2, accepted=12), 0)
    mark = ledger.next_id

    assert (PAGE + 2, 12) == (mark, ledger.pending_before(mark))
    assert [10, 10, 11] == [ledger.pending_before(call_id) for call_id in (10, PAGE, PAGE + 1)]


def test_a_refusal_is_in_the_account_at_once_and_once_when_it_is_recorded() -> None:
    ledger = ledger_of(2)

    ledger.refused(NO_ROOM)
    ledger.refused(EXPIRED)
    ledger.sync(account_of(2), 0)
    before = (ledger.accepted, dict(ledger.losses()), balance(ledger))
    ledger.refusals_recorded([NO_ROOM])
    ledger.sync(account_of(3, said(NO_ROOM, [2])), 0, [said(NO_ROOM, [2])])

    assert (4, {"queue_full": 1, "expired": 1}, 4) == before
    assert (4, {"queue_full": 1, "expired": 1}, 4) == (ledger.accepted, dict(ledger.losses()), balance(ledger))


def receipt_of(ledger: SharedLedger, call_id: int) -> Receipt:
    receipt = Receipt(ledger.pages)
    receipt.held(call_id, ledger.pages.of(call_id))
    return receipt
