"""What became of calls, written down by the schedule for the sender to carry on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Union

import attrs

from ._calls import Call, Identify, IdentifyCompany, track_from_body
from ._coalesce import Kind, Row, RowState
from ._lanes import Event, Facts, Lane, body_of
from ._ledger import DELIVERED, Outcome


@attrs.frozen
class Settlement:
    """A call that has met its fate, with those that were merged into it."""

    carrier: int | None
    """The id that stands for all of it in the account; ``None`` for a company row made of users' identifies only."""
    merged: Sequence[int]
    """Ids that share the carrier's fate."""
    outcome: Outcome
    size: int
    """Bytes of the queue that are free again."""
    said: Union[Event, Row]

    def call(self) -> Call:
        """The call as one would make it again."""
        return self.said.as_call() if isinstance(self.said, Row) else call_of("track", "", self.said)


def call_of(kind: Kind, key: str, said: Union[Event, Facts]) -> Call:
    """The call that was put as ``said``."""
    if isinstance(said, bytes):
        return track_from_body(said)
    if len(said) == 2:
        body, occurred_at = said
        return attrs.evolve(track_from_body(body), occurred_at=occurred_at)
    metadata, company, _ = said
    return IdentifyCompany(key, metadata) if kind == "company" else Identify(key, metadata, company)


class Settlements:
    """Collects until the sender takes."""

    def __init__(self) -> None:
        self.done: list[Settlement] = []
        self.merged: list[int] = []
        """Ids whose calls went into a later one, and cost no room any more."""
        self.freed = 0
        """Bytes that merging gave back; below 0 where a row grew."""
        self._waves: deque[tuple[list[Row], Outcome]] = deque()
        self.marks: list[tuple[Iterable[int], bool]] = []
        """Ids that a job of the server holds now (``True``), or holds no more."""

    def head(self, lane: Lane, outcome: Outcome) -> None:
        """The head of this lane has met its fate; it leaves the lane."""
        head = lane.calls[0]
        lane.pop_head()
        if isinstance(head, Row):
            head.state = RowState.ANSWERED
            self._part(head, outcome)
        else:
            call_id, _, event = head
            self.done.append(Settlement(call_id, (), outcome, len(body_of(event)), event))

    def follow(self, at_most: int) -> bool:
        """Settle so many rows whose company's properties have met their fate; true if there are more."""
        while self._waves and at_most:
            riders, outcome = self._waves[0]
            if riders:
                self._part(riders.pop(), outcome)
                at_most -= 1
            else:
                self._waves.popleft()
        return bool(self._waves)

    def close(self, row: Row) -> None:
        """Settle a row with what is known of its parts."""
        row.settled = True
        outcome = row.outcome or DELIVERED
        carrier = row.ids[-1] if row.ids else None
        self.done.append(Settlement(carrier, row.ids[:-1], outcome, row.size, row))
        if row.riders:
            self._waves.append((list(reversed(row.riders)), outcome))

    def _part(self, row: Row, outcome: Outcome) -> None:
        """One part of a row is answered: itself, or a company's properties that came with it.

        A row is delivered when all of its parts are, and lost as soon as it is itself answered and one of them is.
        """
        if row.settled:
            return
        if row.outcome is None or row.outcome is DELIVERED:
            row.outcome = outcome
        row.open_parts -= 1
        if not row.open_parts or (row.state is RowState.ANSWERED and row.outcome is not DELIVERED):
            self.close(row)

    def marked(self, rows: Iterable[Row], submitted: bool) -> None:
        """The server has taken these rows into a job, or the job came to nothing."""
        for row in rows:
            if row.state is RowState.BATCHED:
                self.marks.append((row.ids[-1:], submitted))
                for rider in row.riders or ():
                    if rider.state is RowState.ANSWERED and not rider.settled:
                        self.marks.append((rider.ids[-1:], submitted))
