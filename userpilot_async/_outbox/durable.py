"""An outbox whose calls outlive their client: what the client and its sender ask of it.

Whatever touches the place where they wait happens in a thread of its own, so that the loop never waits for a disk or a
network, and no cancellation breaks anything off in the middle. The loop collects what is to be written (`Batch`),
the thread takes all of it at once, and reports to the loop (`Session`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import anyio

from .._account.shared_ledger import SharedLedger
from .._calls.dedupe import DedupeKey
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload, Ticket
from .._errors.tree import ConfigurationError, OutboxError
from .._runtime.event_loop import behind_here, soon_here
from .._runtime.log import RateLimitedLog
from .._schedule.settlement import Settlement
from .admin import OutboxAdmin
from .batch import Batch, Put
from .owner import Claim
from .protocol import Opening
from .receipt import Receipt
from .send_log import DurableSendLog
from .session import Session
from .store import Store
from .writer import StoreWorker, WriterThread


class DurableOutbox:
    """All that durable outboxes share. A kind of outbox says where it is (``place``), and which `Store` it has.

    All who have the same one open share one sender: the holder of the lease. What others do is heard by polling.
    """

    durable = True
    held_calls = 0
    most_at_once: float = math.inf
    """Bytes of calls that are written together."""
    place = ""

    def __init__(self, *, sender: bool, max_bytes: int, rebind: bool = False) -> None:
        if type(max_bytes) is not int or max_bytes < 1:
            raise ConfigurationError("max_bytes must be an int, 1 or more")
        self._may_send = sender
        self._max_bytes = max_bytes
        self._rebind = rebind
        self._in_use = False
        self._writer: WriterThread | None = None
        self._worker: StoreWorker | None = None
        self._log = RateLimitedLog(time.monotonic)
        self._session = self._new_session()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.place}>"

    # ── what a kind of outbox says ──

    def _new_session(self) -> Session:
        """A session for one opening, not begun yet."""
        return Session(self.place, self.most_at_once)

    def _new_store(self) -> Store:
        """The place, not open yet, for the session that has just begun."""
        raise NotImplementedError

    def _new_writer(self, worker: StoreWorker, failed: Callable[[BaseException], object]) -> WriterThread:
        """The thread for this worker, not started yet."""
        return WriterThread(worker, failed)

    def admin(self) -> OutboxAdmin:
        """The place from outside, for people, whether this is open or not."""
        raise NotImplementedError

    def _pause(self, seconds: float) -> bool:
        """Wait, in the writer's thread; true if there is no more waiting."""
        return self._writer is None or self._writer.pause(seconds)

    def _warn(self, message: str, lost: int = 0) -> None:
        """Log a warning, once in a while; of calls that are ``lost``, ``message`` says why, and they are counted."""
        if lost:
            self._log.lost("damaged", lost, why=lambda: message)
        else:
            self._log.warn(message, message)

    # ── opening and closing ──

    async def open(self, opening: Opening) -> None:
        """Start the thread, and wait until it is open. Raises `ValueError` if it is in use, and `OutboxError`.

        A bug of this library is an `OutboxError` here, too, with the bug as its cause.
        """
        if self._in_use:
            raise ValueError(f"this {type(self).__name__} is in use by another client: give each client one of its own")
        while self._writer is not None and self._writer.runs:  # noqa: ASYNC110  # its loop may be another one, and gone
            await anyio.sleep(0.01)
        before, self._session = self._session, self._new_session()
        before.is_over = True
        session, self._in_use = self._session, True
        session.when_room = before.when_room
        session.begin(opening, soon_here(), behind_here())
        try:
            try:
                self._start(session)
            except (RuntimeError, OSError, MemoryError) as error:
                raise OutboxError(f"{self.place}: no thread can be started ({type(error).__name__})") from error
            await session.is_open.wait()
            if session.refusal is not None or session.bug.met is not None:
                await session.is_closed.wait()
                raise session.refusal or session.bug.error()
            opening.tasks.start_soon(session.incoming.watch)
        except BaseException:
            self._in_use = False
            self.abandon()
            raise

    def _start(self, session: Session) -> None:
        """Have a thread work with the store of this kind of outbox."""
        opening, self._log = session.opening, RateLimitedLog(time.monotonic)
        claim = Claim(opening.destination, opening.fingerprint, opening.old_fingerprint, self._rebind)
        self._worker = StoreWorker(self._new_store(), claim, session.queue, session, session.notify, self._log)
        self._writer = self._new_writer(self._worker, lambda bug: session.notify(session.broke, bug))
        session.writer = self._writer
        self._writer.start()

    async def aclose(self) -> None:
        """Write what is left, let another process send, end the thread.

        Cancelled, it goes on in the thread, and nothing waits for it.
        """
        if not self._in_use:
            return
        self._session.sends = False
        if self._writer is not None:
            self._writer.stop()
        try:
            await self._session.is_closed.wait()
        finally:
            self.abandon()
            self._in_use = False

    def abandon(self) -> None:
        """End without a close, from any thread: another process must be able to send."""
        self._session.abandon()

    # ── what there is ──

    @property
    def ledger(self) -> SharedLedger:
        """The account of the outbox, as far as this process knows."""
        return self._session.ledger

    @property
    def sends(self) -> bool:
        """True while this process has the lease, and takes calls from here."""
        return self._session.sends

    @property
    def send_log(self) -> DurableSendLog:
        """The sender's notes of this opening."""
        return self._session.send_log

    @property
    def only_puts(self) -> bool:
        """True if this process is not to send."""
        return not self._may_send

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the calls that are held, as far as this process knows, and of those on their way in, or out."""
        return self._session.waiting_bytes

    @property
    def unheld(self) -> int:
        """Calls on their way in, which the account does not have."""
        return self._session.incoming.calls

    @property
    def stirs(self) -> bool:
        """Calls are being written, or read."""
        return self._session.stirs

    @property
    def bug(self) -> BaseException | None:
        """The bug of this library that has ended the sending here, to be raised where the client is left."""
        return self._session.bug.met

    @property
    def when_room(self) -> Callable[[], object] | None:
        """To be called when calls have left, or come in."""
        return self._session.when_room

    @when_room.setter
    def when_room(self, notify: Callable[[], object] | None) -> None:
        self._session.when_room = notify

    # ── calls ──

    def has_room(self, size: int) -> bool:
        """A call of so many bytes may be put; one that is larger than the whole limit, into an empty outbox.

        What cannot be written yet waits in memory, which has the client's own limit. After a bug no call need wait for
        room: no call is held any more.
        """
        session = self._session
        if session.bug.met is not None:
            return True
        coming = session.incoming.bytes
        if coming + size > session.opening.max_bytes and coming:
            return False
        return session.waiting_bytes + size <= self._max_bytes or not session.waiting_bytes

    def put(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, dedupe: DedupeKey | None = None
    ) -> Receipt:
        """Hold a call as soon as can be. After a bug it is dropped, and accounted for."""
        session = self._session
        if session.bug.met is not None:
            put = Put(kind, key, payload, size, now, now, Receipt(session.ledger.pages), awaited=False)
            session.incoming.refuse(put, session.bug.error())
            return put.receipt
        return session.incoming.put(kind, key, payload, size, now, False, dedupe)[0].receipt

    async def hold(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, max_wait: float | None = None,
        dedupe: DedupeKey | None = None,
    ) -> Receipt | None:  # fmt: skip
        """Hold a call: it is when this returns. Raises `OutboxError`; ``None``, and cancelled: see `Incoming.hold`."""
        session = self._session
        if session.bug.met is not None:
            raise session.bug.error()
        put, batch = session.incoming.put(kind, key, payload, size, now, True, dedupe)
        return await session.incoming.hold(put, batch, max_wait, self._may_leave)

    def known_under(self, dedupe: DedupeKey) -> Receipt | None:
        """Say nothing: only the place itself knows which keys were accepted."""
        return None

    def _may_leave(self, put: Put, waited: bool) -> bool:
        """The place is away, or it takes too long: need the caller not wait for it?"""
        return False

    def drop_pending(self, outcome: Outcome) -> int:
        """Drop nothing: what waits here outlives the client."""
        return 0

    def refuse(self, outcome: Outcome) -> Receipt:
        """Account for a call that found no room: accepted, and gone at once."""
        session = self._session
        receipt = Receipt(session.ledger.pages)
        receipt.failed(outcome)  # known at once; the number follows
        session.ledger.refused(outcome)
        if session.bug.met is None:  # or it would never be written
            session.queue.note(lambda batch: batch.refused.append((outcome, receipt)))
            session.wake()
        return receipt

    async def recorded(self) -> None:
        """Wait until all that was done before this is recorded, or has failed."""
        if self._session.is_closed.past:  # the thread has ended: nothing is recorded any more
            return
        for batch in self._session.queue.batches():
            if not batch.is_empty() and self._is_worth_waiting_for(batch):
                await batch.noted.wait()

    def _is_worth_waiting_for(self, batch: Batch) -> bool:
        """The batch holds what is not known otherwise."""
        return True

    # ── the sender ──

    def take(self, limit: int) -> Sequence[Ticket]:
        """The next calls, in order, that were not taken yet; none while the sender holds as many as it may."""
        session = self._session
        session.bug.raise_met()
        if not session.sends:
            return ()
        tickets = session.window.take(limit)
        session.ask()
        return tickets

    def merged(self, ids: Sequence[int], freed: int) -> None:
        """Note that calls went into later ones. They stay in the outbox: a crash would leave nothing else of them."""
        self._session.ledger.merge(ids)
        self._session.window.merged(ids)

    def submitted(self, ids: Sequence[int], submitted: bool, size: int) -> None:
        """A background job of the server holds these calls, or holds them no more: while one does, others may come."""
        self._session.ledger.submit(ids, submitted)
        self._session.window.filed(ids, submitted)
        self._session.ask()

    def settle(self, settlement: Settlement) -> None:
        """Note what became of calls, and of those merged into them: in the account as soon as it is recorded."""
        self._session.settle(settlement)
