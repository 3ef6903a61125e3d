"""External ids by the anonymous ids that are theirs: a second one, said by an alias, would rename the first person.

It sets ``external_id`` on whoever has the ``anonymous_id`` (seen at a real server, 2.3.3, in 2026-11). In a browser
that people share, the first of them would be gone, and what is known of them would be the second one's.
"""

from __future__ import annotations

from .._errors.tree import InvalidCall

REMEMBERED = 100_000  # pairs, about 20 MB


class Pairs:
    """The external id that each anonymous one was said to be, by aliases and by calls with both. In any thread."""

    def __init__(self) -> None:
        self._external_ids: dict[str, str] = {}

    def check(self, external_id: str | None, anonymous_id: str | None) -> None:
        """Remember the pair of a call that has both; raises `InvalidCall` if the anonymous id is another person's."""
        if external_id is None or anonymous_id is None:
            return
        known = self._external_ids
        if known.get(anonymous_id, external_id) != external_id:
            raise InvalidCall(
                "anonymous_id",
                "belongs to another external_id already: this action can only be performed once. Give a browser a new "
                "anonymous id when somebody logs out",
            )
        if len(known) >= REMEMBERED and anonymous_id not in known:
            known.pop(next(iter(known)), None)
        known[anonymous_id] = external_id
