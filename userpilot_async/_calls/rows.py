"""Merging identifies into rows, and rows into files.

A bulk job works off 1,800 rows a minute whatever is in them, and 3,000 updates of 300 users are 300 facts.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from .outcome import NO_WORDS, Outcome, Words
from .payload import (
    PackedRow,
    WaitingEvent,
    event_id,
    packed_at,
    packed_fields,
    packed_id,
    packed_key,
    packed_properties,
    packed_size,
    waiting_body,
)
from .values import size_of

MAX_ROWS = 10_000  # rows in one bulk request; docs.userpilot.com, "Bulk identify users", read 2026-10
_SMALL = 2_048  # bytes by which the size of a row may be off
MAX_FILE_BYTES = 50 * 1024 * 1024  # the same page
EVENT_HEAD = 120  # bytes that a line of an import has beside the event, about


class RowState(Enum):
    """Where a row is. Others may merge into it only while it waits."""

    WAITING = "waiting"
    SENDING = "sending"  # a realtime request carries it
    BATCHED = "batched"  # a bulk file carries it: submitted, or about to be
    ANSWERED = "answered"  # done with, for itself; rows that came with it may still be on their way


@attrs.define(eq=False, slots=True)
class Row:
    """A person or company with everything that waiting identifies say of it; the later value wins.

    ``ids`` are the calls in it, in order of acceptance. The last one carries the row in the account, the
    others are merged.
    """

    kind: str
    """The kind of its key: ``user``, ``company``."""
    key: str
    metadata: dict[str, Any]
    """Properties; `Any` is whatever the destination's values may be."""
    fields: dict[str, Any] | None
    """The fields beside the properties on the wire, by their names there: a user's ``company_id``, an ``email``."""
    ids: array[int]
    accepted_at: float
    """Of its oldest call: how long it has lingered for others."""
    size: int
    latest_at: float = attrs.field(default=attrs.Factory(lambda row: row.accepted_at, takes_self=True))
    """Of its newest call: what a row dies of is the age of what it says last."""
    state: RowState = RowState.WAITING
    alone: bool = False
    """Bulk jobs failed with this row among others: it goes through the realtime endpoint."""
    open_parts: int = 1
    """The row itself, and each row that came with its calls."""
    outcome: Outcome | None = None
    """The worst outcome of its parts so far."""
    words: Words = NO_WORDS
    """The server's words, if it refused the row."""
    settled: bool = False
    """The outcome of the row is final."""
    needs: tuple[Row, ...] = ()
    """Rows that came with these calls: a company with its properties."""
    riders: list[Row] | None = None
    """The other way round: rows that are not settled before this one is."""
    events: list[WaitingEvent] | None = None
    """In a file of the Import API: the person's events that go behind it, out of their queue meanwhile."""
    said_by: int = -1
    """The newest call that says something of it. Its riders may have merged with later ones, which are not in it."""

    @classmethod
    def blank(cls, kind: str, key: str) -> Row:
        """A stand-in for a person's events in a file, where nothing is to be said of the person: it makes no line."""
        return cls(kind, key, {}, None, array("Q"), 0.0, 0, state=RowState.ANSWERED)

    def take_in(
        self,
        call_id: int | None,
        metadata: Mapping[str, Any],
        fields: Mapping[str, Any] | None,
        size: int,
        at: float = 0.0,
        said_by: int = -1,
    ) -> int:
        """Merge a later call of ``size`` bytes into this row; the bytes that both together take less than each alone.

        An explicit ``None`` stays a ``None``. ``call_id`` is ``None`` for a company's properties that came with a
        user's identify, ``said_by``.
        """
        known, alone = self.metadata, self.size + size
        if alone > _SMALL:  # by what changes: to measure all of a large row each time would stop the loop
            self.size += size - size_of({name: known[name] for name in metadata if name in known})
            if fields and self.fields:
                self.size -= size_of({name: self.fields[name] for name in fields if name in self.fields})
            known.update(metadata)
        else:
            before = len(known)
            known.update(metadata)
            # A row that gets the same properties again, as most do, is not measured again.
            self.size = max(self.size, size) if len(known) == before else size_of(known) + size_of(self.fields or {})
        if fields and fields != self.fields:
            self.fields = {**(self.fields or {}), **fields}
        if at > self.latest_at:  # not by `max`, which takes a tenth of a merge
            self.latest_at = at
        if said_by > self.said_by:
            self.said_by = said_by
        if call_id is not None:
            self.ids.append(call_id)
        return alone - self.size

    def absorb(self, other: Row) -> None:
        """Merge a later row of one call, or of none, into this one."""
        call_id = other.ids[0] if other.ids else None
        self.take_in(call_id, other.metadata, other.fields, other.size, other.latest_at, other.said_by)

    @property
    def is_blank(self) -> bool:
        """The row says nothing: it stands for events in a file."""
        return not self.ids and not self.metadata and self.fields is None and self.events is not None

    @property
    def lines(self) -> int:
        """So many lines does it make in a file."""
        return 1 if self.events is None else len(self.events) + (self.state is RowState.BATCHED)

    @property
    def file_size(self) -> int:
        """About how many bytes it takes there."""
        events = self.events or ()
        return self.size + sum(EVENT_HEAD + len(waiting_body(event)) for event in events)

    @property
    def awaited(self) -> bool:
        """Users' calls share the outcome of this company row."""
        return self.riders is not None and not all(rider.settled for rider in self.riders)

    @property
    def last_call(self) -> int | None:
        """The newest call in it, or of those that say something of it and are not settled."""
        if not self.riders:  # of nearly all; a file has 10,000
            return self.ids[-1] if self.ids else None
        riders = [call_id for rider in self.riders or () for call_id in self.said_with(rider)[-1:]]
        return max([*self.ids[-1:], *riders], default=None)

    def said_with(self, rider: Row) -> Sequence[int]:
        """The calls of a rider, if it is not settled, that can say something of this row."""
        return () if rider.settled else rider.ids[: bisect_right(rider.ids, self.said_by)]

    def has_room_for(self, metadata: Mapping[str, Any], most: int) -> bool:
        """With ``metadata`` in it, it would have at most so many properties."""
        known = self.metadata
        if len(known) + len(metadata) <= most:
            return True
        return len(known) + sum(name not in known for name in metadata) <= most


FiledRow = Row | PackedRow
"""A row as a file carries it."""


def unpacked(kind: str, packed: PackedRow) -> Row:
    """The row of this kind that was packed: others can merge into it now."""
    call_id = packed_id(packed)
    return Row(
        kind, packed_key(packed), packed_properties(packed), packed_fields(packed), array("Q", (call_id,)),
        packed_at(packed), packed_size(packed), said_by=call_id,
    )  # fmt: skip


def size_waiting(row: FiledRow) -> int:
    """Bytes that a row takes while it waits."""
    return row.size if isinstance(row, Row) else packed_size(row)


def size_in_file(row: FiledRow) -> int:
    """About how many bytes a row takes in a file, with the events behind it."""
    return row.file_size if isinstance(row, Row) else packed_size(row)


def lines_in_file(row: FiledRow) -> int:
    """So many lines does a row make in a file."""
    return row.lines if isinstance(row, Row) else 1


def is_carried(row: FiledRow) -> bool:
    """A row in a file has no outcome of its own yet; one that is packed has none."""
    return not isinstance(row, Row) or row.state is RowState.BATCHED


def calls_of(row: FiledRow) -> Sequence[int]:
    """Ids of the identifies in a row."""
    return row.ids if isinstance(row, Row) else (packed_id(row),)


def events_of(row: FiledRow) -> Sequence[WaitingEvent]:
    """The events that go behind a row in a file."""
    return (row.events or ()) if isinstance(row, Row) else ()


def last_call_in_file(row: FiledRow) -> int | None:
    """The newest call in a row, or of its events in the file, or of those that say something of it."""
    if not isinstance(row, Row):
        return packed_id(row)
    return event_id(row.events[-1]) if row.events else row.last_call


def cut(rows: Iterable[FiledRow], max_rows: int, max_bytes: int, least: int = 1) -> list[FiledRow]:
    """The first rows, as many as one file takes: so many at most, about so many bytes, and so many at least."""
    chosen: list[FiledRow] = []
    size = 0
    for row in rows:
        size += size_waiting(row)
        if len(chosen) >= least and size > max_bytes:
            break
        chosen.append(row)
        if len(chosen) == max_rows:
            break
    return chosen


def pieces(rows: Sequence[FiledRow], max_bytes: int) -> list[list[FiledRow]]:
    """As few files as hold about ``max_bytes`` each, of about one size; larger rows come first, a file for each.

    Rows that have twice as many bytes, or more, never come in one file again.
    """
    large = [[row] for row in rows if size_in_file(row) > max_bytes]
    sized = [(row, size) for row in rows if (size := size_in_file(row)) <= max_bytes]
    total, before = sum(size for _, size in sized), 0
    # The limit is mostly half of a neighbour's size: without some latitude that is often three files, not two.
    others: list[list[FiledRow]] = [[] for _ in range(max(1, math.ceil(total / (1.1 * max_bytes))))]
    for row, size in sized:  # by its middle: cut off at the limit, each file would leave a rest of one row
        others[min(len(others) - 1, (2 * before + size) * len(others) // max(1, 2 * total))].append(row)
        before += size
    return large + [part for part in others if part]


def halves(rows: Sequence[FiledRow]) -> tuple[list[FiledRow], list[FiledRow]]:
    """Two files instead of one, to find the row that spoils it."""
    middle = len(rows) // 2
    return list(rows[:middle]), list(rows[middle:])
