"""What only an outbox in Redis is told, besides what every `Listener` is: a network can lose an answer."""

from __future__ import annotations

from typing import Protocol

from .._errors.tree import OutboxError
from .._outbox.store import Committed, Listener


class RedisListener(Listener, Protocol):
    """Each is called by `Notify`, in the outbox's own loop, but for those that say otherwise."""

    def takes_refusal(self, error: OutboxError) -> bool:
        """Whoever opens the outbox is to be told this; false if it is open already. Called in the writer's thread."""
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
        """Redis was restarted with all it had: ids from this one to the end of their page are given to nobody."""
        ...

    def set_back(self, now: Committed, first: int, generation: str) -> None:
        """Redis has older data, or none: calls from this id on, told to be held in this generation, are gone."""
        ...

    def deposed(self, term: int) -> None:
        """Another process may have the lease now; so often ours has been lost."""
        ...
