"""The outbox from outside, for the people who run it: what is in it, and what can be done about that.

Each visit is a short transaction, as those of the processes that use the outbox are. What changes anything has the
state's row locked meanwhile, and they wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from .._calls.stored import runs
from .._errors.tree import OutboxError
from .._outbox.admin import (
    EVERY_ONE,
    DeadLetter,
    DeadLetters,
    Holder,
    Inspection,
    PurgeReport,
    Rebound,
    Retried,
    Selection,
    Subject,
    check_rebinding,
)
from .._outbox.away import Away, OtherGeneration
from .._outbox.owner import Claim
from .._outbox.pages import Page, WaitingCall
from ._access import ClientState
from ._connection import Connection
from ._failures import TryAgain
from ._migrate import check_server, check_tables, migrate, plan
from ._pages import LOST, Pages, call_in, dead_letter
from ._purge import Purge
from ._reading import EPOCH
from ._schema import Names
from ._state import State
from ._tables import CALL

PATIENCE = 30.0  # seconds for one statement of a visit: a purge looks at every row


class PostgresAdmin:
    """An outbox that ``connect`` gives a connection to, with so much time for a statement; its tables, and its name."""

    kind: Literal["postgres"] = "postgres"

    def __init__(self, connect: Callable[[float], Connection], names: Names, place: str) -> None:
        self.place = place
        self._connect = connect
        self._names = names

    def inspect(self) -> Inspection:
        """All that there is to see, at one moment. Raises `OutboxError`."""
        with self._reading() as (access, state):
            query = f"SELECT {EPOCH.format('at')} FROM {{calls}} WHERE id >= %s ORDER BY id LIMIT 1"
            oldest = access.connection.run(self._names.sql(query), (state.oldest,))
            inbox, inbox_bytes = access.inbox.count()
            return Inspection(
                place=self.place,
                destination=None if state.owner is None else state.owner.destination,
                sender=_holder(state),
                account=state.account,
                oldest=oldest[0][0] if oldest else None,
                now=state.now,
                under_way=access.send_log.under_way(),
                lost=self._count_lost(access),
                version=state.version,
                spent=access.send_log.spent(state.now),
                uploads=access.send_log.uploads(),
                inbox=inbox,
                inbox_bytes=inbox_bytes,
            )

    def holder(self) -> Holder | None:
        """The holder of the sender's lease. Raises `OutboxError`."""
        with self._reading() as (_, state):
            return _holder(state)

    def waiting(self, after: str, limit: int, ids: Collection[str] = ()) -> Page[WaitingCall]:
        """The next calls that wait. Raises `OutboxError`, and `ValueError` for a wrong place."""
        with self._reading() as (access, _):
            return Pages(access.connection, self._names).waiting(after, limit, ids)

    def lost(self, after: str, limit: int, reason: str | None = None) -> Page[DeadLetter]:
        """The next lost calls that are kept, by their ids. Raises as `waiting`."""
        with self._reading() as (access, _):
            return Pages(access.connection, self._names).lost(after, limit, reason)

    def dead_letters(self, chosen: Selection = EVERY_ONE) -> DeadLetters:
        """The chosen dead and dropped calls that are kept. Raises `OutboxError`."""
        with self._reading() as (access, state):
            kept = [dead_letter(row) for row in Pages(access.connection, self._names).chosen(LOST, chosen)]
        return DeadLetters(None if state.owner is None else state.owner.destination, kept)

    def _count_lost(self, access: ClientState) -> int:
        return int(access.connection.run(self._names.sql("SELECT count(*) FROM {lost}"))[0][0])

    def _has_lost(self, access: ClientState) -> bool:
        return bool(access.connection.run(self._names.sql("SELECT EXISTS (SELECT 1 FROM {lost})"))[0][0])

    def retry(self, chosen: Selection = EVERY_ONE) -> Retried:
        """Put the chosen dead letters back at the end of the line; where there are many, in several transactions.

        Raises `OutboxError`.
        """
        wait_again: list[int] = []
        damaged = 0
        with self._visiting() as access:
            pages = Pages(access.connection, self._names)
            with access.connection.transaction(frozen=True):
                missing = chosen.missing(pages.kept(chosen.ids))
                end = access.row.read().account.next_id  # what is lost again meanwhile has a higher id
            for rows in pages.each_chosen("id, kind, key, body, moment", chosen, end):
                back = [row[0] for row in rows if call_in(row[1:]) is not None]
                damaged += len(rows) - len(back)
                if back:
                    with access.row.locked() as state:
                        first = state.account.next_id
                        wait_again += range(first, first + self._put_back(access, state, back))
                        access.row.write(state)
        return Retried(runs(wait_again), damaged, missing)

    def _put_back(self, access: ClientState, state: State, ids: Sequence[int]) -> int:
        rows = access.connection.run(
            self._names.sql(
                f"WITH taken AS (DELETE FROM {{lost}} WHERE id = ANY(%s) RETURNING id AS before, at, {CALL}), "
                "numbered AS (SELECT %s + row_number() OVER (ORDER BY before) AS id, * FROM taken), "
                f"put AS (INSERT INTO {{calls}} (id, at, {CALL}) SELECT id, at, {CALL} FROM numbered) "
                "SELECT count(*), coalesce(sum(size), 0)::bigint FROM numbered"
            ),
            (list(ids), state.account.next_id - 1),
        )
        calls, size = rows[0]
        access.tables.accepted(state, calls, size)
        return int(calls)

    def rebind(self, claim: Claim) -> Rebound:
        """Give the outbox to another account, or to the same one with another key. Raises `OutboxError`."""
        owner = claim.owner()  # which is slow to make: not under the lock
        with self._visiting() as access:
            with access.connection.transaction(frozen=True):
                beside = self._count_lost(access) + access.inbox.count()[0]  # everybody would wait for a count
            with access.row.locked() as state:
                before, waiting = state.owner, state.account.waiting
                destination = None if before is None else before.destination
                calls = waiting + max(beside, self._has_lost(access) + state.has_inbox)
                check_rebinding(self.place, destination, claim.destination, calls, has_sender=state.has_sender)
                access.give_to(state, owner)
        return Rebound(destination, waiting)

    def purge(self, whose: Subject, *, really: bool = True) -> PurgeReport:
        """Erase a person or a company; not ``really``, only count how much that would be. Raises `OutboxError`.

        That goes in short transactions: where it fails, what they have erased is gone. Dead rows are cleared when
        PostgreSQL vacuums; its log, replicas and backups have them until those are replaced.
        """
        with self._visiting() as access:
            return Purge(access, whose, really=really).run()

    # ── the tables ──

    def plan(self) -> Sequence[str]:
        """The statements that `migrate` would run; none, if there is nothing to do. Raises `OutboxError`."""
        with self._connected() as connection:
            return plan(connection, self._names, self.place)

    def migrate(self) -> int:
        """Make the tables, or bring them to this version; how many statements that took. Raises `OutboxError`."""
        with self._connected() as connection:
            return len(migrate(connection, self._names, self.place))

    # ── visits ──

    @contextmanager
    def _reading(self) -> Iterator[tuple[ClientState, State]]:
        """A visit that sees all of one moment, and changes nothing."""
        with self._visiting() as access, access.connection.transaction(frozen=True):
            yield access, access.row.read()

    @contextmanager
    def _visiting(self) -> Iterator[ClientState]:
        with self._connected() as connection:
            check_server(connection, self.place)
            check_tables(connection, self._names, self.place)
            yield ClientState(connection, self._names, "", self.place)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection for as long as it takes. Raises `OutboxError`, also where PostgreSQL does not answer."""
        connection = self._connect(PATIENCE)
        try:
            connection.connect()
            yield connection
        except Away as error:
            raise OutboxError(f"{self.place} {error.does} ({error})") from error
        except (OtherGeneration, TryAgain) as error:
            raise OutboxError(f"{self.place} had no time for this, for the sake of others: try again") from error
        finally:
            connection.close()


def _holder(state: State) -> Holder | None:
    return Holder.of(state.holder, state.now) if state.has_sender else None
