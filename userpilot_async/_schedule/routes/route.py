"""What there is to do: one request, as the schedule gives it out."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ..._calls.payload import WaitingEvent, event_id
from ..._calls.rows import Row
from ..._protocol.backoff import Gate
from ..._protocol.rate_limit import Bucket
from ..destination import Route
from ..job_batch import Step
from ..key_queue import KeyQueue, Post


@attrs.define(eq=False)
class EventBatch:
    """The first calls of some queues, which share a request."""

    parts: list[tuple[KeyQueue, int]] = attrs.field(factory=list)
    """Each queue with the number of its calls, in the order of the request."""
    calls: int = 0
    size: int = 0
    """Bytes of them."""


@attrs.define(eq=False)
class Request:
    """One request to make. The sender reads the first eight fields; the rest is the schedule's."""

    route: Route
    body: bytes = b""
    """Of a realtime request."""
    rows: list[Row] = attrs.field(factory=list)
    """Of a file, to be sent as ``filename``."""
    lines: Iterator[bytes] = attrs.field(factory=lambda: iter(()))
    """Of that file, made as they are asked for."""
    filename: str = ""
    array: str = ""
    """The lines go as an array of this name in a JSON object instead."""
    job_id: str = ""
    query: str = ""
    """Of the URL: which page of a list."""
    bucket: Bucket = attrs.field(kw_only=True)
    gate: Gate = attrs.field(kw_only=True)
    load: EventBatch | None = None
    """Events."""
    queue: KeyQueue | None = None
    """Or the queue of a row, or of a post."""
    head: WaitingEvent | Row | Post | None = None
    begun_at: float = 0.0
    number: int = -1
    """It counts requests, as they begin."""
    step: Step | None = None
    """Or a step of the job slot."""

    def carried(self) -> list[int]:
        """Ids of the calls in it that the server might have twice, if its answer got lost: not those of rows."""
        if self.load is not None:
            return [
                event_id(call)
                for queue, calls in self.load.parts
                for call in queue.calls[:calls]
                if isinstance(call, tuple)
            ]
        return list(self.head.ids) if isinstance(self.head, Post) else []

    def filed(self) -> list[int]:
        """Ids of the events in its file. If its answer gets lost, the file is found again, by its name."""
        return [event_id(event) for row in self.rows for event in row.events or ()]

    def in_rows(self) -> list[int]:
        """Ids of the calls that went into its rows: an identify twice is the same identify."""
        rows = [self.head] if isinstance(self.head, Row) else self.rows
        return [call_id for row in rows for call_id in row.ids]
