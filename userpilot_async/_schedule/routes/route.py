"""The protocol of routes, and the requests that they give out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import attrs

from ..._calls.payload import WaitingEvent, event_id
from ..._calls.rows import FiledRow, Row, calls_of, events_of
from ..._protocol.backoff import Gate
from ..._protocol.rate_limit import Bucket
from ..._protocol.verdict import Verdict
from ..destination import Endpoint
from ..job_batch import Step
from ..key_queue import KeyQueue
from ..posts import Post
from ..takeover import UnfinishedFile


class Route(Protocol):
    """A way to the server. It owns its gate; budgets are shared by name. A route that a server lacks does not exist.

    Whatever `next` has given out comes back to `done`, once, when the request has ended in whatever way.
    """

    name: str
    """The name of the route in the log."""
    gate: Gate

    def next(self, now: float) -> Request | float:
        """A request to make now, or the time until which there is none (``inf``: until something happens)."""
        ...

    def done(self, request: Request, verdict: Verdict, now: float) -> None:
        """Take in what became of a request of this route; tokens and the gate have it already."""
        ...

    def adopt(self, file: UnfinishedFile, now: float) -> None:
        """Go on with a file that a sender has left which ended, if it is one of this route's."""
        ...

    def abandon(self) -> None:
        """Begin nothing more: all that waits is about to be given up."""
        ...


@attrs.define(eq=False)
class EventBatch:
    """The first events of some key queues, which share a request."""

    parts: list[tuple[KeyQueue, int]] = attrs.field(factory=list)
    """Each queue with the number of its events, in the order of the request."""
    calls: int = 0
    size: int = 0
    """Bytes that all of the events take."""

    @property
    def queues(self) -> list[KeyQueue]:
        """The queues whose events are in it."""
        return [queue for queue, _ in self.parts]


@attrs.define(eq=False)
class Request:
    """A request to make. The sender reads what goes over the wire; the rest is the schedule's."""

    route: Route = attrs.field(repr=False)
    """The route that gave it out, and takes its answer in."""
    endpoint: Endpoint
    body: bytes = b""
    """The body of a realtime request."""
    rows: list[FiledRow] = attrs.field(factory=list)
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
    load: EventBatch | None = None
    """The events in it, if it carries events."""
    queue: KeyQueue | None = None
    """The queue of the row or post in it, if it carries one."""
    head: WaitingEvent | Row | Post | None = None
    """The row or post that it carries."""
    step: Step | None = None
    """The step in a file's life that it makes, if it makes one."""
    begun_at: float = 0.0
    number: int = -1
    """Requests are counted as they begin."""

    @property
    def queues(self) -> list[KeyQueue]:
        """The queues whose heads it carries, but for those of a file's rows."""
        if self.load is not None:
            return self.load.queues
        return [self.queue] if self.queue is not None else []

    def carried(self) -> list[int]:
        """Ids of the calls in it that the server might have twice, if its answer got lost: not those of rows."""
        if self.load is not None:
            heads = (queue.calls[:calls] for queue, calls in self.load.parts)
            return [event_id(call) for calls in heads for call in calls if isinstance(call, tuple)]
        return list(self.head.ids) if isinstance(self.head, Post) else []

    def filed(self) -> list[int]:
        """Ids of the events in its file. If its answer gets lost, the file is found again, by its name."""
        return [event_id(event) for row in self.rows for event in events_of(row)]

    def in_rows(self) -> list[int]:
        """Ids of the calls that went into its rows: an identify twice is the same identify."""
        rows = [self.head] if isinstance(self.head, Row) else self.rows
        return [call_id for row in rows for call_id in calls_of(row)]
