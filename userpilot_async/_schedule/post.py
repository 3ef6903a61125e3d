"""A call that goes alone, in a request of its own; or what such a call, or any other, needs before it."""

from __future__ import annotations

import attrs

from .._calls.payload import Kind


@attrs.define(eq=False, slots=True)
class Post:
    """A call that goes alone, as it is: nothing merges into it, and nothing overtakes it."""

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
