"""Properties that this process has said of people, as far as they fit into a few megabytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from .._calls.rows import Row

MAX_REMEMBERED = 16 * 1024 * 1024  # bytes, about; who was spoken of longest ago is forgotten first
PERSON, PROPERTY = 500, 150  # bytes that each takes besides its text, as measured with tracemalloc on Python 3.11


class PropertyCache:
    """Merged as the server merges: the later value wins. `Any` is whatever its values may be."""

    def __init__(self) -> None:
        self._people: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._size = 0

    def learn(self, user_id: str, properties: Mapping[str, Any]) -> None:
        """Remember properties of a person that the server has."""
        known = self._people.pop(user_id, None)
        if known is None:
            known, self._size = {}, self._size + PERSON + len(user_id)
        for name, value in properties.items():
            self._size += _text(value) - _text(known[name]) if name in known else _cost(name, value)
            known[name] = value
        self._people[user_id] = known
        while self._size > MAX_REMEMBERED and len(self._people) > 1:
            forgotten, of_them = self._people.popitem(last=False)
            self._size -= _size_of(forgotten, of_them)

    def forget(self, user_id: str) -> None:
        """Forget a person: the server is about to, too."""
        known = self._people.pop(user_id, None)
        if known is not None:
            self._size -= _size_of(user_id, known)

    def of(self, row: Row) -> Mapping[str, Any]:
        """All that is known of the person whose row this is; the row itself knows best."""
        known = self._people.get(row.key)
        return {**known, **row.metadata} if known is not None else row.metadata


def _size_of(user_id: str, properties: Mapping[str, Any]) -> int:
    return PERSON + len(user_id) + sum(_cost(name, value) for name, value in properties.items())


def _cost(name: str, value: Any) -> int:
    return PROPERTY + len(name) + _text(value)


def _text(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0
