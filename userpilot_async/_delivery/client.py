"""DeliveryClient, of which the client of each destination is made: it accepts calls, holds them, and is closed."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from .._account.statistics import Report, Statistics
from .._calls.dedupe import DedupeKey
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload
from .._errors.foreign import must_be
from .._errors.tree import ClientClosed, ConfigurationError, InvalidCall, OutboxError, UserpilotError
from .._outbox.memory import DisabledOutbox
from .._outbox.protocol import Opening, Outbox
from .._outbox.receipt import Receipt
from .._outbox.url import AnyPlace, outbox_at
from .._runtime import clocks
from .._runtime.disabled import SwitchedOff
from .._runtime.event_loop import HomeLoop, clock_here
from .._runtime.lifetime import Lifetime, Startable, weakly
from .._runtime.log import RateLimitedLog
from .._runtime.reentry import in_on_dead
from .._runtime.stand_in import Watch
from .._schedule.calendar import Calendar
from .._schedule.destination import Destination
from .._settings import DeliverySettings
from .admission import Admission, DeliveryState
from .backpressure import Backpressure
from .dead_letters import DeadLetters, OnDead, lost_call
from .handover import schedules
from .holding import Holding
from .inbox import Inbox
from .processes import watch
from .refusals import Refusals
from .sender import Sender
from .shutdown import Shutdown
from .snapshots import Snapshots
from .threads import ThreadCalls
from .watched import show_to

if TYPE_CHECKING:
    from .connection import Connection
else:  # so that `typing.get_type_hints` finds the name, and httpx need not be loaded for it
    Connection = Any

Self = TypeVar("Self", bound="DeliveryClient")

Checked = tuple[Kind, Key, Payload, int]
"""A call that has been checked: its kind, the key of its queue, what it says, and how many bytes that takes."""

PAUSE_EVERY = 200  # calls: a tight loop of track() lets the sender work this often; fewer than `handover.TAKE`
NO_THREAD = -1  # no thread has this id: calls are refused


class DeliveryClient(Startable):
    """Accepts checked calls, and has them delivered. A client of a destination adds the methods that check a call.

    Such a method ends in ``self._accept(*checked) or await self._take(*checked)``.
    """

    def __init__(
        self,
        destination: Destination,
        connection: Connection,
        settings: DeliverySettings,
        outbox: AnyPlace | None,
        on_dead: OnDead | None,
        switch: SwitchedOff | None = None,
    ) -> None:
        if on_dead is not None and not callable(on_dead):
            raise ConfigurationError(f"on_dead {must_be('callable', on_dead)}")
        self.settings = settings
        self._destination = destination
        self._connection = connection
        self._outbox: Outbox = outbox_at(outbox) if switch is None else DisabledOutbox(switch)
        self._on_dead = on_dead
        self._watch: Watch | None = None
        self._inbox = Inbox(type(self).__name__, settings.max_queue_calls, settings.max_queue_bytes)
        self._admission = Admission(type(self).__name__, self._outbox, self._inbox)
        self._random = random.Random()
        self._now: Callable[[], float] = lambda: 0.0
        self._opened = False
        # What each call asks for: `_thread` takes them, or none does; the inbox's deque is the same object for good.
        self._thread = NO_THREAD
        self._calls = 0
        self._coming = self._inbox.calls
        watch(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._connection.base_url}, {self._state.name.lower()}>"

    def __del__(self) -> None:
        if getattr(self, "_opened", False):
            self._give_up_if_open()

    @property
    def _state(self) -> DeliveryState:
        return self._admission.state

    def _enter(self, state: DeliveryState) -> None:
        self._admission.state = state
        self._thread = get_ident() if state is DeliveryState.OPEN else NO_THREAD

    # ── opening ──

    def __asynccontextmanager__(self: Self) -> Lifetime[Self]:
        if self._state is not DeliveryState.NEW:
            raise ClientClosed(f"a client is opened once; this one {self._state.value}")
        return Lifetime(self, self._open, self._leave, weakly(self._lose_tasks))

    async def _open(self, tasks: TaskGroup) -> None:
        stand_in = self._connection.meet_stand_in()
        now = self._now = clock_here() if stand_in is None else self._connection.time.now
        self._log = RateLimitedLog(now)
        calendar = Calendar(clocks.read, now())
        keys, settings = self._connection.keys, self.settings
        opening = Opening(
            max_calls=settings.max_queue_calls, max_bytes=settings.max_queue_bytes, now=now, calendar=calendar,
            destination=f"{self._destination.name} at {self._connection.base_url}", tasks=tasks,
            fingerprint=keys.fingerprint, old_fingerprint=keys.old_fingerprint, changed=weakly(self._outbox_changed),
            calls_came=weakly(self._calls_came), failed=weakly(self._outbox_failed),
            learn_pairs=self._destination.learn_pairs, call_of=self._destination.call_of,
        )  # fmt: skip
        await self._outbox.open(opening)
        if self._state is not DeliveryState.NEW:  # closed while the outbox was being opened
            await self._outbox.aclose()
            raise self._refusal()
        self._connect(tasks)
        self._admission.home = self._outbox.ledger.pages.home = HomeLoop.here()
        self._outbox.ledger.pages.released = False
        self._watch = None if stand_in is None else stand_in.watch(self)
        self._assemble(tasks, calendar)
        self._enter(DeliveryState.OPEN)
        self._threads.open()
        self._opened = True
        self._sender.start()

    def _assemble(self, tasks: TaskGroup, calendar: Calendar) -> None:
        """Make the parts of an open client. None knows the client, so that one that is forgotten is collected."""
        settings, destination, outbox = self.settings, self._destination, self._outbox
        admission, log, now = self._admission, self._log, self._now
        on_dead = self._on_dead if self._watch is None else self._watch.on_dead(self._on_dead)
        letters = self._dead_letters = DeadLetters(on_dead, log)
        new = schedules(settings, destination, self._random.random, calendar, self._connection.base_url)
        sender = self._sender = Sender(
            outbox, lambda: new(now()), destination, self._connection, letters, log, now, tasks, type(self).__name__
        )
        refusals = Refusals(settings, destination, outbox, admission, sender, letters, log)
        backpressure = Backpressure(settings, outbox, admission, sender)
        self._waiters = backpressure.waiters  # for each call
        self._threads = ThreadCalls(settings, self._inbox, outbox, admission, sender, backpressure, refusals, log, now)
        self._shutdown = Shutdown(settings, outbox, admission, sender, self._threads, letters, log, now, tasks)
        self._snapshots = Snapshots(outbox, self._inbox, admission, self._connection, sender, letters, now)
        sender.before_end = weakly(self._threads.take_last)
        sender.gave_up = weakly(self._release_waiters)
        if self._watch is not None:
            outbox = self._outbox = show_to(self._watch, outbox, self._threads, sender, self._connection.time)
        # Has what the client does not ask for with each call: fewer than 30 attributes are found faster (CPython 3.11).
        self._holding = Holding(
            settings, outbox, admission, sender, backpressure, refusals, self._threads, self._coming, now
        )

    def _connect(self, tasks: TaskGroup) -> None:
        self._connection.open()

    async def _disconnect(self) -> None:
        await self._connection.aclose()

    def _lose_connection(self) -> None:
        """Let go of what cannot be used any more: the tasks have ended in which requests were made."""

    def _outbox_changed(self) -> None:
        if self._opened:
            self._sender.outbox_changed()

    def _calls_came(self, calls: int) -> None:
        if self._opened and self._sender.running:
            self._sender.calls_came(calls)

    def _outbox_failed(self, kind: Kind, key: Key, payload: Payload, error: OutboxError) -> None:
        self._holding.refusals.outbox_failed(kind, key, payload, error)

    # ── holding ──

    async def _hand_in(self, dedupe: str | None, check: Callable[..., Checked | Receipt], *arguments: Any) -> Receipt:
        """Check a call of an awaited method, and hold it. `track` does so itself, for one coroutine less.

        ``check`` takes ``dedupe`` as its last argument, too, and refuses one that is none.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        checked = check(*arguments) if dedupe is None else check(*arguments, dedupe)
        if isinstance(checked, Receipt):
            return checked
        if dedupe is None:
            return self._accept(*checked) or await self._take(*checked)
        return await self._hold_in_turn(checked, dedupe)

    def _hand_in_nowait(self, dedupe: str | None, check: Callable[..., Checked | Receipt], *arguments: Any) -> Receipt:
        """Check a call of a ``_nowait`` method here, in whatever thread this is, and hold it or hand it over."""
        here = get_ident() == self._thread
        if not here and not self._admission.is_open:
            raise self._refusal()
        checked = check(*arguments) if dedupe is None else check(*arguments, dedupe)
        if isinstance(checked, Receipt):
            return checked
        put = self._holding.put_nowait if here else self._threads.put
        return put(*checked, self._key_of(dedupe))

    async def _hold_in_turn(self, checked: Checked, dedupe: str | None) -> Receipt:
        """Hold a call that has been checked, as an awaited method does."""
        if dedupe is None:
            return self._accept(*checked) or await self._take(*checked)
        self._calls += 1
        return await self._take(*checked, self._key_of(dedupe))

    def _key_of(self, dedupe: str | None) -> DedupeKey | None:
        return None if dedupe is None else DedupeKey.of(dedupe, self.settings.dedupe_for)

    def _accept(self, kind: Kind, key: Key, payload: Payload, size: int) -> Receipt | None:
        """Hold a call at once, if nothing stands in the way: no pause that is due, and no full queue."""
        self._calls += 1
        outbox, pauses = self._outbox, not self._calls % PAUSE_EVERY
        if pauses or outbox.durable or self._waiters or self._coming or not outbox.has_room(size):
            return None
        if self._sender.asleep:  # `Holding.put`, without the call: a fortieth of what track() costs
            self._wake()
        return outbox.put(kind, key, payload, size, self._now())

    def _take(
        self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None = None
    ) -> Awaitable[Receipt]:
        """Hold a call that `_accept` did not."""
        return self._holding.hold(kind, key, payload, size, dedupe, goes_first=not self._calls % PAUSE_EVERY)

    def _wake(self) -> None:
        """Wake the sender. It sleeps for ever where its loop has ended, so that is when to ask for the loop."""
        if not self._admission.home.runs_here():
            raise self._refusal()
        self._sender.calls_came()

    def _invalid(self, error: InvalidCall, arguments: Mapping[str, Any]) -> Receipt:
        """Do with an invalid call what the settings say: raise ``error``, or hand its ``arguments`` to `on_dead`."""
        if self.settings.on_invalid == "raise":
            if self._watch is not None:
                self._watch.invalid(error, arguments)
            raise error
        outcome = Outcome("dead", "invalid")
        lost = lost_call(self._destination, outcome, error=error, arguments=arguments)
        if get_ident() != self._thread:
            return self._threads.refuse(outcome, lambda: lost)
        return self._holding.refusals.refuse(outcome, lambda: lost, lambda: str(error))

    def _refusal(self) -> UserpilotError:
        """Make the error for a call that the client does not take now, or not here."""
        return self._admission.refusal()

    # ── waiting and leaving ──

    async def flush(self, timeout: float | None = None) -> Report:
        """Wait until everything accepted before this has an outcome, or ``timeout`` seconds are over.

        Meanwhile identifies do not linger for others to merge with. The report says what is left. Raises
        `ClientNotOpen`, `ClientClosed`, and `WrongLoop` in another event loop.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        mark: int | None = None
        started, coming = self._now(), self._inbox.came
        with self._shutdown.expediting(), anyio.move_on_after(timeout):
            await self._threads.catch_up()
            await self._outbox.recorded()
            mark = self._outbox.ledger.next_id
            await self._shutdown.wait_settled(mark)
        return self._snapshots.report(started, mark, max(0, coming - self._inbox.gone))

    async def aclose(self, timeout: float | None = None) -> Report:
        """Refuse new calls, drain for up to ``timeout`` seconds (``None``: for `Settings.close_timeout`), stop.

        Ends what `start` began, in whatever task. Returns within the timeout and a second, whatever the server does,
        and earlier if nothing could be sent before its end. What was not delivered waits on in a durable outbox. In
        any other it is dropped with reason ``closed``, except rows in a background job of the server's, which goes on
        without us. May be called again, also by several tasks at once, and goes on where a cancelled call of it
        stopped.

        With ``Settings(close_timeout=None)`` and no ``timeout`` it returns when all is sent and `on_dead` has all its
        letters, and says every ten seconds how much is left.
        """
        elsewhere = self._admission.is_open and not self._admission.is_here
        if elsewhere or self._state is DeliveryState.FORKED:
            raise self._refusal()
        self._enter(DeliveryState.CLOSED)
        self._inbox.shut()
        if not self._opened:
            return Report(complete=True, elapsed=0.0, remaining=0, jobs=(), statistics=self.statistics())
        began = self._now()
        self._holding.backpressure.close()
        if not (self._shutdown.ended and in_on_dead.get()):  # the close waits for that
            await self._shutdown.close(timeout)
            await self._end_start()
        return self._snapshots.report(began)

    async def _leave(self) -> None:
        """Drain. No scope cuts that short; a native cancellation (a second Ctrl-C) does, and is accounted for."""
        if self._state is DeliveryState.FORKED:
            return
        try:
            await self.aclose()
        finally:
            await self._shutdown.finish()
            await self._disconnect()
        if self._sender.bug is not None:
            raise self._sender.bug

    def _lose_tasks(self) -> None:
        """Send nothing any more, and let others: the client's tasks have ended, and it was not closed."""
        if self._admission.is_open:
            self._enter(DeliveryState.LOST)
            self._give_up()
            self._sender.lose_tasks()
            self._lose_connection()
            if self._admission.home.runs_here():  # else it has ended, and with it those who waited there
                self._release_waiters()
        elif self._opened and not self._shutdown.ended:  # while it is being closed: that has nothing to wait for now
            self._sender.lose_tasks()

    def _release_waiters(self) -> None:
        """Let callers wait no longer, for room or for outcomes: nothing is sent any more."""
        self._holding.backpressure.close()
        self._outbox.ledger.pages.release()

    def _give_up_if_open(self) -> None:
        """Give up, if the client is open in this process: it is forgotten, or the interpreter ends."""
        if self._opened and not self._shutdown.ended and self._admission.home.pid == os.getpid():
            self._give_up()

    def _give_up(self) -> None:
        """Count what other threads have put, log what will not be sent from here, and let another process send."""
        self._threads.close(delivers=False)
        self._sender.warn_unsent()
        self._outbox.abandon()

    def _forked(self) -> None:
        """Send nothing in this child of a process that has forked, which has the parent's calls, and say so when asked.

        Its chance must be its own: workers of one parent would all try again at the same moments.
        """
        self._random.seed()
        if self._admission.is_open:
            # Another thread's loop has not come along.
            loop = self._admission.home.loop if self._thread == get_ident() else None
            self._enter(DeliveryState.FORKED)
            self._sender.end_in_child(loop)

    # ── numbers ──

    @property
    def rate_limits(self) -> Mapping[str, int | None]:
        """Requests a minute that may be made, by budget; ``None`` for no limit."""
        return self._destination.budgets

    def statistics(self) -> Statistics:
        """A frozen snapshot, in which ``accepted == delivered + dead + dropped + merged + pending``; in any thread."""
        if not self._opened:
            return Statistics.of(self._outbox.ledger, self._outbox.waiting_bytes)
        if self._admission.is_open and get_ident() != self._thread:
            return self._snapshots.from_another_thread()
        return self._snapshots.here()
