"""The account: what became of every accepted call, by id and by count.

One byte a call, in chunks of 65,536, so that an exact account of the last million calls costs a megabyte
and nothing that the garbage collector has to walk. The law, at every moment:

    accepted = delivered + dead + dropped + merged + pending
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from .._calls.outcome import DELIVERED, MERGED, PENDING, SUBMITTED, Outcome

CHUNK = 65_536  # calls; one bytearray each
KEPT_CHUNKS = 16  # settled chunks kept for late questions: the last 1,048,576 calls
OPEN_CODES = (0, 1)  # pending, submitted
UNSETTLED_CODES = (0, 1, 3)  # and merged into a row that is still on its way


class Ledger:
    """Ids are handed out from 0 upwards; each one leaves `pending` exactly once."""

    def __init__(self) -> None:
        self.accepted = 0
        self.pending = 0
        self.submitted = 0
        """Those of the pending that a background job of the server holds."""
        self.delivered = 0
        self.by: Counter[str] = Counter()
        """Those of the delivered that a job took, by its kind."""
        self.merged = 0
        self.merged_lost = 0
        """Those of the merged whose row was lost."""
        self.ambiguous = 0
        """Calls in requests whose answer got lost, where the account outlives the sender that counts them."""
        self.rewound: list[int] = []
        """From which call on calls were lost, each time that happened: their ids may be given again."""
        self.resets = 0
        """How often the outbox has lost an unknown number of calls."""
        self.dead: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._chunks: dict[int, bytearray] = {}
        self._open: dict[int, int] = {}  # calls without a final outcome, by chunk; also those not accepted yet
        self._page_end = 0
        self._outcomes: list[Outcome] = [PENDING, SUBMITTED, DELIVERED, MERGED]
        self._codes: dict[Outcome, int] = {outcome: code for code, outcome in enumerate(self._outcomes)}
        self._watchers: dict[int, list[Callable[[Outcome], object]]] = {}
        self.home: object = None
        """The event loop in which calls are settled, for receipts to ask; `None` until a client is open."""
        self.released = False
        """Nothing is settled any more."""
        self._oldest = 0
        self.page = bytearray()
        """Where the newest calls are written: what a receipt holds on to, so that it can answer for ever."""

    @property
    def next_id(self) -> int:
        """All calls accepted so far have lower ids."""
        return self.accepted

    def accept(self) -> int:
        """The id of a call that is pending from now on."""
        call_id = self.accepted
        if call_id == self._page_end:
            self._turn_page()
        self.accepted = call_id + 1
        self.pending += 1
        return call_id

    def outcome(self, call_id: int, page: bytearray) -> Outcome:
        """The outcome of the call so far; ``page`` is what `page` was when the call was accepted."""
        return self._outcomes[page[call_id % CHUNK]]

    def submit(self, call_ids: Iterable[int], submitted: bool = True) -> None:
        """Note that the server has (or no longer has) these calls in a background job; they stay pending."""
        for call_id in call_ids:
            page, at = self._chunks[call_id // CHUNK], call_id % CHUNK
            if page[at] == (0 if submitted else 1):
                page[at] = 1 - page[at]
                self.submitted += 1 if submitted else -1

    def merge(self, call_ids: Iterable[int]) -> None:
        """Note that pending calls went into a later one of the same user or company."""
        for call_id in call_ids:
            self._close(call_id, 3)
            self.merged += 1

    def settle(self, call_id: int, outcome: Outcome) -> None:
        """Close a pending call as delivered, dead or dropped."""
        if outcome.status not in ("delivered", "dead", "dropped"):
            raise ValueError(f"{outcome.status} is no way to settle a call")
        self._close(call_id, self._code(outcome))
        self._open[call_id // CHUNK] -= 1
        if outcome.is_delivered:
            self.delivered += 1
            if outcome.by is not None:
                self.by[outcome.by] += 1
        else:
            (self.dead if outcome.status == "dead" else self.dropped)[outcome.reason or "unknown"] += 1
        if self._watchers:
            self._notify(call_id, outcome)

    def deliver(self, call_ids: Sequence[int], outcome: Outcome = DELIVERED) -> None:
        """Close pending calls as delivered: `settle` for many."""
        code = self._code(outcome)
        for call_id in call_ids:
            number = call_id // CHUNK
            page, at = self._chunks.get(number), call_id % CHUNK
            if page is None or page[at] not in OPEN_CODES or call_id >= self.accepted:
                raise settled_twice(call_id)
            self.submitted -= page[at]
            page[at] = code
            self._open[number] -= 1
        self.pending -= len(call_ids)
        self.delivered += len(call_ids)
        if outcome.by is not None:
            self.by[outcome.by] += len(call_ids)
        if self._watchers:
            for call_id in call_ids:
                self._notify(call_id, outcome)

    def settle_merged(self, call_ids: Sequence[int], row: Outcome) -> None:
        """Settle calls with the row that took them in; the counts do not change."""
        if not call_ids:
            return
        if not row.is_delivered:
            self.merged_lost += len(call_ids)
        outcome = Outcome("merged", row.reason, row)
        code = self._code(outcome)
        for call_id in call_ids:
            self._chunks[call_id // CHUNK][call_id % CHUNK] = code
            self._open[call_id // CHUNK] -= 1
            if self._watchers:
                self._notify(call_id, outcome)

    def watch(self, call_id: int, notify: Callable[[Outcome], object]) -> Callable[[], None]:
        """Call ``notify`` once the call has its final outcome; the returned function takes that back.

        In another thread than the one that settles, read the outcome again after this: it may have come before.
        """
        self._watchers.setdefault(call_id, []).append(notify)

        def forget() -> None:
            watchers = self._watchers.get(call_id, [])
            if notify in watchers:
                watchers.remove(notify)
                if not watchers:
                    self._watchers.pop(call_id, None)

        return forget

    def release(self) -> None:
        """Settle nothing any more, and notify all who wait of what is known of their calls."""
        self.released = True
        for call_id in list(self._watchers):
            page = self._chunks.get(call_id // CHUNK)
            if page is not None:  # else it was settled long ago, and its watcher sees that without us
                self._notify(call_id, self._outcomes[page[call_id % CHUNK]])

    def oldest_pending(self) -> int:
        """The lowest id that is pending, or merged into a row that is; `accepted` when none is."""
        position = self._oldest
        while position < self.accepted:
            number, start = divmod(position, CHUNK)
            if self._open.get(number, 0):
                page = self._chunks[number]
                found = [at for at in (page.find(code, start) for code in UNSETTLED_CODES) if at >= 0]
                self._oldest = min(number * CHUNK + min(found), self.accepted) if found else (number + 1) * CHUNK
                if found:
                    return self._oldest
            position = self._oldest = (number + 1) * CHUNK
        self._oldest = self.accepted
        return self.accepted

    def pending_before(self, call_id: int) -> int:
        """How many calls with lower ids are pending, or merged into a row that is."""
        pending = 0
        for number, page in self._chunks.items():
            end = min(max(call_id - number * CHUNK, 0), CHUNK)
            pending += sum(page.count(code, 0, end) for code in UNSETTLED_CODES) if end else 0
        return pending

    def routes(self) -> Mapping[str, int]:
        """Delivered calls by the way they went."""
        realtime = self.delivered - sum(self.by.values())
        return {"realtime": realtime, **self.by} if realtime else dict(self.by)

    def losses(self) -> Mapping[str, int]:
        """How many calls were lost, by reason: dead and dropped together."""
        return self.dead + self.dropped

    def _close(self, call_id: int, code: int) -> None:
        number, at = divmod(call_id, CHUNK)
        page = self._chunks.get(number)
        if page is None or page[at] not in OPEN_CODES or call_id >= self.accepted:
            raise settled_twice(call_id)
        self.submitted -= page[at]  # 1 is the code of a submitted call
        page[at] = code
        self.pending -= 1

    def _code(self, outcome: Outcome) -> int:
        if outcome is DELIVERED:
            return 2
        code = self._codes.get(outcome)
        if code is None:
            if len(self._outcomes) == 256:
                raise RuntimeError("more than 256 kinds of outcome: reasons must be labels, not sentences")
            code = self._codes[outcome] = len(self._outcomes)
            self._outcomes.append(outcome)
        return code

    def _notify(self, call_id: int, outcome: Outcome) -> None:
        for notify in tuple(self._watchers.pop(call_id, ())):  # a copy: another thread may take its own back meanwhile
            notify(outcome)

    def _turn_page(self) -> None:
        newest = self.accepted // CHUNK
        self.page = self._chunks[newest] = bytearray(CHUNK)
        self._open[newest] = CHUNK
        self._page_end = (newest + 1) * CHUNK
        for number in [n for n in self._chunks if n <= newest - KEPT_CHUNKS and not self._open[n]]:
            del self._chunks[number], self._open[number]


def settled_twice(call_id: int) -> RuntimeError:
    """The error for a call that leaves `pending` more than once: a bug, and never a silent one."""
    return RuntimeError(f"call {call_id} was settled twice: the account would no longer add up")
