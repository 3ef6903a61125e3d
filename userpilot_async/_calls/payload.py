"""Payloads of calls, as they wait: plain tuples, which the garbage collector need not walk, and their accessors.

The shapes are known in this file and nowhere else: others ask the functions below, or unpack a whole tuple into names.
Classes would read better, but only an exact tuple whose items are plain is dropped by the garbage collector from what
it walks (a `NamedTuple` is not), and 100,000 of anything that it does walk stop the event loop for 9 ms.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from .values import encode_json

Kind = str
"""Of a ticket: ``track`` is an event; a kind of rows (``user``, ``company``) is an identify; others are posts."""

Key = str | tuple[str, ...]
"""The ordering key of a call. Several keys say that they are one person's from now on; the first one stays."""

Event = bytes | tuple[bytes, datetime]
"""An event as JSON, ready to go; with the time it happened, if the wire has no field for that."""

WaitingEvent = tuple[int, float, Event]
"""A track in its key queue: its id, when it was accepted, and what it says. The queue knows its key: a backlog is
100,000 of these, and a second copy of the user's id in each would be a sixth of its memory.
"""

Companion = tuple[Kind, str, dict[str, Any], int]
"""The part of an identify that is about another, a user's company: kind, key, properties and their bytes."""

IdentifyPayload = tuple[dict[str, Any], dict[str, Any] | None, int, Companion | None]
"""The payload of an identify: its properties; what stands beside them on the wire; its size in bytes, with that of its
companion; and the companion, whose outcome it shares.
"""

NOTHING_LEFT: dict[str, Any] = {}
"""Stands for the properties of an identify of which the server has everything: it is not sent again. Another empty one
says that there is such a person.
"""

Payload = Event | IdentifyPayload

PackedEvent = tuple[str, int, float, Event]
"""An event that waits while its key has no other call: its key, its id, when it was accepted, and what it says."""

PackedRow = tuple[str, int, float, int, str, str | None]
"""An identify that waits, or goes in a file, while its key has no other call: its key, its id, when it was accepted,
its size in bytes, and as JSON its properties and what stands beside them on the wire. `unpacked` makes a row of it.
"""

Ticket = tuple[int, float, Kind, Key, Payload]
"""An accepted call: its id, when it was accepted (schedule's clock), its kind, its key, and what it says."""


# ── events ──


def body_of(event: Event) -> bytes:
    """The event as JSON, without the time for which the wire has no field."""
    return event if isinstance(event, bytes) else event[0]


def occurred_at(event: Event) -> datetime | None:
    """The time that the caller gave for an event, if the wire has no field for it."""
    return None if isinstance(event, bytes) else event[1]


def event_in(payload: Payload) -> Event | None:
    """The payload, if it is an event's or a post's; ``None`` if it is an identify's."""
    return payload if isinstance(payload, bytes) or len(payload) == 2 else None


def event_id(waiting: WaitingEvent) -> int:
    """The id of the call that a waiting event is."""
    return waiting[0]


def event_accepted_at(waiting: WaitingEvent) -> float:
    """The moment on the schedule's clock when a waiting event was accepted."""
    return waiting[1]


def waiting_body(waiting: WaitingEvent) -> bytes:
    """The JSON of a waiting event."""
    return body_of(waiting[2])


# ── identifies ──


def identify_in(payload: Payload) -> IdentifyPayload | None:
    """The payload, if it is an identify's; ``None`` if it is an event's, or a post's."""
    return payload if isinstance(payload, tuple) and len(payload) == 4 else None


def has_nothing_left(identify: IdentifyPayload) -> bool:
    """The server has everything that an identify says, and only its outcome is missing."""
    return identify[0] is NOTHING_LEFT


def fields_of(identify: IdentifyPayload) -> dict[str, Any] | None:
    """The fields beside an identify's properties on the wire: a user's ``company_id``, an ``email``."""
    return identify[1]


def size_of_identify(identify: IdentifyPayload) -> int:
    """Bytes that an identify takes, with those of its companion."""
    return identify[2]


def companion_of(payload: Payload) -> Companion | None:
    """The part of a call that is about another, if it is an identify with one."""
    return payload[3] if isinstance(payload, tuple) and len(payload) == 4 else None


def companion_kind(companion: Companion) -> Kind:
    """The kind of the other: ``company`` of a user's company."""
    return companion[0]


def companion_key(companion: Companion) -> str:
    """The key of the other, of a user's company."""
    return companion[1]


def companion_subject(companion: Companion) -> tuple[Kind, str]:
    """Kind and key of the other, of a user's company."""
    return companion[:2]


def companion_properties(companion: Companion) -> dict[str, Any]:
    """The properties that an identify sets of another."""
    return companion[2]


def companion_size(companion: Companion) -> int:
    """Bytes that an identify's companion takes."""
    return companion[3]


# ── packed calls ──


def packed(key: str, call_id: int, accepted_at: float, size: int, identify: IdentifyPayload) -> PackedRow:
    """An identify without a companion, packed; ``size`` is in bytes."""
    properties, fields, _, _ = identify
    beside = None if fields is None else encode_json(fields)
    return key, call_id, accepted_at, size, encode_json(properties), beside


def packed_key(call: PackedRow | PackedEvent) -> str:
    """The ordering key of a packed call."""
    return call[0]


def packed_id(call: PackedRow | PackedEvent) -> int:
    """The id of a packed call."""
    return call[1]


def packed_at(call: PackedRow | PackedEvent) -> float:
    """The moment on the schedule's clock when a packed call was accepted."""
    return call[2]


def packed_event(event: PackedEvent) -> WaitingEvent:
    """A packed event as it waits in a key queue."""
    return event[1:]


def packed_size(row: PackedRow) -> int:
    """Bytes that a packed row takes."""
    return row[3]


def has_fields(row: PackedRow) -> bool:
    """A packed row has fields beside its properties."""
    return row[5] is not None


def packed_properties(row: PackedRow) -> dict[str, Any]:
    """The properties that a packed row sets."""
    properties: dict[str, Any] = json.loads(row[4])
    return properties


def packed_fields(row: PackedRow) -> dict[str, Any] | None:
    """The fields beside a packed row's properties on the wire."""
    fields: dict[str, Any] | None = None if row[5] is None else json.loads(row[5])
    return fields


# ── tickets ──


def ticket_id(ticket: Ticket) -> int:
    """The id of an accepted call."""
    return ticket[0]


def ticket_accepted_at(ticket: Ticket) -> float:
    """The moment when a call was accepted, on the clock of the ticket's maker."""
    return ticket[1]


def ticket_key(ticket: Ticket) -> Key:
    """The ordering key of an accepted call."""
    return ticket[3]


def ticket_payload(ticket: Ticket) -> Payload:
    """The payload of an accepted call."""
    return ticket[4]
