"""Waiting for room in a full outbox, in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from .._outbox.protocol import Outbox


class Backpressure:
    """The line of those who wait. Everybody who comes while it is not empty stands at its end."""

    def __init__(self, outbox: Outbox, max_wait: float | None) -> None:
        self.waiters: deque[anyio.Event] = deque()
        self._outbox = outbox
        self._max_wait = max_wait
        self._open = True

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncGenerator[bool, None]:
        """True as soon as ``size`` bytes fit and nobody is in front; false after `max_wait`, or on `close`.

        A waiter who is cancelled has taken no room.
        """
        turn = anyio.Event()
        self.waiters.append(turn)
        self._outbox.when_room = self._let_in
        has_room = False
        try:
            with anyio.move_on_after(self._max_wait):
                while self._open and not (self.waiters[0] is turn and self._outbox.has_room(size)):
                    await turn.wait()
                    position = self.waiters.index(turn)
                    turn = self.waiters[position] = anyio.Event()
                has_room = self._open
            yield has_room
        finally:
            self.waiters.remove(turn)
            if self.waiters:
                self._let_in()
            else:
                self._outbox.when_room = None

    def close(self) -> None:
        """Send everybody away."""
        self._open = False
        for turn in self.waiters:
            turn.set()

    def _let_in(self) -> None:
        if self.waiters and self._outbox.has_room(1):
            self.waiters[0].set()
