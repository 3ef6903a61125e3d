"""External ids by the anonymous ids that are theirs: a second one, said by an alias, would rename the first person.

It sets ``external_id`` on whoever has the ``anonymous_id`` (seen at a real server, 2.3.3, in 2026-11). In a browser
that people share, the first of them would be gone, and what is known of them would be the second one's.

What decides is which pair was accepted first. A durable outbox keeps the pairs in that order, and all who share it
hear of them as they poll it; what this process has said since it last did is remembered apart, until it comes back.
So two processes may both take a call within one poll: the sender, which sees all calls in their order, refuses the
second one.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from .._calls.pairs import MOST_PAIRS, Pair, pairs_in
from .._calls.payload import Key
from .._errors.tree import InvalidCall

REFUSAL = (
    "belongs to another external_id already: this action can only be performed once. Give a browser a new anonymous id "
    "when somebody logs out"
)


class Pairs:
    """The external id that each anonymous one was said to be, by aliases and by calls with both. In any thread.

    Of more than `MOST_PAIRS` the oldest are forgotten.
    """

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}  # in the order of acceptance
        self._said: dict[str, str] = {}  # here, and not in that order yet
        self._lock = Lock()  # while one changes: two threads may take the last room

    def check(self, key: Key) -> None:
        """Remember the pair of a call with this key; raises `InvalidCall` if the anonymous id is another person's."""
        for anonymous, external in pairs_in(key):
            known = self._kept.get(anonymous) or self._said.get(anonymous)
            if known is None:
                with self._lock:
                    known = self._kept.get(anonymous) or _first(self._said, anonymous, external)
            if known != external:
                raise InvalidCall("anonymous_id", REFUSAL)

    def settle(self, key: Key) -> bool:
        """Remember the pair of a call that comes in the order of acceptance; false if another came before it."""
        pairs = pairs_in(key)
        self.learn(pairs)
        return all(self._kept.get(anonymous, external) == external for anonymous, external in pairs)

    def learn(self, pairs: Iterable[Pair]) -> None:
        """Remember pairs of this process and of others, in the order of their acceptance: the first one counts."""
        for anonymous, external in pairs:
            with self._lock:
                _first(self._kept, anonymous, external)
                self._said.pop(anonymous, None)


def _first(known: dict[str, str], anonymous: str, external: str) -> str:
    """The first external id of this anonymous one; the caller has the lock."""
    if anonymous not in known and len(known) >= MOST_PAIRS:
        del known[next(iter(known))]
    return known.setdefault(anonymous, external)
