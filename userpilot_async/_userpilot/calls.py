"""The calls, checked on birth, and their form on the wire.

A call that exists is one the server will take. Everything is copied, so the caller may change its dict afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from .._calls.dedupe import checked_dedupe_or_none, with_dedupe
from .._calls.ndjson import call_of, line_of, object_on
from .._calls.values import (
    MAX_EVENT_METADATA,
    MAX_NAME,
    MAX_VALUE,
    Convertible,
    Value,
    checked_company,
    checked_company_id,
    checked_event_metadata,
    checked_event_name,
    checked_event_size,
    checked_id,
    checked_metadata,
    checked_time,
    checked_user_id,
    encode_json,
    encode_text,
    iso_utc,
    plain,
    surrogate_in,
)
from .._errors.foreign import raised


@attrs.frozen
class Track:
    """Something a user did. Never merged, and de-duplicated only by ``dedupe``: another call with that is none.

    ``occurred_at`` is aware; the realtime endpoint has no time field and dates the event on arrival.
    """

    user_id: str = attrs.field(converter=checked_user_id)
    event_name: str = attrs.field(converter=checked_event_name)
    metadata: Mapping[str, Value] = attrs.field(default=None, converter=checked_event_metadata)
    occurred_at: datetime | None = attrs.field(default=None, converter=checked_time)
    dedupe: str | None = attrs.field(default=None, converter=checked_dedupe_or_none, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """The call as one line of an NDJSON file that ``userpilot-async send`` reads."""
        line: dict[str, Any] = {"type": "track", "user_id": self.user_id, "event_name": self.event_name}
        line["metadata"] = dict(self.metadata)
        if self.occurred_at is not None:
            line["occurred_at"] = iso_utc(self.occurred_at)
        return with_dedupe(line, self.dedupe)


@attrs.frozen
class Identify:
    """Facts about a user: properties that changed, ``None`` for those to remove.

    ``company`` has its ``id`` and, beside it, the company's own properties.
    """

    user_id: str = attrs.field(converter=checked_user_id)
    metadata: Mapping[str, Value] = attrs.field(default=None, converter=checked_metadata)
    company: Mapping[str, Value] | None = attrs.field(default=None, converter=checked_company)
    dedupe: str | None = attrs.field(default=None, converter=checked_dedupe_or_none, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """The call as one line of an NDJSON file that ``userpilot-async send`` reads."""
        line: dict[str, Any] = {"type": "identify", "user_id": self.user_id, "metadata": dict(self.metadata)}
        if self.company is not None:
            line["company"] = dict(self.company)
        return with_dedupe(line, self.dedupe)


@attrs.frozen
class IdentifyCompany:
    """Facts about a company; the same rules as for a user."""

    company_id: str = attrs.field(converter=checked_company_id)
    metadata: Mapping[str, Value] = attrs.field(default=None, converter=checked_metadata)
    dedupe: str | None = attrs.field(default=None, converter=checked_dedupe_or_none, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """The call as one line of an NDJSON file that ``userpilot-async send`` reads."""
        line: dict[str, Any] = {"type": "identify_company", "company_id": self.company_id}
        line["metadata"] = dict(self.metadata)
        return with_dedupe(line, self.dedupe)


@attrs.frozen
class DeleteUser:
    """The deletion of a user and what is known of them, their events among it: the right to be forgotten."""

    user_id: str = attrs.field(converter=checked_user_id)

    def as_dict(self) -> dict[str, Any]:
        """The call as one line of an NDJSON file that ``userpilot-async send`` reads."""
        return {"type": "delete_user", "user_id": self.user_id}


@attrs.frozen
class DeleteCompany:
    """The deletion of a company."""

    company_id: str = attrs.field(converter=checked_company_id)

    def as_dict(self) -> dict[str, Any]:
        """The call as one line of an NDJSON file that ``userpilot-async send`` reads."""
        return {"type": "delete_company", "company_id": self.company_id}


Call = Track | Identify | IdentifyCompany | DeleteUser | DeleteCompany


def to_bytes(call: Call) -> bytes:
    """The call as a line of JSON, without its newline; `from_bytes` reads it back to an equal call."""
    return line_of(call)


def from_bytes(line: bytes | str) -> Call:
    """The call written on one line of NDJSON.

    Raises `InvalidCall` for anything else, naming the field; ``field`` is ``"line"`` when it is no JSON object.
    """
    return from_dict(object_on(line))


_TYPES: dict[str, type[Call]] = {
    "track": Track,
    "identify": Identify,
    "identify_company": IdentifyCompany,
    "delete_user": DeleteUser,
    "delete_company": DeleteCompany,
}


def from_dict(fields: Mapping[str, Any]) -> Call:
    """The call that `Track.as_dict` and its siblings describe; raises `InvalidCall`."""
    return call_of(fields, _TYPES)


# ── what goes over the wire ──


def deletion_body(call: DeleteUser | DeleteCompany) -> bytes:
    """A deletion as it waits: as JSON, which `deletion_from_body` reads back."""
    return encode_json({"id": call.user_id if isinstance(call, DeleteUser) else call.company_id}).encode()


def deletion_from_body(kind: str, body: bytes) -> DeleteUser | DeleteCompany:
    """The deletion in a body that `deletion_body` made."""
    whose = json.loads(body)["id"]
    return DeleteUser(whose) if kind == "delete_user" else DeleteCompany(whose)


def track_body(user_id: str, event_name: str, metadata: Mapping[str, Convertible] | None) -> bytes:
    """Check one event and encode it as the body of ``POST /v1/track``.

    This is the hot path: `Track` says the same more slowly. Raises `InvalidCall`.
    """
    if type(user_id) is not str or not user_id or user_id.isspace() or len(user_id) > MAX_VALUE:
        user_id = checked_id(user_id, "user_id")
    if type(event_name) is not str or not 0 < len(event_name) <= MAX_NAME or event_name.isspace():
        event_name = checked_event_name(event_name)
    properties = {} if metadata is None else plain(metadata, "metadata")
    try:
        # By hand: a dict around the three would take half a microsecond of the two and a half that this costs.
        user, event = encode_text(user_id), encode_text(event_name)
        body = f'{{"user_id":{user},"event_name":{event},"metadata":{encode_json(properties)}}}'.encode()
    except UnicodeEncodeError:
        raise surrogate_in({"user_id": user_id, "event_name": event_name}, properties, "metadata") from None
    except Exception as error:  # the encoder's, where another thread has changed what was checked
        raise raised("metadata", error) from None
    if len(body) > MAX_EVENT_METADATA:
        checked_event_size(properties)
    return body


def track_from_body(body: bytes) -> Track:
    """The event inside a body that `track_body` made."""
    return Track(**json.loads(body))
