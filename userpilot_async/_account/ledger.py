"""The account: the numbers of every ledger, and what clients ask of it. In each: accepted = settled + pending."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping

from .pages import PAGE, PENDING_CODE, SUBMITTED_CODE, Pages


class Ledger(ABC):
    """How many calls became what, and, in `pages`, which. Outboxes write; clients, receipts and statistics read."""

    def __init__(self) -> None:
        self.pages: Pages = Pages()
        self.accepted: int = 0
        self.pending: int = 0
        self.submitted: int = 0
        """Those of the pending that a background job of the server holds."""
        self.delivered: int = 0
        self.by: Counter[str] = Counter()
        """Those of the delivered that a job took, by its kind."""
        self.merged: int = 0
        self.merged_lost: int = 0
        """Those of the merged whose row was lost."""
        self.ambiguous: int = 0
        """Calls in requests whose answer got lost, where the account outlives the sender that counts them."""
        self.rewound: list[int] = []
        """From which call on calls were lost, each time that happened: their ids may be given again."""
        self.resets: int = 0
        """How often the outbox has lost an unknown number of calls."""
        self.duplicates: int = 0
        """Calls that were not accepted, as an earlier one has the same key: they are in no other number."""
        self.dead: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    @property
    @abstractmethod
    def next_id(self) -> int:
        """All calls accepted so far, as far as this process knows, have lower ids."""

    @abstractmethod
    def oldest_pending(self) -> int:
        """The lowest id that is pending, or merged into a row that is; `next_id` when none is."""

    @abstractmethod
    def pending_before(self, call_id: int) -> int:
        """How many calls with lower ids are pending, or merged into a row that is."""

    def submit(self, call_ids: Iterable[int], submitted: bool = True) -> None:
        """Note that the server has (or no longer has) these calls in a background job; they stay pending."""
        before, after = (PENDING_CODE, SUBMITTED_CODE) if submitted else (SUBMITTED_CODE, PENDING_CODE)
        for call_id in call_ids:
            page, at = self.pages.of(call_id), call_id % PAGE
            if page[at] == before:
                page[at] = after
                self.submitted += 1 if submitted else -1

    def routes(self) -> Mapping[str, int]:
        """Delivered calls by the way they went."""
        realtime = self.delivered - sum(self.by.values())
        return {"realtime": realtime, **self.by} if realtime else dict(self.by)

    def losses(self) -> Mapping[str, int]:
        """How many calls were lost, by reason: dead and dropped together."""
        return self.dead + self.dropped


def settled_twice(call_id: int) -> RuntimeError:
    """The error for a call that leaves `pending` more than once: a bug, and never a silent one."""
    return RuntimeError(f"call {call_id} was settled twice: the account would no longer add up")
