"""Batches on their way across a network: one at a time, and each is gone on with until all of it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from .._errors.tree import OutboxError
from .away import Full
from .batch import Batch
from .lease import Lease
from .store import Committed


class WriteAttempt(Protocol):
    """A batch that is being written, and how far that is."""

    batch: Batch
    term: int
    """How often the lease had been lost when the batch was taken."""


Attempt = TypeVar("Attempt", bound=WriteAttempt)


class RemoteSteps(Generic[Attempt]):
    """The batches of one ``client``. A kind of outbox says how one is begun, and gone on with.

    Requests are numbered where the lease is ours, and only those may be made. ``place`` is for messages.
    """

    def __init__(self, client: str, lease: Lease, place: str, warn: Callable[[str], None]) -> None:
        self._client = client
        self._lease = lease
        self._place = place
        self._warn = warn
        self._attempt: Attempt | None = None
        self._requests = 0

    # ── what a kind of outbox says ──

    def _begun(self, batch: Batch, *, is_ours: bool) -> Attempt:
        """A batch that has just been taken, when the lease was ours, or was not."""
        raise NotImplementedError

    def _go_on(self, attempt: Attempt, /) -> Committed:
        """Write all of the batch, or the next step of it, as `write` does."""
        raise NotImplementedError

    # ── one after the other ──

    def write(self, take: Callable[[], Batch]) -> Committed:
        """Go on with the batch that is being written, or with the one that ``take`` gives.

        The outbox as it is then; `Committed.noted` if all of the batch is written. Raises what the connection raises:
        then the batch is gone on with the next time.
        """
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = self._taken(take())
        now = self._go_on(attempt)
        if now.noted:
            self._attempt = None
        return now

    def _taken(self, batch: Batch) -> Attempt:
        is_ours = self._lease.leading and batch.term == self._lease.term
        for request in batch.requests:
            self._requests += 1
            request.number = f"{self._client}:{self._requests}" if is_ours else None
        return self._begun(batch, is_ours=is_ours)

    def _drop_notes(self, attempt: Attempt, /) -> None:
        """The lease was lost since: of the sender's notes none is written, and no request may be made."""
        for request in attempt.batch.requests:
            request.number = None

    def _no_room(self, error: Full) -> OutboxError:
        """The error for those whose calls have found no room, which is logged."""
        refused = OutboxError(f"{self._place} takes no calls: {error}")
        self._warn(str(refused))
        return refused
