"""How rows leave the job slot: into a job, out of one, or back to where they wait; a little at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Protocol

from .._calls.outcome import NO_WORDS, Outcome, Words
from .._calls.payload import PackedRow, packed_id
from .._calls.rows import FiledRow, Row, RowState
from .job_batch import JobEffect
from .key_queue import KeyQueue
from .queue_state import UNDER_WAY
from .queues import Queues
from .settlement import Settlements

WEIGHT = 10  # events of a file, or calls that have merged into a row, are as much work as one row
PACKED = 4  # so many packed rows are, too
CHORES = 200  # rows settled in one go: about half a millisecond of the application's loop


class Ends(Protocol):
    """The way that calls meet their outcome."""

    def head(self, queue: KeyQueue, outcome: Outcome, words: Words) -> None:
        """The head of a queue has its outcome."""
        ...

    def packed(self, kind: str, rows: Sequence[PackedRow], outcome: Outcome, words: Words) -> bool:
        """Packed rows have their outcome, and are in no queue any more; true if each had to be unpacked for that."""
        ...


class FileEndings:
    """Carries out what a step of a file's life means for its rows; ``ends`` is told of those that have an outcome."""

    def __init__(self, queues: Queues, settled: Settlements, ends: Ends, *, repeats: bool) -> None:
        self._queues = queues
        self._settled = settled
        self._ends = ends
        self._repeats = repeats  # what the server may have had goes again; else it is given up
        self.possible_duplicates = 0
        """Events that were in a file, are sent again, and which the server may have had."""
        self.jobs_completed = 0
        """Jobs that have ended well."""
        self._chores: Iterator[None] = iter(())
        self._chores_waiting = False

    def do_chores(self) -> bool:
        """Settle some of the rows that are left to settle; true if there are more."""
        if self._chores_waiting:
            self._chores_waiting = sum(1 for _ in islice(self._chores, CHORES)) == CHORES
            if not self._chores_waiting:
                self._chores = iter(())
        return self._chores_waiting

    def carry_out(self, effect: JobEffect, delivered: Outcome, over: str = "") -> None:
        """Rows have come into a job, or out of one, which delivers them as ``delivered``.

        ``over`` is the name of their file, if no slot has it any more.
        """
        self.jobs_completed += effect.delivered
        outcome = delivered if effect.delivered else Outcome("dead", effect.dead) if effect.dead else None
        if effect.submitted:
            self._chores = chain(self._chores, self._submit(effect.kind, effect.submitted))
        if effect.withdrawn:
            self._chores = chain(self._chores, self._withdraw(effect.kind, effect.withdrawn))
        if effect.repeated:
            self._chores = chain(self._chores, self._repeat(effect.repeated))
        if effect.ended:
            self._chores = chain(self._chores, self._end(effect, outcome))
        if over:
            self._chores = chain(self._chores, self._forget(over))
        work = effect.withdrawn or effect.repeated or effect.submitted or effect.ended or over
        self._chores_waiting = self._chores_waiting or bool(work)

    def _submit(self, kind: str, rows: Iterable[FiledRow]) -> Iterator[None]:
        """The server has them: what is accepted later may go."""
        for group in self._queues.packed.groups(kind, rows):
            yield from self.mark(kind, (group,) if isinstance(group, Row) else group, True)
            queue = self._queues.by_key[group.kind][group.key] if isinstance(group, Row) else None
            if queue is not None and queue.is_blocked:
                self._queues.unblock(queue)

    def _forget(self, filename: str) -> Iterator[None]:
        """Only now: until all that was in it is settled, another sender has to find it."""
        self._settled.forgotten.append(filename)
        yield

    def _withdraw(self, kind: str, rows: list[FiledRow]) -> Iterator[None]:
        """The job came to nothing; it may have worked off some of the events."""
        yield from self.mark(kind, rows, False)
        yield from self._repeat(self._queues.packed.as_now(kind, rows))

    def mark(self, kind: str, rows: Iterable[FiledRow], submitted: bool) -> Iterator[None]:
        """A job of the server holds the calls in these rows, or holds them no more; a little with each step."""
        for row in self._queues.packed.groups(kind, rows):
            if not isinstance(row, Row):
                self._settled.marks.append(([packed_id(one) for one in row], submitted, 0))
                yield from repeat(None, len(row) // PACKED)
                continue
            for calls in self._settled.marked((row,), submitted):
                yield from repeat(None, 1 + calls // WEIGHT)

    def _repeat(self, rows: Iterable[FiledRow]) -> Iterator[None]:
        """Rows go again, although the server may have had them. An identify twice is the same identify."""
        for row in rows:
            if not isinstance(row, Row):
                continue
            while row.events and not self._repeats:
                yield from self._carry(row, Outcome("dropped", "ambiguous"))
            self.possible_duplicates += len(row.events or ())
            yield

    def _carry(self, row: Row, outcome: Outcome) -> Iterator[None]:
        yield from repeat(None, min(len(row.events or ()) // WEIGHT, CHORES))
        self._settled.carried(row, outcome, WEIGHT * CHORES)

    def _end(self, effect: JobEffect, outcome: Outcome | None) -> Iterator[None]:
        if outcome is None and not effect.alone:
            yield from self._put_back(effect.kind, effect.ended)
        for row in self._queues.packed.groups(effect.kind, effect.ended):
            if isinstance(row, Row):
                yield from self._end_row(row, effect, outcome)
            elif outcome is not None:
                yield from self._end_packed(effect.kind, row, outcome, effect.words)
            else:
                for one in row:
                    unpacked = self._queues.unpack_filed(effect.kind, one)
                    if unpacked is not None:
                        yield from self._end_row(unpacked, effect, outcome)

    def _end_row(self, row: Row, effect: JobEffect, outcome: Outcome | None) -> Iterator[None]:
        queue = self._queues.by_key[row.kind][row.key]  # not `Queues.queue`, which knows who has become whom
        row.alone = row.alone or effect.alone
        while row.events and outcome is not None:
            yield from self._carry(row, outcome)
        self._queues.waiting_events += len(row.events or ())
        queue.release(row)
        self._queues.packed.ended(row)
        if row.state is RowState.BATCHED and outcome is not None:
            self._ends.head(queue, outcome, NO_WORDS if outcome.is_delivered else effect.words)
        elif row.state is RowState.BATCHED:
            queue.reopen(row)
        if queue.place not in UNDER_WAY:
            self._queues.head_left(queue)  # which keeps its turn, if it has one
        elif queue.calls:
            self._queues.expiry.watch(queue)
        yield from repeat(None, 1 + len(row.ids) // WEIGHT)

    def _end_packed(self, kind: str, rows: Sequence[PackedRow], outcome: Outcome, words: Words) -> Iterator[None]:
        self._queues.packed.end(kind, rows)
        were_unpacked = self._ends.packed(kind, rows, outcome, words)
        yield from repeat(None, len(rows) if were_unpacked else 1 + len(rows) // PACKED)

    def _put_back(self, kind: str, rows: Sequence[FiledRow]) -> Iterator[None]:
        """Packed rows wait again, in the order in which they did."""
        for group in self._queues.packed.groups(kind, reversed(rows)):
            packed = () if isinstance(group, Row) else group
            for row in packed:
                self._queues.packed.put_back(kind, row)
            yield from repeat(None, 1 + len(packed) // PACKED)
