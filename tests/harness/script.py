"""A script of behaviours, and what has been received: what the scripted servers share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

V = TypeVar("V")
R = TypeVar("R")

# One value for every request; one after the other; or chosen when the request has been read.
Script = V | Sequence[V] | Callable[[Any], V]


class Turns(Generic[V]):
    """Deals out the values of a script. A sequence is followed by `then` for ever."""

    def __init__(self, script: Script[V], then: V) -> None:
        self._choose: Callable[[Any], V] | None = None
        self._left: list[V] = []
        self._then: V = then
        if callable(script):
            self._choose = script
        elif isinstance(script, Sequence):
            self._left = list(script)
        else:
            self._then = script

    def before_reading(self) -> V | None:
        """The next value; None if it is for `after_reading` to choose."""
        if self._choose is not None:
            return None
        return self._left.pop(0) if self._left else self._then

    def after_reading(self, request: Any) -> V:
        assert self._choose is not None, "only a function chooses after reading"
        return self._choose(request)


class Record(Generic[R]):
    """A list that one thread fills and another waits for."""

    def __init__(self) -> None:
        self._entries: list[R] = []
        self._news = threading.Condition()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: R) -> None:
        with self._news:
            self._entries.append(entry)
            self._news.notify_all()

    def replace(self, entry: R, better: R) -> None:
        with self._news:
            self._entries[next(n for n, other in enumerate(self._entries) if other is entry)] = better

    def entries(self) -> list[R]:
        with self._news:
            return list(self._entries)

    def wait_for(self, count: int, timeout: float) -> list[R]:
        with self._news:
            enough = self._news.wait_for(lambda: len(self._entries) >= count, timeout)
            assert enough, f"{len(self._entries)} of {count} requests came within {timeout:g} s: {self._entries}"
            return list(self._entries)
