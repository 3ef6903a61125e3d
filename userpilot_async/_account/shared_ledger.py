"""The account of an outbox that several processes use: its counts are the outbox's own, and outlive them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from .._calls.outcome import Outcome
from .._calls.stored import Concluded, runs
from .account import Account
from .ledger import Ledger
from .pages import MERGED_CODE, OPEN_CODES, PAGE, PENDING_CODE, SUBMITTED_CODE, UNSETTLED_CODES, becoming

GONE = Outcome("dropped", "unknown")


class SharedLedger(Ledger):
    """Counts of all there is; outcomes of the calls accepted since this process opened the outbox.

    A call is settled when the outbox has recorded it. What this process's sender has merged is kept apart from the
    pending at once, and is merged for the others when the row that took it in is settled: until then a crash undoes it.
    Everything is done by stretches of ids: a job's end may settle a million calls, in every process that listens.
    """

    accepted: int  # written here: type checkers want to be told again
    ambiguous: int
    by: Counter[str]
    dead: Counter[str]
    delivered: int
    dropped: Counter[str]
    merged: int
    merged_lost: int
    pending: int
    resets: int
    submitted: int

    def __init__(self) -> None:
        super().__init__()
        self._base = 0
        self._reached = 0
        self._oldest_there = 0
        self._waiting = 0
        self._merging = 0
        self._swept = 0
        self._refused: Counter[Outcome] = Counter()

    @property
    def next_id(self) -> int:
        """All calls accepted so far, as far as this process knows, have lower ids."""
        return self._reached

    def start(self, next_id: int) -> None:
        """Calls before this were accepted before the outbox was opened here."""
        self._base = self._reached = next_id

    def sync(
        self, account: Account, oldest: int | None, news: Iterable[Concluded] = (), *, complete: bool = False
    ) -> None:
        """The counts are these now; ``oldest`` is the lowest id that is held, and ``news`` is what became of calls.

        What is known to be settled stays as it is: a repaired file may give calls out again that were settled before.
        ``complete``: there is no more news than that, so what became of a call before the oldest is not known, if none
        has said it.
        """
        self._reach(account.next_id)
        for one in news:
            merged = Outcome("merged", one.outcome.reason, one.outcome)
            for stretches, outcome in ((one.carriers, one.outcome), (one.merged, merged)):
                for first, last in stretches:
                    self._conclude(first, last, outcome)
        self._waiting = waiting = account.waiting
        before, self._oldest_there = self._oldest_there, self._reached if oldest is None else oldest
        if complete and self._oldest_there > max(self._base, self._swept):
            self._conclude(max(self._base, self._swept), self._oldest_there - 1, GONE)
            self._swept = self._oldest_there
        if self._reached - self._oldest_there < waiting:  # a damaged row: so many cannot lie behind it
            self._oldest_there = 0
        if news or self._oldest_there != before:
            settled = [number for number in self.pages.by_number if number not in self.pages.open]
            for number in [one for one in settled if (one + 1) * PAGE <= self._oldest_there]:
                del self.pages.by_number[number]
        self.accepted = account.accepted + self._refused.total()
        self.delivered, self.ambiguous = account.delivered, account.ambiguous
        self.duplicates = account.duplicates
        self.resets = max(self.resets, account.resets)  # one that this process has met is recorded a moment later
        if account.by != self.by:
            self.by = Counter(account.by)
        if self._refused or account.dead != self.dead or account.dropped != self.dropped:
            self.dead, self.dropped = Counter(account.dead), Counter(account.dropped)
            for outcome, calls in self._refused.items():
                self._lost_among(outcome)[outcome.reason or "unknown"] += calls
        self.merged, self.merged_lost = account.merged + self._merging, account.merged_lost
        self.pending = waiting - self._merging

    def came_in(self, calls: int, next_id: int) -> None:
        """Count calls that have come in, up to ``next_id``, where nothing else has changed: as `sync`, in less time."""
        self._reach(next_id)
        self._waiting += calls
        self.accepted += calls
        self.pending += calls

    def refused(self, outcome: Outcome) -> None:
        """A call found no room. It is accounted for here at once; for all others as soon as that is recorded."""
        self._refused[outcome] += 1
        self.accepted += 1
        self._lost_among(outcome)[outcome.reason or "unknown"] += 1

    def refusals_recorded(self, outcomes: Iterable[Outcome]) -> None:
        """Note that refusals are in the account, which is about to be heard."""
        self._refused -= Counter(outcomes)

    def _lost_among(self, outcome: Outcome) -> Counter[str]:
        return self.dead if outcome.status == "dead" else self.dropped

    @property
    def waiting(self) -> int:
        """Calls that are held, merged ones among them."""
        return self._waiting

    def undecide(self) -> None:
        """Undo what this process's sender has merged or submitted, which another sender decides now."""
        again = becoming(PENDING_CODE)
        for page in self.pages.by_number.values():
            page[:] = page.translate(again)
        self.merged -= self._merging
        self.pending += self._merging
        self._merging = self.submitted = 0

    def conclude_from(self, first: int, settled: Iterable[int], outcome: Outcome) -> None:
        """Settle the calls among these with ids from ``first`` on, which no account has."""
        for one, last in runs(call_id for call_id in settled if call_id >= first):
            self._conclude(one, last, outcome)

    def skip(self, first: int) -> None:
        """Leave out the ids from this one to the end of its page: what holds the calls has started again."""
        if first % PAGE:
            end = (first // PAGE + 1) * PAGE
            self._reach(end)
            self._conclude(first, end - 1, GONE)

    def lose(self, first: int, next_id: int, under_way: Collection[int] = ()) -> tuple[int, int]:
        """Calls from this one on are not there any more; ids go on behind its page.

        How many of them waited, at least, and how many more the server may have: those that were ``under_way``, or in
        a job of the server's.
        """
        lost, perhaps = self._held_from(first, under_way)
        self.resets += bool(lost or perhaps)
        self.undecide()
        self.rewound.append(first)
        if self._reached > first:
            self._conclude(first, self._reached - 1, GONE)
        for number in [number for number in self.pages.by_number if number * PAGE >= first]:
            del self.pages.by_number[number]  # receipts hold on to it; calls to come have another one
        self.pages.open.clear()
        self._swept = 0
        self._base = self._reached = next_id
        return lost, perhaps

    def _held_from(self, first: int, under_way: Collection[int]) -> tuple[int, int]:
        """How many calls from this one on wait, at least, and how many of these may have arrived."""
        waits = submitted = 0
        if first < self._base:  # of calls accepted before this process opened it, it knows how many, and the oldest
            waits = max(0, self.pending_before(self._base) - max(0, first - self._oldest_there))
        for number in self.pages.open:
            start, end = (min(max(one - number * PAGE, 0), PAGE) for one in (max(first, self._base), self._reached))
            page = self.pages.by_number[number]
            waits += sum(page.count(code, start, end) for code in UNSETTLED_CODES)
            submitted += page.count(SUBMITTED_CODE, start, end)
        waits = min(waits, self._waiting)  # ids may have been left out, of which this process was told nothing
        perhaps = min(waits, submitted + sum(1 for one in under_way if one >= first and self._waits(one)))
        return waits - perhaps, perhaps

    def _waits(self, call_id: int) -> bool:
        """True if a call is held, as far as is known, and in no job of the server's."""
        page = self.pages.by_number.get(call_id // PAGE)
        return page is None or page[call_id % PAGE] in (PENDING_CODE, MERGED_CODE)

    def merge(self, call_ids: Iterable[int]) -> None:
        """Note that pending calls went into a later one; those among them that others have settled did not."""
        for call_id in call_ids:
            page, at = self.pages.of(call_id), call_id % PAGE
            if page[at] in OPEN_CODES:
                self.submitted -= page[at]
                page[at] = MERGED_CODE
                self._merging += 1
                self.merged += 1
                self.pending -= 1

    def _conclude(self, first: int, last: int, outcome: Outcome) -> None:
        code, numbers = self.pages.code(outcome), range(first // PAGE, last // PAGE + 1)
        # What another program wrote in our place may name any id: no more pages are looked for than there are.
        few = numbers.stop - numbers.start <= len(self.pages.by_number)
        for number in numbers if few else [one for one in self.pages.by_number if one in numbers]:
            page = self.pages.by_number.get(number)
            if page is None:  # none of it was ever touched here, or all of it is settled
                continue
            start = max(first - number * PAGE, 0)
            end = min(last + 1 - number * PAGE, PAGE)
            part = page[start:end]
            self.submitted -= part.count(SUBMITTED_CODE)
            self._merging -= part.count(MERGED_CODE)
            new = max(start, self._base - number * PAGE) - start  # where those accepted since the opening begin
            if number in self.pages.open:
                self.pages.open[number] -= sum(part[new:].count(one) for one in UNSETTLED_CODES)
            page[start:end] = part.translate(becoming(code))
        self.pages.notify_all([one for one in self.pages.watched if first <= one <= last], outcome)

    def oldest_pending(self) -> int:
        """The lowest id that is held; `next_id` when none is."""
        return self._oldest_there

    def pending_before(self, call_id: int) -> int:
        """How many calls with lower ids are held."""
        since = 0
        for number in self.pages.open:
            start = min(max(call_id, self._base) - number * PAGE, PAGE)
            end = min(self._reached - number * PAGE, PAGE)
            page = self.pages.by_number[number]
            since += sum(page.count(code, max(start, 0), max(end, 0)) for code in UNSETTLED_CODES)
        return max(0, self._waiting - since)

    def _reach(self, next_id: int) -> None:
        while self._reached < next_id:
            number = self._reached // PAGE
            if number not in self.pages.open:
                self.pages.begin(self._reached)
            self._reached = min(next_id, (number + 1) * PAGE)
