"""An outbox whose calls outlive their client: what the loop sees of it.

Whatever touches the place where they wait happens in a thread of its own, so that the loop never waits for a disk or a
network, and nobody's cancellation breaks anything off in the middle. The loop collects what is to be written (`Batch`),
the thread takes all of it at once, and tells the loop.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import anyio

from .._account.shared_ledger import SharedLedger
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload, Ticket, ticket_id
from .._calls.rows import Row
from .._errors.tree import ConfigurationError, OutboxError
from .._runtime import clocks
from .._runtime.event_loop import cancelled_natively, soon_here
from .._runtime.log import log
from .._runtime.reentry import marked
from .._schedule.calendar import age
from .._schedule.settlement import Settlement
from .._schedule.takeover import RequestNote, Takeover
from .batch import Batch, Committed, Landed, Lead, OneShot, Put, Settled
from .protocol import Opening
from .receipt import LateReceipt, Receipt
from .window import Read, Reading, Window
from .writer import Chores, WriterThread

MOST_PUTS = 1_000  # calls written in one transaction
SLOW = 0.5  # seconds after which it is looked at how long callers have been waiting
NOT_HELD = Outcome("dropped", "outbox")


class DurableOutbox:
    """What every such outbox shares. A kind of it says where it is, and what its thread does (`_start`).

    All who have the same one open share one sender: whoever has the lease. What others do is heard by looking.
    """

    durable = True
    held_calls = 0
    term = 0
    most_at_once = math.inf
    """Bytes of calls that are written together."""
    place = ""

    def __init__(self, *, sender: bool, max_bytes: int) -> None:
        if type(max_bytes) is not int or max_bytes < 1:
            raise ConfigurationError("max_bytes must be an int, 1 or more")
        self.when_room: Callable[[], object] | None = None
        self._may_send = sender
        self._max_bytes = max_bytes
        self._wall: Callable[[], float] = clocks.wall
        """The calendar, where the place has one of its own: such a one is never set."""
        self._steady: Callable[[], float] = clocks.steady
        self._in_use = False
        self._writer: WriterThread | None = None
        self._errands: Chores | None = None
        # A signal handler, or a finaliser, may put a call while this very thread holds it.
        self._lock = threading.RLock()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.ledger = SharedLedger()
        self.sends = False
        self._batches = deque([Batch()])
        self._in_hand: Batch | None = None
        self._parked: Batch | None = None  # which is to be tried again
        self.unheld = 0
        self._bytes = self._unwritten = self._freed = self._leaving = 0
        self._window = Window()
        self._sent: set[int] = set()
        self._inheritance: Takeover | None = None
        self._bug: BaseException | None = None
        self._refusal: OutboxError | None = None
        self._opened, self._closed = OneShot(), OneShot()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.place}>"

    # ── opening and closing ──

    async def open(self, opening: Opening) -> None:
        """Start the thread, and wait until it is open. Raises `ValueError` if it is in use, and `OutboxError`.

        A bug of this library is an `OutboxError` here, too, with the bug as its cause.
        """
        if self._in_use:
            raise ValueError(f"this {type(self).__name__} is in use by another client: give each client one of its own")
        while self._writer is not None and self._writer.runs:  # noqa: ASYNC110  # its loop may be another one, and gone
            await anyio.sleep(0.01)
        self._begin_anew()
        self._opening, self._soon, self._in_use = opening, soon_here(), True
        self._waiting = anyio.Event()
        try:
            try:
                self._start()
            except (RuntimeError, OSError, MemoryError) as error:
                raise OutboxError(f"{self.place}: no thread can be started ({type(error).__name__})") from error
            await self._opened.wait()
            if self._refusal is not None or self._bug is not None:
                await self._closed.wait()
                raise self._refusal or self._bug_met()
            opening.tasks.start_soon(self._watch)
        except BaseException:
            self._in_use = False
            self.abandon()
            raise

    def _start(self) -> None:
        """Have a thread do the chores of this kind of outbox."""
        raise NotImplementedError

    def _employ(self, errands: Chores) -> WriterThread:
        """The one who does them, not started yet."""
        self._errands = errands
        self._writer = WriterThread(errands, lambda bug: self.tell(errands, self._broke, bug))
        return self._writer

    async def aclose(self) -> None:
        """Write what is left, let another process send, end the thread.

        Cancelled, it goes on in the thread, which then waits for nobody.
        """
        if not self._in_use:
            return
        self.sends = False
        self._wake(stop=True)
        try:
            await self._closed.wait()
        finally:
            self.abandon()
            self._in_use = False

    def abandon(self) -> None:
        """Nobody takes calls from here any more, and nobody closes this: another process must be able to send."""
        if self._writer is not None:
            self._writer.hurry()
            self._writer.stop()

    def _wake(self, *, stop: bool = False) -> None:
        if self._writer is not None:
            (self._writer.stop if stop else self._writer.wake)()

    # ── calls ──

    def stamp(self) -> float:
        """When a call is put, by the steady clock: its date is made when it is written, by the calendar of then."""
        return self._steady()

    @property
    def only_puts(self) -> bool:
        """This process was told not to send."""
        return not self._may_send

    @property
    def waiting_bytes(self) -> int:
        """Of the calls that are held, as far as this process knows, and of those on their way in, or out."""
        return self._bytes + self._unwritten - self._freed

    @property
    def stirs(self) -> bool:
        """Calls are being written, or read."""
        return self.reading is not None or self._in_hand is not None or self.has_batch()

    def has_room(self, size: int) -> bool:
        """A call of so many bytes may be put; one that is larger than the whole limit, into an empty outbox.

        What cannot be written yet waits in memory, which has the client's own limit. After a bug nobody need wait for
        room: no call is held any more.
        """
        if self._bug is not None:
            return True
        if self._unwritten + size > self._opening.max_bytes and self._unwritten:
            return False
        return self.waiting_bytes + size <= self._max_bytes or not self.waiting_bytes

    def put(self, kind: Kind, key: Key, said: Payload, size: int, now: float) -> Receipt:
        """Hold a call as soon as can be. After a bug it is dropped, and accounted for."""
        if self._bug is not None:
            put = Put(kind, key, said, size, now, now, LateReceipt(self.ledger), awaited=False)
            self._not_held([put], self._bug_met())
            return put.receipt
        return self._put(kind, key, said, size, now, awaited=False)[0].receipt

    def _put(self, kind: Kind, key: Key, said: Payload, size: int, now: float, awaited: bool) -> tuple[Put, Batch]:
        put = Put(kind, key, said, size, now, self.stamp(), LateReceipt(self.ledger), awaited)
        self._unwritten += size
        self.unheld += 1
        with self._lock:
            batch = self._batches[-1]
            if len(batch.puts) >= MOST_PUTS or (batch.puts and batch.size + size > self.most_at_once):
                batch = Batch(self.term)
                self._batches.append(batch)
            batch.puts.append(put)
            batch.size += size
        self._wake()
        return put, batch

    async def hold(
        self, kind: Kind, key: Key, said: Payload, size: int, now: float, max_wait: float | None = None
    ) -> Receipt | None:
        """Hold a call: it is when this returns. Raises `OutboxError`.

        ``None`` if the writer does not come to take it within ``max_wait``. Cancelled before that, the call is
        withdrawn. Afterwards this waits for the end of that try, however long that takes; a scope is left with the
        receipt then, and a native cancellation goes on, and says that the call was accepted.
        """
        if self._bug is not None:
            raise self._bug_met()
        put, batch = self._put(kind, key, said, size, now, awaited=True)
        if not self._waiting.is_set():
            self._waiting.set()
        try:
            await batch.stirs.wait()
            if not batch.done.past and not self._may_leave(put, waited=False):
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
            if self._may_leave(put, waited=True):
                return put.receipt
            withdrawn, _ = await self._to_its_end(put, batch)
            if withdrawn:
                return None
        if batch.error is not None:
            raise batch.error
        return put.receipt

    def _may_leave(self, put: Put, waited: bool) -> bool:
        """The place is away, or it takes too long: need the caller not wait for it?"""
        return False

    async def _to_its_end(self, put: Put, batch: Batch) -> tuple[bool, bool]:
        """Until a call is held, or has failed, or is withdrawn (the first that is given).

        The second is true if somebody cancelled this task natively meanwhile.
        """
        natively = False
        while not batch.done.past:
            if self._withdraw(put, batch):
                return True, natively
            natively = await _until(batch.tried) or natively
        return False, natively

    async def _watch(self) -> None:
        """Have callers look at the time if their batch is slow: cheaper than a deadline around each call."""
        before: list[Batch] = []
        while True:
            await self._waiting.wait()
            await anyio.sleep(SLOW)
            with self._lock:
                waiting = [batch for batch in self._all() if batch.puts]
            for batch in waiting:
                if batch in before:
                    batch.stirs.come()
            before = waiting
            if not waiting:
                self._waiting = anyio.Event()

    def _withdraw(self, put: Put, batch: Batch) -> bool:
        """Take a call back, if the writer has not taken it yet, or has let go of it for a while."""
        with self._lock:
            if batch is self._parked and not batch.done.past:
                put.withdrawn = True
            elif batch in self._batches:
                batch.puts.remove(put)
            else:
                return False
        self._unwritten -= put.size
        self.unheld -= 1
        return True

    def _all(self) -> list[Batch]:
        """Whatever is to be written, or being written. The caller holds the lock."""
        return [batch for batch in (self._in_hand, self._parked, *self._batches) if batch is not None]

    def refuse(self, outcome: Outcome) -> Receipt:
        """Account for a call that found no room: accepted, and gone at once."""
        receipt = LateReceipt(self.ledger)
        receipt.failed(outcome)  # known at once; the number follows
        self.ledger.refused(outcome)
        if self._bug is None:  # or nobody would ever write it
            with self._lock:
                self._batches[-1].refused.append((outcome, receipt))
            self._wake()
        return receipt

    async def recorded(self) -> None:
        """Until all that was done before this is recorded, or has failed."""
        if self._closed.past:  # the thread has ended: nothing is recorded any more
            return
        with self._lock:
            batches = self._all()
        for batch in batches:
            if not batch.is_empty() and self._is_worth_waiting_for(batch):
                await batch.noted.wait()

    def _is_worth_waiting_for(self, batch: Batch) -> bool:
        """It holds what is not known otherwise."""
        return True

    # ── the sender ──

    def take(self, limit: int) -> Sequence[Ticket]:
        """The next calls, in order, that nobody has taken yet; none while the sender holds as many as it may."""
        self._raise_bug()
        if not self.sends:
            return ()
        tickets = self._window.take(limit)
        self._ask()
        return tickets

    def was_sent(self, call_id: int) -> bool:
        """A request with this call was under way when an earlier sender ended."""
        if call_id not in self._sent:
            return False
        self._sent.discard(call_id)
        return True

    def inherited(self) -> Takeover | None:
        """Once: what an earlier sender has left."""
        inheritance, self._inheritance = self._inheritance, None
        return inheritance

    async def sending(self, request: RequestNote) -> bool:
        """Note in the outbox that a request is about to be made; false if that failed."""
        if self._closed.past:
            return False
        with self._lock:
            batch = self._batches[-1]
            batch.requests.append(request)
        self._wake()
        await batch.noted.wait()
        return request.number is not None and self.sends

    def forget(self, filename: str) -> None:
        """This file needs not be found again; written with what has been settled before, or after it."""
        with self._lock:
            self._batches[-1].forgotten.append(filename)
        self._wake()

    def landed(self, request: RequestNote, *, answered: bool | None, lost: bool) -> None:
        """It has ended."""
        with self._lock:
            self._batches[-1].landed.append(Landed(request, answered, lost))
        self._wake()

    def merged(self, ids: Sequence[int], freed: int) -> None:
        """These calls went into later ones. They stay in the outbox, which a crash would leave with nothing else."""
        self.ledger.merge(ids)
        self._window.merged(ids)

    def submitted(self, ids: Sequence[int], submitted: bool, size: int) -> None:
        """A background job of the server holds these calls, or holds them no more: while one does, others may come."""
        self.ledger.submit(ids, submitted)
        self._window.filed(ids, submitted)
        self._ask()

    def settle(self, settlement: Settlement) -> None:
        """Calls and those merged into them have met their fate: it is in the account as soon as it is recorded."""
        self._window.settled(settlement.carriers, settlement.merged)
        # A row without calls, made of what others say, takes no room there.
        freed = settlement.size if settlement.carriers or settlement.merged else 0
        leaving = len(settlement.carriers) + len(settlement.merged)
        self._freed += freed
        self._leaving += leaving
        with self._lock:
            batch = self._batches[-1]
            batch.freed += freed
            batch.leaving += leaving
            if settlement.outcome.is_delivered:
                batch.has_delivered(settlement.outcome, settlement.carriers, settlement.merged)
                if isinstance(settlement.said, Row):
                    row = settlement.said
                    batch.parts += [(call_id, row.kind, row.key) for call_id in settlement.riders]
            else:
                carriers, merged = list(settlement.carriers), list(settlement.merged)
                batch.lost.append(Settled(settlement.outcome, carriers, merged, settlement.detail))
        self._wake()

    def _ask(self) -> None:
        """Have more calls read, if there are more and the window is low."""
        if self.sends and self._window.wants() is not None:
            self._wake()

    # ── for the thread ──

    @property
    def reading(self) -> Reading | None:
        """What is to be read."""
        return self._window.reading

    def has_batch(self) -> bool:
        """There is something to write."""
        with self._lock:
            return not all(batch.is_empty() for batch in tuple(self._batches))  # a copy, as a signal may add one

    def next_batch(self) -> Batch:
        """What has been collected, to be written now."""
        with self._lock:
            while len(self._batches) > 1 and self._batches[0].is_empty():
                self._batches.popleft()
            batch = self._in_hand = self._batches.popleft()
            if not self._batches:
                self._batches.append(Batch(self.term))
            return batch

    def again(self, notes: Batch) -> None:
        """Write this with the next batch: it failed."""
        with self._lock:
            self._batches[0].take_in(notes)

    def tell(self, errands: Chores, function: Callable[..., object], *arguments: object) -> None:
        """Call one of the methods below in the loop. If that has ended, nobody sends here any more."""

        def told() -> None:
            if errands is not self._errands:  # of an opening that is over
                return
            try:
                function(*arguments)
            except Exception as bug:  # or the loop would have it, and who waits would wait for ever
                self._broke(bug, *arguments)

        try:
            self._soon(told)
        except RuntimeError:
            self.abandon()

    # ── what the thread has done ──

    def began(self, now: Committed, lead: Lead | None = None) -> None:
        """The place is open; and perhaps the lease is ours."""
        self.ledger.start(now.account.next_id)
        self.heard(now)
        if lead is not None:
            self.leads(lead)
        self._opened.come()

    def refused(self, error: OutboxError) -> None:
        """It cannot be opened."""
        self._refusal = error
        self._opened.come()

    def heard(self, now: Committed) -> None:
        """Others have done something."""
        self._learn(now)
        self._ask()
        self._changed()

    @property
    def misses_calls(self) -> int | None:
        """Calls wait, says the account, yet there is nothing to send, read or write; all before this id was read."""
        idle = self._opened.past and not self._window.is_busy and not self.has_batch() and self._in_hand is None
        return self._window.read_to if idle and self.ledger.pending else None

    def overlooked(self, read_to: int, first: int) -> None:
        """Where something was damaged, calls lie before what has been read: read them now."""
        if self.misses_calls == read_to:
            self._window.begin(first)
            self._ask()

    def looked(self) -> None:
        """Nobody has done anything. Who has the lease must notice, all the same, that its loop has ended."""

    def leads(self, lead: Lead) -> None:
        """The lease is ours: send, from the oldest call on."""
        self._inheritance = lead.inheritance
        self._window.begin(0)  # and not where the oldest is said to be: a damaged row may be in front of it
        self.sends = True
        self.heard(lead.now)

    def lost_lease(self) -> None:
        """Somebody has deleted the lease's file: another process may send now, so this one must not."""
        self.sends = False
        self._window.clear()

    def arrived(self, read: Read) -> None:
        """Calls were read."""
        self._sent.update(ticket_id(one.ticket) for one in read.found if one.sent)
        self._window.arrived(read, self._times(read))
        self._ask()
        self._changed()

    def _times(self, read: Read) -> Callable[[float], float]:
        """What turns the dates of calls that were read into the schedule's times."""
        now, calendar = self._opening.now(), self._opening.calendar
        calendar.look(now)
        date, moment = calendar.date(now), calendar.moment
        # Of the calendar as it was when they were read: it may have been set since.
        today = self._wall() if read.offset is None else self._steady() + read.offset
        return lambda at: moment(date - age(at, today))

    def written(self, batch: Batch, now: Committed, noted: bool = True) -> None:
        """A batch is recorded; or all of it but the calls; or, not ``noted``, nothing but those."""
        tell_refused = (noted or now.first_refused is not None) and not batch.refused_told
        if tell_refused:
            batch.refused_told = True
            self.ledger.refusals_recorded(outcome for outcome, _ in batch.refused)
        self._learn(now)
        next_id = now.first_put
        if not batch.done.past:
            batch.error = now.puts_failed
            now_lost = self._no_more_unheld(batch.puts)
            if batch.error is None:
                ids = now.ids if now.ids is not None else range(next_id, next_id + len(batch.puts))
                for call_id, put in zip(ids, batch.puts, strict=True):
                    put.receipt.held(call_id, self.ledger.page_of(call_id))
                if now.ids is None:
                    self._pass_on(batch, now)
                next_id += len(batch.puts)
            else:
                self._not_held(now_lost, batch.error)
        if tell_refused:
            first_refused = now.first_refused if now.first_refused is not None else next_id
            for call_id, (_, receipt) in enumerate(batch.refused, first_refused):
                receipt.held(call_id, self.ledger.page_of(call_id))
        if noted:
            self._let_go(batch)
            if batch.term == self.term:
                self._freed -= batch.freed
                self._leaving -= batch.leaving
            batch.come()
        else:
            batch.held()
        self._ask()
        if self.sends or now.heard:
            self._changed()

    def failed(self, batch: Batch, error: OutboxError) -> None:
        """A batch is not recorded; what must be written some time will be tried again."""
        self._let_go(batch)
        if not batch.done.past:
            batch.error = error
            self._not_held(self._no_more_unheld(batch.puts), error)
        batch.come()

    def _no_more_unheld(self, puts: Sequence[Put]) -> Sequence[Put]:
        """What becomes of these is known now; those of them that nobody has taken back."""
        puts = [put for put in puts if not put.withdrawn]
        self._unwritten -= sum(put.size for put in puts)
        self.unheld -= len(puts)
        return puts

    def _let_go(self, batch: Batch) -> None:
        with self._lock:
            if self._in_hand is batch:  # the thread may have taken the next one already
                self._in_hand = None

    def closed(self) -> None:
        """The thread has ended. Who still waits for it has waited in vain."""
        error = OutboxError(f"{self.place} was closed") if self._bug is None else self._bug_met()
        self.sends = False
        with self._lock:
            batches = self._all()
        try:
            for batch in batches:
                if not batch.is_empty():
                    self.failed(batch, error)
        finally:  # also where that meets a bug: nobody waits for a thread that is gone
            for batch in batches:
                if not batch.done.past:
                    batch.error = error
                batch.come()
            self._closed.come()
            self._opened.come()

    def _learn(self, now: Committed) -> None:
        self._bytes = now.account.bytes
        self._window.reaches(now.account.next_id)
        self.ledger.sync(now.account, now.oldest, (*now.heard, *now.said), complete=now.complete)

    def _pass_on(self, batch: Batch, now: Committed) -> None:
        """Calls just put need not be read again, where nothing unread lies before them."""
        if self.sends:
            tickets = [(put.receipt.id, put.now, put.kind, put.key, put.said) for put in batch.puts]
            self._window.pass_on(now.first_put, tickets)

    def _not_held(self, puts: Sequence[Put], error: OutboxError) -> None:
        for put in puts:
            put.receipt.failed(NOT_HELD)
            if not put.awaited:  # it was accepted, as far as its caller knows: in this process's account, and no other
                self.ledger.refused(NOT_HELD)
                with marked(put.receipt.from_on_dead):
                    self._opening.failed(put.kind, put.key, put.said, error)

    def _changed(self) -> None:
        self._opening.changed()
        if self.when_room is not None:
            self.when_room()

    # ── a bug of this library ──

    @property
    def bug(self) -> BaseException | None:
        """What has ended the sending here, if a bug of this library has: to be raised where the client is left."""
        return self._bug

    def _broke(self, bug: BaseException, *concerned: object) -> None:
        """The thread met a bug, or the loop did in what the thread told it: of these batches, perhaps.

        Nothing is sent or put any more. Where the thread is still there, it writes what it has, lets another process
        send, and ends; `closed` then tells all who wait.
        """
        if self._bug is None:
            self._bug = bug
            log(
                logging.ERROR,
                f"{self.place} met a bug of this library ({type(bug).__name__}): it sends nothing and takes no calls "
                "any more, and what it holds stays there; please report this, and open the client again",
                bug,
            )
        self.sends = False
        self.abandon()
        for batch in concerned:
            if isinstance(batch, Batch):
                self._give_back(batch)
        self._opened.come()
        with suppress(Exception):  # who listens may be what is broken, and that has been said
            self._changed()

    def _give_back(self, batch: Batch) -> None:
        """What is not told to be held by now is told to have failed. The loop met a bug in the middle of that."""
        if not batch.done.past:
            batch.error = self._bug_met()
            with suppress(Exception):  # the same, most likely
                self._not_held([put for put in batch.puts if put.receipt.id < 0 and not put.withdrawn], batch.error)
        batch.come()
        with self._lock:
            if self._in_hand is batch:
                self._in_hand = None
            puts = [put for one in self._all() if not one.done.past for put in one.puts if not put.withdrawn]
        self.unheld, self._unwritten = len(puts), sum(put.size for put in puts)

    def _bug_met(self) -> OutboxError:
        """For whoever waits for a call to be held."""
        error = OutboxError(f"{self.place} met a bug of this library; see the log")
        error.__cause__ = self._bug
        return error

    def _raise_bug(self) -> None:
        """For the sender, which ends with it."""
        if self._bug is not None:
            raise self._bug


async def _until(moment: OneShot) -> bool:
    """Wait for something that comes, whatever happens; true if somebody cancelled this task natively meanwhile."""
    natively = False
    with anyio.CancelScope(shield=True):
        while not moment.past:
            try:
                await moment.wait()
            except anyio.get_cancelled_exc_class():
                natively = True
    return natively
