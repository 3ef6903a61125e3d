"""An outbox across a network, as its client sees it: it may be away, and then callers wait, or need not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from .._calls.dedupe import DedupeKey
from .._calls.payload import Key, Kind, Payload
from .._errors.foreign import must_be
from .._errors.tree import ConfigurationError, OutboxError
from .batch import Batch, Put
from .durable import DurableOutbox
from .protocol import Opening
from .receipt import Receipt
from .remote_session import RemoteSession
from .url import Readers, flag_in_url, number_in_url, word_in_url

PATIENCE = 2  # deadlines; then a question that trickles on is broken off from outside
LEASE_TTL, SHORTEST_LEASE = 10.0, 1.0  # seconds; it is renewed when the thread polls, every quarter of a second
KEEP_LOST = 7 * 86_400.0  # seconds

IN_URL: Readers = {
    "name": word_in_url,
    "sender": flag_in_url,
    "max_bytes": number_in_url(int),
    "lease_ttl": number_in_url(float),
    "timeout": number_in_url(float),
    "fallback": word_in_url,
    "keep_lost": number_in_url(float),
}
"""The options of every outbox across a network; a kind of outbox adds its own."""


def options_of(in_url: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """The options in a URL, and those that were given beside it, which win; ``None`` stands for one that was not."""
    return {**in_url, **{name: value for name, value in given.items() if value is not None}}


class RemoteOutbox(DurableOutbox):
    """All that durable outboxes across a network share. With a ``fallback``, calls wait in memory while it is away."""

    _session: RemoteSession

    def __init__(
        self, server: str, name: str, options: Mapping[str, Any], *, rebind: bool, max_bytes: int, timeout: float,
        timeouts: int,
    ) -> None:  # fmt: skip
        """``server`` is its address as it is shown, ``name`` the outbox's there. ``max_bytes`` and ``timeout`` are for
        ``options`` that say nothing of them; a lease lasts for so many ``timeouts`` at least.

        Raises `ConfigurationError` for an option of `IN_URL` with a value that it cannot have.
        """
        get = options.get
        self.name: str = name
        self.place: str = server + (f" ({name})" if "name" in options else "")
        self._options = options
        self._fallback = get("fallback")
        if self._fallback not in (None, "memory"):
            raise ConfigurationError('fallback must be None or "memory"')
        super().__init__(sender=get("sender", True), max_bytes=get("max_bytes", max_bytes), rebind=rebind)
        self._lease_ttl: float = get("lease_ttl", LEASE_TTL)
        self._timeout: float = get("timeout", timeout)
        self._keep_lost: float = get("keep_lost", KEEP_LOST)
        self._check()
        self._timeout = min(self._timeout, self._lease_ttl / timeouts)  # one that is late must not cost the lease

    def _check(self) -> None:
        for name, flag in (("sender", self._may_send), ("rebind", self._rebind)):
            if type(flag) is not bool:
                raise ConfigurationError(f"{name} {must_be('True or False', flag)}")
        for name, value, least, most in (
            ("lease_ttl", self._lease_ttl, SHORTEST_LEASE, 86_400.0),
            ("timeout", self._timeout, 0.01, 60.0),
            ("keep_lost", self._keep_lost, 0.0, 1e9),
        ):
            if type(value) not in (int, float) or not least <= value <= most:
                raise ConfigurationError(f"{name} must be {least:g} to {most:,.0f} seconds")

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
