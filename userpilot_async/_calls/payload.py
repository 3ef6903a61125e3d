"""What calls say, as they wait: plain tuples, which the garbage collector need not walk."""

from __future__ import annotations

from datetime import datetime
from typing import Any

Event = bytes | tuple[bytes, datetime]
"""An event as JSON, ready to go; with the time it happened, if the wire has no field for that."""

Waiting = tuple[int, float, Event]
"""A track in its lane: its id, when it was accepted, and what it says. The lane knows whose it is: a backlog is
100,000 of these, and a second copy of the user's id in each would be a sixth of its memory.
"""


def body_of(event: Event) -> bytes:
    """The event as JSON, without the time for which the wire has no field."""
    return event if isinstance(event, bytes) else event[0]


Kind = str
"""Of a ticket: ``track`` is an event; a kind of rows (``user``, ``company``) is an identify; others are posts."""

Key = str | tuple[str, ...]
"""Whose a call is. Several keys say that they are the same person's from now on; the first one stays."""

IdentifyPayload = tuple[dict[str, Any], dict[str, Any] | None, int, tuple[str, str, dict[str, Any], int] | None]
"""What an identify says: its properties; what stands beside them on the wire; its size in bytes; and what it says of
another, as ``(kind, key, properties, size)``, whose fate it shares.
"""

Payload = Event | IdentifyPayload

Ticket = tuple[int, float, Kind, Key, Payload]
"""An accepted call: its id, when it was accepted (schedule's clock), its kind, whose it is, and what it says.

An exact tuple, not a class: one whose items are plain is dropped by the garbage collector from what it walks,
and 100,000 of anything that it does walk stop the event loop for 9 ms.
"""
