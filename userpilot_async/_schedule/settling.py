"""Pauses around posts whose order the server does not keep: it answers when it has queued a call, and works on several.

Before such a post, all that was answered of its person has had time to take effect; after it, the post has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .._calls.payload import Kind


class Settling:
    """Remembers, for as long as the longest pause lasts, when something of a person was answered last.

    ``pauses`` are seconds, by the kind of the post. Persons are known by the key that stands for them, which ``find``
    gives: see `identities`.
    """

    def __init__(self, pauses: Mapping[Kind, float]) -> None:
        self.longest = max(pauses.values(), default=0.0)
        self._pauses = pauses
        self._answered: dict[str, float] = {}

    def answered(self, keys: Iterable[str], find: Callable[[str], str], now: float) -> None:
        """A request with calls by these keys has ended: the server may have them."""
        answered = self._answered
        for key in map(find, keys):
            answered.pop(key, None)
            answered[key] = now
        while answered and answered[oldest := next(iter(answered))] <= now - self.longest:
            del answered[oldest]

    def joined(self, key: str, to: str) -> None:
        """Both keys are one person's, known by the second one from now on."""
        before = self._answered.pop(key, None)
        if before is not None:
            # At the end, where the newest are: it is remembered for too long rather than too short.
            self._answered[to] = max(before, self._answered.pop(to, before))

    def due(self, kind: Kind, key: str) -> float:
        """When a post of this kind may go, by the person's key."""
        return self._answered.get(key, float("-inf")) + self._pauses.get(kind, 0.0)

    def over(self, kind: Kind, now: float) -> float:
        """When something else of the person may go, after a post of this kind was answered."""
        return now + self._pauses.get(kind, 0.0)
