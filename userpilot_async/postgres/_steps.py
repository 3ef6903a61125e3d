"""Batches on their way into PostgreSQL: each in one transaction, made once, whatever becomes of the answer to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import count

import attrs
from psycopg import sql

from .._calls.outcome import Outcome
from .._calls.stored import Concluded
from .._calls.values import encode_json
from .._outbox.away import Away, Full
from .._outbox.batch import Batch, Put
from .._outbox.remote_steps import RemoteSteps
from .._outbox.store import Committed
from .._runtime.clocks import steady
from ._access import ClientState
from ._failures import TryAgain
from ._keys import Repeats
from ._lease import PostgresLease
from ._state import State

TRIES = 3  # of a transaction that was undone for another's sake
_STEP = """
INSERT INTO {clients} VALUES ({client}, {step}, {first_put}, {first_refused}, {repeats}, {fenced}, clock_timestamp())
ON CONFLICT (client) DO UPDATE SET step = EXCLUDED.step, first_put = EXCLUDED.first_put,
    first_refused = EXCLUDED.first_refused, repeats = EXCLUDED.repeats, fenced = EXCLUDED.fenced,
    seen = EXCLUDED.seen"""


@attrs.define
class WriteStep:
    """A batch that is being written, for as long as it takes."""

    batch: Batch
    number: int
    """The number of its transaction, under which that notes itself."""
    term: int
    """How often the lease had been lost when the batch was taken."""
    is_ours: bool
    """The lease was ours then, and is as far as is known: its notes may be written."""
    puts: list[Put] = attrs.field(factory=list)
    """As they were sent the last time."""
    held: bool = False
    """The calls are there, or have failed."""
    in_doubt: bool = False
    """The transaction was tried: it may have been committed, and the answer been lost."""


@attrs.frozen
class Made:
    """A transaction's own note of itself."""

    first_put: int
    first_refused: int
    repeats: Repeats
    """Calls that are not there, as earlier ones have their keys."""
    fenced: bool
    """The sender's own notes were left out: it had lost the lease."""

    def ids(self, puts: int) -> list[int]:
        """The ids of so many puts: of one that repeats another call, that call's."""
        there = count(self.first_put)
        return [self.repeats[place] if place in self.repeats else next(there) for place in range(puts)]


class WriteSteps(RemoteSteps[WriteStep]):
    """A batch is written in one transaction, which is made again at once where it was undone for another's sake."""

    _lease: PostgresLease

    def __init__(self, access: ClientState, lease: PostgresLease, place: str, warn: Callable[[str], None]) -> None:
        super().__init__(access.client, lease, place, warn)
        self._access = access

    def _begun(self, batch: Batch, *, is_ours: bool) -> WriteStep:
        return WriteStep(batch, self._access.next_step(), self._lease.term, is_ours)

    def _drop_notes(self, step: WriteStep) -> None:
        """As in every outbox; only calls that found no room are noted."""
        super()._drop_notes(step)
        step.is_ours = False

    def _go_on(self, step: WriteStep) -> Committed:
        if step.term != self._lease.term:
            self._drop_notes(step)
        for _ in range(TRIES):
            try:
                return self._write(step)
            except TryAgain:
                continue
            except Full as error:
                if step.held or not any(not put.withdrawn for put in step.batch.puts):
                    raise
                return self._fail_puts(step, error)
        raise Away(f"its transactions were undone {TRIES} times, for those of others")

    def _write(self, step: WriteStep) -> Committed:
        """Write the calls, if they are not there yet, and the notes, in one transaction."""
        access, began = self._access, steady()
        with access.row.locked() as state:
            access.check(state)
            heard = access.news(state)
            made = self._made(step) if step.in_doubt else None
            settled: list[Concluded] = []
            duplicates: Mapping[int, Outcome | None] = {}
            if made is not None:
                withdrawn = {place for place, put in enumerate(step.puts) if put.withdrawn}
                state.account.duplicates -= len(withdrawn.intersection(made.repeats))
                ids = made.ids(len(step.puts))
                access.tables.take_back(state, [ids[one] for one in withdrawn.difference(made.repeats)])
                access.tables.find_oldest(state)
                duplicates = access.tables.keys.outcomes(made.repeats, state.account.next_id) if made.repeats else {}
            else:
                step.in_doubt = True
                made, duplicates = self._make(step, state, settled)
            self._finish(step, state, made)
        # What is raised by the end of the transaction above leaves the step in doubt; from here on there is none.
        access.made(step.number, made.first_put, made.first_refused, state.now)
        if made.fenced and step.is_ours and step.term == self._lease.term:
            self._lease.lose()
            self._drop_notes(step)
        elif self._lease.leading and state.lease == self._lease.token:
            self._lease.renewed(began)
        return self._done(step, access.learned(state, settled, heard=heard), made, duplicates)

    def _make(
        self, step: WriteStep, state: State, settled: list[Concluded]
    ) -> tuple[Made, Mapping[int, Outcome | None]]:
        """Write all of it into the tables; what has been settled is added to ``settled``."""
        access, batch, tables = self._access, step.batch, self._access.tables
        step.puts = [] if step.held else [put for put in batch.puts if not put.withdrawn]
        fenced = step.is_ours and state.lease != self._lease.token
        if step.puts or batch.admits:  # what an application's transaction has put before is accepted before
            batch.leaves_some = access.admit(state)
        first_put = state.account.next_id
        chosen = tables.keys.choose(state, step.puts)
        if chosen.puts:
            now = steady()
            put = tables.put(state, chosen.puts, [max(0.0, now - put.at) for put in chosen.puts])
            if step.is_ours and batch.has_senders_notes():  # what is settled is looked for among all calls
                access.connection.run(put)
            else:
                access.row.run_later(put)
        first_refused = state.account.next_id
        was_empty = state.oldest_held is None
        settled += tables.refuse(state, [outcome for outcome, _ in batch.refused])
        if step.is_ours and not fenced:
            for one in (*batch.delivered.values(), *batch.lost):
                settled += tables.settle(state, one)
            tables.put_parts(batch.parts)
            access.send_log.write(state, batch)
        if was_empty:
            state.oldest = state.account.next_id
        elif batch.delivered or batch.lost:
            tables.find_oldest(state)
        tables.write_news(state, settled)
        return Made(first_put, first_refused, chosen.repeats, fenced), chosen.duplicates

    def _finish(self, step: WriteStep, state: State, made: Made) -> None:
        """Write the state, and the transaction's note of itself; a sender's lease is renewed by it."""
        note = self._access.names.sql(
            _STEP,
            client=sql.Literal(self._access.client),
            step=sql.Literal(step.number),
            first_put=sql.Literal(made.first_put),
            first_refused=sql.Literal(made.first_refused),
            repeats=sql.Literal(encode_json(list(made.repeats.items()))),
            fenced=sql.Literal(made.fenced),
        )
        renews = self._lease.leading and state.lease == self._lease.token
        self._access.row.write(state, note, *([self._lease.renewal()] if renews else []))

    def _made(self, step: WriteStep) -> Made | None:
        """The note of a transaction whose answer was lost; ``None`` if it was not made, and never will be.

        Who has the row locked knows: the connection that is gone had it locked until its end.
        """
        access = self._access
        query = access.names.sql(
            "SELECT first_put, first_refused, repeats, fenced FROM {clients} WHERE client = %s AND step = %s"
        )
        rows = access.connection.run(query, (access.client, step.number))
        if not rows:
            return None
        first_put, first_refused, repeats, fenced = rows[0]
        return Made(first_put, first_refused, dict(json.loads(repeats)), fenced)

    def _done(self, step: WriteStep, now: Committed, made: Made, duplicates: Mapping[int, Outcome | None]) -> Committed:
        now = attrs.evolve(now, first_put=made.first_put, first_refused=made.first_refused)
        some_left = len(step.puts) > len(step.batch.puts)  # withdrawn, while it was in doubt
        if step.held or not (made.repeats or some_left):
            return now
        ids = made.ids(len(step.puts))
        left = [place for place, put in enumerate(step.puts) if not (some_left and put.withdrawn)]
        repeating = {n: duplicates[place] for n, place in enumerate(left) if place in duplicates}
        return attrs.evolve(now, ids=[ids[place] for place in left], duplicates=repeating)

    def _fail_puts(self, step: WriteStep, error: Full) -> Committed:
        """There is no room for calls; notes, which make room, must not wait behind them."""
        access = self._access
        with access.connection.transaction(frozen=True):
            state = access.row.read()
            access.check(state)
            heard = access.news(state)
        step.held, step.in_doubt = True, False
        refused = self._no_room(error)
        now = access.learned(state, heard=heard)
        return attrs.evolve(now, puts_failed=refused, noted=not step.batch.has_notes())
