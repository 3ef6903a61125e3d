"""Calls whose key has no other, as they wait: tuples that the garbage collector need not walk, by key and by age."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Generic, TypeVar

from .._calls.payload import PackedEvent, PackedRow, packed_at, packed_key

Packed = TypeVar("Packed", PackedRow, PackedEvent)

MOST_GONE = 1_000  # calls that wait no more, and are remembered in the order of those that do
LOOKS = 4  # calls that are looked at with each that goes, while there are more
_PARTS = 256  # dicts instead of one: a dict of a million keys stops the event loop for 20 ms when it grows


class PackedCalls(Generic[Packed]):
    """Packed calls of different keys that wait, by key, and in the order of their acceptance."""

    def __init__(self) -> None:
        self.number = 0
        self.newest = -math.inf
        """When the last one was accepted."""
        self._parts: list[dict[str, Packed]] = [{} for _ in range(_PARTS)]
        # In order, the older ones before the newer ones; also calls that wait no more, until somebody looks at them.
        self._older: deque[Packed] = deque()
        self._newer: deque[Packed] = deque()

    def __contains__(self, key: str) -> bool:
        return key in self._parts[hash(key) % _PARTS]

    def __iter__(self) -> Iterator[Packed]:
        return (call for call in self.order() if self.has(call))

    def order(self) -> Iterator[Packed]:
        """The calls in order, and some among them that wait no more."""
        return chain(self._older, self._newer)

    @property
    def first(self) -> Packed | None:
        """The call that has waited longest."""
        for order in (self._older, self._newer):
            while order:
                call = order[0]
                if self.has(call):
                    return call
                order.popleft()
        return None

    def add(self, call: Packed) -> None:
        """Have a call wait behind all others."""
        self._put(call)
        self._newer.append(call)
        self.newest = packed_at(call)

    def put_back(self, call: Packed) -> None:
        """Have a call wait before all others."""
        self._put(call)
        self._older.appendleft(call)
        self.newest = max(self.newest, packed_at(call))

    def _put(self, call: Packed) -> None:
        key = packed_key(call)
        self._parts[hash(key) % _PARTS][key] = call
        self.number += 1

    def take(self, key: str) -> Packed | None:
        """Take out the call of a key, if there is one."""
        call = self._parts[hash(key) % _PARTS].pop(key, None)
        if call is not None:
            self.number -= 1
            self._look()
        return call

    def _look(self) -> None:
        """Forget some of the calls that wait no more: one in front that waits long would keep all behind it."""
        if len(self._older) + len(self._newer) <= self.number + MOST_GONE:
            return
        for _ in range(LOOKS):
            if not self._newer:
                self._older, self._newer = self._newer, self._older
            call = self._newer.popleft()
            if self.has(call):
                self._older.append(call)

    def has(self, call: Packed) -> bool:
        """Whether this call waits: not one that was taken out, and another of its key put in."""
        key = packed_key(call)
        return self._parts[hash(key) % _PARTS].get(key) is call
