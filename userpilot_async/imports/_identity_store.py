"""Persons whom anonymous ids became, on disk: what the lines of an import say of it, asked for each row by its time.

An id may have been several people's, one after the other, as a device is that several people use. What was done under
it goes to the person who was named next there; after the last one, to the last. So of each id the store has moments at
which it was named with a person, and of a run of moments with the same person only the first and the last: for lines
in order of time that decides the same as all of them would. Memory is that of a batch, and the disk's need grows with
the ids, not with the lines.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence

import attrs

from .converters._identities import Link, key_of

_LONGEST_CHAIN = 20  # ids that became each other, one after the other; more is a mistake of theirs
_CACHE = 16 * 1024  # KiB; with SQLite's own 2 MB, a million links of 200,000 devices took 30 s instead of 21
_SCHEMA = """
CREATE TABLE named (id TEXT NOT NULL, at TEXT NOT NULL, known TEXT NOT NULL, PRIMARY KEY (id, at)) WITHOUT ROWID
"""


@attrs.frozen
class Became:
    """The person that an id became."""

    known: str
    several: bool
    """At other times the id became others."""


class IdentityStore:
    """The people that ids became, in a file without a name, which goes with the process or with `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # As the journal's own: it spills to disk, and needs no syncing, because no other process ever reads it.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute(f"PRAGMA cache_size = -{_CACHE}")
        self._connection.execute(_SCHEMA)

    def learn(self, links: Iterable[Link]) -> None:
        """Take the statements of some lines, in the order of the lines."""
        runs: dict[str, list[Link]] = {}
        for link in links:
            run = runs.setdefault(link.key, [])
            if len(run) > 1 and run[-2].known == run[-1].known == link.known and run[-2].at <= run[-1].at <= link.at:
                run[-1] = link
            else:
                run.append(link)
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                for run in runs.values():
                    for link in run:
                        self._add(link)
            finally:
                self._connection.execute("COMMIT")

    def became(self, user_id: str, keys: Sequence[str], at: str) -> Became | None:
        """The person whom an id's row of that time belongs to; ``None`` if the id became nobody else.

        ``keys`` are searched in their order. A person's id that became another one in turn is followed to the last;
        ids that became each other are one person, under that of them which sorts first.
        """
        with self._lock:
            found = next(filter(None, (self._at(key, at) for key in keys)), None)
            if found is None:
                return None
            chain = [user_id, found.known]
            several = found.several
            while len(chain) < _LONGEST_CHAIN and (found := self._at(key_of(chain[-1]), at)) is not None:
                several = several or found.several
                if found.known in chain:
                    chain.append(min(chain[chain.index(found.known) :]))
                    break
                chain.append(found.known)
        return None if chain[-1] == user_id else Became(chain[-1], several)

    def close(self) -> None:
        """Forget whom the ids became."""
        with self._lock:
            self._connection.close()

    def _at(self, key: str, at: str) -> Became | None:
        run = self._connection.execute
        first = run("SELECT known FROM named WHERE id = ? ORDER BY at LIMIT 3", (key,)).fetchall()
        if not first:
            return None
        if len(set(first)) == 1:  # of a run of one person there are two at most: so it is nobody else's
            return Became(first[0][0], several=False)
        find = "SELECT known FROM named WHERE id = ? AND at {} ? ORDER BY at {} LIMIT 1"
        next_one = run(find.format(">=", "ASC"), (key, at)).fetchone()
        return Became((next_one or run(find.format("<", "DESC"), (key, at)).fetchone())[0], several=True)

    def _add(self, link: Link) -> None:
        """Put a moment in, unless it lies within a run; take out the one that lies within a run because of it."""
        run = self._connection.execute
        before = run(
            "SELECT at, known FROM named WHERE id = ? AND at <= ? ORDER BY at DESC LIMIT 2", (link.key, link.at)
        ).fetchall()
        after = run(
            "SELECT at, known FROM named WHERE id = ? AND at > ? ORDER BY at LIMIT 2", (link.key, link.at)
        ).fetchall()
        if before and before[0][0] == link.at:
            return  # of two at the same moment, the first line counts
        if before and after and before[0][1] == after[0][1] == link.known:
            return
        for near in (before, after):
            if [link.known] * 2 == [known for _, known in near]:
                run("DELETE FROM named WHERE id = ? AND at = ?", (link.key, near[0][0]))
        run("INSERT INTO named VALUES (?, ?, ?)", (link.key, link.at, link.known))
