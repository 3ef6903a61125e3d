"""An outbox's contents a page at a time, for people: a million calls may wait, and none of them is read for another.

A page looks at a bounded number of entries, so that a sender beside it is not disturbed. Where few of them are what is
asked for, it may be short, or empty, and yet not the last one: `Page.reached` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import attrs

from .._calls.payload import Key, Kind, Payload

MOST_READ = 5_000
"""Entries that are looked at for one page: some milliseconds."""

T = TypeVar("T")


@attrs.frozen
class Page(Generic[T]):
    """Some entries of an outbox, in their order."""

    entries: Sequence[T]
    reached: str | None
    """The place in the outbox behind which the next page begins, in words of its own; ``None`` at the end."""


@attrs.frozen
class WaitingCall:
    """A call that is held: it waits, or is on its way."""

    id: int
    at: float
    """When it was accepted, by the clock of the outbox."""
    kind: str
    key: str
    """The user's or company's id; of a person with several ids, all of them."""
    size: int
    """Bytes, encoded, as they count against the room of the outbox."""
    call: tuple[Kind, Key, Payload] | None
    """As it was put; ``None`` if it is damaged."""


@attrs.frozen
class UnfinishedUpload:
    """A file of rows that the server may have, and whose job is not known to be over."""

    filename: str
    kind: str
    rows: int
