"""Keys of persons whom the server has met: before that, it does nothing with what gives the person another key."""

from __future__ import annotations

from collections.abc import Iterable

MAX_REMEMBERED = 100_000  # keys, about 10 MB; of older ones it is not known any more, which costs a post more


class MetKeys:
    """Remembers keys of which a call was delivered. Of each key at most one call is watched for that."""

    def __init__(self) -> None:
        self._met: dict[str, None] = {}
        self._watched: dict[int, str] = {}
        self._awaited: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._met

    @property
    def are_awaited(self) -> bool:
        """The end of some call will show whether the server has met a key."""
        return bool(self._watched)

    def watch(self, call_id: int, key: str) -> None:
        """If this call is delivered, the server has met the key."""
        if key not in self._met and key not in self._awaited:
            self._watched[call_id] = key
            self._awaited.add(key)

    def ended(self, ids: Iterable[int], *, delivered: bool) -> None:
        """Hear what became of these calls."""
        for call_id in ids:
            key = self._watched.pop(call_id, None)
            if key is None:
                continue
            self._awaited.discard(key)
            if delivered:
                if len(self._met) >= MAX_REMEMBERED:
                    del self._met[next(iter(self._met))]
                self._met[key] = None
