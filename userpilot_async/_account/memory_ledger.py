"""The account of the calls of one process: each id is handed out here, and settled here.

The law, at every moment:

    accepted = delivered + dead + dropped + merged + pending
"""

from __future__ import annotations

from collections.abc import Sequence

from .._calls.outcome import DELIVERED, Outcome
from .ledger import Ledger, settled_twice
from .pages import MERGED_CODE, OPEN_CODES, PAGE, UNSETTLED_CODES


class MemoryLedger(Ledger):
    """Ids are handed out from 0 upwards; each one leaves `pending` exactly once."""

    accepted: int  # written here: type checkers want to be told again
    delivered: int
    merged: int
    merged_lost: int
    pending: int
    submitted: int

    def __init__(self) -> None:
        super().__init__()
        self._page_end = 0
        self._oldest = 0

    @property
    def next_id(self) -> int:
        """All calls accepted so far have lower ids."""
        return self.accepted

    def accept(self) -> int:
        """The id of a call that is pending from now on."""
        call_id = self.accepted
        if call_id == self._page_end:
            self.pages.begin(call_id)
            self._page_end += PAGE
        self.accepted = call_id + 1
        self.pending += 1
        return call_id

    def merge(self, call_ids: Sequence[int]) -> None:
        """Note that pending calls went into later ones of the same users or companies."""
        pages = self.pages.by_number
        for call_id in call_ids:
            page, at = pages.get(call_id // PAGE), call_id % PAGE
            if page is None or page[at] not in OPEN_CODES or call_id >= self.accepted:
                raise settled_twice(call_id)
            if page[at]:
                self.submitted -= 1
            page[at] = MERGED_CODE
        self.pending -= len(call_ids)
        self.merged += len(call_ids)

    def settle(self, call_id: int, outcome: Outcome) -> None:
        """Close a pending call as delivered, dead or dropped."""
        if outcome.status not in ("delivered", "dead", "dropped"):
            raise ValueError(f"{outcome.status} is no way to settle a call")
        self._close(call_id, self.pages.code(outcome))
        self.pages.open[call_id // PAGE] -= 1
        if outcome.is_delivered:
            self.delivered += 1
            if outcome.by is not None:
                self.by[outcome.by] += 1
        else:
            (self.dead if outcome.status == "dead" else self.dropped)[outcome.reason or "unknown"] += 1
        self.pages.notify(call_id, outcome)

    def deliver(self, call_ids: Sequence[int], outcome: Outcome = DELIVERED) -> None:
        """Close pending calls as delivered: `settle` for many."""
        pages = self.pages
        code = pages.code(outcome)
        for call_id in call_ids:
            number = call_id // PAGE
            page, at = pages.by_number.get(number), call_id % PAGE
            if page is None or page[at] not in OPEN_CODES or call_id >= self.accepted:
                raise settled_twice(call_id)
            self.submitted -= page[at]  # 1 is the code of a submitted call
            page[at] = code
            pages.open[number] -= 1
        self.pending -= len(call_ids)
        self.delivered += len(call_ids)
        if outcome.by is not None:
            self.by[outcome.by] += len(call_ids)
        pages.notify_all(call_ids, outcome)

    def settle_merged(self, call_ids: Sequence[int], row: Outcome) -> None:
        """Settle calls with the row that took them in; the counts do not change."""
        if not call_ids:
            return
        if not row.is_delivered:
            self.merged_lost += len(call_ids)
        outcome = Outcome("merged", row.reason, row)
        code = self.pages.code(outcome)
        for call_id in call_ids:
            self.pages.by_number[call_id // PAGE][call_id % PAGE] = code
            self.pages.open[call_id // PAGE] -= 1
        self.pages.notify_all(call_ids, outcome)

    def drop_pending(self, outcome: Outcome) -> int:
        """Give this outcome to every call that has none, and to those merged into one; the number of the former."""
        pending = self.pending
        while (call_id := self.oldest_pending()) < self.accepted:
            if self.pages.by_number[call_id // PAGE][call_id % PAGE] == MERGED_CODE:
                self.settle_merged((call_id,), outcome)
            else:
                self.settle(call_id, outcome)
        return pending

    def oldest_pending(self) -> int:
        """The lowest id that is pending, or merged into a row that is; `accepted` when none is."""
        position = self._oldest
        while position < self.accepted:
            number, start = divmod(position, PAGE)
            if self.pages.open.get(number, 0):
                page = self.pages.by_number[number]
                found = [at for at in (page.find(code, start) for code in UNSETTLED_CODES) if at >= 0]
                self._oldest = min(number * PAGE + min(found), self.accepted) if found else (number + 1) * PAGE
                if found:
                    return self._oldest
            position = self._oldest = (number + 1) * PAGE
        self._oldest = self.accepted
        return self.accepted

    def pending_before(self, call_id: int) -> int:
        """How many calls with lower ids are pending, or merged into a row that is."""
        pending = 0
        for number, page in self.pages.by_number.items():
            end = min(max(call_id - number * PAGE, 0), PAGE)
            pending += sum(page.count(code, 0, end) for code in UNSETTLED_CODES) if end else 0
        return pending

    def _close(self, call_id: int, code: int) -> None:
        number, at = divmod(call_id, PAGE)
        page = self.pages.by_number.get(number)
        if page is None or page[at] not in OPEN_CODES or call_id >= self.accepted:
            raise settled_twice(call_id)
        self.submitted -= page[at]
        page[at] = code
        self.pending -= 1
