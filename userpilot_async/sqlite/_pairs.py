"""The table of keys that calls have named together, which outlive those calls."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from .._calls.pairs import MOST_PAIRS, Pair, pairs_in, sealed_pair, unsealed_pair
from .._outbox.batch import Put


class Pairs:
    """The table of one connection. What writes does so within the caller's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.heard = 0
        """The number of the last pair that was heard by this connection: a repaired file may count anew."""

    def put(self, puts: Sequence[Put]) -> bool:
        """Keep the keys that these calls name together, and no more of all than may be kept; true if there are any."""
        named = {sealed_pair(pair): None for put in puts for pair in pairs_in(put.key)}
        if named:
            self._db.executemany("INSERT OR IGNORE INTO pairs (said) VALUES (?)", [(one,) for one in named])
            self._db.execute("DELETE FROM pairs WHERE id <= (SELECT max(id) FROM pairs) - ?", (MOST_PAIRS,))
        return bool(named)

    def new(self) -> tuple[list[Pair], int]:
        """Keys that calls have named together, but those heard before, in their order; and the number of the last."""
        rows = self._db.execute("SELECT id, said FROM pairs WHERE id > ? ORDER BY id", (self.heard,)).fetchall()
        found = [pair for _, text in rows if (pair := unsealed_pair(text)) is not None]
        return found, rows[-1][0] if rows else self.heard

    def forget(self) -> None:
        """Keep none of those that were named so far."""
        self._db.execute("UPDATE pairs SET said = NULL")  # not deleted, or others who listen would miss what follows
