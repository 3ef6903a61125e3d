"""What a track says, as it waits."""

from __future__ import annotations

from datetime import datetime

Event = bytes | tuple[bytes, datetime]
"""An event as JSON, ready to go; with the time it happened, if the wire has no field for that."""

Waiting = tuple[int, float, Event]
"""A track in its lane: its id, when it was accepted, and what it says. The lane knows whose it is: a backlog is
100,000 of these, and a second copy of the user's id in each would be a sixth of its memory.
"""


def body_of(event: Event) -> bytes:
    """The event as JSON, without the time for which the wire has no field."""
    return event if isinstance(event, bytes) else event[0]
