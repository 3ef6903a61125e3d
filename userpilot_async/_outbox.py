"""Where accepted calls wait for the sender.

Anyone may put; exactly one sender takes and settles. `MemoryOutbox` is the one that lives in this process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ._lanes import Key, Kind, Said, Ticket
from ._ledger import DELIVERED, Ledger, Outcome
from ._settlements import Settlement


class Outbox(Protocol):
    """What the client and its sender ask of a place where calls wait.

    The contract: a call that was put is taken exactly once by each holder of the lease, in the order of acceptance
    for each user. Only what was taken is settled, and what is settled is taken by nobody again. The account (`ledger`)
    balances after every method.
    """

    ledger: Ledger
    waiting_bytes: int
    when_room: Callable[[], object] | None

    def open(self, max_calls: int, max_bytes: int) -> None:
        """Take the limits; raises `ValueError` if the outbox is in use already."""
        ...

    def has_room(self, size: int) -> bool:
        """A call of so many bytes may be put."""
        ...

    def put(self, kind: Kind, key: Key, said: Said, size: int, now: float) -> int:
        """Hold a call from now on; its id."""
        ...

    def take(self, limit: int) -> Sequence[Ticket]:
        """The next calls, in order, that nobody has taken yet."""
        ...

    def merged(self, ids: Sequence[int], freed: int) -> None:
        """These calls went into later ones; so many bytes are free again."""
        ...

    def settle(self, settlement: Settlement) -> None:
        """Calls and those merged into them have met their fate."""
        ...

    def refuse(self, outcome: Outcome) -> int:
        """Account for a call that found no room: accepted, and gone at once. Its id."""
        ...

    def close(self) -> None:
        """Nobody uses the outbox any more."""
        ...


class MemoryOutbox:
    """Calls wait in this process, and end with it: a crash loses them, a close reports them.

    One client at a time; ``when_room`` is told whenever settled calls have made room.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.waiting_bytes = 0
        self.waiting_calls = 0
        self.when_room: Callable[[], object] | None = None
        self._incoming: deque[Ticket] = deque()
        self._max_calls = 0
        self._max_bytes = 0
        self._in_use = False

    def __repr__(self) -> str:
        return f"<MemoryOutbox {self.waiting_calls} calls, {self.waiting_bytes} bytes>"

    def open(self, max_calls: int, max_bytes: int) -> None:
        """Take the limits; raises `ValueError` if another client uses this outbox."""
        if self._in_use:
            raise ValueError("this MemoryOutbox is in use by another client: share the client instead")
        if self.ledger.pending:
            raise ValueError("this MemoryOutbox still has calls in a background job of a client that was closed")
        self._in_use = True
        self._max_calls, self._max_bytes = max_calls, max_bytes

    def close(self) -> None:
        """Another client may open it."""
        self._in_use = False

    def has_room(self, size: int) -> bool:
        """A call of so many bytes may be put; one that is larger than the whole limit, into an empty queue."""
        return self.waiting_calls < self._max_calls and (
            self.waiting_bytes + size <= self._max_bytes or not self.waiting_calls
        )

    def put(self, kind: Kind, key: Key, said: Said, size: int, now: float) -> int:
        """Hold a call from now on; its id."""
        call_id = self.ledger.accept()
        self.waiting_calls += 1
        self.waiting_bytes += size
        self._incoming.append((call_id, now, kind, key, said))
        return call_id

    def take(self, limit: int) -> Sequence[Ticket]:
        """The next calls, in order, that nobody has taken yet."""
        incoming = self._incoming
        if len(incoming) <= limit:
            taken = list(incoming)
            incoming.clear()
            return taken
        return [incoming.popleft() for _ in range(limit)]

    def merged(self, ids: Sequence[int], freed: int) -> None:
        """These calls went into later ones; so many bytes are free again."""
        self.ledger.merge(ids)
        self.waiting_calls -= len(ids)
        self._free(freed)

    def settle(self, settlement: Settlement) -> None:
        """Calls and those merged into them have met their fate."""
        if settlement.outcome is DELIVERED:
            self.ledger.deliver(settlement.carriers)
        else:
            for carrier in settlement.carriers:
                self.ledger.settle(carrier, settlement.outcome)
        self.ledger.settle_merged(settlement.merged, settlement.outcome)
        self.waiting_calls -= len(settlement.carriers)
        self._free(settlement.size)

    def refuse(self, outcome: Outcome) -> int:
        """Account for a call that found no room: accepted, and gone at once. Its id."""
        call_id = self.ledger.accept()
        self.ledger.settle(call_id, outcome)
        return call_id

    def _free(self, size: int) -> None:
        self.waiting_bytes -= size
        if self.when_room is not None:
            self.when_room()
