"""Receipts of calls that are in a transaction still: by tickets, until the sender has admitted the call, or never."""

from __future__ import annotations

from secrets import randbits
from threading import Lock
from weakref import WeakValueDictionary

from .._account.pages import Pages
from .._outbox.receipt import Receipt
from .._outbox.store import Admitted

BITS = 63  # of a bigint that is not negative: two of a million tickets are alike once in 18 million times


class TicketReceipt(Receipt):
    """A receipt that nobody but its caller keeps alive."""

    __slots__ = ("__weakref__",)


class Tickets:
    """The tickets of one opening of an outbox. ``pages`` are where the outcomes of its calls are written.

    A transaction that is rolled back is not heard of, and a receipt that is forgotten takes its ticket along.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._receipts: WeakValueDictionary[int, TicketReceipt] = WeakValueDictionary()
        self._turn = Lock()  # calls are put in any thread

    def __len__(self) -> int:
        return len(self._receipts)

    def issue(self) -> tuple[int, Receipt]:
        """A new ticket, and the receipt of its call: pending, without an id. In any thread."""
        ticket, receipt = randbits(BITS), TicketReceipt(self._pages)
        with self._turn:
            self._receipts[ticket] = receipt
        return ticket, receipt

    def admitted(self, call: Admitted) -> None:
        """The call with this ticket was accepted, or repeats one that was. Other processes have other tickets."""
        with self._turn:
            receipt = self._receipts.pop(call.ticket, None)
        if receipt is None:
            return
        page = self._pages.of(call.id)
        if call.repeats:
            receipt.repeats(call.id, page, call.outcome)
        else:
            receipt.held(call.id, page)
