"""Calls that are put on a connection of the application's: its transaction decides whether they are accepted."""

from __future__ import annotations

from typing import Protocol

from .._calls.dedupe import DedupeKey
from .._calls.payload import Key, Kind, Payload
from .._errors.tree import ConfigurationError
from .protocol import Outbox
from .receipt import Receipt


class PutsWithin(Protocol):
    """Puts calls on one connection. They are accepted if and only if the transaction commits that is under way there.

    The transaction is the application's: each call is one statement, nothing is tried again, and errors of the
    driver's are raised as they are.
    """

    def put(self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None) -> Receipt:
        """Put a call right now, in this thread. Raises `ConfigurationError` for a connection that must be awaited."""
        ...

    async def hold(self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None) -> Receipt:
        """Put a call. Raises `ConfigurationError` for a connection that cannot be awaited."""
        ...


def puts_within(outbox: Outbox, connection: object) -> PutsWithin:
    """The way to put calls on ``connection``; raises `ConfigurationError` if the outbox is in no such database."""
    within = getattr(outbox, "within", None)
    if within is None:
        raise ConfigurationError(
            f"within() needs an outbox in the application's own PostgreSQL, and calls wait in {outbox.place}: "
            'UserpilotClient(outbox="postgresql://…")'
        )
    puts: PutsWithin = within(connection)
    return puts
