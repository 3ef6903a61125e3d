"""Outboxes across a network without a loop and without a thread, and what tests of each kind ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.contract.inline import Client, Inline, at_once, open_now
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._outbox.remote import RemoteOutbox


class InlineRemote(Inline, RemoteOutbox):
    """An outbox across a network, without a thread."""

    def die(self) -> None:
        """As the process would: nothing more is written. Its lease has ended, too."""
        self.writer.kill()
        self._in_use = False
        self.end_lease()
        self.store._connection.close()

    def end_lease(self) -> None:
        """As the server's clock does."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """Close it, and all that the test has opened beside it."""
        at_once(self.aclose())


Remote = TypeVar("Remote", bound=InlineRemote)


@contextmanager
def processes_of(made: Callable[..., Remote]) -> Iterator[Callable[..., Remote]]:
    """Opens the same outbox with each call, as another process would; all of them are closed at the end."""
    opened: list[Remote] = []

    def process(client: Client | None = None, **options: object) -> Remote:
        outbox = made(**options)
        opened.append(outbox)
        open_now(outbox, (client or Client()).opening())
        return outbox

    try:
        yield process
    finally:
        for outbox in opened:
            outbox.clean_up()


def put(outbox: InlineRemote, count: int = 1, size: int = 2) -> list[Receipt]:
    """Put so many tracks of ten users."""
    return [outbox.put("track", f"u{n % 10}", b"x" * size, size, 0.0) for n in range(count)]


def ids_of(receipts: list[Receipt]) -> list[int]:
    """The ids of the calls, by their receipts."""
    return [receipt.id for receipt in receipts]


def taken(outbox: InlineRemote) -> list[int]:
    """Take all that there is; the ids."""
    found: list[int] = []
    while tickets := outbox.take(100):
        found += [ticket[0] for ticket in tickets]
    return found


def balance(outbox: InlineRemote) -> int:
    """The number that all accepted calls should come to."""
    ledger = outbox.ledger
    return ledger.delivered + ledger.merged + ledger.pending + sum(ledger.losses().values())
