"""RedisOutbox: calls wait in Redis, for every machine that reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from .._errors.tree import ConfigurationError
from .._outbox.remote import IN_URL, RemoteOutbox, options_of
from .._outbox.url import number_in_url
from ._address import address_of
from ._link import Connection, warn_if_overheard
from ._store import RedisStore

if TYPE_CHECKING:
    from ._admin import RedisAdmin

DEFAULT_NAME = "userpilot_async"
MAX_BYTES = 256 * 1024**2
MAX_CALLS = 1_000_000
TIMEOUT = 2.0  # seconds
TIMEOUTS = 5  # in a lease, at least

_IN_URL = {**IN_URL, "max_calls": number_in_url(int), "replicas": number_in_url(int)}


class RedisOutbox(RemoteOutbox):
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
        options = options_of(
            in_url, name=name, sender=sender, max_calls=max_calls, max_bytes=max_bytes, lease_ttl=lease_ttl,
            timeout=timeout, replicas=replicas, fallback=fallback, keep_lost=keep_lost,
        )  # fmt: skip
        self._max_calls: int = options.get("max_calls", MAX_CALLS)
        self._replicas: int = options.get("replicas", 0)
        super().__init__(
            self._address.shown, _checked_name(options.get("name", DEFAULT_NAME)), options,
            rebind=rebind, max_bytes=MAX_BYTES, timeout=TIMEOUT, timeouts=TIMEOUTS,
        )  # fmt: skip
        for host in self._address.hosts:
            warn_if_overheard(self._address, host)

    def _check(self) -> None:
        super()._check()
        if type(self._max_calls) is not int or self._max_calls < 1:
            raise ConfigurationError("max_calls must be an int, 1 or more")
        if type(self._replicas) is not int or self._replicas < 0:
            raise ConfigurationError("replicas must be an int, 0 or more")

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

    def _new_store(self) -> RedisStore:
        client, session = uuid4().hex, self._session
        store = RedisStore(
            self.link(client), client, session, session.notify, self._log,
            may_send=self._may_send, lease_ttl=self._lease_ttl, keep_lost=self._keep_lost,
        )  # fmt: skip
        session.use(store)
        return store

    def admin(self) -> RedisAdmin:
        """The outbox from outside, for people, whether this is open or not."""
        from ._admin import RedisAdmin  # which clients do not need

        return RedisAdmin(self.link, self.place)

    # ── calls ──

    def has_room(self, size: int) -> bool:
        """A call of so many bytes may be put, as far as this process knows. After a bug no call need wait for room."""
        if self.bug is not None:
            return True
        waiting = self.ledger.waiting + self.unheld - self._session.outgoing.calls
        return waiting < self._max_calls and super().has_room(size)


def _checked_name(name: str) -> str:
    """The name of an outbox. Raises `ConfigurationError` if it would not do within a key of Redis."""
    if not isinstance(name, str) or not name or any(one in "{}: \n" for one in name):
        raise ConfigurationError("name must be a word, without braces and colons")
    return name
