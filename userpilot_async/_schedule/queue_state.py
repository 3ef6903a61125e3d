"""The states of a key queue, and the values that stand beside its calls: `KeyQueue` draws and changes them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import attrs

from .._calls.payload import WaitingEvent
from .._calls.rows import Row


class QueueState(Enum):
    """The thing that the calls of a key wait for; `key_queue` draws the way from one to the other."""

    IDLE = "idle"  # no call waits
    SENDING = "sending"  # a request carries its head
    BACKING_OFF = "backing off"  # its head failed, and is due again later
    PARKED = "parked"  # its head waits for a file to be settled, another queue to empty, or calls to be dropped
    MERGING = "merging"  # its head is a row that may go on merging
    URGENT = "urgent"  # its head is a row with something waiting behind it, or a post
    DELETION = "deletion"  # its head is a deletion, which others may share a request with
    EVENTS = "events"  # its head is an event
    LATE = "late"  # its first event would be dated wrongly by now: it waits for a file of the Import API


UNDER_WAY = (QueueState.SENDING, QueueState.BACKING_OFF)
"""States that a request puts a queue in, and that its end or a pause's end takes it out of, whatever its calls are."""


class FileClaim(NamedTuple):
    """The part of a queue that a file has, or is about to have. A tuple: a bulk job makes one for each of its rows."""

    row: Row | None = None
    """The row that a file carries, or that stands for the events which it does. A later row waits for the file's end,
    or the older one could overwrite it; an event need not.
    """
    blocks: bool = False
    """Nothing goes before the server has taken the file with the first calls: they would be overtaken."""
    given_back: Sequence[WaitingEvent] = ()
    """Events that no file carries any more. They go in front as soon as no request carries what is there."""


@attrs.frozen
class Lateness:
    """The way that late events go: in a file, or by the realtime endpoint all the same."""

    realtime_until: int | None
    """Events up to this id go through the realtime endpoint, however late: no file with them was worked off. ``None``:
    the event waits for a file.
    """


LATE = Lateness(None)


@attrs.frozen
class Retry:
    """Lessons from failures of the head of a queue."""

    failures: int = 0
    """Failures of the head in a row."""
    largest_array: int = 0
    """Events of the largest array that the head should go out in, because a larger one was refused; 0 for any."""
