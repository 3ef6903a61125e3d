"""The door that every client has: it counts and holds calls, sees them sent, waits for them, and leaves."""

from __future__ import annotations

import atexit
import logging
import math
import os
import random
import time
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._account.losses import NOTHING_LEFT, Close, close_line
from .._account.statistics import Report, Statistics
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload
from .._errors.foreign import must_be
from .._errors.tree import (
    ClientClosed,
    ClientNotOpen,
    ConfigurationError,
    InvalidCall,
    OutboxError,
    QueueFull,
    UserpilotError,
    WrongLoop,
)
from .._outbox.protocol import DisabledOutbox, Opening, Outbox
from .._outbox.receipt import Receipt
from .._outbox.url import AnyPlace, outbox_at
from .._runtime import clocks
from .._runtime.disabled import SwitchedOff
from .._runtime.event_loop import HomeLoop, clock_here, loop_here
from .._runtime.lifetime import Lifetime, Startable, weakly
from .._runtime.log import RateLimitedLog, Words
from .._runtime.reentry import in_on_dead, marked
from .._schedule.calendar import Calendar
from .._schedule.destination import Destination, LostCall
from .._schedule.schedule import Schedule
from .._settings import DeliverySettings
from .backpressure import Backpressure
from .dead_letters import DeadLetters, OnDead
from .inbox import FULL, SLICE, Inbox, Shut
from .reporting import CLOSING
from .sender import Sender

if TYPE_CHECKING:
    from .connection import Connection
else:  # so that `typing.get_type_hints` finds the name, and httpx need not be loaded for it
    Connection = Any

Self = TypeVar("Self", bound="DeliveryClient")

Checked = tuple[Kind, Key, Payload, int]
"""A call that has been checked: its kind, whose it is, what it says, and how many bytes it takes."""

PAUSE_EVERY = 200  # calls: a tight loop of track() lets the sender work this often; fewer than `_sender.TAKE`
LAST_REQUESTS = 0.3  # seconds beyond the timeout of a close, to stop what is in flight
LANDING = 1.0  # seconds at the end of a close in which requests may end, and none begins
LAST_LETTERS = 0.4  # for letters about what was dropped
LAST_RECORDS = 0.15  # and to record what was delivered; all together are less than the second promised
NO_THREAD = -1  # no thread has this id: calls are refused
SNAPSHOTS = 1_000  # tries of another thread to see the account balanced: the loop is never long between two numbers
LOOK = 0.05  # seconds between two looks of a close whether anything can still happen before its end


class DeliveryState(Enum):
    """Whether calls come in; the words stand in messages."""

    NEW = (
        "is not open yet: open it with `async with`, or `await client.start()`; without a loop, `with blocking(client)`"
    )
    OPEN = "is open"
    CLOSED = "is closed"
    LOST = "has lost its tasks: its loop was shut down, or they were cancelled"
    FORKED = (
        "was open in the parent process: open one of its own in this one, after the fork, e.g. in gunicorn's post_fork "
        "or Celery's worker_process_init"
    )


class DeliveryClient(Startable):
    """What clients share. A client of a destination adds the methods that check a call and hand it to `_accept`."""

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
        self._door = DeliveryState.NEW
        self.settings = settings
        self._destination = destination
        self._connection = connection
        self._outbox: Outbox = outbox_at(outbox) if switch is None else DisabledOutbox(switch)
        self._on_dead = on_dead
        self._random = random.Random()
        self._pid = os.getpid()
        self._thread = NO_THREAD
        self._loop: object = None
        self._now: Callable[[], float] = _no_time
        self._calls = 0
        self._room = Backpressure(self._outbox, settings.max_wait)
        self._inbox = Inbox(type(self).__name__, settings.max_queue_calls, settings.max_queue_bytes)
        # The same objects for good; `_accept` has one attribute less to ask for.
        self._waiters, self._coming = self._room.waiters, self._inbox.calls
        self._opened = self._ended = self._is_left = self._tasks_lost = False
        self._closing: anyio.Event | None = None
        self._closing_words: Words | None = None
        self._limit, self._leaving_since, self._ran_out, self._silent = "", 0.0, False, False
        _doors.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._connection.base_url}, {self._door.name.lower()}>"

    def __del__(self) -> None:
        if getattr(self, "_opened", False):
            self._give_up_if_open()

    def _give_up_if_open(self) -> None:
        """The client is forgotten, or the interpreter ends, and it was opened here and has not been closed."""
        if self._opened and not self._ended and self._pid == os.getpid():
            self._give_up()

    def _give_up(self) -> None:
        """Count what other threads have put, say what will not be sent from here, and let another process send."""
        self._inbox.shut()
        self._take_rest()
        self._sender.warn_unsent()
        self._outbox.abandon()

    def __asynccontextmanager__(self: Self) -> Lifetime[Self]:
        if self._door is not DeliveryState.NEW:
            raise ClientClosed(f"a client is opened once; this one {self._door.value}")
        return Lifetime(self, self._open, self._leave, weakly(self._lose_tasks))

    async def _leave(self) -> None:
        """Drain. No scope cuts that short; a native cancellation (a second Ctrl-C) does, and is accounted for."""
        if self._door is DeliveryState.FORKED:
            return
        try:
            await self.aclose()
        finally:
            if not self._ended:
                self._end()
            with anyio.move_on_after(LAST_RECORDS):
                await self._outbox.aclose()
            self._notices.close(self._closing_words)
            await self._disconnect()
        if self._sender.bug is not None:
            raise self._sender.bug

    def _lose_tasks(self) -> None:
        """The client's tasks have ended, and it was not closed: nothing is sent any more, and others may send."""
        if self._door is DeliveryState.OPEN:
            self._door, self._thread, self._tasks_lost = DeliveryState.LOST, NO_THREAD, True
            self._give_up()
            self._sender.end()
            self._lose_connection()
            if loop_here() is self._loop:  # else it has ended, and with it who waited there
                self._release_waiters()
        elif self._opened and not self._ended:  # while it is being closed: that has nothing to wait for any more
            self._tasks_lost = True
            self._sender.end()

    def _release_waiters(self) -> None:
        """Nothing is sent any more: nobody need wait for room, or for what becomes of a call."""
        self._room.close()
        self._outbox.ledger.release()

    def _lose_connection(self) -> None:
        """The tasks have ended in which requests were made."""

    def _connect(self, tasks: TaskGroup) -> None:
        self._connection.open()

    async def _disconnect(self) -> None:
        await self._connection.aclose()

    async def _open(self, tasks: TaskGroup) -> None:
        self._now, self._pid = clock_here(), os.getpid()
        now = self._now
        self._notices = RateLimitedLog(now)
        self._letters = DeadLetters(self._on_dead, self._notices)
        calendar = Calendar(clocks.read, now())
        await self._outbox.open(
            Opening(
                max_calls=self.settings.max_queue_calls,
                max_bytes=self.settings.max_queue_bytes,
                destination=f"{self._destination.name} at {self._connection.base_url}",
                fingerprint=self._connection.keys.fingerprint,
                old_fingerprint=self._connection.keys.old_fingerprint,
                now=now,
                calendar=calendar,
                tasks=tasks,
                changed=weakly(self._outbox_changed),
                failed=weakly(self._not_held),
            )
        )
        if self._door is not DeliveryState.NEW:  # closed while the outbox was being opened
            await self._outbox.aclose()
            raise self._refusal()
        self._connect(tasks)
        self._tasks = tasks
        name = f"{self._destination.name}-async-{uuid4().hex[:12]}"
        # Not by a method: what the sender holds on to must not keep a client that was forgotten.
        new_schedule = partial(
            _new_schedule, self.settings, self._destination, now, calendar, self._random.random, name,
            self._connection.base_url,
        )  # fmt: skip
        self._sender = Sender(
            self._outbox, new_schedule, self._destination, self._connection, self._letters, self._notices, now, tasks,
            owner=type(self).__name__,
        )  # fmt: skip
        self._door, self._thread, self._loop = DeliveryState.OPEN, get_ident(), loop_here()
        self._open_inbox()
        self._opened = True
        self._sender.start()

    def _open_inbox(self) -> None:
        outbox, waiters, max_calls = self._outbox, self._waiters, self.settings.max_queue_calls
        self._home = HomeLoop.here()
        outbox.ledger.home, outbox.ledger.released = self._home, False

        def has_room(size: int, calls: int, waiting: int) -> bool:
            return not waiters and calls + outbox.held_calls < max_calls and outbox.has_room(size + waiting)

        self._letter_of = partial(_letter, self._destination, self._on_dead is not None)
        # Weakly: a client that was forgotten must be collected, whoever is about to wake its loop.
        self._inbox.open(
            self._home, outbox.ledger, has_room=has_room, take=weakly(self._take_from_threads), letter=self._letter_of
        )
        self._sender.before_end = weakly(self._take_last)
        self._sender.gave_up = weakly(self._release_waiters)

    @property
    def _schedule(self) -> Schedule:
        return self._sender.schedule

    def _outbox_changed(self) -> None:
        if self._opened:
            self._sender.look_again()

    # ── holding ──

    def _accept(self, kind: Kind, key: Key, said: Payload, size: int) -> Receipt | None:
        """Hold a call at once, if nothing stands in the way: no pause that is due, and no full queue.

        A method says ``self._accept(*checked) or await self._take(*checked)``: nearly always one coroutine less.
        """
        self._calls += 1
        outbox = self._outbox
        if (
            not self._calls % PAUSE_EVERY
            or outbox.durable
            or self._waiters
            or self._coming
            or not outbox.has_room(size)
        ):
            return None
        if self._sender.asleep:  # `_put`, without the call: a fortieth of what track() costs
            self._rouse()
        return outbox.put(kind, key, said, size, self._now())

    async def _take(self, kind: Kind, key: Key, said: Payload, size: int) -> Receipt:
        """Hold a call that `_accept` did not."""
        if self._coming or not self._calls % PAUSE_EVERY:
            await self._pause()
        if self._room.waiters or not self._outbox.has_room(size):
            return await self._squeeze(kind, key, said, size)
        return await self._hold(kind, key, said, size)

    async def _hold(self, kind: Kind, key: Key, said: Payload, size: int) -> Receipt:
        """Hold a call that there is room for; a durable outbox that does not answer is met like a full one."""
        if not self._outbox.durable:
            return self._put(kind, key, said, size)
        if loop_here() is not self._loop:
            raise self._refusal()
        receipt = await self._outbox.hold(kind, key, said, size, self._now(), self.settings.max_wait)
        if receipt is not None:
            return receipt
        if self.settings.when_full == "raise":
            raise QueueFull(f"{self._outbox.place} did not take the call within {self.settings.max_wait} s")
        return self._no_room(kind, key, said, "outbox")

    async def _pause(self) -> None:
        """Before the call is accepted: a caller cancelled here has not been accepted, and no third case is left.

        What other threads have put before goes in first: this may be the next call of somebody who put one there.
        """
        coming = self._inbox.came
        while True:
            await anyio.lowlevel.checkpoint()
            if get_ident() != self._thread or loop_here() is not self._loop:
                raise self._refusal()
            if self._inbox.gone >= coming:
                return
            self._take_from_threads()

    def _put(self, kind: Kind, key: Key, said: Payload, size: int) -> Receipt:
        if self._sender.asleep:
            self._rouse()
        return self._outbox.put(kind, key, said, size, self._now())

    def _put_nowait(self, kind: Kind, key: Key, said: Payload, size: int) -> Receipt:
        if self._coming or (self._sender.asleep and loop_here() is not self._loop):
            return self._post(kind, key, said, size)  # behind what other threads have put before
        if (self._room.waiters or not self._outbox.has_room(size)) and not self._displace(size):
            return self._no_room(kind, key, said)
        return self._put(kind, key, said, size)

    def _rouse(self) -> None:
        """Wake the sender. It sleeps for ever where its loop has ended, so that is when to look at the loop."""
        if loop_here() is not self._loop:
            raise self._refusal()
        self._sender.rouse()

    async def _squeeze(self, kind: Kind, key: Key, said: Payload, size: int) -> Receipt:
        """The queue is full: do with this call what the settings say."""
        if self.settings.when_full == "wait" and self._sends:
            async with self._room.turn(size) as has_room:
                return await self._hold(kind, key, said, size) if has_room else self._no_room(kind, key, said)
        if not self._displace(size):
            return self._no_room(kind, key, said)
        return await self._hold(kind, key, said, size)

    def _displace(self, size: int) -> bool:
        """Make room by giving up the oldest calls, if the settings say so."""
        settings = self.settings
        if settings.when_full == "raise":
            raise self._full()
        if settings.when_full != "drop_oldest" or not self._sends:
            return False
        self._sender.take_in()
        while not self._outbox.has_room(size):
            if not self._schedule.drop_oldest(Outcome("dropped", "queue_full")):
                return False
            self._sender.carry_on()
        return True

    def _no_room(self, kind: Kind, key: Key, said: Payload, reason: str = "queue_full") -> Receipt:
        reason = reason if self._door is DeliveryState.OPEN else "closed"

        def letter() -> LostCall:
            call = self._destination.call_of(kind, key, said)
            return self._destination.lost_call(status="dropped", reason=reason, call=call)

        why = partial(_not_taken, self._outbox.place, self.settings.max_wait) if reason == "outbox" else None
        return self._lost(Outcome("dropped", reason), letter, why)

    def _lost(self, outcome: Outcome, letter: Callable[[], LostCall], why: Callable[[], str] | None = None) -> Receipt:
        """Account for a call that is not held. ``why`` is for the log, which asks it of the first one only."""
        receipt = self._outbox.refuse(outcome)
        self._sender.mourn(letter, outcome.reason or "", why)
        return receipt

    def _not_held(self, kind: Kind, key: Key, said: Payload, error: OutboxError) -> None:
        """A call of `track_nowait` that the outbox could not hold."""
        call = self._destination.call_of(kind, key, said)
        letter = self._destination.lost_call(status="dropped", reason="outbox", call=call, detail=str(error))
        self._sender.mourn(lambda: letter, "outbox", lambda: str(error))

    # ── calls from other threads ──

    def _from_elsewhere(self, check: Callable[..., Checked | Receipt], *arguments: Any) -> Receipt:
        """Check a call of a ``_nowait`` method here, in whatever thread this is, and hand it in."""
        if self._door is not DeliveryState.OPEN:
            raise self._refusal()
        checked = check(*arguments)
        return checked if isinstance(checked, Receipt) else self._post(*checked)

    def _post(self, kind: Kind, key: Key, said: Payload, size: int) -> Receipt:
        displaces = self.settings.when_full == "drop_oldest"
        try:
            receipt = self._inbox.put(kind, key, said, size, self._now(), displaces=displaces)
        except Shut:
            raise self._shut_out() from None
        if receipt is not None:
            return receipt
        if self.settings.when_full == "raise":
            raise self._full()
        return self._refuse_elsewhere(FULL, self._letter_of(kind, key, said, FULL))

    def _hand_over(self, kind: Kind, key: Key, said: Payload, size: int) -> Receipt | None:
        """Hand in a call from another thread if it is held by that; ``None`` if there is something to wait for."""
        if self._outbox.durable:
            return None
        try:
            return self._inbox.put(kind, key, said, size, self._now())
        except Shut:
            raise self._shut_out() from None

    async def _hold_in_turn(self, kind: Kind, key: Key, said: Payload, size: int) -> Receipt:
        """What the calls that are awaited do with a call that has been checked."""
        return self._accept(kind, key, said, size) or await self._take(kind, key, said, size)

    def _refuse_elsewhere(self, outcome: Outcome, letter: Callable[[], LostCall]) -> Receipt:
        try:
            return self._inbox.refuse(outcome, letter)
        except Shut:
            raise self._shut_out() from None

    def _shut_out(self) -> UserpilotError:
        """Why the inbox is shut. If its loop has ended, nobody else will say what becomes of the calls in it."""
        if self._door is DeliveryState.OPEN and (left := len(self._inbox.calls)):
            self._take_rest()
            self._inbox.say_lost(left)
            self._notices.say_rest()
        return self._refusal()

    def _take_from_threads(self) -> None:
        """Take in what other threads have put, a slice of it."""
        for outcome, letter, receipt in self._inbox.next_refused(SLICE):
            with marked(receipt is not None and receipt.from_on_dead):
                lost = self._lost(outcome, letter or partial(_bare_letter, self._destination, outcome))
            if receipt is not None:
                receipt.follow(lost)
        for kind, key, said, size, now, receipt in self._inbox.next_calls(SLICE):
            try:
                with marked(receipt.from_on_dead):
                    receipt.follow(self._take_one(kind, key, said, size, now))
            except Exception as bug:  # of ours, or a store's: raised out of here it would end an application on trio
                self._notices.say(logging.ERROR, "inbox", f"a call from a thread was not held: {type(bug).__name__}")
                receipt.follow(self._outbox.refuse(Outcome("dropped", "outbox")))
                self._sender.count_out("outbox")

    def _take_one(self, kind: Kind, key: Key, said: Payload, size: int, now: float) -> Receipt:
        """Hold a call that another thread has put. In memory, room was kept for it, except among the oldest."""
        displaces = self.settings.when_full == "drop_oldest"
        is_full = (displaces or self._outbox.durable) and not self._outbox.has_room(size)
        if is_full and not (displaces and self._displace(size)):
            return self._no_room(kind, key, said)
        if self._sender.asleep:
            self._rouse()
        return self._outbox.put(kind, key, said, size, now)

    def _take_rest(self) -> None:
        """Take in all that other threads have put, where nothing is sent any more: it must be in the account."""
        while self._inbox.waits:
            for outcome, letter, receipt in self._inbox.next_refused(SLICE):
                refused = self._outbox.refuse(outcome)
                if receipt is not None:
                    receipt.follow(refused)
                if self._ended:
                    letter = letter or partial(_bare_letter, self._destination, outcome)
                    self._sender.mourn(letter, outcome.reason or "")
                else:  # nobody delivers letters any more
                    self._sender.count_out(outcome.reason or "")
            for kind, key, said, size, now, receipt in self._inbox.next_calls(SLICE):
                receipt.follow(self._outbox.put(kind, key, said, size, now))

    def _take_last(self) -> None:
        """The sender ends, and the client was not closed: its loop is being shut down, most likely."""
        self._take_rest()
        self._inbox.be_wary()

    async def _catch_up(self) -> None:
        """Take in what other threads have put before this."""
        inbox, coming, refused = self._inbox, self._inbox.came, self._inbox.refused_came
        while inbox.gone < coming or inbox.refused_gone < refused:
            self._take_from_threads()
            if inbox.gone < coming or inbox.refused_gone < refused:
                await anyio.lowlevel.checkpoint()

    # ── calls that are not to be held ──

    def _invalid(self, error: InvalidCall, arguments: Mapping[str, Any]) -> Receipt:
        if self.settings.on_invalid == "raise":
            raise error
        letter = self._destination.lost_call(status="dead", reason="invalid", error=error, arguments=arguments)
        if get_ident() != self._thread:
            return self._refuse_elsewhere(Outcome("dead", "invalid"), lambda: letter)
        return self._lost(Outcome("dead", "invalid"), lambda: letter, lambda: str(error))

    def _refusal(self) -> UserpilotError:
        pending, name = self._outbox.ledger.pending + self._inbox.on_its_way, type(self).__name__
        if self._door is DeliveryState.NEW:
            return ClientNotOpen(f"this {name} {self._door.value}")
        if self._door is not DeliveryState.OPEN:
            return ClientClosed(f"this {name} {self._door.value} ({pending} calls pending)")
        if self._home.has_ended():
            return ClientClosed(f"this {name} was not closed before its event loop ended ({pending} calls pending)")
        return WrongLoop(
            f"this {name} belongs to another event loop or thread, where {pending} calls are pending: make the call by "
            "its `_nowait` twin, which any thread may use, or, in a worker thread of that loop, by "
            "`anyio.from_thread.run(client.track, ...)`; or open a client for this loop"
        )

    def _full(self) -> QueueFull:
        waiting = self._outbox.ledger.pending + self._inbox.on_its_way
        return QueueFull(f"{self._outbox.place} has no room: {waiting:,} calls wait")

    # ── waiting and leaving ──

    async def flush(self, timeout: float | None = None) -> Report:
        """Wait until everything accepted before this has an outcome, or ``timeout`` seconds are over.

        Meanwhile identifies do not linger for others to merge with. The report says what is left. Raises
        `ClientNotOpen`, `ClientClosed`, and `WrongLoop` in another event loop.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        started, mark, coming = self._now(), 0, self._inbox.came
        with self._hurrying(), anyio.move_on_after(timeout):
            await self._catch_up()
            await self._outbox.recorded()
            mark = self._outbox.ledger.next_id
            await self._wait_settled(mark)
        return self._report(started, mark or self._outbox.ledger.next_id, max(0, coming - self._inbox.gone))

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
        elsewhere = get_ident() != self._thread or loop_here() is not self._loop
        if self._door is DeliveryState.FORKED or (self._door is DeliveryState.OPEN and elsewhere):
            raise self._refusal()
        self._door, self._thread = DeliveryState.CLOSED, NO_THREAD
        self._inbox.shut()
        if not self._opened:
            return Report(complete=True, elapsed=0.0, left=0, jobs=(), statistics=self.statistics())
        limit, self._limit = _limit_of(timeout, self.settings.close_timeout)
        began = self._leaving_since = self._now()
        self._room.close()
        if self._ended and in_on_dead.get():  # the close waits for that
            return self._report(began, self._outbox.ledger.next_id)
        with anyio.move_on_after(limit + LAST_REQUESTS + LAST_LETTERS + LAST_RECORDS + LOOK):
            while self._closing is not None:
                await self._closing.wait()
            await self._close(began + limit)
        await self._end_start()
        return self._report(began, self._outbox.ledger.next_id)

    async def _close(self, deadline: float) -> None:
        if self._is_left:
            return
        self._closing = anyio.Event()
        try:
            self._letters.hurry()
            if not self._ended:
                if not self._tasks_lost:  # perhaps with their loop, and this is another one
                    await self._send_last(deadline)
                self._end()
            with anyio.move_on_after(LAST_RECORDS):
                await self._outbox.aclose()
            with anyio.move_on_after(max(deadline - self._now(), LAST_LETTERS)):
                await self._deliver_last_letters()
            self._letters.give_up()
            self._is_left = True
        finally:
            if self._ended:  # also where this is cancelled, and nobody comes back to it
                self._notices.close(self._closing_words)
            self._closing.set()
            self._closing = None

    async def _send_last(self, deadline: float) -> None:
        """Drain, and stop what is in flight then."""
        left = deadline - self._now()
        # What can wait is not begun shortly before the end: a request that is broken off may be sent twice.
        hasty = not self._outbox.durable and deadline < math.inf
        self._schedule.leave_by(deadline - LAST_REQUESTS if hasty else None)
        landing = min(LANDING, left / 4) if self._outbox.durable else 0.0
        with self._hurrying(), anyio.move_on_after(left):
            with anyio.move_on_after(left - landing):
                await self._catch_up()
                await self._drain(deadline - landing)
                if self._sends:
                    await self._wait_for_letters(deadline)
            self._sender.lands = True
            while self._schedule.in_flight and landing:
                with anyio.move_on_after(LOOK):
                    await self._sender.wait_settled()
        self._ran_out = True
        self._silent = self._schedule.in_flight > 0 and self._sender.reporting.answered_at < self._leaving_since
        with anyio.move_on_after(LAST_REQUESTS, shield=True):
            self._sender.closed = True
            await self._sender.stop()

    async def _deliver_last_letters(self) -> None:
        """In the client's tasks, so that nobody's cancellation breaks a callback off; where those have ended, here."""
        if self._letters.wants_task():
            if self._tasks_lost or self._sender.cut_off:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._letters.deliver_all)
                return
            self._tasks.start_soon(self._letters.deliver_all)
        await self._letters.wait_delivered()

    @property
    def _sends(self) -> bool:
        """The sender has met no bug, and its tasks live."""
        return self._sender.sends and not self._tasks_lost

    async def _wait_for_letters(self, deadline: float) -> None:
        """Until `on_dead` has all its letters; where no deadline ends that, say what is waited for."""
        while not self._letters.are_delivered:
            with anyio.move_on_after(CLOSING if deadline == math.inf else None):
                await self._letters.wait_delivered()
                return
            self._notices.tell(logging.WARNING, "closing: on_dead has not taken all lost calls yet; Ctrl-C ends that")

    async def _drain(self, deadline: float) -> None:
        """Until nothing that was accepted before is pending, or nothing can happen before the deadline.

        Where another client sends what is in the outbox, there is nothing to wait for.
        """
        await self._outbox.recorded()
        ledger = self._outbox.ledger
        mark, rewound = ledger.next_id, len(ledger.rewound)
        say_at = self._now() + CLOSING if deadline == math.inf else math.inf
        while ledger.oldest_pending() < mark and self._outbox.sends and self._sends:
            if self._now() >= say_at:
                say_at = self._now() + CLOSING
                self._sender.reporting.closing(ledger.pending - ledger.submitted, self._close_so_far())
            with anyio.move_on_after(LOOK):
                await self._sender.wait_settled()
            mark = min([mark, *ledger.rewound[rewound:]])
            sleeps = self._sender.asleep and self._sender.running
            idle = sleeps and not self._schedule.in_flight and not self._outbox.stirs
            if idle and (self._sender.sleeps_until > deadline or self._sender.sleeps_until == math.inf):
                return

    def _end(self) -> None:
        """Nobody sends here any more: whatever is left is dropped, and accounted for, unless it can wait."""
        self._ended = self._sender.closed = True
        self._sender.reporting.leave()
        self._inbox.shut()
        self._take_rest()
        try:
            if not self._outbox.durable:
                while self._sender.take_in():
                    pass
                self._closing_words = partial(close_line, self._close_so_far())
                self._schedule.abandon(Outcome("dropped", "closed"))
            self._sender.carry_on()
        except Exception as bug:  # perhaps the one that ended the sending
            self._sender.end_with(bug)
            if not self._outbox.durable:
                self._sender.drop_pending(Outcome("dropped", "closed"))
        self._sender.release()
        self._outbox.ledger.release()

    def _close_so_far(self) -> Close:
        """How the close has gone until now, for the log."""
        schedule, sender, ended = self._schedule, self._sender, None
        if sender.bug is not None:
            ended = "the sender had ended with an error, which is raised when the client is left"
        elif not self._sends:
            ended = "the client's tasks had been cancelled, or its loop was shut down"
        return Close(
            accepted=self._outbox.ledger.accepted,
            limit=self._limit,
            took=self._now() - self._leaving_since,
            ran_out=self._ran_out,
            ended=ended,
            held=schedule.held,
            failure=schedule.failure,
            silent=self._connection.base_url if self._silent else None,
            rest=sender.rest() if ended is None else NOTHING_LEFT,
        )

    @contextmanager
    def _hurrying(self) -> Generator[None, None, None]:
        self._schedule.expedited += 1
        try:
            self._rouse()
            yield
        finally:
            self._schedule.expedited -= 1

    async def _wait_settled(self, mark: int) -> None:
        ledger = self._outbox.ledger
        rewound = len(ledger.rewound)
        while (ledger.oldest_pending() < mark or ledger.pending_before(mark)) and not self._ended and self._sends:
            await self._sender.wait_settled()
            mark = min([mark, *ledger.rewound[rewound:]])

    # ── numbers ──

    @property
    def budgets(self) -> Mapping[str, int | None]:
        """Requests a minute that may be made, by budget; ``None`` for no limit."""
        return self._destination.budgets

    def statistics(self) -> Statistics:
        """A frozen snapshot, in which ``accepted == delivered + dead + dropped + merged + pending``; in any thread."""
        if self._door is not DeliveryState.OPEN or get_ident() == self._thread:
            return self._snapshot(elsewhere=False)
        for _ in range(SNAPSHOTS):
            try:
                seen = self._snapshot(elsewhere=True)
            except RuntimeError:  # a dict that the loop has just written to
                pass
            else:
                if seen.accepted == seen.delivered + seen.dead + seen.dropped + seen.merged + seen.pending:
                    return seen
            time.sleep(0)  # lets the loop write the other half
        raise RuntimeError("the account does not balance")

    def _snapshot(self, *, elsewhere: bool) -> Statistics:
        ledger = self._outbox.ledger
        if not self._opened:
            return Statistics.of(ledger, self._outbox.waiting_bytes)
        schedule, now = self._schedule, self._now() if self._door is DeliveryState.OPEN else 0.0
        return Statistics.of(
            ledger,
            self._outbox.waiting_bytes,
            in_flight=schedule.in_flight,
            requests=dict(self._connection.requests),
            retries=schedule.retries,
            possible_duplicates=max(schedule.possible_duplicates, ledger.ambiguous),
            rate_limited=schedule.rate_limited,
            jobs_completed=schedule.jobs_completed,
            job=schedule.job,
            import_job=schedule.import_job,
            imports_closed=schedule.imports_closed,
            budgets={
                name: bucket.glance(now) if elsewhere else bucket.left(now) for name, bucket in schedule.buckets.items()
            },
            held=schedule.held,
            outage=schedule.outage,
            on_dead_failures=self._letters.failures,
            sends=self._outbox.sends,
            unheld=self._outbox.unheld + self._inbox.on_its_way,
        )

    def _report(self, started: float, mark: int, coming: int = 0) -> Report:
        left = self._outbox.ledger.pending_before(mark) + coming
        slots = [slot for slot in self._schedule.slots if slot.job is not None and slot.batch is not None]
        jobs = tuple((slot.job and slot.job.job_id) or (slot.batch and slot.batch.filename) or "" for slot in slots)
        return Report(
            complete=not left,
            elapsed=self._now() - started,
            left=left,
            jobs=jobs,
            statistics=self.statistics(),
            waits_in=self._outbox.place if self._outbox.durable else None,
        )


def _limit_of(timeout: float | None, close_timeout: float | None) -> tuple[float, str]:
    """Seconds that a close has, and how the user said so."""
    if timeout is not None:
        return timeout, f"timeout={timeout:g}"
    if close_timeout is None:
        return math.inf, "close_timeout=None"
    return close_timeout, f"close_timeout={close_timeout:g}"


def _not_taken(place: str, max_wait: float | None) -> str:
    return f"{place} did not take them within max_wait={max_wait}"


def _new_schedule(
    settings: DeliverySettings,
    destination: Destination,
    now: Callable[[], float],
    calendar: Calendar,
    chance: Callable[[], float],
    name: str,
    server: str,
) -> Schedule:
    return Schedule(
        settings,
        destination,
        chance=chance,
        filename=lambda: f"{name}-{uuid4().hex}.ndjson",
        now=now(),
        calendar=calendar,
        server=server,
    )


def _letter(
    destination: Destination, is_read: bool, kind: Kind, key: Key, said: Payload, outcome: Outcome
) -> Callable[[], LostCall]:
    """What `on_dead` gets of a call that was never held, made when it is delivered; without it if nobody reads that."""
    if not is_read:
        return partial(_bare_letter, destination, outcome)
    return lambda: _bare_letter(destination, outcome, call=destination.call_of(kind, key, said))


def _bare_letter(destination: Destination, outcome: Outcome, **known: Any) -> LostCall:
    status = "dead" if outcome.status == "dead" else "dropped"
    return destination.lost_call(status=status, reason=outcome.reason or "", **known)


def _no_time() -> float:
    return 0.0


_doors: weakref.WeakSet[DeliveryClient] = weakref.WeakSet()


def _after_fork() -> None:
    """A child has the parent's calls and none of its tasks: it must send nothing, and say so when asked.

    Its chance must be its own: workers of one parent would all try again at the same moments.
    """
    for door in list(_doors):
        door._random.seed()
        if door._door is DeliveryState.OPEN:
            loop = door._loop if door._thread == get_ident() else None  # another thread's loop has not come along
            door._door, door._thread = DeliveryState.FORKED, NO_THREAD
            door._sender.end_in_child(loop)


def _at_exit() -> None:
    """The interpreter ends, perhaps with the loop of a client that was not closed: that must not be silent."""
    for door in list(_doors):
        door._give_up_if_open()


atexit.register(_at_exit)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
