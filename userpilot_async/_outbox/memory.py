"""Calls wait in this process, and end with it; or, for a client that is switched off, not at all."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from .._account.memory_ledger import MemoryLedger
from .._calls.dedupe import DedupeKey
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload, Ticket
from .._runtime.disabled import SwitchedOff
from .._runtime.log import RateLimitedLog, log
from .._schedule.settlement import Settlement
from .._schedule.takeover import RequestNote, Takeover
from .accepted_keys import MOST_KEYS, AcceptedKeys
from .protocol import Opening, SendLog
from .receipt import Receipt


class NoSendLog:
    """For calls that end with their sender: no later sender would read a note."""

    term = 0

    def was_sent(self, call_id: int) -> bool:
        """Never: a sender that ended took its calls along."""
        return False

    def inherited(self) -> Takeover | None:
        """Nothing, as there was no sender before."""
        return None

    async def sending(self, request: RequestNote) -> bool:
        """Always true: requests may be made."""
        return True

    def landed(self, request: RequestNote, *, answered: bool | None, lost: bool) -> None:
        """Nothing is noted of a request's end."""

    def forget(self, filename: str) -> None:
        """Nothing is known of a file."""


class MemoryOutbox:
    """Calls wait in this process, and end with it: a crash loses them, a close reports them.

    One client at a time; ``when_room`` is called whenever settled calls have made room.
    """

    durable = False
    sends = True
    stirs = False
    unheld = 0
    place = "this process"

    def __init__(self) -> None:
        self.ledger: MemoryLedger = MemoryLedger()
        self.send_log: SendLog = NoSendLog()
        self.waiting_bytes: int = 0
        self.waiting_calls: int = 0
        self.when_room: Callable[[], object] | None = None
        self._incoming: deque[Ticket] = deque()
        self._filed_calls = self._filed_bytes = 0  # of events that a job of the server has
        self._max_calls = 0
        self._max_bytes = 0
        self._in_use = False
        self._keys = AcceptedKeys(forgets=self._forgets_keys)
        self._has_forgotten_keys = False
        self._now: Callable[[], float] = lambda: 0.0
        self._closed_at = 0.0

    def __repr__(self) -> str:
        return f"<MemoryOutbox {self.waiting_calls} calls, {self.waiting_bytes} bytes>"

    async def open(self, opening: Opening) -> None:
        """Take the limits; raises `ValueError` if another client uses this outbox."""
        if self._in_use:
            raise ValueError("this MemoryOutbox is in use by another client: share the client instead")
        if self.ledger.pending:
            raise ValueError("this MemoryOutbox still has calls in a background job of a client that was closed")
        self._in_use = True
        self._max_calls, self._max_bytes = opening.max_calls, opening.max_bytes
        self._now = opening.now
        self._keys.shift(opening.now() - self._closed_at)

    async def aclose(self) -> None:
        """Let another client open this outbox."""
        if self._in_use:
            self._closed_at = self._now()
        self._in_use = False

    @property
    def held_calls(self) -> int:
        """Calls that count against the limit: those that a job of the server has do not."""
        return self.waiting_calls - self._filed_calls

    def has_room(self, size: int) -> bool:
        """A call of so many bytes may be put; one that is larger than the whole limit, into an empty queue."""
        calls = self.waiting_calls - self._filed_calls
        return calls < self._max_calls and (
            self.waiting_bytes - self._filed_bytes + size <= self._max_bytes or not calls
        )

    def put(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, dedupe: DedupeKey | None = None
    ) -> Receipt:
        """Hold a call from now on; not one with a key that an earlier call has."""
        if dedupe is not None:
            return self.known_under(dedupe) or self._put_first(dedupe, (kind, key, payload, size, now))
        call_id = self.ledger.accept()
        self.waiting_calls += 1
        self.waiting_bytes += size
        self._incoming.append((call_id, now, kind, key, payload))
        return Receipt(self.ledger.pages, call_id)

    def _put_first(self, dedupe: DedupeKey, call: tuple[Kind, Key, Payload, int, float]) -> Receipt:
        receipt = self.put(*call)
        self._keys.add(dedupe, self._now(), receipt.id, self.ledger.pages.newest)
        return receipt

    async def hold(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, max_wait: float | None = None,
        dedupe: DedupeKey | None = None,
    ) -> Receipt | None:  # fmt: skip
        """Hold a call from now on, without waiting."""
        return self.put(kind, key, payload, size, now, dedupe)

    def known_under(self, dedupe: DedupeKey) -> Receipt | None:
        """The receipt of a duplicate, if an earlier call has this key: it is counted, and needs no room."""
        first = self._keys.find(dedupe, self._now())
        if first is None:
            return None
        self.ledger.duplicates += 1
        receipt = Receipt(self.ledger.pages)
        receipt.repeats(*first)
        return receipt

    def take(self, limit: int) -> Sequence[Ticket]:
        """The next calls, in order, that were not taken yet."""
        incoming = self._incoming
        if len(incoming) <= limit:
            taken = list(incoming)
            incoming.clear()
            return taken
        return [incoming.popleft() for _ in range(limit)]

    def merged(self, ids: Sequence[int], freed: int) -> None:
        """Note that calls went into later ones; ``freed`` bytes are free again."""
        self.ledger.merge(ids)
        self.waiting_calls -= len(ids)
        self._free(freed)

    def submitted(self, ids: Sequence[int], submitted: bool, size: int) -> None:
        """A background job of the server holds these calls, or holds them no more: events there need no room."""
        before = self.ledger.submitted
        self.ledger.submit(ids, submitted)
        if size and self.ledger.submitted != before:
            self._filed_calls += self.ledger.submitted - before
            self._filed_bytes += size if submitted else -size
            self._free(0)

    def settle(self, settlement: Settlement) -> None:
        """Account for what became of calls, and of those merged into them."""
        if settlement.outcome.is_delivered:
            self.ledger.deliver(settlement.carriers, settlement.outcome)
        else:
            for carrier in settlement.carriers:
                self.ledger.settle(carrier, settlement.outcome)
        self.ledger.settle_merged(settlement.merged, settlement.outcome)
        self.waiting_calls -= len(settlement.carriers)
        self._free(settlement.size)

    def drop_pending(self, outcome: Outcome) -> int:
        """Account for every call that has no outcome, with those merged into it; how many that were."""
        return self.ledger.drop_pending(outcome)

    def refuse(self, outcome: Outcome) -> Receipt:
        """Account for a call that found no room: accepted, and gone at once."""
        call_id = self.ledger.accept()
        self.ledger.settle(call_id, outcome)
        return Receipt(self.ledger.pages, call_id)

    async def recorded(self) -> None:
        """Return at once: all is recorded when it is done."""

    def abandon(self) -> None:
        """Do nothing: all that this holds is gone with the client."""

    def _forgets_keys(self) -> None:
        if not self._has_forgotten_keys:
            self._has_forgotten_keys = True
            remedy = "use an outbox in a file or in Redis, or a shorter dedupe_for"
            log(logging.WARNING, f"more than {MOST_KEYS:,} keys of dedupe= are not kept in memory; {remedy}")

    def _free(self, size: int) -> None:
        self.waiting_bytes -= size
        if self.when_room is not None:
            self.when_room()


DISABLED = Outcome("dropped", "disabled")


class DisabledOutbox(MemoryOutbox):
    """Counts calls as ``dropped``, reason ``disabled``, and holds none: for a client that is switched off."""

    def __init__(self, switch: SwitchedOff) -> None:
        super().__init__()
        self.place = "nowhere"
        self._switch = switch

    def __repr__(self) -> str:
        return f"<DisabledOutbox by {self._switch.by}>"

    async def open(self, opening: Opening) -> None:
        """Say once, at INFO, that nothing is sent; the calls that are dropped need no line of their own."""
        message = f"the client is switched off ({self._switch.by}): calls are checked, counted as dropped, and not sent"
        RateLimitedLog(opening.now).warn("disabled", f"{message}; {self._switch.undo}", level=logging.INFO)

    def has_room(self, size: int) -> bool:
        """True for every call: nothing is held."""
        return True

    def put(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, dedupe: DedupeKey | None = None
    ) -> Receipt:
        """Count the call as dropped."""
        return self.refuse(DISABLED)
