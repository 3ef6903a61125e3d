"""An outbox in PostgreSQL during one opening: it hears which calls of the application's transactions were accepted."""

from __future__ import annotations

from .._outbox.remote_session import RemoteSession
from .._outbox.store import Committed
from ._tickets import Tickets


class PostgresSession(RemoteSession):
    """As any other; receipts of calls that are in transactions still are found by their ``tickets``."""

    def __init__(self, place: str, most_at_once: float, *, fallback: bool) -> None:
        super().__init__(place, most_at_once, fallback=fallback)
        self.tickets = Tickets(self.ledger.pages)

    def _learn(self, now: Committed) -> None:
        for one in now.admitted:  # before the ledger hears what became of them, and forgets their page
            self.tickets.admitted(one)
        super()._learn(now)
