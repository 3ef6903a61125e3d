"""The inbox: calls that transactions of the application's have put, and that are accepted when they are admitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._connection import Connection
from ._schema import Names
from ._state import State, StateRow
from ._tables import AT_ONCE, Admitted, Tables


class Inbox:
    """The inbox of one outbox, by one connection. What is in it counts for nothing yet: no account has it."""

    def __init__(self, connection: Connection, names: Names, row: StateRow, tables: Tables) -> None:
        self._connection = connection
        self._names = names
        self._row = row
        self._tables = tables
        self._by_commit: bool | None = None

    def admit(self, state: State) -> tuple[bool, Sequence[Admitted]]:
        """Accept the next calls, and announce those with tickets, which are given; true if there may be more of them.

        Its transaction has the state's row locked.
        """
        if not state.has_inbox:
            return False, ()
        by_commit = self._by_commit
        if by_commit is None:
            by_commit = self._by_commit = self._connection.run(b"SHOW track_commit_timestamp")[0][0] == "on"
        calls, admitted = self._tables.admit(state, by_commit=by_commit)
        self._tables.announce(state, admitted)
        return calls >= AT_ONCE, admitted

    def admit_for(self, token: str, check: Callable[[State], object]) -> tuple[bool, bool]:
        """Accept the next calls in a transaction of its own, for the holder of the lease of this token.

        The first is true if there were any, the second if there may be more.
        """
        with self._row.locked() as state:
            check(state)
            before = state.account.next_id
            more = state.lease == token and self.admit(state)[0]
            admitted = state.account.next_id > before
            if admitted:
                self._row.write(state)
        return admitted, more

    def count(self) -> tuple[int, int]:
        """How many calls are there, and their bytes."""
        query = self._names.sql("SELECT count(*), coalesce(sum(greatest(size, 0)), 0)::bigint FROM {inbox}")
        calls, size = self._connection.run(query)[0]
        return calls, size
