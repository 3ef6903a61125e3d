"""Pairs: two keys that a call names together, which are one person's for good, as outboxes keep them.

The first key of a call stands for the person, each further one belongs to it from then on: `(further, first)`.
"""

from __future__ import annotations

from typing import Any

from .payload import Key
from .stored import sealed, unsealed

MOST_PAIRS = 100_000  # kept, about 20 MB: the oldest go; as many as `_schedule` joins
Pair = tuple[str, str]


def pairs_in(key: Key) -> list[Pair]:
    """The pairs that a call with this key names; none, if it has one key only."""
    return [(one, key[0]) for one in key[1:]] if isinstance(key, tuple) else []


def sealed_pair(pair: Pair) -> str:
    """The pair as JSON with a checksum: a flipped bit must not make it another person's."""
    return sealed(pair)


def unsealed_pair(text: Any) -> Pair | None:
    """The pair that was sealed; ``None`` if that is damaged, or another program's. `Any`: it may be anything."""
    pair = unsealed(text)
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
        return None
    return pair[0], pair[1]
