"""A byte a call says what became of it, in pages, so that the last million calls cost a megabyte.

Nothing in a page is an object that the garbage collector has to walk. Receipts hold on to the page of their call, and
can so answer after it was forgotten here. A byte is the code of an outcome; codes are given out as outcomes are met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from .._calls.outcome import DELIVERED, MERGED, PENDING, SUBMITTED, Outcome

PAGE = 65_536  # calls; one bytearray each
KEPT_PAGES = 16  # settled pages kept for late questions: the last 1,048,576 calls
PENDING_CODE, SUBMITTED_CODE, DELIVERED_CODE, MERGED_CODE = range(4)
OPEN_CODES = (PENDING_CODE, SUBMITTED_CODE)
UNSETTLED_CODES = (PENDING_CODE, SUBMITTED_CODE, MERGED_CODE)  # merged, into a row that is still on its way


class Pages:
    """The outcome of each call by its id, and who waits for it. The ledgers write here, and receipts read."""

    def __init__(self) -> None:
        self.by_number: dict[int, bytearray] = {}
        self.open: dict[int, int] = {}
        """Calls without a final outcome, by the number of their page; also those not accepted yet."""
        self.newest: bytearray = bytearray()
        """Where the newest calls are written: what a new receipt holds on to."""
        self.home: object = None
        """The event loop in which calls are settled, for receipts to ask; `None` until a client is open."""
        self.released: bool = False
        """Nothing is settled any more."""
        self._outcomes: list[Outcome] = [PENDING, SUBMITTED, DELIVERED, MERGED]
        self._codes: dict[Outcome, int] = {outcome: code for code, outcome in enumerate(self._outcomes)}
        self._watchers: dict[int, list[Callable[[Outcome], object]]] = {}

    def of(self, call_id: int) -> bytearray:
        """The page of a call, made if there is none."""
        number = call_id // PAGE
        page = self.by_number.get(number)
        if page is None:
            page = self.by_number[number] = bytearray(PAGE)
        return page

    def begin(self, call_id: int) -> None:
        """Let calls from this one on be written to its page, and forget pages whose calls were settled long ago."""
        number = call_id // PAGE
        self.newest = self.of(call_id)
        self.open[number] = (number + 1) * PAGE - call_id
        for old in [one for one in self.open if one <= number - KEPT_PAGES and not self.open[one]]:
            del self.by_number[old], self.open[old]

    def outcome(self, call_id: int, page: bytearray) -> Outcome:
        """The outcome of the call so far; ``page`` is what `newest` was when the call was accepted."""
        return self._outcomes[page[call_id % PAGE]]

    def code(self, outcome: Outcome) -> int:
        """The byte that stands for this outcome. There are 256 at most, so reasons are labels and not sentences."""
        if outcome is DELIVERED:
            return DELIVERED_CODE
        code = self._codes.get(outcome)
        if code is None:
            if len(self._outcomes) == 256:
                raise RuntimeError("more than 256 kinds of outcome: reasons must be labels, not sentences")
            code = self._codes[outcome] = len(self._outcomes)
            self._outcomes.append(outcome)
        return code

    # ── who waits for an outcome ──

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

    @property
    def watched(self) -> list[int]:
        """The calls that a caller waits for."""
        return list(self._watchers)

    def notify(self, call_id: int, outcome: Outcome) -> None:
        """Call all who wait for this call."""
        if self._watchers:
            for notify in tuple(self._watchers.pop(call_id, ())):  # a copy: a thread may take its own back meanwhile
                notify(outcome)

    def notify_all(self, call_ids: Iterable[int], outcome: Outcome) -> None:
        """Call all who wait for any of these calls; there is seldom one."""
        if self._watchers:
            for call_id in call_ids:
                self.notify(call_id, outcome)

    def release(self) -> None:
        """Settle nothing any more, and notify all who wait of what is known of their calls."""
        self.released = True
        for call_id in self.watched:
            page = self.by_number.get(call_id // PAGE)
            if page is not None:  # else it was settled long ago, and its watcher sees that without us
                self.notify(call_id, self.outcome(call_id, page))


@cache
def becoming(code: int) -> bytes:
    """A table for `bytes.translate`: what is not settled gets this code."""
    return bytes(code if one in UNSETTLED_CODES else one for one in range(256))
