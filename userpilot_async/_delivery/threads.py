"""Calls from other threads than the client's: handed in by any of them, taken by the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio.lowlevel

from .._calls.dedupe import DedupeKey
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload
from .._errors.tree import UserpilotError
from .._outbox.protocol import Outbox
from .._outbox.receipt import Receipt
from .._runtime.lifetime import weakly
from .._runtime.log import RateLimitedLog
from .._runtime.reentry import marked
from .._settings import DeliverySettings
from .admission import Admission
from .backpressure import Backpressure
from .dead_letters import DeadLetter
from .inbox import FULL, SLICE, Inbox, Shut
from .refusals import Refusals
from .sender import Sender


class ThreadCalls:
    """Hands calls of other threads to the inbox, and takes them out of it into the outbox, a slice at a time."""

    def __init__(
        self,
        settings: DeliverySettings,
        inbox: Inbox,
        outbox: Outbox,
        admission: Admission,
        sender: Sender,
        backpressure: Backpressure,
        refusals: Refusals,
        log: RateLimitedLog,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._outbox = outbox
        self._admission = admission
        self._sender = sender
        self._backpressure = backpressure
        self._refusals = refusals
        self._log = log
        self._now = now
        self.noted: Callable[[Kind, Key, Payload], object] | None = None
        """To be called with each call that is held: by what stands in for the server in a test."""

    def open(self) -> None:
        """Take calls from now on, for the loop in which this is called."""
        outbox, waiters, max_calls = self._outbox, self._backpressure.waiters, self._settings.max_queue_calls

        def has_room(size: int, calls: int, waiting: int) -> bool:
            return not waiters and calls + outbox.held_calls < max_calls and outbox.has_room(size + waiting)

        # Weakly: a client that was forgotten must be collected, even while another thread wakes its loop.
        self._inbox.open(
            self._admission.home,
            outbox.ledger.pages,
            has_room=has_room,
            take=weakly(self.take),
            dead_letter=self._refusals.dead_letter_of,
        )

    # ── in any thread ──

    def put(self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None = None) -> Receipt:
        """Hand in a call of a ``_nowait`` method; a full queue is met as the settings say. Raises as `refuse` does."""
        displaces = self._settings.when_full == "drop_oldest"
        try:
            receipt = self._inbox.put(kind, key, payload, size, self._now(), dedupe, displaces=displaces)
        except Shut:
            raise self._shut_out() from None
        if receipt is not None:
            if self.noted is not None and dedupe is None:
                self.noted(kind, key, payload)
            return receipt
        if self._settings.when_full == "raise":
            raise self._admission.full()
        return self.refuse(FULL, self._refusals.dead_letter_of(kind, key, payload, FULL))

    def put_if_held(
        self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None = None
    ) -> Receipt | None:
        """Hand in a call if it is held by that; ``None`` if there is something to wait for. Raises as `refuse` does."""
        if self._outbox.durable:
            return None
        try:
            receipt = self._inbox.put(kind, key, payload, size, self._now(), dedupe)
        except Shut:
            raise self._shut_out() from None
        if receipt is not None and self.noted is not None and dedupe is None:
            self.noted(kind, key, payload)
        return receipt

    def refuse(self, outcome: Outcome, dead_letter: DeadLetter) -> Receipt:
        """Have a call accounted for that is not held; raises `ClientClosed` and the like if that cannot be any more."""
        try:
            return self._inbox.refuse(outcome, dead_letter)
        except Shut:
            raise self._shut_out() from None

    def _shut_out(self) -> UserpilotError:
        """Say why the inbox is shut. If its loop has ended, this is the last chance to log what is left in it."""
        if self._admission.is_open and (left := len(self._inbox.calls)):
            self._take_rest(delivers=False)
            self._inbox.warn_lost(left)
            self._log.flush()
        return self._admission.refusal()

    # ── in the loop ──

    def take(self) -> None:
        """Take in a slice of what other threads have put."""
        for outcome, dead_letter, receipt in self._inbox.next_refused(SLICE):
            with marked(receipt is not None and receipt.from_on_dead):
                refused = self._refusals.refuse(outcome, dead_letter)
            if receipt is not None:
                receipt.follow(refused)
        for kind, key, payload, size, now, dedupe, receipt in self._inbox.next_calls(SLICE):
            try:
                with marked(receipt.from_on_dead):
                    receipt.follow(self._take_one(kind, key, payload, size, now, dedupe))
            except Exception as bug:  # of ours, or a store's: raised out of here it would end an application on trio
                message = f"a call from a thread was not held: {type(bug).__name__}"
                self._log.warn("inbox", message, level=logging.ERROR)
                lost = Outcome("dropped", "outbox")
                receipt.follow(self._outbox.refuse(lost))
                self._refusals.count_lost(lost)

    def _take_one(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, dedupe: DedupeKey | None
    ) -> Receipt:
        """Hold a call that another thread has put. In memory, room was kept for it, except among the oldest."""
        known = self._outbox.known_under(dedupe) if dedupe is not None else None
        if known is not None:
            return known
        if dedupe is not None and self.noted is not None:
            self.noted(kind, key, payload)
        displaces = self._settings.when_full == "drop_oldest"
        is_full = (displaces or self._outbox.durable) and not self._outbox.has_room(size)
        if is_full and not (displaces and self._backpressure.displace(size)):
            return self._refusals.no_room(kind, key, payload)
        if self._sender.asleep:
            self._sender.calls_came()
        return self._outbox.put(kind, key, payload, size, now, dedupe)

    def close(self, *, delivers: bool) -> None:
        """Refuse calls from now on, and put all that came before into the account: nothing is sent any more.

        ``delivers`` says whether dead letters are delivered still.
        """
        self._inbox.shut()
        self._take_rest(delivers=delivers)

    def _take_rest(self, *, delivers: bool) -> None:
        while self._inbox.waits:
            for outcome, dead_letter, receipt in self._inbox.next_refused(SLICE):
                refused = self._outbox.refuse(outcome)
                if receipt is not None:
                    receipt.follow(refused)
                if delivers:
                    self._refusals.report_lost(outcome, dead_letter)
                else:
                    self._refusals.count_lost(outcome)
            for kind, key, payload, size, now, dedupe, receipt in self._inbox.next_calls(SLICE):
                receipt.follow(self._outbox.put(kind, key, payload, size, now, dedupe))

    def take_last(self) -> None:
        """Take all there is: the sender ends, and the client was not closed; its loop may be about to end."""
        self._take_rest(delivers=False)
        self._inbox.be_wary()

    async def go_first(self) -> None:
        """Let other tasks run, and take in all that other threads have put before: a caller there may be the one here.

        Raises `ClientClosed` and the like if the client takes no calls then. The call is not accepted before: a caller
        cancelled here has not been accepted, and no third case is left.
        """
        coming = self._inbox.came
        while True:
            await anyio.lowlevel.checkpoint()
            if not self._admission.is_here:
                raise self._admission.refusal()
            if self._inbox.gone >= coming:
                return
            self.take()

    async def catch_up(self) -> None:
        """Take in all that other threads have put before this."""
        inbox, coming, refused = self._inbox, self._inbox.came, self._inbox.refused_came
        while inbox.gone < coming or inbox.refused_gone < refused:
            self.take()
            if inbox.gone < coming or inbox.refused_gone < refused:
                await anyio.lowlevel.checkpoint()
