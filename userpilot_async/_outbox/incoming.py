"""Calls on their way into a durable outbox: not held yet, and in no account.

A call is *put* and not waited for (`Incoming.put`: it is accepted, as far as its caller knows) or *awaited*
(`Incoming.hold`).
It ends *held*, *failed*, or *withdrawn* by its caller, who may take it back until the thread has taken its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import anyio

from .._account.shared_ledger import SharedLedger
from .._calls.dedupe import DedupeKey
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload
from .._errors.tree import OutboxError
from .._runtime.event_loop import Event, cancelled_natively, event_here
from .._runtime.reentry import marked
from .batch import Batch, OneShot, Put
from .receipt import Receipt
from .write_queue import WriteQueue

SLOW = 0.5  # seconds after which callers check how long they have been waiting
NOT_HELD = Outcome("dropped", "outbox")
NO_DUPLICATES: Mapping[int, tuple[bytearray, Outcome | None]] = {}

Lost = Callable[[Kind, Key, Payload, OutboxError], object]
"""To be called with a call that was put, and is lost."""
MayLeave = Callable[[Put, bool], bool]
"""Need the caller of this call not wait any longer, because the place is away, or (true) because the wait is over?"""


class Incoming:
    """The calls of one opening. ``wake`` and ``wake_soon`` wake the thread: at once, and behind all tasks that are due.

    ``steady`` is the clock by which calls are put.
    """

    def __init__(
        self, queue: WriteQueue, ledger: SharedLedger, wake: Callable[[], object], wake_soon: Callable[[], object],
        steady: Callable[[], float],
    ) -> None:  # fmt: skip
        self.calls = 0
        self.bytes = 0
        self._lost: Lost = lambda *call: None
        self._new_event: Callable[[], Event] = event_here
        self._queue = queue
        self._ledger = ledger
        self._wake = wake
        self._wake_soon = wake_soon
        self._steady = steady
        self._is_awaited = OneShot()

    def begin(self, lost: Lost, new_event: Callable[[], Event]) -> None:
        """Be opened in the loop in which calls are awaited: ``new_event`` gives one of its events."""
        self._lost, self._new_event = lost, new_event

    # ── the way in ──

    def put(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, awaited: bool,
        dedupe: DedupeKey | None = None,
    ) -> tuple[Put, Batch]:  # fmt: skip
        """Have a call written, as soon as can be, with the batch that is given. ``now`` is by the loop's clock."""
        put = Put(kind, key, payload, size, now, self._steady(), Receipt(self._ledger.pages), awaited, dedupe=dedupe)
        self.bytes += size
        self.calls += 1
        batch = self._queue.put(put)
        if awaited:
            self._wake_soon()
        else:  # nobody says when the loop goes round again
            self._wake()
        return put, batch

    async def hold(self, put: Put, batch: Batch, max_wait: float | None, may_leave: MayLeave) -> Receipt | None:
        """Wait until a call is held. Raises `OutboxError` if it cannot be.

        ``None`` if the writer does not come to take it within ``max_wait`` seconds. Cancelled before that, the call is
        withdrawn. Afterwards this waits for the end of that try, however long that takes; a scope is left with the
        receipt then, and a native cancellation goes on, and says that the call was accepted.
        """
        self._is_awaited.come()
        try:
            await batch.stirs.wait(self._new_event)
            if not batch.done.past and not may_leave(put, False):
                with anyio.move_on_after(None if max_wait is None else max_wait - SLOW):
                    await batch.done.wait()
        except anyio.get_cancelled_exc_class() as cancelled:
            if self._withdraw(put, batch):
                raise
            natively = cancelled_natively()
            withdrawn, again = await self._to_its_end(put, batch)
            natively = natively or again
            if withdrawn:
                raise
            if natively and batch.error is None:
                raise type(cancelled)(f"call {put.receipt.id} was accepted all the same") from None
            if natively:
                raise
        if not batch.done.past:
            if may_leave(put, True):
                return put.receipt
            withdrawn, _ = await self._to_its_end(put, batch)
            if withdrawn:
                return None
        if batch.error is not None:
            raise batch.error
        return put.receipt

    async def _to_its_end(self, put: Put, batch: Batch) -> tuple[bool, bool]:
        """Wait until a call is held, or has failed, or is withdrawn (the first that is given).

        The second is true if this task was cancelled natively meanwhile.
        """
        natively = False
        while not batch.done.past:
            if self._withdraw(put, batch):
                return True, natively
            natively = await _until(batch.tried) or natively
        return False, natively

    def _withdraw(self, put: Put, batch: Batch) -> bool:
        """Take a call back, if the writer has not taken it yet, or has let go of it for a while."""
        if not self._queue.withdraw(put, batch):
            return False
        self._leave([put])
        return True

    async def watch(self) -> None:
        """Have callers check the time if their batch is slow, for ever: cheaper than a deadline around each call."""
        before: list[Batch] = []
        while True:
            await self._is_awaited.wait()
            await anyio.sleep(SLOW)
            waiting = [batch for batch in self._queue.batches() if batch.puts]
            for batch in waiting:
                if batch in before:
                    batch.stirs.come()
            before = waiting
            if not waiting:
                self._is_awaited = OneShot()

    # ── its end ──

    def end(
        self, batch: Batch, ids: Sequence[int], error: OutboxError | None,
        duplicates: Mapping[int, tuple[bytearray, Outcome | None]] = NO_DUPLICATES,
    ) -> None:  # fmt: skip
        """End a batch's calls: they are held under these ids, or there is an ``error``.

        ``duplicates``, by their places in the batch, repeat the calls with these ids: where the ledger writes what
        becomes of those, and what has, if that is known.
        """
        batch.error = error
        puts = [put for put in batch.puts if not put.withdrawn]
        self._leave(puts)
        if error is not None:
            self._fail(puts, error)
            return
        for place, (call_id, put) in enumerate(zip(ids, batch.puts, strict=True)):
            if place in duplicates:
                put.receipt.repeats(call_id, *duplicates[place])
            else:
                put.receipt.held(call_id, self._ledger.pages.of(call_id))

    def held(self, batch: Batch, first: int) -> None:
        """End a batch's calls, none of which was withdrawn: they are held under the ids from ``first`` on."""
        self._leave(batch.puts)
        of = self._ledger.pages.of
        for call_id, put in enumerate(batch.puts, first):
            put.receipt.held(call_id, of(call_id))

    def give_up(self, error: OutboxError) -> None:
        """Fail the calls that no caller waits for, but those that are just being written."""
        puts = self._queue.withdraw_unawaited()
        self._leave(puts)
        self._fail(puts, error)

    def fail_rest(self, batch: Batch, error: OutboxError) -> None:
        """Fail those calls of a batch that no caller knows to be held, and count anew."""
        if not batch.done.past:
            batch.error = error
            self._fail([put for put in batch.puts if put.receipt.id < 0 and not put.withdrawn], error)

    def give_back(self, batch: Batch, error: OutboxError) -> None:
        """Fail all calls that no caller knows to be held. The loop met a bug in the middle of that."""
        with suppress(Exception):  # the same, most likely
            self.fail_rest(batch, error)
        batch.come()
        self._queue.let_go(batch)
        self.count()

    def count(self) -> None:
        """Count anew what is on its way, after a bug came in between."""
        puts = self._queue.open_puts()
        self.calls, self.bytes = len(puts), sum(put.size for put in puts)

    def refuse(self, put: Put, error: OutboxError) -> None:
        """Fail a call that never was on its way."""
        self._fail([put], error)

    def _leave(self, puts: Sequence[Put]) -> None:
        self.bytes -= sum(put.size for put in puts)
        self.calls -= len(puts)

    def _fail(self, puts: Sequence[Put], error: OutboxError) -> None:
        for put in puts:
            put.receipt.failed(NOT_HELD)
            if not put.awaited:  # it was accepted, as far as its caller knows: in this process's account, and no other
                self._ledger.refused(NOT_HELD)
                with marked(put.receipt.from_on_dead):
                    self._lost(put.kind, put.key, put.payload, error)


async def _until(moment: OneShot) -> bool:
    """Wait for something that comes, whatever happens; true if this task was cancelled natively meanwhile."""
    natively = False
    with anyio.CancelScope(shield=True):
        while not moment.past:
            try:
                await moment.wait()
            except anyio.get_cancelled_exc_class():
                natively = True
    return natively
