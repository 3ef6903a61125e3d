"""Where accepted calls wait for the sender.

Anyone may put; exactly one sender takes and settles. `MemoryOutbox` is the one that lives in this process.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
from anyio.abc import TaskGroup

from .._account.ledger import Ledger
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload, Ticket
from .._errors.tree import OutboxError
from .._runtime.disabled import SwitchedOff
from .._runtime.log import RateLimitedLog
from .._schedule.calendar import Calendar
from .._schedule.settlement import Settlement
from .._schedule.takeover import RequestNote, Takeover
from .receipt import Receipt


@attrs.frozen(kw_only=True)
class Opening:
    """Who opens an outbox, and what for."""

    max_calls: int
    max_bytes: int
    """Of what waits in memory. An outbox with a limit of its own keeps to that."""
    destination: str
    """The kind of server, and where it is: calls for another do not belong here."""
    fingerprint: Callable[[bytes], str]
    """Of the account's key, for a salt: two accounts must not mix. Slow: for a thread of the outbox's own."""
    now: Callable[[], float]
    """The loop's clock."""
    calendar: Calendar
    """Which date a moment on that clock has."""
    changed: Callable[[], object]
    """To be called when calls have come in, or have been settled: whoever sends or waits looks again."""
    tasks: TaskGroup
    """The client's own."""
    failed: Callable[[Kind, Key, Payload, OutboxError], object]
    """To be called with a call that was put, but could not be held, when nobody waits for it."""
    old_fingerprint: Callable[[bytes], str] = lambda salt: ""
    """As earlier versions made it: an outbox of theirs is opened, and gets the other one."""


class Outbox(Protocol):
    """What the client and its sender ask of a place where calls wait.

    The contract: a call that was put is taken exactly once by each sender, in the order of acceptance for each user.
    Only what was taken is settled, and what is settled is taken by nobody again. The account (`ledger`) balances after
    every method.
    """

    when_room: Callable[[], object] | None

    @property
    def ledger(self) -> Ledger:
        """The account."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """What waits takes so much."""
        ...

    @property
    def held_calls(self) -> int:
        """Calls that take room in this process, against `Opening.max_calls`; 0 where another limit holds."""
        ...

    @property
    def unheld(self) -> int:
        """Calls that are not held yet, and not in the account: on their way, or waiting until the place is back."""
        ...

    @property
    def durable(self) -> bool:
        """What waits outlives the client: `hold` takes a moment, and nothing is dropped for want of time."""
        ...

    @property
    def sends(self) -> bool:
        """This is where calls are taken from now; others that use the same outbox only put."""
        ...

    @property
    def term(self) -> int:
        """How often another one has taken over while we were sending: what was taken before is not ours any more."""
        ...

    @property
    def place(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def stirs(self) -> bool:
        """Calls are on their way in or out: `take` may give some soon."""
        ...

    async def open(self, opening: Opening) -> None:
        """Be ready. Raises `ValueError` if it is in use already, and `OutboxError`."""
        ...

    def has_room(self, size: int) -> bool:
        """A call of so many bytes may be put."""
        ...

    def put(self, kind: Kind, key: Key, said: Payload, size: int, now: float) -> Receipt:
        """Hold a call from now on, or, if that takes a moment, as soon as can be."""
        ...

    async def hold(
        self, kind: Kind, key: Key, said: Payload, size: int, now: float, max_wait: float | None = None
    ) -> Receipt | None:
        """Hold a call: it is when this returns. Raises `OutboxError`.

        ``None`` if that was not possible within ``max_wait`` seconds. Cancelled while it waits, the call is not held;
        or it is held, and this returns as if nothing had happened.
        """
        ...

    def take(self, limit: int) -> Sequence[Ticket]:
        """The next calls, in order, that nobody has taken yet."""
        ...

    def was_sent(self, call_id: int) -> bool:
        """An earlier sender ended while a request with this call was under way: the server may have it."""
        ...

    def inherited(self) -> Takeover | None:
        """Once, before the first calls are taken: what an earlier sender has left."""
        ...

    async def sending(self, request: RequestNote) -> bool:
        """Note that a request is about to be made; false if that cannot be noted, and it should wait."""
        ...

    def landed(self, request: RequestNote, *, answered: bool | None, lost: bool) -> None:
        """It has ended.

        ``answered``, or its answer got lost, or (``None``) it was never made. ``lost``: what was in it must be taken
        for sent.
        """
        ...

    def forget(self, filename: str) -> None:
        """This file needs not be found again: what became of all that was in it has been settled."""
        ...

    def merged(self, ids: Sequence[int], freed: int) -> None:
        """These calls went into later ones; so many bytes of what waits in memory are free again."""
        ...

    def submitted(self, ids: Sequence[int], submitted: bool, size: int) -> None:
        """A background job of the server holds these calls, or holds them no more; they are pending.

        ``size`` bytes of events among them need no room meanwhile.
        """
        ...

    def settle(self, settlement: Settlement) -> None:
        """Calls and those merged into them have met their fate."""
        ...

    def refuse(self, outcome: Outcome) -> Receipt:
        """Account for a call that found no room: accepted, and gone at once."""
        ...

    async def recorded(self) -> None:
        """Until all that was done before this is in the account."""
        ...

    async def aclose(self) -> None:
        """This client does not use the outbox any more."""
        ...

    def abandon(self) -> None:
        """This client is gone, and has not closed it. May be called in any thread."""
        ...


class MemoryOutbox:
    """Calls wait in this process, and end with it: a crash loses them, a close reports them.

    One client at a time; ``when_room`` is told whenever settled calls have made room.
    """

    durable = False
    sends = True
    stirs = False
    unheld = 0
    term = 0
    place = "this process"

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.waiting_bytes = 0
        self.waiting_calls = 0
        self.when_room: Callable[[], object] | None = None
        self._incoming: deque[Ticket] = deque()
        self._filed_calls = self._filed_bytes = 0  # of events that a job of the server has
        self._max_calls = 0
        self._max_bytes = 0
        self._in_use = False

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

    async def aclose(self) -> None:
        """Another client may open it."""
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

    def put(self, kind: Kind, key: Key, said: Payload, size: int, now: float) -> Receipt:
        """Hold a call from now on."""
        call_id = self.ledger.accept()
        self.waiting_calls += 1
        self.waiting_bytes += size
        self._incoming.append((call_id, now, kind, key, said))
        return Receipt(self.ledger, call_id)

    async def hold(
        self, kind: Kind, key: Key, said: Payload, size: int, now: float, max_wait: float | None = None
    ) -> Receipt | None:
        """As `put`."""
        return self.put(kind, key, said, size, now)

    def take(self, limit: int) -> Sequence[Ticket]:
        """The next calls, in order, that nobody has taken yet."""
        incoming = self._incoming
        if len(incoming) <= limit:
            taken = list(incoming)
            incoming.clear()
            return taken
        return [incoming.popleft() for _ in range(limit)]

    def was_sent(self, call_id: int) -> bool:
        """Never: a sender that ended took its calls along."""
        return False

    def inherited(self) -> Takeover | None:
        """Nothing, for the same reason."""
        return None

    async def sending(self, request: RequestNote) -> bool:
        """Nobody would read a note about it."""
        return True

    def landed(self, request: RequestNote, *, answered: bool | None, lost: bool) -> None:
        """The same."""

    def forget(self, filename: str) -> None:
        """The same."""

    def merged(self, ids: Sequence[int], freed: int) -> None:
        """These calls went into later ones; so many bytes are free again."""
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
        """Calls and those merged into them have met their fate."""
        if settlement.outcome.is_delivered:
            self.ledger.deliver(settlement.carriers, settlement.outcome)
        else:
            for carrier in settlement.carriers:
                self.ledger.settle(carrier, settlement.outcome)
        self.ledger.settle_merged(settlement.merged, settlement.outcome)
        self.waiting_calls -= len(settlement.carriers)
        self._free(settlement.size)

    def refuse(self, outcome: Outcome) -> Receipt:
        """Account for a call that found no room: accepted, and gone at once."""
        call_id = self.ledger.accept()
        self.ledger.settle(call_id, outcome)
        return Receipt(self.ledger, call_id)

    async def recorded(self) -> None:
        """It is, always."""

    def abandon(self) -> None:
        """What it holds is gone with the client."""

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
        """Always: nothing is held."""
        return True

    def put(self, kind: Kind, key: Key, said: Payload, size: int, now: float) -> Receipt:
        """Count the call as dropped."""
        return self.refuse(DISABLED)
