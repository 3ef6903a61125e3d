"""How a client ends: drain, land, stop, account for the rest, deliver the last dead letters, say how that went.

    drain    nothing new comes in; what was accepted is sent, until all has an outcome, or nothing can happen in time
    land     the last second, with a durable outbox: requests under way may end, and none begins
    stop     what is in flight is cancelled
    end      what has no outcome then is dropped, reason ``closed``, or waits on in a durable outbox
    letters  `on_dead` gets its last dead letters

Each has seconds of its own (below), so that a close returns within its timeout and a second, whatever a server does.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._account.losses import NOTHING_LEFT, Close, close_line
from .._calls.outcome import Outcome
from .._outbox.protocol import Outbox
from .._runtime.log import RateLimitedLog, Words
from .._schedule.schedule import Schedule
from .._settings import DeliverySettings
from .admission import Admission
from .dead_letters import DeadLetters
from .reporting import CLOSING
from .sender import Sender
from .threads import ThreadCalls

LAST_REQUESTS = 0.3  # seconds beyond the timeout of a close, to stop what is in flight
LANDING = 1.0  # seconds at the end of a close in which requests may end, and none begins
LAST_LETTERS = 0.4  # seconds for dead letters about what was dropped
LAST_RECORDS = 0.15  # seconds to record what was delivered; all together are less than the second promised
POLL = 0.05  # seconds between two questions of a close whether anything can still happen before its end
DROPPED = 100  # calls dropped in one go: about half a millisecond of the application's loop
CLOSED = Outcome("dropped", "closed")


class Shutdown:
    """The end of one client, and the waiting that `flush` shares with it."""

    def __init__(
        self,
        settings: DeliverySettings,
        outbox: Outbox,
        admission: Admission,
        sender: Sender,
        threads: ThreadCalls,
        dead_letters: DeadLetters,
        log: RateLimitedLog,
        now: Callable[[], float],
        tasks: TaskGroup,
    ) -> None:
        self.ended = False
        """Every call has an outcome, or waits in a durable outbox: nothing is sent from here any more."""
        self._settings = settings
        self._outbox = outbox
        self._admission = admission
        self._sender = sender
        self._threads = threads
        self._dead_letters = dead_letters
        self._log = log
        self._now = now
        self._tasks = tasks
        self._is_over = False
        self._closing: anyio.Event | None = None
        """Set when the close that is under way is over, for those who ask for another one meanwhile."""
        self._closing_words: Words | None = None
        self._limit, self._began_at = "", 0.0
        self._ending: Iterator[None] | None = None  # made at the end: before, nothing must keep a forgotten client
        self._ran_out = self._silent = False

    @property
    def _schedule(self) -> Schedule:
        return self._sender.schedule

    # ── waiting ──

    @contextmanager
    def expediting(self) -> Generator[None, None, None]:
        """Let identifies linger no longer, meanwhile, for others to merge with. Raises in another loop: `Admission`."""
        if not self._admission.home.runs_here():
            raise self._admission.refusal()
        self._schedule.expedited += 1
        try:
            self._sender.wake()
            yield
        finally:
            self._schedule.expedited -= 1

    async def wait_settled(self, mark: int) -> None:
        """Wait until all calls with ids below ``mark`` have an outcome, or nothing is sent any more."""
        ledger = self._outbox.ledger
        rewound = len(ledger.rewound)
        while (ledger.oldest_pending() < mark or ledger.pending_before(mark)) and not self.ended:
            if not self._sender.can_send:
                return
            await self._sender.wait_settled()
            mark = min([mark, *ledger.rewound[rewound:]])

    # ── closing ──

    async def close(self, timeout: float | None) -> None:
        """Drain for up to ``timeout`` seconds (``None``: for `Settings.close_timeout`), and end.

        Returns within that and a second. May be called again, also by several tasks at once, and goes on where a
        cancelled call of it stopped.
        """
        limit, self._limit = _limit_of(timeout, self._settings.close_timeout)
        self._began_at = self._now()
        deadline = self._began_at + limit
        with anyio.move_on_after(limit + LAST_REQUESTS + LAST_LETTERS + LAST_RECORDS + POLL):
            while self._closing is not None:
                await self._closing.wait()
            await self._close(deadline)

    async def _close(self, deadline: float) -> None:
        if self._is_over:
            return
        self._closing = anyio.Event()
        try:
            self._dead_letters.expedite()
            if not self.ended:
                if not self._sender.tasks_lost:  # perhaps with their loop, and this is another one
                    await self._send_last(deadline)
                await self._end_gently()
            with anyio.move_on_after(LAST_RECORDS):
                await self._outbox.aclose()
            with anyio.move_on_after(max(deadline - self._now(), LAST_LETTERS)):
                await self._deliver_last_letters()
            self._dead_letters.give_up()
            self._is_over = True
        finally:
            if self.ended:  # also where this is cancelled, and never called again
                self._log.close(self._closing_words)
            self._closing.set()
            self._closing = None

    async def finish(self) -> None:
        """End what `close` has left, without waiting for a server or a callback: the client is left."""
        if not self.ended:
            self.end()
        with anyio.move_on_after(LAST_RECORDS):
            await self._outbox.aclose()
        self._log.close(self._closing_words)

    async def _send_last(self, deadline: float) -> None:
        """Drain, land, and stop what is in flight then."""
        left = deadline - self._now()
        # What can wait is not begun shortly before the end: a request that is broken off may be sent twice.
        hasty = not self._outbox.durable and deadline < math.inf and self._sender.skip_to is None
        self._schedule.leave_by(deadline - LAST_REQUESTS if hasty else None)
        landing = min(LANDING, left / 4) if self._outbox.durable else 0.0
        self._sender.outlast(left - landing)
        with self.expediting(), anyio.move_on_after(left):
            with anyio.move_on_after(left - landing):
                await self._threads.catch_up()
                await self._drain(deadline - landing)
                if self._sender.can_send:
                    await self._wait_for_letters(deadline)
            self._sender.landing = True
            while self._schedule.in_flight and landing:
                with anyio.move_on_after(POLL):
                    await self._sender.wait_settled()
        self._ran_out = True
        self._silent = self._schedule.in_flight > 0 and self._sender.reporting.answered_at < self._began_at
        with anyio.move_on_after(LAST_REQUESTS, shield=True):
            self._sender.closed = True
            await self._sender.stop()

    async def _drain(self, deadline: float) -> None:
        """Wait until nothing that was accepted before is pending, or nothing can happen before the deadline.

        Where another client sends what is in the outbox, there is nothing to wait for.
        """
        await self._outbox.recorded()
        ledger = self._outbox.ledger
        mark, rewound = ledger.next_id, len(ledger.rewound)
        log_at = self._now() + CLOSING if deadline == math.inf else math.inf
        while ledger.oldest_pending() < mark and self._outbox.sends and self._sender.can_send:
            if self._now() >= log_at:
                log_at = self._now() + CLOSING
                self._sender.reporting.closing(ledger.pending - ledger.submitted, self._so_far())
            with anyio.move_on_after(POLL):
                await self._sender.wait_settled()
            mark = min([mark, *ledger.rewound[rewound:]])
            sleeps = self._sender.asleep and self._sender.running
            idle = sleeps and not self._schedule.in_flight and not self._outbox.stirs
            if idle and (self._sender.sleeps_until > deadline or self._sender.sleeps_until == math.inf):
                return
            if idle and deadline == math.inf and self._schedule.only_deletes:
                return

    async def _wait_for_letters(self, deadline: float) -> None:
        """Wait until `on_dead` has all its letters; where no deadline ends that, log what is waited for."""
        while not self._dead_letters.are_delivered:
            with anyio.move_on_after(CLOSING if deadline == math.inf else None):
                await self._dead_letters.wait_delivered()
                return
            self._log.always(logging.WARNING, "closing: on_dead has not taken all lost calls yet; Ctrl-C ends that")

    async def _deliver_last_letters(self) -> None:
        """Deliver in the client's tasks, so that no caller's cancellation breaks a callback off; or here, if they end.

        The client's tasks may have ended before.
        """
        if self._dead_letters.wants_task():
            if self._sender.tasks_lost or self._sender.cut_off:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._dead_letters.deliver_all)
                return
            self._tasks.start_soon(self._dead_letters.deliver_all)
        await self._dead_letters.wait_delivered()

    def end(self) -> None:
        """Drop whatever is left, and account for it, unless it can wait: nothing is sent from here any more."""
        for _ in self._steps():
            continue

    async def _end_gently(self) -> None:
        """Do as `end` does, with turns of the loop for others: 100,000 calls would stop it for a second."""
        try:
            for _ in self._steps():
                await anyio.lowlevel.checkpoint()
        finally:
            self.end()

    def _steps(self) -> Iterator[None]:
        """Give what is left of the end: whoever goes on does not begin again."""
        if self._ending is None:
            self._ending = self._end()
        return self._ending

    def _end(self) -> Iterator[None]:
        """Drop whatever is left, some calls with each step."""
        self._sender.closed = True
        self._log.end_outage()  # what fails from now on is what we break off ourselves
        self._threads.close(delivers=True)
        try:
            if not self._outbox.durable:
                while self._sender.take_in():
                    yield
                self._closing_words = partial(close_line, self._so_far())
                calls = self._schedule.abandon(CLOSED)
                while sum(1 for _ in islice(calls, DROPPED)) == DROPPED:
                    self._sender.carry_on()
                    yield
            self._sender.carry_on()
        except Exception as bug:  # perhaps the one that ended the sending
            self._sender.end_with(bug)
            self._sender.drop_pending(CLOSED)
        self.ended = True
        self._sender.release()
        self._outbox.ledger.pages.release()

    def _so_far(self) -> Close:
        """Say how the close has gone until now, for the log."""
        schedule, sender, ended = self._schedule, self._sender, None
        if sender.bug is not None:
            ended = "the sender had ended with an error, which is raised when the client is left"
        elif not sender.can_send:
            ended = "the client's tasks had been cancelled, or its loop was shut down"
        return Close(
            accepted=self._outbox.ledger.accepted,
            limit=self._limit,
            took=self._now() - self._began_at,
            ran_out=self._ran_out,
            ended=ended,
            paused=schedule.paused,
            failure=schedule.failure,
            silent=sender.reporting.server if self._silent else None,
            rest=sender.rest() if ended is None else NOTHING_LEFT,
        )


def _limit_of(timeout: float | None, close_timeout: float | None) -> tuple[float, str]:
    """Give the seconds that a close has, and how the user said so."""
    if timeout is not None:
        return timeout, f"timeout={timeout:g}"
    if close_timeout is None:
        return math.inf, "close_timeout=None"
    return close_timeout, f"close_timeout={close_timeout:g}"
