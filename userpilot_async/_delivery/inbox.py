"""Calls from other threads, on their way into the client's event loop.

Any thread puts; the loop takes, a slice at a time. A call here is checked and encoded, is in no account yet, and counts
against the limits of the queue. One wake-up of the loop serves all calls that come before it takes them.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator

from .._account.pages import Pages
from .._calls.dedupe import DedupeKey
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload
from .._outbox.receipt import Receipt
from .._runtime.event_loop import HomeLoop
from .._runtime.log import log
from .dead_letters import DeadLetter

SLICE = 100  # calls taken in one go: a quarter of a millisecond of the loop, beside the 250 that the sender takes
MOST_REFUSED = 10_000  # refused calls kept until the loop accounts for them, as `dead_letters.MAX_LETTERS`
FULL = Outcome("dropped", "queue_full")

Call = tuple[Kind, Key, Payload, int, float, DedupeKey | None, Receipt]
"""As `client.Checked`, with the loop's time at which it was made, its key, and the receipt that its caller has."""
Refused = tuple[Outcome, DeadLetter, Receipt]
"""A call that is not to be held, what `on_dead` gets of it, and the receipt that its caller has."""


class Shut(Exception):
    """The inbox takes nothing: the client is not open, or its loop has ended."""


class Inbox:
    """Holds the calls that other threads have put, until the loop takes them. ``owner`` is for messages."""

    def __init__(self, owner: str, max_calls: int, max_bytes: int) -> None:
        self.calls: deque[Call] = deque()
        self.refused: deque[Refused] = deque()
        self.uncounted: Counter[Outcome] = Counter()
        """Refused calls of which nothing but their number is known any more."""
        self.came = 0
        """Number of calls that were put, ever."""
        self._came_bytes = 0
        self._taken = self._taken_bytes = 0  # by the loop alone
        self._displaced = self._displaced_bytes = 0  # by threads, under the lock
        self.refused_came = 0
        """Number of calls that were refused, ever."""
        self.refused_gone = 0
        """Number of refused calls that the loop has accounted for."""
        self._owner, self._pid = owner, os.getpid()
        self._max_calls, self._max_bytes = max_calls, max_bytes
        # A signal handler, or a finaliser, may put a call while this very thread puts one.
        self._lock = threading.RLock()
        self._open = self._awake = False

    def open(
        self,
        home: HomeLoop,
        pages: Pages,
        *,
        has_room: Callable[[int, int, int], bool],
        take: Callable[[], object],
        dead_letter: Callable[[Kind, Key, Payload, Outcome], DeadLetter],
    ) -> None:
        """Take calls from now on.

        ``has_room(size, calls, size_of_those)`` is asked, in any thread, whether one more fits behind those that are
        here; ``take()`` is called in the loop when there is something to take. ``dead_letter`` gives
        the one about a call that had to make room.
        """
        self._home, self._pages, self._has_room, self._take = home, pages, has_room, take
        self._dead_letter_of = dead_letter
        self._context = contextvars.copy_context()  # not that of the thread which happens to wake the loop
        # Trio's loop does not end before the client's tasks have: see `be_wary`.
        self._is_closed: Callable[[], bool] = getattr(home.loop, "is_closed", None) or (lambda: False)
        self._pid, self._open = os.getpid(), True

    def shut(self) -> None:
        """Take nothing any more: all that `put` has accepted is here now, or was taken."""
        with self._lock:
            self._open = False

    def __del__(self) -> None:
        if self._open and self.calls and self._pid == os.getpid():
            self.warn_lost(len(self.calls))

    def warn_lost(self, calls: int) -> None:
        """Log and warn that the loop has ended before it could take these calls."""
        message = f"a {self._owner} was not closed: {calls} calls of other threads have not been taken into its loop"
        log(logging.ERROR, message)
        warnings.warn(message, ResourceWarning, stacklevel=2)

    # ── in any thread ──

    def put(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, dedupe: DedupeKey | None = None, *,
        displaces: bool = False,
    ) -> Receipt | None:  # fmt: skip
        """Hand in a call; `None` if there is no room for it. Raises `Shut`.

        ``displaces``: the oldest calls here make room for it, and the loop makes room where it takes it.
        """
        if not self._open:
            raise Shut
        receipt = Receipt(self._pages)
        call = (kind, key, payload, size, now, dedupe, receipt)
        with self._lock:
            if not self._open:
                raise Shut
            if displaces:
                self._displace(size)
            elif not self._fits(size):
                return None
            self.came += 1
            self._came_bytes += size
            self.calls.append(call)  # last: the loop may take it at once
        if (not self._awake or self._is_closed()) and not self.wake():
            self._take_back(call)
        return receipt

    def refuse(self, outcome: Outcome, dead_letter: DeadLetter) -> Receipt:
        """Have a call accounted for that is not held; its receipt says so at once. Raises `Shut`."""
        if not self._open:
            raise Shut
        receipt = Receipt(self._pages)
        receipt.failed(outcome)
        with self._lock:
            if not self._open:
                raise Shut
            self._refuse(outcome, dead_letter, receipt)
        if (not self._awake or self._is_closed()) and not self.wake():
            raise Shut
        return receipt

    def be_wary(self) -> None:
        """Ask the loop each time whether it is still there, as it may be about to end."""
        self._is_closed = lambda: True

    def wake(self) -> bool:
        """Have the loop take what is here; false if it has ended."""
        self._awake = True
        try:
            self._home.soon(self._context.run, self._poll)
        except RuntimeError:
            self.shut()
            return False
        return True

    @property
    def on_its_way(self) -> int:
        """Number of calls that are here, refused ones among them: in no account yet."""
        return self.came - self.gone + self.refused_came - self.refused_gone

    @property
    def gone(self) -> int:
        """Number of the calls that `came` and have left again: taken, or displaced."""
        return self._taken + self._displaced

    @property
    def _waiting_bytes(self) -> int:
        return self._came_bytes - self._taken_bytes - self._displaced_bytes

    def _fits(self, size: int) -> bool:
        calls = self.came - self._taken - self._displaced
        waiting = self._came_bytes - self._taken_bytes - self._displaced_bytes
        if calls >= self._max_calls or (calls and waiting + size > self._max_bytes):
            return False
        return self._has_room(size, calls, waiting)

    def _displace(self, size: int) -> None:
        """Refuse the oldest calls here until one more of ``size`` bytes is within the limits."""
        while self.came - self.gone >= self._max_calls or self._waiting_bytes + size > self._max_bytes:
            try:
                kind, key, payload, displaced, _, _, receipt = self.calls.popleft()
            except IndexError:  # a large one, into an empty queue
                return
            self._displaced += 1
            self._displaced_bytes += displaced
            self._refuse(FULL, self._dead_letter_of(kind, key, payload, FULL), receipt)

    def _refuse(self, outcome: Outcome, dead_letter: DeadLetter, receipt: Receipt) -> None:
        self.refused_came += 1
        if len(self.refused) < MOST_REFUSED:
            self.refused.append((outcome, dead_letter, receipt))
        else:
            self.uncounted[outcome] += 1
            receipt.failed(outcome)  # the loop will not know of it

    def _take_back(self, call: Call) -> None:
        """Take a call back, as the loop has ended: raises `Shut`, unless it was taken in the loop's last moment."""
        with self._lock:
            if call not in self.calls:  # taken in the loop's last moment
                return
            self.calls.remove(call)
            _, _, _, size, *_ = call
            self._displaced += 1
            self._displaced_bytes += size
        raise Shut

    # ── in the loop ──

    @property
    def waits(self) -> bool:
        """Whether there is something to take."""
        return self.on_its_way > 0

    def next_calls(self, limit: int) -> Iterator[Call]:
        """Take up to ``limit`` calls, in order; each one counts as here until the next one is asked for."""
        for _ in range(limit):
            try:
                call = self.calls.popleft()
            except IndexError:
                return
            _, _, _, size, *_ = call
            try:
                yield call
            finally:
                self._taken += 1
                self._taken_bytes += size

    def next_refused(self, limit: int) -> Iterator[tuple[Outcome, DeadLetter | None, Receipt | None]]:
        """Take up to ``limit`` refused calls; those of which only the number is known lack dead letter and receipt."""
        for _ in range(limit):
            try:
                refused = self.refused.popleft()
            except IndexError:
                break
            self.refused_gone += 1
            yield refused
        if not self.refused and self.uncounted:
            with self._lock:
                outcome, calls = next(iter(self.uncounted.items()))
                counted = min(calls, limit)
                self.uncounted[outcome] -= counted
                self.uncounted += Counter()  # without those that are 0 now
            self.refused_gone += counted
            for _ in range(counted):
                yield outcome, None, None

    def _poll(self) -> None:
        self._awake = False  # before taking: what comes from now on wakes the loop again
        self._take()
        if (self.calls or self.refused or self.uncounted) and not self._awake:
            self.wake()
