"""The reports of a place across a network, which may be away, come back with older data, or lose the lease."""

from __future__ import annotations

from typing import Protocol

from .._calls.payload import Key, Kind, Payload
from .._errors.tree import OutboxError
from .store import Committed, Listener


class RemoteListener(Listener, Protocol):
    """The reports that only an outbox across a network gets, besides those of every `Listener`: it can lose an answer.

    Each is called by `Notify`, in the outbox's own loop, but for those that say otherwise."""

    def takes_refusal(self, error: OutboxError) -> bool:
        """Note why the outbox cannot be opened; false if it is open already. Called in the writer's thread."""
        ...

    def check_call(self, kind: Kind, key: Key, payload: Payload) -> None:
        """See that a call is one that this client could have put. Called in the writer's thread.

        Raises `UserpilotError`, or whatever, if it is not.
        """
        ...

    def began_away(self) -> None:
        """The place does not answer yet; the client is open all the same."""
        ...

    def is_away(self) -> None:
        """The place does not answer any more."""
        ...

    def is_back(self, now: Committed) -> None:
        """The place answers again, and holds this."""
        ...

    def started_again(self, first: int) -> None:
        """The place was restarted with all it had: ids from this one to the end of their page are left out."""
        ...

    def set_back(self, now: Committed, first: int, generation: str) -> None:
        """The place has older data, or none: calls from this id on, held in this generation, are gone."""
        ...

    def deposed(self, term: int) -> None:
        """Stop sending: another process may have the lease. ``term``: how often ours has been lost."""
        ...
