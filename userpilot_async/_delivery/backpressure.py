"""Back-pressure: what a call does that meets a full outbox. It waits its turn, or the oldest calls make room for it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from .._outbox.protocol import Outbox
from .._settings import DeliverySettings
from .admission import Admission
from .inbox import FULL
from .sender import Sender


class Backpressure:
    """The line of callers that wait for room. A caller that comes while it is not empty stands at its end."""

    def __init__(self, settings: DeliverySettings, outbox: Outbox, admission: Admission, sender: Sender) -> None:
        self.waiters: deque[anyio.Event] = deque()
        """One event for each caller that waits, in order; set when the caller may try again."""
        self._settings = settings
        self._outbox = outbox
        self._admission = admission
        self._sender = sender
        self._open = True

    @property
    def waits(self) -> bool:
        """Whether a call that finds no room waits for it: the settings say so, and the sender makes some."""
        return self._settings.when_full == "wait" and self._sender.can_send

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncGenerator[bool, None]:
        """Give true as soon as ``size`` bytes fit and no other caller is in front; false after `max_wait` or `close`.

        A waiter who is cancelled has taken no room.
        """
        turn = anyio.Event()
        self.waiters.append(turn)
        self._outbox.when_room = self._let_in
        has_room = False
        try:
            with anyio.move_on_after(self._settings.max_wait):
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

    def displace(self, size: int) -> bool:
        """Make room for ``size`` bytes by dropping the oldest calls, if the settings say so; false if there is none.

        Raises `QueueFull` if the settings ask for it.
        """
        if self._settings.when_full == "raise":
            raise self._admission.full()
        if self._settings.when_full != "drop_oldest" or not self._sender.can_send:
            return False
        self._sender.take_in()
        while not self._outbox.has_room(size):
            if not self._sender.schedule.drop_oldest(FULL):
                return False
            self._sender.carry_on()
        return True

    def close(self) -> None:
        """Send all callers away that wait, and let none wait from now on."""
        self._open = False
        for turn in self.waiters:
            turn.set()

    def _let_in(self) -> None:
        if self.waiters and self._outbox.has_room(1):
            self.waiters[0].set()
