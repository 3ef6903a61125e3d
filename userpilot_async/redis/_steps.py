"""Batches on their way into Redis: one step after the other, each made once, whatever becomes of its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from .._calls.pairs import pairs_in, sealed_pair
from .._outbox.away import Away, Full
from .._outbox.batch import Batch, Put
from .._outbox.remote_steps import RemoteSteps
from .._outbox.store import Committed
from .._runtime.clocks import steady
from ._access import ClientState
from ._answers import Made, resolved_of, written_of
from ._codec import encoded
from ._lease import RedisLease
from ._notes import SenderNotes, calls_in, may_be_twice, notes_of, refusals_of

LONGEST_KEPT = 1e10  # seconds; Redis takes no longer time for a key


@attrs.define
class WriteStep:
    """A batch that is being written, for as long as it takes."""

    batch: Batch
    puts: list[Put]
    """As they were sent the last time."""
    notes: list[SenderNotes]
    """Notes that are still to be written."""
    seq: int = 0
    """The step that is being made; 0 if there is none of which it is not known whether it was."""
    held: bool = False
    """The calls are there, or have failed."""
    term: int = 0
    """How often the lease had been lost when it was taken."""
    generation: str = ""
    """The one that the step was made in."""
    again: bool = False
    """The calls may have been there before, and sent, in what is not there any more."""


class WriteSteps(RemoteSteps[WriteStep]):
    """A batch is written in small steps, each a script. Lost calls are kept for ``keep_lost`` seconds."""

    _lease: RedisLease

    def __init__(
        self, access: ClientState, lease: RedisLease, place: str, warn: Callable[[str], None], keep_lost: float
    ) -> None:
        super().__init__(access.client, lease, place, warn)
        self._access = access
        self._keep_lost = keep_lost

    def _begun(self, batch: Batch, *, is_ours: bool) -> WriteStep:
        batch.puts = [put for put in batch.puts if not put.withdrawn]
        notes = notes_of(batch) if is_ours else refusals_of(batch)  # what was settled by one deposed since is not
        return WriteStep(batch, batch.puts, notes, term=self._lease.term)

    def _go_on(self, attempt: WriteStep) -> Committed:
        now = self._end_doubt(attempt)
        if now is None:
            if attempt.term != self._lease.term:
                self._drop_notes(attempt)
            now = self._make_step(attempt)
        return now

    def _make_step(self, attempt: WriteStep) -> Committed:
        """The calls, if they are not there yet, and some of the notes."""
        puts = [] if attempt.held else attempt.puts
        first = attempt.notes[0] if attempt.notes else SenderNotes()
        first.again = sum(1 for put in puts if may_be_twice(put.payload)) if attempt.again else 0
        first.pairs = list({sealed_pair(pair): None for put in puts for pair in pairs_in(put.key)})
        first.keys = [
            (place, put.dedupe.digest.hex(), round(min(max(0.001, put.dedupe.seconds), LONGEST_KEPT) * 1_000))
            for place, put in enumerate(puts)
            if put.dedupe is not None
        ]
        notes = first.as_json() if attempt.notes or first.again or first.pairs or first.keys else ""
        attempt.seq, attempt.generation = self._access.next_step(), self._access.generation
        now = steady()
        calls = [one for put in puts for one in (put.size, encoded(put, max(0.0, now - put.at)))]
        access = self._access
        head = (attempt.seq, access.heard, self._lease.token, access.ago(self._keep_lost), notes, access.made)
        try:
            written = written_of(access.run("write" if puts else "note", *head, *calls, wait=True))
        except Full as error:
            if not puts:
                raise
            return self._refused(attempt, error)
        if written is None:
            raise Away("a step came late")
        made, forgotten, state = written
        access.step_ended(attempt.seq)
        if forgotten:
            self._warn(f"{self._place} has forgotten lost calls, for their age or their number")
        return self._step_made(attempt, self._access.learned(state, replicated=True), made)

    def _refused(self, attempt: WriteStep, error: Full) -> Committed:
        """There is no room for calls, says an answer that may be wrong: no caller may get that whose call is there."""
        try:
            now = self._end_doubt(attempt)
        except Full:
            if self._access.link.unbound:
                raise
            attempt.seq, now = 0, None  # Redis 6 writes nothing then, not even that the step is never to be made
        return now if now is not None else self._fail_puts(attempt, error)

    def _end_doubt(self, attempt: WriteStep) -> Committed | None:
        """See whether a step was made whose answer got lost; ``None`` if there is none, or it never will be.

        Calls that no caller waits for any more are taken back.
        """
        seq, attempt.puts = attempt.seq, attempt.puts if attempt.seq and not attempt.held else list(attempt.batch.puts)
        if not seq:
            return None
        gone = [] if attempt.held else [place for place, put in enumerate(attempt.puts) if put.withdrawn]
        made = resolved_of(self._access.run("resolve", seq, self._access.made, *gone, wait=True))
        self._access.step_ended(seq)
        if made is None:
            attempt.seq, attempt.puts = 0, list(attempt.batch.puts)
            attempt.again = attempt.again or attempt.generation != self._access.generation
            return None
        return self._step_made(attempt, self._access.read_state(replicated=True), made)

    def _step_made(self, attempt: WriteStep, now: Committed, made: Made) -> Committed:
        attempt.seq = 0
        if attempt.notes:
            notes = attempt.notes.pop(0)
            if notes.refused:  # all of them are in the first step
                now = attrs.evolve(now, first_refused=made.first_refused)
            if made.fenced and notes.needs_lease and attempt.term == self._lease.term:
                self._lease.lose()
                self._lease.last_token = ""
            if not made.fenced:
                self._lease.made.add(self._access.last_step, calls_in(notes))
        if not attempt.held:
            attempt.held = True
            if len(attempt.puts) > len(attempt.batch.puts) or made.repeated:
                now = attrs.evolve(now, **_ids_of(attempt.puts, made))
            else:
                now = attrs.evolve(now, first_put=made.first_put)
        if attempt.term != self._lease.term:
            self._drop_notes(attempt)
        return attrs.evolve(now, noted=not attempt.notes)

    def _drop_notes(self, attempt: WriteStep) -> None:
        """As in every outbox; only calls that found no room are noted."""
        super()._drop_notes(attempt)
        attempt.notes = [SenderNotes(refused=notes.refused) for notes in attempt.notes if notes.refused]

    def _fail_puts(self, attempt: WriteStep, error: Full) -> Committed:
        """There is no room for calls; notes, which make room, must not wait behind them."""
        now = self._access.read_state()
        attempt.held = True
        return attrs.evolve(now, puts_failed=self._no_room(error), noted=not attempt.notes)


def _ids_of(puts: Sequence[Put], made: Made) -> dict[str, Any]:
    """The ids of a step's calls, and which of them were none: without those that were taken back."""
    stayed = [(place, call_id) for place, call_id in enumerate(made.ids(len(puts))) if not puts[place].withdrawn]
    repeated = {n: made.repeated[place][1] for n, (place, _) in enumerate(stayed) if place in made.repeated}
    return {"ids": [call_id for _, call_id in stayed], "duplicates": repeated}
