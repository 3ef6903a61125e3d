"""Ids that a Parcelvoy server keeps apart and its database does not: the second person is lost without a word.

The database compares them without case, accents and invisible characters (MySQL's utf8mb4_0900_ai_ci, which is the
primary level of the Unicode Collation Algorithm); seen at a real server, 2.3.3, in 2026-11.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

REMEMBERED = 20_000  # ids; a warning that comes by chance is worth no more memory


class LikeIds:
    """Warns once, when two ids that were seen are one to the database. In any thread."""

    def __init__(self, warn: Callable[[], object]) -> None:
        self._warn = warn
        self._warned = False
        self._seen: dict[str, str] = {}
        self._ids: set[str] = set()

    def see(self, external_id: str | None, anonymous_id: str | None) -> None:
        """Take note of the ids of a call, which are not compared with each other."""
        if external_id is not None and external_id not in self._ids:
            self._compare("e:", external_id)
        if anonymous_id is not None and anonymous_id not in self._ids:
            self._compare("a:", anonymous_id)

    def _compare(self, kind: str, id: str) -> None:
        if self._warned:
            return
        if len(self._ids) >= REMEMBERED:
            self._ids.clear()
            self._seen.clear()
        self._ids.add(id)
        if self._seen.setdefault(kind + folded(id), id) != id:
            self._warned = True
            self._ids.clear()
            self._seen.clear()
            self._warn()


def folded(id: str) -> str:
    """Give the id as the database compares it."""
    if id.isascii() and id.isprintable():
        return id.lower()
    plain = unicodedata.normalize("NFKD", id).casefold()
    return "".join(one for one in plain if unicodedata.category(one) not in ("Mn", "Cf", "Cc"))
