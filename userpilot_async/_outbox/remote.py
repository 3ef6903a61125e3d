"""An outbox across a network, as its client sees it: it may be away, and then callers wait, or need not."""

from __future__ import annotations

from typing import Literal

import anyio

from .._calls.dedupe import DedupeKey
from .._calls.payload import Key, Kind, Payload
from .._errors.tree import ConfigurationError, OutboxError
from .batch import Batch, Put
from .durable import DurableOutbox
from .protocol import Opening
from .receipt import Receipt
from .remote_session import RemoteSession

PATIENCE = 2  # deadlines; then a question that trickles on is broken off from outside


class RemoteOutbox(DurableOutbox):
    """All that durable outboxes across a network share. With a ``fallback``, calls wait in memory while it is away."""

    _session: RemoteSession
    _timeout: float
    """Seconds that a question may take: a kind of outbox sets this."""

    def __init__(self, *, sender: bool, max_bytes: int, rebind: bool, fallback: Literal["memory"] | None) -> None:
        if fallback not in (None, "memory"):
            raise ConfigurationError('fallback must be None or "memory"')
        self._fallback = fallback
        super().__init__(sender=sender, max_bytes=max_bytes, rebind=rebind)

    def _new_session(self) -> RemoteSession:
        return RemoteSession(self.place, self.most_at_once, fallback=self._fallback is not None)

    @property
    def away(self) -> bool:
        """The place does not answer at present."""
        return self._session.away

    # ── opening and closing ──

    async def open(self, opening: Opening) -> None:
        """Start the thread, and wait until the place has answered, or does not. Raises as `DurableOutbox.open`."""
        opening.tasks.start_soon(self._watch_questions)
        await super().open(opening)

    async def _watch_questions(self) -> None:
        """A socket's deadline starts anew with each byte that comes, and a name server has none."""
        await anyio.sleep(PATIENCE * self._timeout)
        session = self._session
        if not session.is_open.past:
            session.began_away()
        while self._in_use:
            await anyio.sleep(self._timeout / 2)
            if session.store is not None:
                session.store.break_off_if_older(PATIENCE * self._timeout)

    async def aclose(self) -> None:
        """Write what is left, let another process send, end the thread.

        Where the place is away, what is not held is lost, and that must be known in time: a caller that waits knows it
        by the end of the wait.
        """
        if self._in_use and self.away:
            self._session.incoming.give_up(OutboxError(f"{self.place} does not answer"))
        await super().aclose()

    # ── calls ──

    def _may_leave(self, put: Put, waited: bool) -> bool:
        """The place is away, or too slow: need the caller not wait?"""
        if self._fallback is None or not (waited or self.away):
            return False
        put.awaited = False
        return True

    async def hold(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, max_wait: float | None = None,
        dedupe: DedupeKey | None = None,
    ) -> Receipt | None:  # fmt: skip
        """As for every outbox; but with ``fallback``, while the place is away, a call is held in memory."""
        if self.away and self._fallback is not None:
            return self.put(kind, key, payload, size, now, dedupe)
        return await super().hold(kind, key, payload, size, now, max_wait, dedupe)

    def _is_worth_waiting_for(self, batch: Batch) -> bool:
        """While the place is away, not so calls that found no room, and whose callers know that."""
        notes = batch.term == self.send_log.term and batch.has_senders_notes()
        return not self.away or any(not put.withdrawn for put in batch.puts) or notes
