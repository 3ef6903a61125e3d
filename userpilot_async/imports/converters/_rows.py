"""The rows of one exported line, with what else is to be said of it: what has no row, and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


class Converted(dict[str, Any]):
    """An unchecked row of a converter."""

    __slots__ = ("implied", "once")

    def __init__(self, fields: dict[str, Any], once: Collection[str] = (), *, implied: bool = False) -> None:
        super().__init__(fields)
        self.once = frozenset(once)
        """Names in its metadata that give way to a value which is known already."""
        self.implied = implied
        """The line repeats what is known of its user beside what it is about: not sent where it says nothing new."""


class Rows(list[dict[str, Any]]):
    """Rows of one line; `checked` is what refuses them."""

    __slots__ = ("notes", "skipped")

    def __init__(self) -> None:
        super().__init__()
        self.skipped = ""
        """Why that which the line is about has no row, in words that all lines of its kind share; empty if it has."""
        self.notes: list[str] = []
        """What of the line went nowhere, or was guessed, in words that all lines of its kind share."""

    def note(self, words: str) -> None:
        """Say something of the line, once."""
        if words not in self.notes:
            self.notes.append(words)

    def skip(self, kind: str, why: str) -> Rows:
        """Say that what the line is about has no row; gives the rows back."""
        self.skipped = f"`{kind}`: {why}"
        return self
