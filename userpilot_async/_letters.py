"""Dead letters: every call that is lost reaches `on_dead`, in a task of its own."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel

from ._destination import LostCall
from ._loops import cancelled_natively
from ._losses import Losses, counted
from ._notices import Notices

MAX_LETTERS = 10_000  # of calls that found no room, which nothing else bounds; beyond that they are only counted


OnDead = Callable[[Any], Awaitable[None] | None]
"""`Any` is the destination's kind of `LostCall`."""


class Letters:
    """Delivers to the application's callback, whatever it does: raise, block, or call the client."""

    def __init__(self, on_dead: OnDead | None, notices: Notices) -> None:
        self.failures = 0
        """Callbacks that raised, and letters that found no room."""
        self._on_dead = on_dead
        self._notices = notices
        self._waiting: deque[Callable[[], LostCall]] = deque()
        self._delivering = False
        self._delivered = anyio.Event()
        self._delivered.set()

    def post(self, letter: Callable[[], LostCall], *, bounded: bool = False) -> None:
        """Queue a letter, made when it is delivered: nobody pays for it who does not read it.

        ``bounded`` letters, of calls that were never held, are refused when there are too many.
        """
        if self._on_dead is None:
            return
        if bounded and len(self._waiting) >= MAX_LETTERS:
            self._undelivered(1)
            return
        self._waiting.append(letter)
        if self._delivered.is_set():
            self._delivered = anyio.Event()

    def wants_task(self) -> bool:
        """There are letters, and nobody delivers them: start `deliver_all`."""
        return bool(self._waiting) and not self._delivering

    async def deliver_all(self) -> None:
        """Deliver what is there. A callback that gets this task cancelled costs its own letter only."""
        self._delivering = True
        try:
            while self._waiting:
                await self._deliver(self._waiting.popleft())
        except anyio.get_cancelled_exc_class():
            if not cancelled_natively():
                raise
            self.failures += 1
        finally:
            self._delivering = False
            if not self._waiting:
                self._delivered.set()

    @property
    def are_delivered(self) -> bool:
        """There are none, and none is under way."""
        return self._delivered.is_set()

    def give_up(self) -> None:
        """There is no more time: count what was not delivered."""
        if self._waiting or self._delivering:
            self._undelivered(len(self._waiting) + self._delivering)
            self._waiting.clear()

    def _undelivered(self, letters: int) -> None:
        self.failures += letters
        self._notices.count("on_dead_full", letters, words=lambda: _undelivered_line)

    async def wait_delivered(self) -> None:
        """Until there are no letters left."""
        await self._delivered.wait()

    async def _deliver(self, letter: Callable[[], LostCall]) -> None:
        assert self._on_dead is not None
        try:
            outcome = self._on_dead(letter())
            if inspect.isawaitable(outcome):
                await outcome
        except Exception as exc:  # the application's code: its failure must not stop the deliveries
            self.failures += 1
            message = f"on_dead raised {type(exc).__name__}; statistics().on_dead_failures counts how often; mend it"
            self._notices.say(logging.ERROR, "on_dead", message)
        await anyio.lowlevel.checkpoint()  # a callback that never waits must not hold the loop for 10,000 letters


def _undelivered_line(letters: Losses) -> str:
    return f"{counted(letters.calls, 'dead letter')} not delivered: on_dead is too slow; have it only put them aside"
