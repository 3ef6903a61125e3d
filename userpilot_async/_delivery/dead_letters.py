"""Dead letters: every call that is lost reaches `on_dead`, in a task of its own."""

from __future__ import annotations

import inspect
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from .._account.losses import Losses, counted
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload
from .._runtime.event_loop import cancelled_natively
from .._runtime.log import RateLimitedLog
from .._runtime.reentry import in_on_dead, marked
from .._schedule.destination import Destination, LostCall
from .._schedule.settlement import Settlement

MAX_LETTERS = 10_000  # of calls that found no room, which nothing else bounds; beyond that they are only counted
FIRST_PAUSE = 1.0  # seconds before a letter that the callback has caused; a queue that is full for a moment is no more
LONGEST_PAUSE = 60.0  # as long as between two probes of a server that refuses the key

OnDead = Callable[[Any], Awaitable[None] | None]
"""`Any` is the destination's kind of `LostCall`."""
DeadLetter = Callable[[], LostCall]
"""Makes what `on_dead` gets, when it is delivered: where no callback was given, that costs nothing."""


def lost_call(destination: Destination, outcome: Outcome, **known: Any) -> LostCall:
    """Make what `on_dead` gets of a call with this outcome; ``known`` are more fields of `LostCall`."""
    status = "dead" if outcome.status == "dead" else "dropped"
    return destination.lost_call(status=status, reason=outcome.reason or "", **known)


def unheld_call(
    destination: Destination, is_read: bool, kind: Kind, key: Key, payload: Payload, outcome: Outcome
) -> DeadLetter:
    """Give the dead letter of a call that was never held; without the call, if no callback reads it."""
    if not is_read:
        return partial(lost_call, destination, outcome)
    return lambda: lost_call(destination, outcome, call=destination.call_of(kind, key, payload))


def lost_settlement(destination: Destination, settlement: Settlement) -> LostCall:
    """Make what `on_dead` gets of calls that the schedule has settled, with the server's words about them."""
    return lost_call(
        destination,
        settlement.outcome,
        call=settlement.call(destination),
        merged=len(settlement.merged),
        detail=settlement.words.detail,
        error_code=settlement.words.error_code,
        request_id=settlement.words.request_id,
    )


class DeadLetters:
    """Delivers to the application's callback, whatever it does: raise, block, or call the client.

    A letter about a call that the callback itself has made waits, or a callback that makes each lost call again, while
    the queue is full, would do nothing else: one such letter a pause, which doubles as long as the callback causes
    another. After one that does not, and a quiet second, they go on at once. All others go at once in any case.
    """

    def __init__(self, on_dead: OnDead | None, log: RateLimitedLog) -> None:
        self.failures = 0
        """Callbacks that raised, and letters that found no room."""
        self.are_read = on_dead is not None
        """A callback was given; without one, no letter is ever made."""
        self._on_dead = on_dead
        self._log = log
        self._waiting: deque[DeadLetter] = deque()
        self._caused: deque[DeadLetter] = deque()
        """About calls that the callback made."""
        self._relapses = self._known_relapses = 0
        """How often the callback has made a call that was lost, and had when a caused letter was last delivered."""
        self._pause = FIRST_PAUSE
        self._seems_well = False
        """The last caused letter has caused no other, yet: a task of the callback's may do so later."""
        self._calm = False
        """No caused letter has caused another, for a whole pause."""
        self._due: float | None = None
        """When the pause that has begun is over, in the loop's seconds."""
        self._last_turn = -math.inf
        self._expedited = False
        self._news = anyio.Event()
        self._delivering = False
        self._in_hand = False
        self._delivered = anyio.Event()
        self._delivered.set()

    def post(self, dead_letter: DeadLetter, *, bounded: bool = False) -> None:
        """Queue a dead letter, unless no callback was given.

        ``bounded`` letters, of calls that were never held, are refused when there are `MAX_LETTERS`.
        """
        if self._on_dead is None:
            return
        caused = in_on_dead.get()
        self._relapses += caused
        if (bounded or caused) and self._left >= MAX_LETTERS:
            self._undelivered(1)
            return
        (self._caused if caused else self._waiting).append(dead_letter)
        self._news.set()
        if self._delivered.is_set():
            self._delivered = anyio.Event()

    @property
    def _left(self) -> int:
        return len(self._waiting) + len(self._caused)

    def wants_task(self) -> bool:
        """Ask whether letters wait and none is being delivered: then start `deliver_all`."""
        return self._left > 0 and not self._delivering

    def expedite(self) -> None:
        """Make no more pauses: the client closes, and takes no more calls of the callback's."""
        self._expedited = True
        self._news.set()

    async def deliver_all(self) -> None:
        """Deliver all letters that wait. A callback that gets this task cancelled costs its own letter only."""
        if self._delivering:  # since this task was wanted
            return
        self._delivering = True
        try:
            while self._left:
                if self._waiting:
                    await self._deliver(self._waiting.popleft())
                elif (self._expedited or await self._may_go_on()) and self._caused:  # or they were given up meanwhile
                    await self._deliver_caused()
        except anyio.get_cancelled_exc_class():
            if not cancelled_natively():
                raise
            self.failures += self._in_hand
        finally:
            self._delivering = self._in_hand = False
            if not self._left:
                self._delivered.set()

    @property
    def are_delivered(self) -> bool:
        """No letter waits, and none is being delivered."""
        return self._delivered.is_set()

    async def _may_go_on(self) -> bool:
        """Wait until a letter that the callback has caused may be delivered; false if that is to be asked again."""
        now = anyio.current_time()
        if now - self._last_turn > LONGEST_PAUSE and self._due is None:  # whatever was then, is over
            self._pause, self._calm = FIRST_PAUSE, False
        if self._calm and self._relapses == self._known_relapses:
            return True
        self._calm = False
        if self._due is None:
            self._due = now + (FIRST_PAUSE if self._seems_well else self._pause)
        self._news = anyio.Event()
        with anyio.move_on_after(self._due - now):
            await self._news.wait()  # another letter, which need not wait
            return False
        self._due = None
        self._calm = self._relapses == self._known_relapses
        if self._seems_well and not self._calm:  # it only seemed so
            self._seems_well = False
            return False
        self._pause = FIRST_PAUSE if self._calm else min(2 * self._pause, LONGEST_PAUSE)
        return True

    async def _deliver_caused(self) -> None:
        self._known_relapses, self._last_turn = self._relapses, anyio.current_time()
        await self._deliver(self._caused.popleft())
        self._seems_well = self._relapses == self._known_relapses

    def give_up(self) -> None:
        """Count the letters that were not delivered, because the time for it is over."""
        if self._left or self._in_hand:
            self._undelivered(self._left + self._in_hand)
            self._waiting.clear()
            self._caused.clear()

    def _undelivered(self, letters: int) -> None:
        self.failures += letters
        self._log.count("on_dead_full", letters, words=lambda: _undelivered_line)

    async def wait_delivered(self) -> None:
        """Wait until no letter is left."""
        await self._delivered.wait()

    async def _deliver(self, dead_letter: DeadLetter) -> None:
        assert self._on_dead is not None
        self._in_hand = True
        try:
            with marked(True):
                result = self._on_dead(dead_letter())
                if inspect.isawaitable(result):
                    await result
        except Exception as exc:  # the application's code: its failure must not stop the deliveries
            self.failures += 1
            message = f"on_dead raised {type(exc).__name__}; statistics().on_dead_failures counts how often; mend it"
            self._log.warn("on_dead", message, level=logging.ERROR)
        self._in_hand = False
        await anyio.lowlevel.checkpoint()  # a callback that never waits must not hold the loop for 10,000 letters


def _undelivered_line(letters: Losses) -> str:
    return f"{counted(letters.calls, 'dead letter')} not delivered: on_dead is too slow; have it only put them aside"
