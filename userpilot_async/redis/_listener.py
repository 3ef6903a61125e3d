"""Reports that only an outbox in Redis gets, besides those of every `Listener`: a network can lose an answer."""

from __future__ import annotations

from typing import Protocol

from .._errors.tree import OutboxError
from .._outbox.store import Committed, Listener


class RedisListener(Listener, Protocol):
    """Each is called by `Notify`, in the outbox's own loop, but for those that say otherwise."""

    def takes_refusal(self, error: OutboxError) -> bool:
        """Note why the outbox cannot be opened; false if it is open already. Called in the writer's thread."""
        ...

    def began_away(self) -> None:
        """Redis does not answer yet; the client is open all the same."""
        ...

    def is_away(self) -> None:
        """Redis does not answer any more."""
        ...

    def is_back(self, now: Committed) -> None:
        """Redis answers again, and holds this."""
        ...

    def started_again(self, first: int) -> None:
        """Redis was restarted with all it had: ids from this one to the end of their page are left out."""
        ...

    def set_back(self, now: Committed, first: int, generation: str) -> None:
        """Redis has older data, or none: calls from this id on, held in this generation, are gone."""
        ...

    def deposed(self, term: int) -> None:
        """Stop sending: another process may have the lease. ``term``: how often ours has been lost."""
        ...
