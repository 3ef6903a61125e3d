"""The calls that commit with a transaction of the application's: see `UserpilotClient.within`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from .._calls.values import Convertible
from .._delivery.client import DeliveryClient
from .._delivery.within import CallsWithin, Check
from .._outbox.receipt import Receipt

Metadata = Mapping[str, Convertible] | None


class Within(CallsWithin):
    """The calls of a `UserpilotClient` on one connection; made by `UserpilotClient.within`.

    Each method makes one ``INSERT`` there, in the transaction that is under way. Its call is sent if and only if that
    commits, a savepoint that is rolled back takes its calls along, and without a transaction each call is committed at
    once. Nothing waits for room. The receipt is ``pending``, its ``id`` -1, until the call has been committed and the
    sender has seen it; of a call that was rolled back it stays so: wait for it with a ``timeout``.

    A connection that is awaited needs the methods that are, and any other one those with ``_nowait``; else they raise
    `ConfigurationError`. They raise `InvalidCall` as the client's do, `ClientNotOpen`, `ClientClosed`, and, unchanged,
    what the driver raises. ``dedupe`` says which fact a call tells, such as a webhook's id: of the calls that have the
    same, one is accepted.
    """

    def __init__(
        self, client: DeliveryClient, connection: object, tracked: Check, identified: Check, company_identified: Check
    ) -> None:
        super().__init__(client, connection)
        self._tracked = tracked
        self._identified = identified
        self._company_identified = company_identified

    async def track(
        self, user_id: str, event_name: str, metadata: Metadata = None, *, occurred_at: datetime | None = None,
        dedupe: str | None = None,
    ) -> Receipt:  # fmt: skip
        """Put an event; what it takes is as for `UserpilotClient.track`."""
        return await self._hold(self._tracked, user_id, event_name, metadata, occurred_at, dedupe=dedupe)

    def track_nowait(
        self, user_id: str, event_name: str, metadata: Metadata = None, *, occurred_at: datetime | None = None,
        dedupe: str | None = None,
    ) -> Receipt:  # fmt: skip
        """As `track`, on a connection that is not awaited, in the thread that uses it: it waits for the database."""
        return self._put(self._tracked, user_id, event_name, metadata, occurred_at, dedupe=dedupe)

    async def identify(
        self, user_id: str, metadata: Metadata = None, *, company: Metadata = None, dedupe: str | None = None
    ) -> Receipt:
        """Put what is known of a user; what it takes is as for `UserpilotClient.identify`."""
        return await self._hold(self._identified, user_id, metadata, company, dedupe=dedupe)

    def identify_nowait(
        self, user_id: str, metadata: Metadata = None, *, company: Metadata = None, dedupe: str | None = None
    ) -> Receipt:
        """As `identify`, on a connection that is not awaited, in the thread that uses it."""
        return self._put(self._identified, user_id, metadata, company, dedupe=dedupe)

    async def identify_company(
        self, company_id: str, metadata: Metadata = None, *, dedupe: str | None = None
    ) -> Receipt:
        """Put what is known of a company; what it takes is as for `UserpilotClient.identify_company`."""
        return await self._hold(self._company_identified, company_id, metadata, dedupe=dedupe)

    def identify_company_nowait(
        self, company_id: str, metadata: Metadata = None, *, dedupe: str | None = None
    ) -> Receipt:
        """As `identify_company`, on a connection that is not awaited, in the thread that uses it."""
        return self._put(self._company_identified, company_id, metadata, dedupe=dedupe)
