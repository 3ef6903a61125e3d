"""The receipt for an accepted call."""

from __future__ import annotations

import anyio

from ._ledger import Ledger, Outcome, Status


class Receipt:
    """Says what became of one call, whenever it is asked. Costs nothing when nobody asks."""

    __slots__ = ("_ledger", "_page", "id")

    def __init__(self, ledger: Ledger, call_id: int) -> None:
        self._ledger = ledger
        self._page = ledger.page
        self.id = call_id
        """The call's number in the order of acceptance, from 0."""

    def __repr__(self) -> str:
        return f"<Receipt {self.id} {self.status}>"

    @property
    def status(self) -> Status:
        """``pending``, ``submitted``, ``delivered``, ``dead``, ``dropped`` or ``merged``."""
        return self._ledger.outcome(self.id, self._page).status

    @property
    def reason(self) -> str | None:
        """Why the call is dead or dropped."""
        return self._ledger.outcome(self.id, self._page).reason

    async def outcome(self, timeout: float | None = None) -> Outcome:
        """What became of the call in the end. Raises `TimeoutError` after ``timeout`` seconds.

        For a merged call this waits for the row that took it in: ``outcome.row`` is what became of that.
        """
        now = self._ledger.outcome(self.id, self._page)
        if _is_final(now):
            return now
        final: list[Outcome] = []
        arrived = anyio.Event()

        def tell(outcome: Outcome) -> None:
            final.append(outcome)
            arrived.set()

        forget = self._ledger.watch(self.id, tell)
        try:
            with anyio.fail_after(timeout):
                await arrived.wait()
        finally:
            forget()
        return final[0]


def _is_final(outcome: Outcome) -> bool:
    if outcome.status == "merged":
        return outcome.row is not None
    return outcome.status not in ("pending", "submitted")
