"""A durable outbox during one opening, as the event loop sees it: account, window, what is on its way in and out.

Its thread reports here (`Listener`). A session begins *opening*, until `is_open` comes; it ends *closed*, when the
thread has ended. One that met a bug of this library takes no calls and sends none until then. Opening the outbox again
makes another session, and what an old thread still reports is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

from .._account.shared_ledger import SharedLedger
from .._calls.pairs import Pair
from .._calls.payload import ticket_id
from .._errors.tree import OutboxError
from .._runtime import clocks
from .._runtime.event_loop import events_here
from .._schedule.settlement import Settlement
from .batch import Batch, OneShot
from .bug import Bug
from .incoming import Incoming
from .outgoing import Outgoing
from .protocol import Opening
from .send_log import DurableSendLog
from .store import Committed, Lead
from .waking import Waking
from .window import Read, Reading, Window
from .write_queue import WriteQueue
from .writer import WriterThread


class Session:
    """Not begun yet. ``place`` is the outbox's name in messages; ``most_at_once`` bytes of calls go in one batch."""

    opening: Opening
    writer: WriterThread | None = None

    def __init__(self, place: str, most_at_once: float = math.inf) -> None:
        self.place = place
        self.ledger = SharedLedger()
        self.queue = WriteQueue(most_at_once)
        self.waking = Waking(self.queue, self.wake, lambda function: self.call_behind(function))
        self.incoming = Incoming(self.queue, self.ledger, self.wake, self.waking.wake_soon, lambda: self.steady())
        self.outgoing = Outgoing(self.queue, self.wake)
        self.send_log = DurableSendLog(self.queue, self.wake, lambda: self.sends)
        self.window = Window()
        self.sends = False
        """This process has the lease: calls are taken here."""
        self.is_open, self.is_closed = OneShot(), OneShot()
        self.refusal: OutboxError | None = None
        self.bug = Bug(place)
        self.wall: Callable[[], float] = clocks.wall
        """The calendar, where the place has one of its own: such a one is never set."""
        self.steady: Callable[[], float] = clocks.steady
        self.is_over = False  # until the outbox is opened again
        self.when_room: Callable[[], object] | None = None
        self._bytes, self._knows_account = 0, False

    def begin(self, opening: Opening, soon: Callable[..., object], behind: Callable[..., object]) -> None:
        """Be opened by a client. ``soon`` calls in its loop, from any thread, ``behind`` behind all that is due."""
        self.opening, self._soon, self._behind = opening, soon, behind
        self.incoming.begin(opening.failed, events_here())

    def wake(self) -> None:
        """Have the thread see what there is to do."""
        if self.writer is not None:
            self.writer.wake()

    def abandon(self) -> None:
        """Have the thread end, without waiting: another process must be able to send."""
        if self.writer is not None:
            self.writer.expedite()
            self.writer.stop()

    # ── the sender ──

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the calls that are held, as far as this process knows, and of those on their way in, or out."""
        return self._bytes + self.incoming.bytes - self.outgoing.bytes

    @property
    def stirs(self) -> bool:
        """Calls are being written, or read."""
        return self.reading is not None or self.queue.is_writing or self.queue.has_batch()

    def settle(self, settlement: Settlement) -> None:
        """Note what became of calls: it is in the account as soon as it is recorded."""
        self.window.settled(settlement.carriers, settlement.merged)
        self.outgoing.settle(settlement)

    def ask(self) -> None:
        """Have more calls read, if there are more and the window is low."""
        if self.sends and self.window.wants() is not None:
            self.wake()

    # ── for the thread ──

    @property
    def reading(self) -> Reading | None:
        """The calls to be read, if any are asked for."""
        return self.window.reading

    @property
    def misses_calls(self) -> int | None:
        """Calls wait, says the account, yet there is nothing to send, read or write; all before this id was read."""
        writes = self.queue.is_writing or self.queue.has_batch()
        idle = self.is_open.past and not self.window.is_busy and not writes
        return self.window.read_to if idle and self.ledger.pending else None

    def notify(self, function: Callable[..., object], *arguments: object) -> None:
        """Call one of the methods below in the loop. If that has ended, nothing is sent here any more."""
        try:
            self._soon(self._run, function, *arguments)
        except RuntimeError:
            self.abandon()

    def call_behind(self, function: Callable[[], object]) -> None:
        """Call one of ours in the loop, in which this is called, behind all that is due."""
        self._behind(self._run, function)

    def _run(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            if not self.is_over:
                function(*arguments)
        except Exception as bug:  # or the loop would have it, and who waits would wait for ever
            self.broke(bug, *arguments)

    def learn_pairs(self, pairs: Sequence[Pair]) -> None:
        """Keys that calls name together were put, in this order."""
        if not self.is_over:
            self.opening.learn_pairs(pairs)

    # ── what the thread reports ──

    def began(self, now: Committed) -> None:
        """The place is open, and holds this."""
        self._hear(now)

    def opened(self) -> None:
        """Let the client that opens the outbox go on."""
        self.is_open.come()

    def refused(self, error: OutboxError) -> None:
        """The place cannot be opened."""
        self.refusal = error
        self.is_open.come()

    def polled(self, now: Committed | None) -> None:
        """Hear what others have done; or nothing, and who has the lease notices by this that its loop has ended."""
        if now is not None:
            self._hear(now)

    def leads(self, lead: Lead) -> None:
        """The lease is ours: send, from the oldest call on."""
        self.send_log.begin(lead.inheritance)
        self.window.begin(0)  # and not where the oldest is said to be: a damaged row may be in front of it
        self.sends = True
        self._hear(lead.now)

    def lost_lease(self) -> None:
        """Send no more: another process may."""
        self.sends = False
        self.window.clear()

    def arrived(self, reading: Reading, read: Read) -> None:
        """Calls were read, for a window that may be another one's to fill by now."""
        if self.reading is not reading:
            return
        self.send_log.read(ticket_id(one.ticket) for one in read.found if one.sent)
        today = self.wall() if read.offset is None else self.steady() + read.offset
        self.window.arrived(read, self.opening.calendar.moments(self.opening.now(), today))
        self.ask()
        self._changed()

    def overlooked(self, read_to: int, first: int) -> None:
        """Where something was damaged, calls lie before what has been read: read them now."""
        if self.misses_calls == read_to:
            self.window.begin(first)
            self.ask()

    def written(self, batch: Batch, now: Committed) -> None:
        """A batch is recorded; or all of it but the calls; or nothing but those, and some of its notes."""
        if now.appended and not batch.done.past:  # as most are: what `_recorded` would do, in less time
            self._bytes = now.account.bytes
            self.window.reaches(now.account.next_id)
            self.ledger.came_in(len(batch.puts), now.account.next_id)
            self.incoming.held(batch, now.first_put)
            self._pass_on(batch, now)
            batch.come()
            self.waking.let_go(batch)
        else:
            self._recorded(batch, now)
        self.ask()
        if self.sends or now.heard:
            self._changed(len(batch.puts) if now.noted and batch.only_puts() and not now.heard else 0)

    def _recorded(self, batch: Batch, now: Committed) -> None:
        records_refusals = (now.noted or now.first_refused is not None) and not batch.refusals_recorded
        if records_refusals:
            batch.refusals_recorded = True
            self.ledger.refusals_recorded(outcome for outcome, _ in batch.refused)
        # Before the account is heard, which may write there what this batch has settled, and forget the page.
        pages, of = self.ledger.pages, now.ids or ()
        duplicates = {place: (pages.of(of[place]), outcome) for place, outcome in now.duplicates.items()}
        self._learn(now)
        first_refused = now.first_put
        if not batch.done.past:
            ids = now.ids if now.ids is not None else range(now.first_put, now.first_put + len(batch.puts))
            self.incoming.end(batch, ids, now.puts_failed, duplicates)
            if now.puts_failed is None:
                first_refused += len(batch.puts)
                self._pass_on(batch, now)
        if records_refusals:
            first_refused = first_refused if now.first_refused is None else now.first_refused
            for call_id, (_, receipt) in enumerate(batch.refused, first_refused):
                receipt.held(call_id, self.ledger.pages.of(call_id))
        if now.noted:
            self.outgoing.recorded(batch)
            batch.come()
            self.waking.let_go(batch)
        else:
            batch.held()

    def _pass_on(self, batch: Batch, now: Committed) -> None:
        """Calls just put need not be read again, where nothing unread lies before them."""
        if self.sends and now.ids is None:
            tickets = [(put.receipt.id, put.now, put.kind, put.key, put.payload) for put in batch.puts]
            self.window.pass_on(now.first_put, tickets)

    def failed(self, batch: Batch, error: OutboxError) -> None:
        """A batch is not recorded; what must be written some time will be tried again."""
        if not batch.done.past:
            self.incoming.end(batch, (), error)
        batch.come()
        self.waking.let_go(batch)

    def tried(self, batch: Batch) -> None:
        """A batch could not be written: who waits for it may take his call back."""
        batch.come_again()

    def closed(self) -> None:
        """The thread has ended. Who still waits for it has waited in vain."""
        error = OutboxError(f"{self.place} was closed") if self.bug.met is None else self.bug.error()
        self.sends = False
        batches = self.queue.batches()
        try:
            for batch in batches:
                if not batch.is_empty():
                    self.failed(batch, error)
        finally:  # also where that meets a bug: nothing waits for a thread that is gone
            for batch in batches:
                if not batch.done.past:
                    batch.error = error
                batch.come()
            self.is_closed.come()
            self.send_log.close()
            self.is_open.come()

    def _hear(self, now: Committed) -> None:
        self._learn(now)
        self.ask()
        self._changed()

    def _learn(self, now: Committed) -> None:
        if not self._knows_account:
            self._knows_account = True
            self.ledger.start(now.account.next_id)
        self._bytes = now.account.bytes
        self.window.reaches(now.account.next_id)
        self.ledger.sync(now.account, now.oldest, (*now.heard, *now.settled), complete=now.complete)

    def _changed(self, calls: int = 0) -> None:
        if calls:  # have come in, and that is all
            self.opening.calls_came(calls)
        else:
            self.opening.changed()
        if self.when_room is not None:
            self.when_room()

    # ── a bug of this library ──

    def broke(self, bug: BaseException, *concerned: object) -> None:
        """The thread met a bug, or the loop did in what the thread reported: of these batches, perhaps.

        Nothing is sent or put any more. Where the thread is still there, it writes what it has, lets another process
        send, and ends; `closed` then notifies all who wait.
        """
        self.bug.meet(bug)
        self.sends = False
        self.abandon()
        for batch in concerned:
            if isinstance(batch, Batch):
                self.incoming.give_back(batch, self.bug.error())
        self.is_open.come()
        with suppress(Exception):  # who listens may be what is broken, and that has been said
            self._changed()
