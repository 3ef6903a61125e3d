"""The keys of ``dedupe=`` in the file: hashes, each with the call that was accepted with it, which it outlives."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence

import attrs

from .._account.account import Account
from .._account.shared_ledger import GONE
from .._calls.dedupe import DIGEST
from .._calls.outcome import Outcome
from .._calls.stored import UNREADABLE, Concluded, sealed, unsealed
from .._outbox.batch import Put

MOST_KEYS = 10_000_000  # kept, the newest: at 600 events a minute seven days have six million; 70 bytes each
AT_ONCE = 10_000  # keys that are forgotten in one transaction: 20 ms


@attrs.frozen
class Chosen:
    """The puts of a batch that are to be written, and what is known of the others."""

    puts: Sequence[Put]
    ids: Sequence[int] | None = None
    """Of all puts, as `Committed.ids`; ``None`` if all are to be written."""
    duplicates: Mapping[int, Outcome | None] = attrs.field(factory=dict)
    forgotten: int = 0
    """Keys that counted still, and had to go for their number."""


NOTHING_PUT = Chosen(())


class Keys:
    """The table of one connection; ``corrected`` gives a call's date by the calendar of now. The caller has the turn.

    What another program has written there, or what is damaged, is no key: a fact may be accepted twice then.
    """

    def __init__(self, db: sqlite3.Connection, corrected: Callable[[int, float], float]) -> None:
        self._db = db
        self._corrected = corrected

    def choose(self, puts: Sequence[Put], account: Account, now: float) -> Chosen:
        """Leave out the puts whose key an earlier call has, and keep the keys of all others, under the next ids."""
        keyed = sum(put.dedupe is not None for put in puts)
        if not keyed:
            return Chosen(puts)
        chosen: list[Put] = []
        ids: list[int] = []
        duplicates: dict[int, Outcome | None] = {}
        for place, put in enumerate(puts):
            end = account.next_id + len(chosen)
            first = self._first(put.dedupe.digest, account, end, now) if put.dedupe is not None else None
            if first is not None:
                first_id, duplicates[place] = first
                ids.append(first_id)
                continue
            if put.dedupe is not None:
                values = (end, put.dedupe.digest, now, put.dedupe.seconds)
                self._db.execute("INSERT OR REPLACE INTO accepted_keys VALUES (?, ?, ?, ?, NULL)", values)
                account.keys += 1
            ids.append(end)
            chosen.append(put)
        account.duplicates += len(duplicates)
        forgotten = self.forget(account, now, 2 * keyed)
        return Chosen(chosen, ids if duplicates else None, duplicates, forgotten)

    def _first(self, digest: bytes, account: Account, end: int, now: float) -> tuple[int, Outcome | None] | None:
        """The call that has this key, and what became of it: ``None`` while it is held; no call, if it is too old.

        ``end`` is the next id that none has; calls from `Account.next_id` on are in the same batch.
        """
        query = "SELECT id, at, seconds, outcome FROM accepted_keys WHERE digest = ?"
        row = self._db.execute(query, (digest,)).fetchone()
        if row is None:
            return None
        call_id, at, seconds, text = row
        if self._is_over(call_id, at, seconds, now) or not 0 <= call_id < end:
            account.keys -= 1  # the new call takes its place
            return None
        outcome, is_held = _outcome_in(text), "SELECT 1 FROM calls WHERE id = ?"
        if outcome is None and call_id < account.next_id and self._db.execute(is_held, (call_id,)).fetchone() is None:
            outcome = GONE  # set aside, or lost
        return call_id, outcome

    def _is_over(self, call_id: int, at: object, seconds: object, now: float) -> bool:
        if not (isinstance(at, float) and isinstance(seconds, float)):
            return True
        return self._corrected(call_id, at) + seconds <= now

    def settle(self, stretch: tuple[int, int], outcome: Outcome) -> None:
        """Note what became of the calls in this stretch of ids."""
        text, within = sealed(Concluded.of(outcome, [], []).as_list()), "id BETWEEN ? AND ? AND outcome IS NULL"
        self._db.execute(f"UPDATE accepted_keys SET outcome = ? WHERE {within}", (text, *stretch))

    def forget(self, account: Account, now: float, limit: int = AT_ONCE) -> int:
        """Forget keys that are too old, or too many, but no more than ``limit``; how many of them counted still."""
        query = "SELECT id, at, seconds FROM accepted_keys ORDER BY id LIMIT ?"
        forgotten, counted, last = 0, 0, None
        for call_id, at, seconds in self._db.execute(query, (limit,)):
            counts = not self._is_over(call_id, at, seconds, now)
            if counts and account.keys - forgotten <= MOST_KEYS:
                break
            forgotten, counted, last = forgotten + 1, counted + counts, call_id
        if last is not None:
            self._db.execute("DELETE FROM accepted_keys WHERE id <= ?", (last,))
            account.keys = max(0, account.keys - forgotten)
        return counted


def is_key(row: Sequence[object]) -> bool:
    """A row of the table, and not one of another to which a damaged file leads."""
    if len(row) != 5:
        return False
    call_id, digest, at, seconds, _ = row
    numbers = type(call_id) is int and isinstance(at, float) and isinstance(seconds, float)
    return numbers and isinstance(digest, bytes) and len(digest) == DIGEST


def _outcome_in(text: object) -> Outcome | None:
    """The outcome that `Keys.settle` has noted; ``None`` if it has not, or the note is damaged."""
    try:
        return Concluded.read(unsealed(text)).outcome if isinstance(text, str) else None
    except UNREADABLE:
        return None
