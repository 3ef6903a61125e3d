"""The one row that says how an outbox is: locked by whoever changes anything, so that one does after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
from psycopg import sql

from .._account.account import Account
from .._account.sound import sound_account
from .._calls.stored import UNREADABLE
from .._calls.values import encode_json
from .._errors.tree import OutboxError
from .._outbox.owner import Owner
from ._connection import Connection, Rows
from ._schema import VERSION, Names
from ._unseen import Unseen

_READ = """
SELECT version, generation::text, revision, account, oldest, news, pairs, destination, salt, fingerprint, lease,
       extract(epoch FROM lease_until)::float8, holder, extract(epoch FROM unknown_until)::float8,
       sent_below, origins, (SELECT ARRAY[step, first_refused] FROM {clients} WHERE client = {client})
FROM {state}"""
_CLOCK = sql.SQL("SELECT extract(epoch FROM clock_timestamp())::float8")
_WRITE = """
UPDATE {state} SET generation = {generation}, revision = {revision}, account = {account}, oldest = {oldest},
    news = {last_news}, pairs = {last_pair}, unknown_until = to_timestamp({unknown_until}),
    sent_below = {sent_below}, origins = {origins}"""


@attrs.frozen
class Origin:
    """A generation that was left, and how much of it is in the one after it."""

    revision: int
    """All of it up to this revision."""
    next_id: int
    """Calls that were held from this id on are gone."""
    counted: bool = False
    """The account has it that calls of it are gone."""


@attrs.frozen
class LastStep:
    """A client's last step that is there."""

    number: int
    next_id: int
    """All calls that it had put until then have lower ids."""


@attrs.define
class State:
    """The row as it was read, or is to be written, and the server's clock at that moment."""

    version: int
    generation: str
    """The line of data: another one begins where a client has noticed that calls are gone."""
    revision: int
    """Counts the transactions that have changed anything."""
    account: Account
    oldest: int
    """The lowest id that is held; the next one, if no call is."""
    news: int
    """The number of the last news of calls."""
    pairs: int
    """The number of the last pair of keys."""
    owner: Owner | None
    lease: str
    """The token of the holder of the sender's lease."""
    lease_until: float
    """When it ends, in seconds since 1970, by the server's clock, as are all times here."""
    holder: str
    """The note of the holder on itself."""
    unknown_until: float
    """Until then tokens may be spent of which nothing is known any more."""
    sent_below: int
    """Calls below this id may have been sent, and what was noted of that is gone."""
    origins: Mapping[str, Origin]
    """Generations that went before this one."""
    now: float
    last_step: LastStep | None = None
    """The last step of the client that reads this, as far as it is there."""
    has_inbox: bool = False
    """Calls of the application's transactions are there to be accepted."""

    @property
    def oldest_held(self) -> int | None:
        """The lowest id that is held; ``None`` if no call is."""
        return self.oldest if self.oldest < self.account.next_id else None

    @property
    def has_sender(self) -> bool:
        """The lease has a holder, and has not ended."""
        return bool(self.lease) and self.now < self.lease_until


def state_in(rows: Rows, clock: Rows, place: str) -> State:
    """The state in the answers to `_READ` and `_CLOCK`. Raises `OutboxError` if it is missing, damaged or newer."""
    if not rows:
        raise OutboxError(f"{place} has lost the row that says how it is: restore it")
    version, generation, revision, account, oldest, news, pairs, *owner = rows[0][:10]
    lease, until, holder, unknown, sent_below, origins, step = rows[0][10:]
    check_version(version, place)
    counts = sound_account(_json(account))
    if counts is None:
        raise OutboxError(f"{place} has a damaged account: restore it")
    before = _origins_in(_json(origins))
    known = None if owner[0] is None else Owner(owner[0], bytes(owner[1] or b""), owner[2] or "")
    return State(
        version, generation, revision, counts, oldest, news, pairs, known, lease, until, holder, unknown, sent_below,
        before, clock[0][0], None if step is None else LastStep(*step),
    )  # fmt: skip


def check_version(version: int, place: str) -> None:
    """See that tables of this version are those that this library knows. Raises `OutboxError`."""
    if version > VERSION:
        raise OutboxError(f"{place} is of version {version}, of a newer userpilot_async; this one knows {VERSION}")
    if version < VERSION:
        raise OutboxError(f"{place} is of version {version}: bring it to {VERSION} by `userpilot-async outbox migrate`")


def _origins_in(value: Any) -> Mapping[str, Origin]:
    """Generations before this one; none, if another program has written there: then all of them are unknown."""
    try:
        return {name: Origin(int(revision), int(next_id), bool(counted))
                for name, (revision, next_id, counted) in value.items()}  # fmt: skip
    except UNREADABLE:
        return {}


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except UNREADABLE:
        return None


class StateRow:
    """The row of one outbox, by one connection of this client; ``place`` is the outbox's name in messages."""

    def __init__(self, connection: Connection, names: Names, client: str, place: str, unseen: Unseen) -> None:
        self._connection = connection
        self._names = names
        self._place = place
        self._read = names.sql(_READ, client=sql.Literal(client))
        self._lock = names.sql(_READ + " FOR UPDATE", client=sql.Literal(client))
        self._unseen = unseen
        self._later: list[sql.Composed] = []  # statements that go with the end of the transaction
        self._last: list[sql.Composed] = []  # those with which the row is written, behind these

    @contextmanager
    def locked(self) -> Iterator[State]:
        """A transaction that has the row to itself. What is changed in the state is there once `write` was called.

        Whatever is raised within undoes it. Raises what `Connection.run` raises, and `OutboxError` if the row is none.
        """
        rows, clock, inbox = self._connection.begin(
            self._lock, _CLOCK, sql.SQL("SELECT {}").format(self._unseen.look())
        )
        self._later, self._last = [], []
        try:
            state = state_in(rows, clock, self._place)
            state.has_inbox = self._unseen.looked(*inbox[0])
            yield state
            self._connection.run_all(sql.SQL("; ").join([*self._later, *self._last, sql.SQL("COMMIT")]))
        except BaseException:
            self._connection.roll_back()
            raise

    def run_later(self, statement: sql.Composed) -> None:
        """Have a statement run with the end of the transaction, which spares a round trip. Nothing sees it before."""
        self._later.append(statement)

    def write(self, state: State, *more: sql.Composed) -> None:
        """Have the row written, as one revision more, with the end of its transaction, and before these statements."""
        state.revision += 1
        self._last = [self._statement(state), *more]

    def read(self) -> State:
        """The row at this moment, within a transaction of the caller's."""
        return state_in(self._connection.run(self._read), self._connection.run(_CLOCK), self._place)

    def _statement(self, state: State) -> sql.Composed:
        """The statement that writes all of the row but the owner and the lease."""
        return self._names.sql(
            _WRITE,
            generation=sql.Literal(state.generation),
            revision=sql.Literal(state.revision),
            account=sql.Literal(encode_json(state.account.as_dict())),
            oldest=sql.Literal(state.oldest),
            last_news=sql.Literal(state.news),
            last_pair=sql.Literal(state.pairs),
            unknown_until=sql.Literal(state.unknown_until),
            sent_below=sql.Literal(state.sent_below),
            origins=sql.Literal(encode_json({name: attrs.astuple(one) for name, one in state.origins.items()})),
        )

    def end_lease(self) -> None:
        """Take the lease from whoever has it, within a transaction."""
        self._connection.run(self._names.sql("UPDATE {state} SET lease = '', lease_until = 'epoch', holder = ''"))

    def write_owner(self, owner: Owner) -> None:
        """Write to whom the outbox belongs, within its transaction."""
        self._connection.run(
            self._names.sql("UPDATE {state} SET destination = %s, salt = %s, fingerprint = %s"),
            (owner.destination, owner.salt, owner.fingerprint),
        )
