"""Calls and notes that go into a durable outbox together: in one transaction, or one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from .._calls.dedupe import DedupeKey
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload
from .._calls.rows import Row
from .._errors.tree import OutboxError
from .._runtime.event_loop import Event, event_here
from .._schedule.settlement import Settlement
from .._schedule.takeover import RequestNote
from .receipt import Receipt


class OneShot:
    """Something that happens once. Who asks after it has does not wait."""

    past: bool = False  # of the class, as is the next: a batch has four of these, and most calls a batch of their own
    _event: Event | None = None

    def come(self) -> None:
        """Now. To be called in the loop in which others wait."""
        self.come_all(self)

    @staticmethod
    def come_all(*moments: OneShot) -> None:
        """As `come`, for several in less time."""
        for moment in moments:
            moment.past = True
            if moment._event is not None:
                moment._event.set()

    async def wait(self, new_event: Callable[[], Event] = event_here) -> None:
        """Wait until the moment comes. ``new_event`` gives an event of the loop in which this is."""
        if not self.past:
            if self._event is None:
                self._event = new_event()
            await self._event.wait()


@attrs.define(eq=False, slots=True)
class Put:
    """A call on its way in."""

    kind: Kind
    key: Key = attrs.field(repr=False)
    payload: Payload = attrs.field(repr=False)
    size: int
    now: float
    """The loop's clock, for this process's own sender."""
    at: float
    """The machine's steady clock, which is never set: the place dates the call by how long ago this was."""
    receipt: Receipt
    awaited: bool
    """A caller waits for it, and gets the error if it fails."""
    withdrawn: bool = False
    """The call was taken back while its batch waited for another try."""
    dedupe: DedupeKey | None = attrs.field(default=None, repr=False)
    """The place keeps this beside the call, and takes no other call with it for so long."""


@attrs.define(eq=False, slots=True)
class Settled:
    """Calls that have their outcomes."""

    outcome: Outcome
    carriers: list[int]
    merged: list[int]
    detail: str = attrs.field(default="", repr=False)


@attrs.frozen(eq=False)
class Landed:
    """A request and how it has ended."""

    request: RequestNote
    answered: bool | None
    """Or its answer got lost; ``None`` if it was never made, and took no token."""
    lost: bool
    """The server may have what was in it, all the same."""


@attrs.define(eq=False)
class Batch:
    """Collected by the loop until the writer takes it."""

    term: int = 0
    """How often the lease had been lost before; what a deposed sender notes is worth nothing."""
    puts: list[Put] = attrs.field(factory=list)
    refused: list[tuple[Outcome, Receipt]] = attrs.field(factory=list)
    delivered: dict[Outcome, Settled] = attrs.field(factory=dict)
    """By the way they went. Also what a deletion dropped: nothing of that is kept, so one entry does for many."""
    lost: list[Settled] = attrs.field(factory=list)
    parts: list[tuple[int, Kind, str]] = attrs.field(factory=list)
    """Calls, and what the server has of what they say: their own row's, or that of a company."""
    requests: list[RequestNote] = attrs.field(factory=list)
    landed: list[Landed] = attrs.field(factory=list)
    forgotten: list[str] = attrs.field(factory=list)
    """Files that need not be found again."""
    size: int = 0
    """Bytes of the calls to be put."""
    freed: int = 0
    """Bytes, at least, of what is settled in it."""
    leaving: int = 0
    """Calls that are settled in the batch."""
    done: OneShot = attrs.field(factory=OneShot)
    """The calls to be put are held, or have failed."""
    noted: OneShot = attrs.field(factory=OneShot)
    """All of it is recorded, or has failed."""
    tried: OneShot = attrs.field(factory=OneShot)
    """The writer has let go of it; there may be another try."""
    stirs: OneShot = attrs.field(factory=OneShot)
    """The calls are held, or it takes so long that those who wait should check the time."""
    error: OutboxError | None = None
    """Why its puts are not held."""
    refusals_recorded: bool = False
    """Calls that were refused are in the account."""
    admits: bool = False
    """Calls that the application's transactions have put are to be accepted with it, even if it has nothing else."""
    leaves_some: bool = False
    """The place has more of such calls than go into one transaction."""

    def held(self) -> None:
        """Report that it is known what becomes of the calls to be put."""
        OneShot.come_all(self.done, self.tried, self.stirs)

    def come(self) -> None:
        """All of it is done."""
        OneShot.come_all(self.done, self.tried, self.stirs, self.noted)

    def come_again(self) -> None:
        """Report that the batch will be tried again."""
        tried, self.tried = self.tried, OneShot()
        tried.come()

    def has_notes(self) -> bool:
        """There is something to write besides new calls."""
        return bool(self.refused) or self.has_senders_notes()

    def has_senders_notes(self) -> bool:
        """There is something to write that only the sender knows."""
        settled = self.delivered or self.lost or self.parts or self.forgotten
        return bool(settled or self.requests or self.landed)

    def only_puts(self) -> bool:
        """There are calls to be put, and nothing else."""
        return bool(self.puts) and not self.admits and not self.has_notes()

    def is_empty(self) -> bool:
        """There is nothing to write."""
        return not (self.puts or self.admits or self.refused or self.has_senders_notes())

    def has_delivered(self, outcome: Outcome, carriers: Sequence[int], merged: Sequence[int]) -> None:
        """Note that the server has these calls, or that a deletion has dropped them."""
        if not carriers and not merged:
            return
        settled = self.delivered.get(outcome)
        if settled is None:
            settled = self.delivered[outcome] = Settled(outcome, [], [])
        settled.carriers += carriers
        settled.merged += merged

    def settle(self, settlement: Settlement, freed: int) -> None:
        """Calls, and those merged into them, are settled; ``freed`` bytes leave with them."""
        self.freed += freed
        self.leaving += len(settlement.carriers) + len(settlement.merged)
        if not settlement.outcome.keeps_call:
            self.has_delivered(settlement.outcome, settlement.carriers, settlement.merged)
            if isinstance(settlement.undelivered, Row):
                row = settlement.undelivered
                self.parts += [(call_id, row.kind, row.key) for call_id in settlement.riders]
        else:
            carriers, merged = list(settlement.carriers), list(settlement.merged)
            self.lost.append(Settled(settlement.outcome, carriers, merged, settlement.detail))

    def take_in(self, before: Batch) -> None:
        """Write, too, what has to be written some time of one that failed: not its calls, nor requests to be made."""
        self.refused[:0] = before.refused
        for settled in before.delivered.values():
            self.has_delivered(settled.outcome, settled.carriers, settled.merged)
        self.lost[:0] = before.lost
        self.parts[:0] = before.parts
        self.landed[:0] = before.landed
        self.forgotten[:0] = before.forgotten
        self.freed += before.freed
        self.leaving += before.leaving
