"""Calls that go as they are: nothing merges into them, and nothing of the same key overtakes them."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from .._calls.payload import Kind


@attrs.define(eq=False, slots=True)
class Post:
    """A call that goes alone, as it is."""

    kind: Kind
    ids: list[int]
    """The first one carries it in the account; others said the same again, where once is enough. None: no call said it,
    but one that comes behind needs it.
    """
    accepted_at: float
    body: bytes
    lost: bool = False
    """An answer to it got lost: the server may have it."""
    needed: bool = False
    """A call that comes behind needs it, whatever becomes of those that stand for it."""

    @property
    def is_preface(self) -> bool:
        """No call stands for it."""
        return not self.ids


@attrs.define(eq=False, slots=True)
class Deletion(Post):
    """The deletion of a key's person or company: a request carries several, and a background job carries them out."""

    erases: bool = True
    """Calls before it may still wait to be dropped."""
    submitted: bool = False
    """The server has it: a job of the server carries it out, or is about to."""


def dropped_by(deletion: Deletion, calls: Sequence[object], at_most: int, *, carried: int) -> slice:
    """The first calls that a deletion among them drops, so many at most.

    Those are before it, behind the first ``carried`` ones, and no deletions.
    """
    start = carried if calls[0] is not deletion else 0
    while calls[start] is not deletion and isinstance(calls[start], Deletion):
        start += 1
    end = start
    while end < start + at_most and not isinstance(calls[end], Deletion):
        end += 1
    return slice(start, end)
