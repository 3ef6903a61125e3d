"""Calls and account compared: all rows are looked at, by a process that has nothing else to do, and nobody waits."""

from __future__ import annotations

import attrs

from ._access import ClientState
from ._spans import FIRST, LAST, SPAN, end_of_span
from ._state import State
from ._tables import DAMAGED


@attrs.frozen
class Held:
    """The first call that is held, how many there are, and their bytes."""

    first: int | None = None
    calls: int = 0
    bytes: int = 0

    def missing(self, state: State) -> int:
        """How many calls that account has, and the table has not."""
        return max(0, state.account.waiting - self.calls)

    def differs(self, state: State) -> bool:
        """The state of the same moment says something else."""
        return bool(self.missing(state)) or (self.bytes, self.first) != (state.account.bytes, state.oldest_held)


def reconcile(access: ClientState, token: str) -> tuple[int, int | None]:
    """How many calls of the account are missing, and the first that is held; for the holder of the lease of this token.

    Raises what `Connection.run` raises.
    """
    before, held = look(access)
    if before.lease != token:
        return 0, None
    if not held.differs(before):
        return 0, held.first
    with access.row.locked() as state:
        access.check(state)
        if state.lease != token:
            return 0, None
        missing = correct(access, state, before, held)
        access.row.write(state)
    return missing, held.first


def look(access: ClientState) -> tuple[State, Held]:
    """The state, and what is held at the same moment: a span at a time, so that no statement is long."""
    held, start = Held(), FIRST
    query = access.names.sql(
        "SELECT min(id), count(*), coalesce(sum(size), 0)::bigint FROM {calls} WHERE id BETWEEN %s AND %s"
    )
    with access.connection.transaction(frozen=True):
        state = access.row.read()
        access.check(state)
        while True:
            end = end_of_span(access.connection, access.names, "calls", "id", start, SPAN)
            first, calls, size = access.connection.run(query, (start, LAST if end is None else end))[0]
            held = Held(first if held.first is None else held.first, held.calls + calls, held.bytes + size)
            if end is None:
                return state, held
            start = end + 1


def correct(access: ClientState, state: State, before: State, held: Held) -> int:
    """Have the account say what was held when the state was as ``before``; how many calls were missing.

    What has been changed since has changed calls and account alike.
    """
    missing = held.missing(before)
    state.account.conclude(DAMAGED, missing, 0)
    state.account.bytes += held.bytes - before.account.bytes
    if held.first is not None:
        state.oldest = min(state.oldest, held.first)
    access.tables.find_oldest(state)
    return missing
