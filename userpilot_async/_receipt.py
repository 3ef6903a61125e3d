"""The receipt for an accepted call."""

from __future__ import annotations

import anyio

from ._ledger import CHUNK, DeliveryRoute, Ledger, Outcome, Status


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

    @property
    def route(self) -> DeliveryRoute | None:
        """By which way it was delivered: ``realtime``, or by a ``bulk`` or ``import`` job; ``None`` while it is not."""
        return self._ledger.outcome(self.id, self._page).route

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


class LateReceipt(Receipt):
    """For a call whose number is not known before it is held, a moment later; until then it is -1."""

    __slots__ = ("_fate", "_held")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._page = _UNKNOWN
        self._fate: Outcome | None = None
        self._held: anyio.Event | None = None
        self.id = -1

    def held(self, call_id: int, page: bytearray) -> None:
        """The call is held under this number; ``page`` is where the ledger writes what becomes of it."""
        self.id, self._page = call_id, page
        self._tell()

    def failed(self, outcome: Outcome) -> None:
        """It is not held; what became of it is known."""
        self._fate = outcome
        self._tell()

    def _tell(self) -> None:
        if self._held is not None:
            self._held.set()

    @property
    def status(self) -> Status:
        """As `Receipt.status`."""
        return self._now().status

    @property
    def reason(self) -> str | None:
        """As `Receipt.reason`."""
        return self._now().reason

    @property
    def route(self) -> DeliveryRoute | None:
        """As `Receipt.route`."""
        return self._now().route

    def _now(self) -> Outcome:
        return self._fate or self._ledger.outcome(self.id, self._page)

    async def outcome(self, timeout: float | None = None) -> Outcome:
        """As `Receipt.outcome`."""
        with anyio.fail_after(timeout):
            if self.id < 0 and self._fate is None:
                self._held = self._held or anyio.Event()
                await self._held.wait()
            return self._fate or await super().outcome()


_UNKNOWN = bytearray(CHUNK)  # on which every call is pending


def _is_final(outcome: Outcome) -> bool:
    if outcome.status == "merged":
        return outcome.row is not None
    return outcome.status not in ("pending", "submitted")
