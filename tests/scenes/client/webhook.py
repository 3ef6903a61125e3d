"""A third destination, to see what one costs: a webhook of one's own that takes arrays of events.

``POST <url>`` with ``[{"event", "user", "properties"}, …]``; what is known of a user goes as ``PUT <url>/users``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from threading import get_ident
from typing import Any

import attrs

from userpilot_async._calls.payload import Key, Kind, Payload, body_of
from userpilot_async._calls.rows import Row
from userpilot_async._calls.values import checked_id, encode_json, size_of
from userpilot_async._delivery.client import Checked, DeliveryClient
from userpilot_async._delivery.connection import Connection, Transport
from userpilot_async._delivery.credentials import KeyRing, checked_base_url
from userpilot_async._errors.tree import InvalidCall
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.destination import Destination, Endpoint, Events, LostCall, as_array
from userpilot_async._settings import DeliverySettings
from userpilot_async.parcelvoy._data import checked_data


def _properties(given: Mapping[str, Any] | None) -> dict[str, Any]:
    return checked_data(given, "properties")


@attrs.frozen
class Happened:
    """An event, as the webhook gets it."""

    event: str
    user: str
    properties: Mapping[str, Any] = attrs.field(converter=_properties)

    def as_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)


@attrs.frozen
class Known:
    """What is known of a user."""

    user: str
    properties: Mapping[str, Any] = attrs.field(converter=_properties)

    def as_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)


def _call_of(kind: Kind, key: Key, said: Payload) -> Happened | Known:
    return Happened(**json.loads(body_of(said))) if kind == "track" else Known(str(key), said[0])


def _row_call(row: Row) -> Known:
    return Known(row.key, row.metadata)


WEBHOOK = Destination(
    name="webhook",
    budgets={"requests": 120},
    burst=10,
    events=Events(endpoint=Endpoint("events", "", "requests"), most=100, max_bytes=256 * 1024, pack=as_array),
    rows={"user": Endpoint("users", "/users", "requests", method="PUT")},
    row_body=lambda row: encode_json(_row_call(row).as_dict()).encode(),
    row_call=_row_call,
    call_of=_call_of,
    lost_call=LostCall,
    wrong_key="is it the secret of this hook?",
)


class WebhookClient(DeliveryClient):
    """Calls for a webhook; the secret is never sent, only what it makes of itself."""

    def __init__(self, secret: str, url: str, *, settings: DeliverySettings | None = None,
                 transport: Transport | None = None, on_dead: Any = None) -> None:  # fmt: skip
        settings = settings or DeliverySettings()
        connection = Connection(
            KeyRing(secret, "WEBHOOK_SECRET"),
            lambda key: {"X-Signature": hmac.new(key.encode(), url.encode(), hashlib.sha256).hexdigest()},
            checked_base_url(url),
            transport,
            request_timeout=settings.request_timeout,
            upload_timeout=settings.request_timeout,
            size=settings.concurrency,
        )
        super().__init__(WEBHOOK, connection, settings, None, on_dead)

    async def track(self, event: str, user: str, properties: Mapping[str, Any] | None = None) -> Receipt:
        return await self._said(Happened, event=event, user=user, properties=properties)

    async def identify(self, user: str, properties: Mapping[str, Any] | None = None) -> Receipt:
        return await self._said(Known, user=user, properties=properties)

    async def _said(self, make: type[Happened | Known], **arguments: Any) -> Receipt:
        if get_ident() != self._thread:
            raise self._refusal()
        try:
            checked = _as_put(make(**arguments))
        except InvalidCall as error:
            return self._invalid(error, arguments)
        return self._accept(*checked) or await self._take(*checked)


def _as_put(call: Happened | Known) -> Checked:
    user = checked_id(call.user, "user")
    if isinstance(call, Happened):
        body = encode_json(call.as_dict()).encode()
        return "track", user, body, len(body)
    properties = dict(call.properties)
    return "user", user, (properties, None, size_of(properties), None), size_of(properties)
