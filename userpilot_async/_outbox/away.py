"""Being away: a place across a network that does not answer, or not now."""

from __future__ import annotations


class Away(Exception):
    """The place does not answer, or not now. A step that was under way may have been done.

    ``does`` is what is said of it, before the words in brackets.
    """

    does = "does not answer"

    def __init__(self, words: str = "", does: str | None = None) -> None:
        super().__init__(words)
        if does is not None:
            self.does = does
