"""What this process has said of people, as far as it fits into a few megabytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ._coalesce import Row

MAX_REMEMBERED = 16 * 1024 * 1024  # bytes, about; who was spoken of longest ago is forgotten first


class Known:
    """Merged as the server merges: the later value wins. `Any` is whatever its values may be."""

    def __init__(self) -> None:
        self._people: OrderedDict[str, tuple[dict[str, Any], int]] = OrderedDict()
        self._size = 0

    def learn(self, user_id: str, properties: Mapping[str, Any], size: int) -> None:
        """This was said of somebody, in so many bytes."""
        known, before = self._people.pop(user_id, ({}, 0))
        known.update(properties)
        self._people[user_id] = known, before + size
        self._size += size
        while self._size > MAX_REMEMBERED:
            self._size -= self._people.popitem(last=False)[1][1]

    def of(self, row: Row) -> Mapping[str, Any]:
        """All that is known of the person whose row this is; the row itself knows best."""
        known = self._people.get(row.key)
        return {**known[0], **row.metadata} if known is not None else row.metadata
