"""How a checked call comes to be held: at once, in its turn, or as the settings say where there is no room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .._calls.dedupe import DedupeKey
from .._calls.payload import Key, Kind, Payload
from .._errors.tree import QueueFull
from .._outbox.protocol import Outbox
from .._outbox.receipt import Receipt
from .._settings import DeliverySettings
from .admission import Admission
from .backpressure import Backpressure
from .inbox import Call
from .refusals import Refusals
from .sender import Sender
from .threads import ThreadCalls


class Holding:
    """Puts calls into the outbox, in the client's own loop. ``coming`` are those that other threads have handed in."""

    def __init__(
        self,
        settings: DeliverySettings,
        outbox: Outbox,
        admission: Admission,
        sender: Sender,
        backpressure: Backpressure,
        refusals: Refusals,
        threads: ThreadCalls,
        coming: deque[Call],
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._admission = admission
        self._sender = sender
        self.backpressure: Backpressure = backpressure
        self.refusals: Refusals = refusals
        self._threads = threads
        self._coming = coming
        self._now = now

    async def hold(
        self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None, *, goes_first: bool
    ) -> Receipt:
        """Hold a call that waits where it must; one whose key is known needs no room.

        ``goes_first``: other tasks are due to run before it.
        """
        if self._coming or goes_first:
            await self._threads.go_first()
        known = self._outbox.known_under(dedupe) if dedupe is not None else None
        if known is not None:
            return known
        if self.backpressure.waiters or not self._outbox.has_room(size):
            return await self._when_full(kind, key, payload, size, dedupe)
        return await self._hold(kind, key, payload, size, dedupe)

    async def _hold(self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None) -> Receipt:
        """Hold a call that there is room for; a durable outbox that does not answer is met like a full one."""
        if not self._outbox.durable:
            return self._put(kind, key, payload, size, dedupe)
        if not self._admission.home.runs_here():
            raise self._admission.refusal()
        receipt = await self._outbox.hold(kind, key, payload, size, self._now(), self._settings.max_wait, dedupe)
        if receipt is not None:
            return receipt
        if self._settings.when_full == "raise":
            raise QueueFull(f"{self._outbox.place} did not take the call within {self._settings.max_wait} s")
        return self.refusals.no_room(kind, key, payload, "outbox")

    async def _when_full(self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None) -> Receipt:
        """Do with a call what the settings say, because the queue is full."""
        if self.backpressure.waits:
            async with self.backpressure.turn(size) as has_room:
                hold, no_room = self._hold, self.refusals.no_room
                return await hold(kind, key, payload, size, dedupe) if has_room else no_room(kind, key, payload)
        if self.backpressure.displace(size):
            return await self._hold(kind, key, payload, size, dedupe)
        return self.refusals.no_room(kind, key, payload)

    def put_nowait(self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None) -> Receipt:
        """Hold a call without waiting; where there is no room it is dropped, or others are."""
        if self._coming or (self._sender.asleep and not self._admission.home.runs_here()):
            return self._threads.put(kind, key, payload, size, dedupe)  # behind what other threads have put before
        known = self._outbox.known_under(dedupe) if dedupe is not None else None
        if known is not None:
            return known
        has_room = not self.backpressure.waiters and self._outbox.has_room(size)
        if not has_room and not self.backpressure.displace(size):
            return self.refusals.no_room(kind, key, payload)
        return self._put(kind, key, payload, size, dedupe)

    def _put(self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None) -> Receipt:
        if self._sender.asleep:
            if not self._admission.home.runs_here():
                raise self._admission.refusal()
            self._sender.calls_came()
        return self._outbox.put(kind, key, payload, size, self._now(), dedupe)
