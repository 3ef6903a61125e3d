"""RedisOutbox: calls wait in Redis, for every machine that reaches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import anyio

from .._calls.dedupe import DedupeKey
from .._calls.payload import Key, Kind, Payload
from .._errors.foreign import must_be
from .._errors.tree import ConfigurationError, OutboxError
from .._outbox.batch import Batch, Put
from .._outbox.durable import DurableOutbox
from .._outbox.protocol import Opening
from .._outbox.receipt import Receipt
from .._outbox.url import flag_in_url, number_in_url, word_in_url
from ._address import address_of
from ._link import Connection, warn_if_overheard
from ._session import RedisSession
from ._store import RedisStore

if TYPE_CHECKING:
    from ._admin import RedisAdmin

MAX_BYTES = 256 * 1024**2
MAX_CALLS = 1_000_000
KEEP_LOST = 7 * 86_400.0  # seconds
SHORTEST_LEASE = 1.0  # seconds; it is renewed when the thread polls, every quarter of a second
PATIENCE = 2  # deadlines; then a command that trickles on is broken off from outside

_IN_URL: Mapping[str, Callable[[str, str], Any]] = {
    "name": word_in_url,
    "sender": flag_in_url,
    "max_calls": number_in_url(int),
    "max_bytes": number_in_url(int),
    "lease_ttl": number_in_url(float),
    "timeout": number_in_url(float),
    "replicas": number_in_url(int),
    "fallback": word_in_url,
    "keep_lost": number_in_url(float),
}


class RedisOutbox(DurableOutbox):
    """A stream in Redis (6.2 or newer, or Valkey) in which accepted calls wait.

    When `track` returns, Redis has the call; with ``replicas``, so many replicas of it, too. Any number of processes on
    any number of machines put; one of them, who has the lease, sends. It renews the lease; when it ends, is stopped, or
    cannot reach Redis, another one sends after ``lease_ttl`` seconds at most. With ``sender=False`` this process only
    puts.

    ``name`` tells several outboxes in one database apart. ``max_calls`` and ``max_bytes`` of encoded calls wait at
    most; then `Settings.when_full` decides. No command takes longer than ``timeout`` seconds. While Redis is away, a
    call waits up to `Settings.max_wait`, and is dropped (reason ``outbox``); with ``fallback="memory"`` it is taken at
    once, waits in this process (up to `Settings.max_queue_bytes`), and is put when Redis is back.

    Dead and dropped calls are kept for ``keep_lost`` seconds. ``rebind`` gives the outbox to the account and the server
    of the client that opens it. Opening raises `OutboxError` if Redis refuses us; one that does not answer is waited
    for. For TLS, users, Sentinel and clusters see `from_url`.
    """

    most_at_once: float = 1024 * 1024
    _session: RedisSession

    def __init__(
        self,
        url: str,
        *,
        name: str | None = None,
        sender: bool | None = None,
        max_calls: int | None = None,
        max_bytes: int | None = None,
        lease_ttl: float | None = None,
        timeout: float | None = None,
        replicas: int | None = None,
        fallback: Literal["memory"] | None = None,
        keep_lost: float | None = None,
        rebind: bool = False,
    ) -> None:
        self._url = url
        del url  # it may have a password, and what is raised from here on shows the locals of its frames
        self._address, in_url = address_of(self._url, _IN_URL)
        given = {
            "name": name, "sender": sender, "max_calls": max_calls, "max_bytes": max_bytes, "lease_ttl": lease_ttl,
            "timeout": timeout, "replicas": replicas, "fallback": fallback, "keep_lost": keep_lost,
        }  # fmt: skip
        self._options = {**in_url, **{key: value for key, value in given.items() if value is not None}}
        get = self._options.get
        self.name: str = get("name", "userpilot_async")
        self.place: str = self._address.shown + (f" ({self.name})" if "name" in self._options else "")
        self._fallback = get("fallback")
        super().__init__(sender=get("sender", True), max_bytes=get("max_bytes", MAX_BYTES), rebind=rebind)
        self._max_calls: int = get("max_calls", MAX_CALLS)
        self._lease_ttl: float = get("lease_ttl", 10.0)
        self._timeout: float = get("timeout", 2.0)
        self._replicas: int = get("replicas", 0)
        self._keep_lost: float = get("keep_lost", KEEP_LOST)
        self._check()
        self._timeout = min(self._timeout, self._lease_ttl / 5)
        for host in self._address.hosts:
            warn_if_overheard(self._address, host)

    def _check(self) -> None:
        if not isinstance(self.name, str) or not self.name or any(one in "{}: \n" for one in self.name):
            raise ConfigurationError("name must be a word, without braces and colons")
        if type(self._max_calls) is not int or self._max_calls < 1:
            raise ConfigurationError("max_calls must be an int, 1 or more")
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
        if type(self._replicas) is not int or self._replicas < 0:
            raise ConfigurationError("replicas must be an int, 0 or more")
        if self._fallback not in (None, "memory"):
            raise ConfigurationError('fallback must be None or "memory"')

    @classmethod
    def from_url(cls, url: str) -> RedisOutbox:
        """``redis://user:password@host:6379/0``, ``rediss://…`` for TLS, ``unix:///path/redis.sock``.

        ``redis+sentinel://host,host:26379/service/0`` asks Sentinels for the master, ``redis+cluster://host:6379,host``
        nodes of a cluster: of either, one has to answer. ``rediss+…`` are the same with TLS. Our options are written as
        ``?name=shop&sender=false&lease_ttl=5``; all others are redis-py's. Raises `ConfigurationError`.
        """
        try:
            return cls(url)
        finally:
            del url  # as above

    def that_sends(self) -> RedisOutbox:
        """The same, not open, for a process that may send, too."""
        return type(self)(self._url, **{**self._options, "sender": True}, rebind=self._rebind)

    def link(self, client: str = "") -> Connection:
        """A connection of its own."""
        return Connection(self._address, self.name, client, deadline=self._timeout, replicas=self._replicas)

    # ── opening ──

    def _new_session(self) -> RedisSession:
        return RedisSession(self.place, self.most_at_once, fallback=self._fallback is not None)

    def _new_store(self) -> RedisStore:
        client, session = uuid4().hex, self._session
        store = RedisStore(
            self.link(client), client, session, session.notify, self._log,
            may_send=self._may_send, lease_ttl=self._lease_ttl, keep_lost=self._keep_lost,
        )  # fmt: skip
        session.use(store)
        return store

    @property
    def away(self) -> bool:
        """Redis does not answer at present."""
        return self._session.away

    def admin(self) -> RedisAdmin:
        """The outbox from outside, for people, whether this is open or not."""
        from ._admin import RedisAdmin  # which clients do not need

        return RedisAdmin(self.link, self.place)

    async def open(self, opening: Opening) -> None:
        """Start the thread, and wait until Redis has answered, or does not. Raises as the class says."""
        opening.tasks.start_soon(self._watch_commands)
        await super().open(opening)

    async def _watch_commands(self) -> None:
        """A socket's deadline starts anew with each byte that comes, and a name server has none."""
        await anyio.sleep(PATIENCE * self._timeout)
        session = self._session
        if not session.is_open.past:
            session.began_away()
        while self._in_use:
            await anyio.sleep(self._timeout / 2)
            if session.store is not None:
                session.store.access.link.break_off_if_older(PATIENCE * self._timeout)

    async def aclose(self) -> None:
        """Write what is left, let another process send, end the thread.

        Where Redis is away, what is not held is lost, and that must be known in time: a caller that waits knows it by
        the end of the wait.
        """
        if self._in_use and self.away:
            self._session.incoming.give_up(OutboxError(f"{self.place} does not answer"))
        await super().aclose()

    # ── calls ──

    def has_room(self, size: int) -> bool:
        """A call of so many bytes may be put, as far as this process knows. After a bug no call need wait for room."""
        if self.bug is not None:
            return True
        waiting = self.ledger.waiting + self.unheld - self._session.outgoing.calls
        return waiting < self._max_calls and super().has_room(size)

    def _may_leave(self, put: Put, waited: bool) -> bool:
        """Redis is away, or too slow: need the caller not wait?"""
        if self._fallback is None or not (waited or self.away):
            return False
        put.awaited = False
        return True

    async def hold(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, max_wait: float | None = None,
        dedupe: DedupeKey | None = None,
    ) -> Receipt | None:  # fmt: skip
        """As for every outbox; but with ``fallback``, while Redis is away, a call is held in memory."""
        if self.away and self._fallback is not None:
            return self.put(kind, key, payload, size, now, dedupe)
        return await super().hold(kind, key, payload, size, now, max_wait, dedupe)

    def _is_worth_waiting_for(self, batch: Batch) -> bool:
        """While Redis is away, not so calls that found no room, and whose callers know that."""
        notes = batch.term == self.send_log.term and batch.has_senders_notes()
        return not self.away or any(not put.withdrawn for put in batch.puts) or notes
