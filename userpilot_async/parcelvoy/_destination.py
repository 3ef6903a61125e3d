"""Parcelvoy as a destination: its settings, its endpoints, and how calls look on its wire.

Source: docs.parcelvoy.com, "Client API", read 2026-10; where a real server was seen to do something else (2.3.3, in
2026-11), what it did. Identifies go one by one, events in arrays.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, cast  # noqa: F401  # Literal and WhenFull are in fields that classes here inherit

import attrs

from .._calls.payload import Event, IdentifyPayload, Key, Kind, Payload, body_of
from .._calls.rows import Row
from .._calls.values import checked_id, checked_moment, encode_json, encode_text, iso_utc, parsed_time, size_of
from .._errors.foreign import is_a
from .._errors.tree import ConfigurationError, InvalidCall
from .._protocol.verdict import TIMEOUT, Meaning, Verdict
from .._schedule.destination import Destination, Endpoint, Events, LostCall, as_array
from .._settings import DeliverySettings, WhenFull, count, duration, whole_number  # noqa: F401
from ._calls import MAX_TEXT, Alias, Call, Data, Device, Identify, Track, missing_id, with_clear
from ._data import checked_data, encoded_data
from ._pairs import REFUSAL, Pairs

MAX_BODY = 1_048_576  # bytes: over that the server answers 400 (seen), as if anything had gone wrong inside it
UNKNOWN_KEY = 6000  # the ``code`` in the body of the 404 by which it answers for a key that it does not know (seen)
PREFIXES = ("pk_", "sk_")  # of its keys; to another one it answers 401


def _most_bytes(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    whole_number(instance, attribute, value)
    if value > MAX_BODY:
        raise ConfigurationError(f"{attribute.name} must be at most {MAX_BODY:,}: the server takes no larger body")


def _name_in_data(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (is_a(value, str) and 0 < len(str(value)) <= MAX_TEXT):
        raise ConfigurationError(f"{attribute.name} must be a name of up to {MAX_TEXT} characters, or None")


@attrs.frozen(kw_only=True)
class ParcelvoySettings(DeliverySettings):
    """Settings of a `ParcelvoyClient`. A wrong value is a `ConfigurationError` here. Durations are seconds."""

    requests_per_minute: int | None = attrs.field(default=None, validator=attrs.validators.optional(whole_number))
    """In any 60 seconds, all endpoints together. ``None``: as fast as they are answered; no limit is documented."""

    burst: int = count(100)
    """With a limit: how many requests may go at once after a pause; the rest are spaced evenly."""

    max_events: int = count(500)
    """Events in one request. They wait up to `flush_interval` for others to fill it with."""

    max_bytes: int = attrs.field(default=512 * 1024, validator=_most_bytes)
    """Bytes of events in one request, unless one alone is larger; and of merged identifies. The server takes 1 MiB."""

    occurred_at_key: str | None = attrs.field(default=None, validator=_name_in_data)
    """The server dates events on their arrival, and ignores when they happened. With a name here, `track` also writes
    ``occurred_at`` into ``data`` under it, as ISO 8601 in UTC, unless the name is taken there.
    """

    settle_pause: float = duration(0.0)
    """Before and after each alias, nothing else of the same person goes for so many seconds; others go on. The server
    answers a call when it has queued it, and works on ten at once: without a pause, one may overtake the other there.
    """


@attrs.frozen(kw_only=True)
class DeadCall(LostCall):
    """A call for Parcelvoy that will not be delivered."""

    call: Call | None = attrs.field(default=None, repr=False)
    """The call as it could be made again: of merged identifies, all that they said together."""


OnDead = Callable[[DeadCall], Awaitable[None] | None]


# Considered, for identifies of many people at once: POST /api/client/segment, an array of up to 1,000. It keeps what is
# said as ``data``, email and phone too; an ``email`` in one's ``data`` becomes the address; and an identify without
# ``context`` fails it in mid-array (github.com/parcelvoy/platform, SegmentController.ts, v2.3.3, read 2026-11).
_IDENTIFY = Endpoint("identify", "/api/client/identify", "requests")
_ALIAS = Endpoint("alias", "/api/client/alias", "requests")
_DEVICES = Endpoint("devices", "/api/client/devices", "requests")
_EVENTS = Endpoint("events", "/api/client/events", "requests")


def parcelvoy(
    settings: ParcelvoySettings, key_is_one: Callable[[], bool] = bool, pairs: Pairs | None = None
) -> Destination:
    """Describe the server: events in arrays; identifies, aliases and devices one a request; one budget, or none.

    ``key_is_one`` says whether the key looks like one of that server's; by itself, none does. ``pairs`` are the ids
    that are known for one person's.
    """

    def merges(row: Row, payload: IdentifyPayload, last: bool) -> bool:
        """Merge only what names the same ids: of others we know that they are one person's, but not the server."""
        _, fields, size, _ = payload
        known, new = row.fields or {}, fields or {}
        same = all(known.get(name) == new.get(name) for name in ("external_id", "anonymous_id"))
        return same and row.size + size <= settings.max_bytes and _fits(row, payload)

    return Destination(
        name="parcelvoy",
        budgets={"requests": settings.requests_per_minute},
        burst=settings.burst,
        events=Events(endpoint=_EVENTS, most=settings.max_events, max_bytes=settings.max_bytes, pack=as_array),
        rows={"user": _IDENTIFY},
        row_body=lambda row: encode_json(_row_fields(row)).encode(),
        row_call=lambda row: Identify(**with_clear(_row_fields(row))),
        merges=merges,
        posts={"alias": _ALIAS, "device": _DEVICES, "person": _IDENTIFY},
        once=frozenset({"alias", "person"}),
        prefaces=_prefaces,
        unnamed=_unnamed,
        idle_unmet=frozenset({"alias"}),
        pauses={"alias": settings.settle_pause} if settings.settle_pause else {},
        pairs=pairs or Pairs(),
        not_a_pair=REFUSAL,
        call_of=call_of,
        reads=lambda verdict: _read(verdict, key_is_one),
        lost_call=DeadCall,
        wrong_key="is it the public key of a project there?",
        wrong_url="is the URL right, and the key one of that server's?",  # it answers 404 for a key it does not know
    )


def _read(verdict: Verdict, key_is_one: Callable[[], bool]) -> Verdict:
    """Read an answer as Parcelvoy means it: a body it rejects is a 422; no other refusal says what became of the calls.

    400 is what becomes of any error inside it (``apps/platform/src/api.ts``), also in the middle of an array
    (``ClientController.ts``). A 415, say, is another server's. It looks a key up in its database: while that is away,
    it answers 401 to one of its own keys, and 404 with a code of its own to one that is not there (both seen).

    After a time-out it goes on with the array, so that one that is too long for it is stored once more with each try
    (seen): what timed out goes in halves.
    """
    status, meaning = verdict.status, verdict.meaning
    if status == 400:
        return attrs.evolve(verdict, meaning=Meaning.LOST, doubtful=True)
    if status == 401 and key_is_one():
        return attrs.evolve(verdict, meaning=Meaning.AGAIN, detail="answered 401: is the server's database away?")
    if status == 404 and isinstance(verdict.body, dict) and verdict.body.get("code") == UNKNOWN_KEY:
        return attrs.evolve(verdict, meaning=Meaning.DENIED)
    if meaning is Meaning.INVALID and status != 422:
        return attrs.evolve(verdict, meaning=Meaning.MISCONFIGURED)
    return attrs.evolve(verdict, split=True) if status is None and verdict.detail == TIMEOUT else verdict


def _prefaces(kind: Kind, key: Key) -> Sequence[tuple[Kind, bytes]]:
    """Give what a call needs before it: the server writes a second id on a person by an alias only, and keeps no device
    of somebody whom it has not met (both seen).
    """
    keys = (key,) if isinstance(key, str) else key
    ids = {"external_id" if one.startswith("e:") else "anonymous_id": one[2:] for one in keys}
    needed: list[tuple[Kind, bytes]] = []
    if len(ids) == 2 and kind != "alias":
        needed.append(("alias", _alias_body(ids)))
    if kind == "device":
        needed.append(("person", encode_json({**ids, "data": {}}).encode()))
    return needed


def _unnamed(key: Key) -> str | None:
    """Give the anonymous id in a key. An alias of one whom the server has not met does nothing, for good (seen)."""
    last = key if isinstance(key, str) else key[-1]
    return last if last.startswith("a:") else None


def _alias_body(ids: Mapping[str, str]) -> bytes:
    return encode_json({name: ids[name] for name in ("anonymous_id", "external_id")}).encode()


def _fits(row: Row, payload: IdentifyPayload) -> bool:
    """Whether one request takes both. Sizes are estimates: control characters take six times as much as JSON."""
    data, fields, size, _ = payload
    if 6 * (row.size + size) <= MAX_BODY:
        return True
    return len(encode_json(_row_fields(row)).encode()) + _identify_bytes(data, fields or {}) <= MAX_BODY


def _identify_bytes(data: Mapping[str, Any], fields: Mapping[str, Any]) -> int:
    return len(encode_json({**fields, "data": data}).encode())


def _row_fields(row: Row) -> dict[str, Any]:
    return {**(row.fields or {}), "data": row.metadata}


def keys_of(ids: Mapping[str, Any]) -> Key:
    """Give the key of a call's queue: ids of either kind, with a prefix, as they may look alike."""
    keys = [prefix + ids[name] for prefix, name in (("e:", "external_id"), ("a:", "anonymous_id")) if name in ids]
    return keys[0] if len(keys) == 1 else tuple(keys)


def call_of(kind: Kind, key: Key, payload: Payload) -> Call:
    """Give the call that was put as this ``payload``, as a value."""
    if kind == "user":
        data, ids_and_more, _, _ = cast("IdentifyPayload", payload)
        return Identify(**with_clear(ids_and_more or {}), data=data)
    fields = json.loads(body_of(cast("Event", payload)))
    if kind == "alias":
        return Alias(**fields)
    if kind == "device":
        return Device(**fields)
    created_at = fields.pop("created_at", None)
    return Track(**fields, occurred_at=created_at and parsed_time(created_at))


def checked_event(
    name: str, external_id: str | None, anonymous_id: str | None, data: Data, occurred_at: datetime | None,
    occurred_at_key: str | None = None,
) -> tuple[Key, bytes]:  # fmt: skip
    """Check one event, and encode it. The hot path: `Track` does the same more slowly. Raises `InvalidCall`."""
    if occurred_at is not None and occurred_at_key is not None:
        data = {occurred_at_key: iso_utc(checked_moment(occurred_at)), **checked_data(data)}
    if type(name) is not str or not 0 < len(name) <= MAX_TEXT or name.isspace():
        name = checked_id(name, "name", MAX_TEXT)
    body = f'{{"name":{encode_text(name)}'
    key: Key = ""
    if external_id is not None:
        if type(external_id) is not str or not 0 < len(external_id) <= MAX_TEXT or external_id.isspace():
            external_id = checked_id(external_id, "external_id", MAX_TEXT)
        key = "e:" + external_id
        body = f'{body},"external_id":{encode_text(external_id)}'
    if anonymous_id is not None:
        anonymous_id = checked_id(anonymous_id, "anonymous_id", MAX_TEXT)
        key = ("e:" + external_id, "a:" + anonymous_id) if external_id is not None else "a:" + anonymous_id
        body = f'{body},"anonymous_id":{encode_text(anonymous_id)}'
    if not key:
        raise missing_id()
    if data is not None:
        body = f'{body},"data":{encoded_data(data)}'
    if occurred_at is not None:
        body = f'{body},"created_at":"{iso_utc(checked_moment(occurred_at))}"'
    try:
        encoded = f"{body}}}".encode()
        if len(encoded) + 2 > MAX_BODY:  # in brackets
            raise _too_large(len(encoded) + 2)
        return key, encoded
    except UnicodeEncodeError:
        Track(name, external_id=external_id, anonymous_id=anonymous_id, data=data)  # says where it is
        raise InvalidCall("data", "has a lone surrogate, which UTF-8 cannot carry") from None


def _too_large(size: int) -> InvalidCall:
    return InvalidCall("data", f"makes a body of {size:,} bytes; the server takes {MAX_BODY:,} at most")


def checked_call(call: Call, occurred_at_key: str | None = None) -> tuple[Kind, Key, Payload, int]:
    """Give a call's kind, the key of its queue, its payload, and the bytes of that: as the outbox holds it."""
    if isinstance(call, Track):
        who = (call.external_id, call.anonymous_id)
        key, body = checked_event(call.name, *who, call.data, call.occurred_at, occurred_at_key)
        return "track", key, body, len(body)
    if isinstance(call, Identify):
        fields, data = call.fields(), dict(call.data)
        size = size_of(data) + size_of(fields)
        if 6 * size > MAX_BODY and (exact := _identify_bytes(data, fields)) > MAX_BODY:
            raise _too_large(exact)
        return "user", keys_of(fields), (data, fields, size, None), size
    if isinstance(call, Alias):
        ids = {"anonymous_id": call.anonymous_id, "external_id": call.external_id}
        body = _alias_body(ids)
        return "alias", keys_of(ids), body, len(body)
    body = encode_json(call.body()).encode()
    return "device", keys_of(call.body()), body, len(body)
