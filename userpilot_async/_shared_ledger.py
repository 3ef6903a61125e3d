"""The account of an outbox that several processes use: its counts are the outbox's own, and outlive them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ._ledger import CHUNK, KEPT_CHUNKS, OPEN_CODES, UNSETTLED_CODES, Ledger, Outcome, settled_twice
from ._stored import Concluded, ids_of


@attrs.define
class Account:
    """The counts, as they are kept with the calls."""

    next_id: int = 0
    accepted: int = 0
    delivered: int = 0
    merged: int = 0
    merged_lost: int = 0
    dead: dict[str, int] = attrs.field(factory=dict)
    dropped: dict[str, int] = attrs.field(factory=dict)
    bytes: int = 0
    """Of the calls that wait."""

    @property
    def waiting(self) -> int:
        """Calls that are held: pending, or merged into one that is."""
        settled = self.delivered + self.merged + sum(self.dead.values()) + sum(self.dropped.values())
        return self.accepted - settled

    def conclude(self, outcome: Outcome, carriers: int, merged: int) -> None:
        """So many calls have met their fate, and so many others that went into them."""
        if outcome.status == "delivered":
            self.delivered += carriers
        elif carriers:
            lost = self.dead if outcome.status == "dead" else self.dropped
            reason = outcome.reason or "unknown"
            lost[reason] = lost.get(reason, 0) + carriers
        self.merged += merged
        self.merged_lost += 0 if outcome.status == "delivered" else merged

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return attrs.asdict(self)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Account:
        """The other way round; what is not known is ignored."""
        return cls(**{field.name: fields[field.name] for field in attrs.fields(cls) if field.name in fields})


class SharedLedger(Ledger):
    """Counts of all there is; outcomes of the calls accepted since this process opened the outbox.

    A call is settled when the outbox has recorded it. What this process's sender has merged is told apart from the
    pending at once, and is merged for the others when the row that took it in is settled: until then a crash undoes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._base = 0
        self._reached = 0
        self._oldest_there = 0
        self._waiting = 0
        self._merging = 0
        self._submitted_before: set[int] = set()  # of calls accepted before `start`; no more than a sender takes

    @property
    def next_id(self) -> int:
        """All calls accepted so far, as far as this process knows, have lower ids."""
        return self._reached

    def start(self, next_id: int) -> None:
        """Calls before this were accepted before the outbox was opened here."""
        self._base = self._reached = next_id

    def sync(
        self, account: Account, oldest: int | None, heard: Iterable[Concluded] = (), said: Iterable[Concluded] = ()
    ) -> None:
        """The counts are these now; ``oldest`` is the lowest id that is held.

        Others have settled calls, which was ``heard``, and so has this process's sender, which was ``said``.
        """
        self._reach(account.next_id)
        for one in heard:
            self._hear(one)
        for one in said:
            outcome = Outcome(one.status, one.reason)  # type: ignore[arg-type]  # it was one when it was written
            merged = ids_of(one.merged)
            self._merging -= len(merged)
            self._conclude(ids_of(one.carriers), outcome, OPEN_CODES)
            self._conclude(merged, _merged_into(outcome), UNSETTLED_CODES)
        self._waiting = account.waiting
        self._oldest_there = self._reached if oldest is None else oldest
        self.accepted, self.delivered = account.accepted, account.delivered
        self.dead, self.dropped = Counter(account.dead), Counter(account.dropped)
        self.merged, self.merged_lost = account.merged + self._merging, account.merged_lost
        self.pending = account.waiting - self._merging

    def page_of(self, call_id: int) -> bytearray:
        """What a receipt for this call holds on to."""
        return self._chunks[call_id // CHUNK]

    def merge(self, call_ids: Iterable[int]) -> None:
        """These pending calls went into a later one; those among them that others have settled did not."""
        for call_id in call_ids:
            if call_id >= self._base:
                if self._code_of(call_id) not in OPEN_CODES:
                    continue
                self._write(call_id, 3, OPEN_CODES)
            self._merging += 1
            self.merged += 1
            self.pending -= 1

    def submit(self, call_ids: Iterable[int], submitted: bool = True) -> None:
        """Note that the server has (or no longer has) these calls in a background job; they stay pending."""
        call_ids = list(call_ids)
        super().submit([one for one in call_ids if one >= self._base], submitted)
        before = self._submitted_before
        self.submitted -= len(before)
        (before.update if submitted else before.difference_update)(one for one in call_ids if one < self._base)
        self.submitted += len(before)

    def _hear(self, one: Concluded) -> None:
        """Others may settle what this process has merged already (a person is purged), and then it never was."""
        outcome = Outcome(one.status, one.reason)  # type: ignore[arg-type]  # the same
        for stretches, fate in ((one.carriers, outcome), (one.merged, _merged_into(outcome))):
            ids = [call_id for call_id in ids_of(stretches) if self._code_of(call_id) in UNSETTLED_CODES]
            self._merging -= sum(self._code_of(call_id) == 3 for call_id in ids)
            self._conclude(ids, fate, UNSETTLED_CODES)

    def _code_of(self, call_id: int) -> int:
        page = self._chunks.get(call_id // CHUNK) if call_id >= self._base else None
        return page[call_id % CHUNK] if page is not None else 0

    def _conclude(self, call_ids: Iterable[int], outcome: Outcome, before: tuple[int, ...]) -> None:
        code = self._code(outcome)
        for call_id in call_ids:
            if call_id >= self._base:
                self._write(call_id, code, before)
                self._open[call_id // CHUNK] -= 1
                if self._watchers:
                    self._tell(call_id, outcome)
            elif call_id in self._submitted_before:
                self._submitted_before.discard(call_id)
                self.submitted -= 1

    def _write(self, call_id: int, code: int, before: tuple[int, ...]) -> None:
        page, at = self._chunks.get(call_id // CHUNK), call_id % CHUNK
        if page is None or page[at] not in before or call_id >= self._reached:
            raise settled_twice(call_id)
        self.submitted -= page[at] == 1
        page[at] = code

    def oldest_pending(self) -> int:
        """The lowest id that is held; `next_id` when none is."""
        return self._oldest_there

    def pending_before(self, call_id: int) -> int:
        """How many calls with lower ids are held."""
        since = 0
        for number, page in self._chunks.items():
            start = min(max(call_id, self._base) - number * CHUNK, CHUNK)
            end = min(self._reached - number * CHUNK, CHUNK)
            since += sum(page.count(code, max(start, 0), max(end, 0)) for code in UNSETTLED_CODES)
        return max(0, self._waiting - since)

    def _reach(self, next_id: int) -> None:
        while self._reached < next_id:
            number = self._reached // CHUNK
            if number not in self._chunks:
                self.page = self._chunks[number] = bytearray(CHUNK)
                self._open[number] = (number + 1) * CHUNK - self._reached
                for old in [n for n in self._chunks if n <= number - KEPT_CHUNKS and not self._open[n]]:
                    del self._chunks[old], self._open[old]
            self._reached = min(next_id, (number + 1) * CHUNK)


def _merged_into(row: Outcome) -> Outcome:
    return Outcome("merged", row.reason, row)
