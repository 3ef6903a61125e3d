"""The calls of a durable outbox that the sender has in hand: so many at a time, in order, not all one user's.

Calls are read in the order of their ids. A user who has many in hand already is passed over: what they have beyond that
is read later, so that one user with 100,000 events does not fill the window and starve the rest. Nothing may overtake
a passed-over call that it matters to (that says something of the same company); where a person has several ids, that
is not certain. Reading stops in front of such a call until there is nothing left to pass over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import attrs

from .._account.ledger import settled_twice
from .._calls.payload import Key, Ticket, companion_key, companion_of, ticket_key, ticket_payload

WINDOW = 10_000  # calls in hand at once, merged ones not counted: a backlog costs no more memory
MOST_FILED = 100_000  # besides those that a file of ours holds, which may take the server an hour
MOST_MERGED = 1_000_000  # ids of merged calls in hand besides, 8 bytes each
READ = 1_000  # calls read in one go
LOOKED_AT = 50_000  # ids looked at in one go for one user's: some milliseconds, where all other calls are others'
LONG = 1_000  # calls of one user in hand, beyond which others come first


@attrs.frozen(eq=False)
class Reading:
    """Calls to be read: from the id ``start`` on, ``limit`` of them at most."""

    start: int
    end: int
    """Where the calls ended when this was asked for; for one user, how far others have been read."""
    limit: int
    only: Key | None = None
    """Only this user's calls are read, below ``end``."""
    without: frozenset[Key] = frozenset()
    """Or everybody's but theirs; and of theirs what says something of another."""

    def looks_to(self, start: int) -> int:
        """For one user, the id in front of which a look at the calls from ``start`` on ends: no index has their keys,
        and a look at all of them would take long.
        """
        return min(max(self.end, start), start + LOOKED_AT)


@attrs.frozen
class Found:
    """A call that was read."""

    ticket: Ticket = attrs.field(repr=False)
    """The call; its time is a date of the calendar."""
    sent: bool = False
    """A request with it was under way when its sender ended."""


@attrs.frozen
class Read:
    """Calls that were read, in order."""

    found: Sequence[Found]
    read_to: int
    """All calls before this have been read, or were passed over."""
    full: bool
    """There may be more of what was asked for."""
    offset: float | None = None
    """From the machine's steady clock to the calendar of this reading, in seconds: the times in it are corrected to
    that. ``None`` where the place has a calendar of its own.
    """


class Window:
    """Decides what is read next; times in it are the schedule's."""

    def __init__(self) -> None:
        self.reading: Reading | None = None
        """What is being read."""
        self._ready: deque[Ticket] = deque()
        self._keys: dict[int, Key] = {}
        self._in_hand: dict[Key, int] = {}
        self._filed: set[int] = set()
        self._merged = 0
        self._passed: dict[Key, int] = {}  # who was passed over, and from which call on
        self._touched: dict[Key, set[Key]] = {}  # and of whom else their passed-over calls say something
        self._blocked = False
        self._persons = False  # there are people with several ids: no user is passed over
        self.read_to = self._end = 0

    @property
    def is_busy(self) -> bool:
        """There are calls in hand, or to be read."""
        to_come = self.reading is not None or self._passed or self.read_to < self._end
        return bool(self._keys or self._merged or to_come)

    def begin(self, start: int) -> None:
        """Read from this call on."""
        self.read_to = start

    def reaches(self, end: int) -> None:
        """There are calls up to this."""
        self._end = end

    def clear(self) -> None:
        """Give nothing out any more."""
        self._ready.clear()
        self._end = self.read_to = 0

    def take(self, limit: int) -> list[Ticket]:
        """The next calls; none while there are as many in hand as may be."""
        taken = len(self._keys) - len(self._ready) - min(len(self._filed), MOST_FILED)
        most = min(limit, len(self._ready), WINDOW - taken) if self._merged < MOST_MERGED else 0
        return [self._ready.popleft() for _ in range(most)]

    def filed(self, ids: Iterable[int], filed: bool) -> None:
        """The server has these in a file, and works them off; or has them no more."""
        if filed:
            self._filed.update(call_id for call_id in ids if call_id in self._keys)
        else:
            self._filed.difference_update(ids)

    def merged(self, ids: Iterable[int]) -> None:
        """Note that calls went into others: only their ids are kept."""
        self._merged += self._leave(ids)

    def settled(self, carriers: Iterable[int], merged: Sequence[int]) -> None:
        """Let go of calls that are settled."""
        self._leave(carriers)
        self._merged -= len(merged)

    def _leave(self, ids: Iterable[int]) -> int:
        left = 0
        for call_id in ids:
            if call_id not in self._keys:
                raise settled_twice(call_id)
            key = self._keys.pop(call_id)
            left += 1
            if self._filed:
                self._filed.discard(call_id)
            if self._in_hand[key] > 1:
                self._in_hand[key] -= 1
            else:
                del self._in_hand[key]
        return left

    def wants(self) -> Reading | None:
        """The calls to be read next, if there are any; from now on they are being read."""
        if self.reading is not None:
            return None
        for key, start in self._passed.items():
            if self._in_hand.get(key, 0) <= LONG // 2:
                self.reading = Reading(start, self.read_to, LONG // 2, only=key)
                return self.reading
        if self.read_to < self._end and len(self._ready) < READ and not self._blocked:
            self.reading = Reading(self.read_to, self._end, READ, without=frozenset(self._passed))
            return self.reading
        return None

    def arrived(self, read: Read, accepted_at: Callable[[float], float]) -> None:
        """Take in calls that were read, with calendar times, which ``accepted_at`` turns into the schedule's."""
        reading, self.reading = self.reading, None
        assert reading is not None
        if reading.only is not None:
            for one in read.found:
                self._add(one.ticket, accepted_at)
            if read.full:
                self._passed[reading.only] = read.read_to
            else:
                del self._passed[reading.only]
                self._touched.pop(reading.only, None)
                self._blocked = False
            return
        self.read_to = read.read_to if read.full else max(read.read_to, reading.end)
        for one in read.found:
            call_id, _, _, key, _ = one.ticket
            other, several = _other(one.ticket), isinstance(key, tuple)
            self._persons = self._persons or several
            if self._passed and (several or self._matters(key, other)):  # and must not become one of them, either
                self.read_to, self._blocked = call_id, True
                return
            if key not in self._passed and self._in_hand.get(key, 0) >= LONG and not self._persons:
                self._passed[key] = call_id
            if key not in self._passed:
                self._add(one.ticket, accepted_at)
            elif other is not None:
                self._touched.setdefault(key, set()).add(other)

    def _matters(self, key: Key, other: Key | None) -> bool:
        """A user who was passed over has said something of the same."""
        touched = (others for whose, others in self._touched.items() if whose != key)
        return (other != key and other in self._passed) or any(key in others or other in others for others in touched)

    def pass_on(self, first: int, tickets: Sequence[Ticket]) -> None:
        """Calls just put, counting up from ``first``, need not be read again where nothing unread lies before them."""
        if self.reading is not None or self.read_to != first or self._passed or len(self._ready) >= READ:
            return
        for ticket in tickets:
            if self._in_hand.get(ticket_key(ticket), 0) >= LONG:
                return
            self._hold(ticket)
            self.read_to += 1

    def _add(self, ticket: Ticket, accepted_at: Callable[[float], float]) -> None:
        call_id, at, kind, key, payload = ticket
        self._hold((call_id, accepted_at(at), kind, key, payload))

    def _hold(self, ticket: Ticket) -> None:
        call_id, _, _, key, _ = ticket
        self._persons = self._persons or isinstance(key, tuple)
        self._ready.append(ticket)
        self._keys[call_id] = key
        self._in_hand[key] = self._in_hand.get(key, 0) + 1


def _other(ticket: Ticket) -> Key | None:
    """Of whom else this call says something."""
    companion = companion_of(ticket_payload(ticket))
    return companion_key(companion) if companion is not None else None
