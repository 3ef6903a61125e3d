"""Rows of the inbox that no look has seen yet: none is looked for among those that went long ago.

While a transaction is open somewhere, for hours perhaps, PostgreSQL keeps every row that was deleted since, and who
reads the inbox from its beginning walks over all of them. The numbers of rows are no help: they become visible in any
order. But each row has the number of the transaction that has put it, and a look that finds nothing says which
transactions it could not see: what they have put is all that there can be from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from .._runtime.clocks import steady
from ._schema import Names
from ._spans import LAST

WHOLE_EVERY = 60.0  # seconds between two looks at all: a row that was restored has the number that it had then
MOST_OPEN = 1_000  # transactions that are asked for one by one


class Unseen:
    """The rows of one outbox's inbox that may be there, as far as one process knows; all of them, at first."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._open: Sequence[int] = ()
        self._next: int | None = None  # transactions from this number on were not seen, nor those that were open
        self._whole_at = 0.0
        self._looks_at_all = True

    def forget(self) -> None:
        """Look at all of it the next time: after a new connection, or where much is waiting."""
        self._next = None

    def look(self, *, may_take_long: bool = False) -> sql.Composed:
        """Two columns: whether there is a call, and which transactions were not seen. They are for `looked`.

        A look that ``may_take_long``, as nobody waits for it, is one at all of it once a minute.
        """
        self._looks_at_all = self._next is None or (may_take_long and steady() >= self._whole_at)
        if self._looks_at_all:
            return self._names.sql("EXISTS (SELECT 1 FROM {inbox}), pg_current_snapshot()::text")
        # In the order of the index, which is then used whatever the statistics say.
        first = "(SELECT seq FROM {inbox} WHERE {rows} ORDER BY xact LIMIT 1)"
        looks = [self._names.sql(first, rows=rows) for rows in self._ranges()]
        return sql.SQL("coalesce({}) IS NOT NULL, pg_current_snapshot()::text").format(sql.SQL(", ").join(looks))

    def looked(self, found: bool, snapshot: str) -> bool:
        """Learn from the answers to `look`; gives whether there may be a call."""
        _, following, still_open = snapshot.split(":")
        if self._next is not None and int(following) < self._next:
            # A pooler has gone over to another server and kept our connection: what was seen says nothing of that one.
            self.forget()
            return True
        if found and self._looks_at_all:
            self.forget()
        elif not found:
            self._open = [int(one) for one in still_open.split(",") if one]
            self._next = int(following) if len(self._open) <= MOST_OPEN else None
            if self._looks_at_all:
                self._whole_at = steady() + WHOLE_EVERY
        return found

    def rows(self) -> sql.Composable:
        """A condition for the rows that may be there, and their order."""
        if self._next is None or self._looks_at_all:
            return sql.SQL("true ORDER BY seq")
        # Not in the order of an index: that of the numbers begins with all that has gone.
        return sql.SQL("({}) ORDER BY seq + 0").format(sql.SQL(" OR ").join(self._ranges()))

    def _ranges(self) -> Sequence[sql.Composed]:
        """Conditions for rows; a range has two ends, or PostgreSQL expects a third of all rows in it."""
        later = sql.SQL("xact BETWEEN {} AND {}").format(self._next, LAST)
        if not self._open:
            return [later]
        return [sql.SQL("xact = ANY({}::bigint[])").format(list(self._open)), later]
