"""PostgresOutbox: calls wait in PostgreSQL, beside an application's own data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import anyio

from .._outbox.batch import Batch
from .._outbox.remote import IN_URL, PATIENCE, RemoteOutbox, options_of
from .._outbox.url import word_in_url
from ._access import ClientState
from ._address import address_of
from ._connection import Connection, warn_if_overheard
from ._insert import Insert
from ._schema import DEFAULT_NAME, Names, checked_name, checked_schema
from ._session import PostgresSession
from ._store import PostgresStore
from ._within import ConnectionPuts

if TYPE_CHECKING:
    from ._admin import PostgresAdmin

MAX_BYTES = 1024**3
TIMEOUT = 3.0  # seconds
TIMEOUTS = 3  # in a lease, at least

_IN_URL = {**IN_URL, "schema": word_in_url}


class PostgresOutbox(RemoteOutbox):
    """Tables in PostgreSQL (13 or newer) in which accepted calls wait.

    When `track` returns, the call is committed. Any number of processes on any number of machines put; one of them, who
    has the lease, sends. It renews the lease; when it ends, is stopped, or cannot reach PostgreSQL, another one sends
    after ``lease_ttl`` seconds at most. With ``sender=False`` this process only puts. The tables are made by
    ``userpilot-async outbox migrate``; afterwards a role that may select, insert, update and delete is enough.

    ``dsn`` is a URL, or what libpq takes. ``name`` tells several outboxes in one ``schema`` apart (by default, the
    first of the search path). ``max_bytes`` of encoded calls wait at most; then `Settings.when_full` decides. No
    statement takes longer than ``timeout`` seconds. While PostgreSQL is away, a call waits up to `Settings.max_wait`,
    and is dropped (reason ``outbox``); with ``fallback="memory"`` it is taken at once, waits in this process (up to
    `Settings.max_queue_bytes`), and is put when PostgreSQL is back.

    Dead and dropped calls are kept for ``keep_lost`` seconds. ``rebind`` gives the outbox to the account and the server
    of the client that opens it. Opening raises `OutboxError` if PostgreSQL refuses us, or has no such tables; one that
    does not answer is waited for.
    """

    most_at_once: float = 4 * 1024 * 1024

    def __init__(
        self,
        dsn: str,
        *,
        name: str | None = None,
        schema: str | None = None,
        sender: bool | None = None,
        max_bytes: int | None = None,
        lease_ttl: float | None = None,
        timeout: float | None = None,
        fallback: Literal["memory"] | None = None,
        keep_lost: float | None = None,
        rebind: bool = False,
    ) -> None:
        self._dsn = dsn
        del dsn  # it may have a password, and what is raised from here on shows the locals of its frames
        self._address, in_url = address_of(self._dsn, _IN_URL)
        options = options_of(
            in_url, name=name, schema=schema, sender=sender, max_bytes=max_bytes, lease_ttl=lease_ttl,
            timeout=timeout, fallback=fallback, keep_lost=keep_lost,
        )  # fmt: skip
        name = checked_name(options.get("name", DEFAULT_NAME))
        self.schema: str | None = checked_schema(options.get("schema"))
        self._insert = Insert(Names(name, self.schema))
        super().__init__(
            self._address.shown, name, options,
            rebind=rebind, max_bytes=MAX_BYTES, timeout=TIMEOUT, timeouts=TIMEOUTS,
        )  # fmt: skip
        warn_if_overheard(self._address)

    @classmethod
    def from_url(cls, url: str) -> PostgresOutbox:
        """``postgresql://user:password@host:5432/database``, or ``postgres://…``, as libpq takes them.

        Our options are written as ``?name=shop&sender=false&lease_ttl=5``; all others are libpq's, as ``sslmode``.
        Raises `ConfigurationError`.
        """
        try:
            return cls(url)
        finally:
            del url  # as above

    def that_sends(self) -> PostgresOutbox:
        """The same, not open, for a process that may send, too."""
        return type(self)(self._dsn, **{**self._options, "sender": True}, rebind=self._rebind)

    def within(self, connection: object) -> ConnectionPuts:
        """The way to put calls on a ``connection`` of the application's, for `UserpilotClient.within`.

        Raises `ConfigurationError` if it is of no kind that is known.
        """
        return ConnectionPuts(connection, self._insert, self._tickets)

    async def recorded(self) -> None:
        """Wait as in every outbox; and where calls are sent, those of committed transactions are accepted before.

        The sender would find them at its next poll, and who flushes has committed them already.
        """
        more = True
        while more and self.sends and not self.away:
            batch = self._session.queue.note(_admits)
            self._session.wake()
            if not batch.tried.past:  # once: where PostgreSQL has just gone away, there is nothing to wait for
                with anyio.move_on_after(PATIENCE * self._timeout):
                    await batch.tried.wait()
            more = batch.tried.past and batch.leaves_some
        await super().recorded()

    def _new_session(self) -> PostgresSession:
        session = PostgresSession(self.place, self.most_at_once, fallback=self._fallback is not None)
        self._tickets = session.tickets  # of this opening: what was put before it is heard of no more
        return session

    def _connection(self, timeout: float) -> Connection:
        """A connection of its own, not connected yet."""
        return Connection(self._address, self.name, deadline=timeout)

    def _new_store(self) -> PostgresStore:
        session = self._session
        names = Names(self.name, self.schema)
        access = ClientState(self._connection(self._timeout), names, uuid4().hex, self.place)
        store = PostgresStore(
            access, session, session.notify, self._log,
            may_send=self._may_send, lease_ttl=self._lease_ttl, keep_lost=self._keep_lost,
        )  # fmt: skip
        session.use(store)
        return store

    def admin(self) -> PostgresAdmin:
        """The outbox from outside, for people, whether this is open or not."""
        from ._admin import PostgresAdmin  # which clients do not need

        return PostgresAdmin(self._connection, Names(self.name, self.schema), self.place)


def _admits(batch: Batch) -> None:
    """Have what is committed accepted with this batch, and not at the next poll."""
    batch.admits = True
