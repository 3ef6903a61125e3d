"""The sender's task: outbox → schedule → server → account. It waits and is woken; others decide."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._account.losses import Rest, counted
from .._calls.outcome import Outcome
from .._errors.printable import printable
from .._outbox.protocol import Outbox
from .._protocol.verdict import CANCELLED, Meaning, Verdict, of_failure
from .._runtime.event_loop import cancel_in, cancelled_natively, host_here, loop_here, on_trio
from .._runtime.log import RateLimitedLog
from .._runtime.reentry import in_on_dead
from .._schedule.destination import Destination
from .._schedule.posts import Post
from .._schedule.routes.route import Request
from .._schedule.schedule import Schedule
from .dead_letters import DeadLetters
from .exchange import exchange, note_of
from .handover import TAKE, Handover
from .reporting import Reporting

if TYPE_CHECKING:
    from .connection import Connection

NAP = 0.005  # seconds: a pass costs 20 to 30 µs, and so one percent of a core at most, however many calls come


class Sender:
    """Sends in a task of the client's until it is cancelled; all that it knows is in the schedule and in the outbox."""

    def __init__(
        self,
        outbox: Outbox,
        new_schedule: Callable[[], Schedule],
        destination: Destination,
        connection: Connection,
        dead_letters: DeadLetters,
        log: RateLimitedLog,
        now: Callable[[], float],
        tasks: TaskGroup,
        owner: str,
    ) -> None:
        self._outbox = outbox
        self._connection = connection
        self._dead_letters = dead_letters
        self._log = log
        self._now = now
        self._tasks = tasks
        self._owner = owner
        self._host_is_done = host_here()
        self.reporting = Reporting(log, destination, connection.base_url)
        self._handover = Handover(outbox, new_schedule, destination, dead_letters, log, self.reporting, now)
        self.asleep = False
        """`wake` would change something."""
        self.sleeps_until = 0.0
        """When the sender wakes by itself, in the loop's seconds; `inf` if only something new can wake it."""
        self._naps = False  # asleep, and calls need not wake it
        self._naps_until = 0.0
        self._came = 0  # calls, in this nap
        self.running = False
        self.bug: Exception | None = None
        """A bug of this library's has ended the sending: it has been logged, and is raised where the client is left."""
        self.cut_off = False
        """On trio: a scope around the client was cancelled, and with it the tasks in which the sender runs."""
        self.tasks_lost = False
        """The client's tasks have ended, although it was not closed."""
        self.landing = False
        """Requests under way may end; none begins any more."""
        self.closed = False
        """The sender's end is meant: calls left are for others to report."""
        self._in_child = False
        self.skip_to: Callable[[float], object] | None = None
        """To be called instead of waiting for a moment, in a test: makes it now."""
        self._skips_for, self._well_at = math.inf, 0.0
        self.before_end: Callable[[], object] = lambda: None
        """To be called before the log says what is left: takes in the calls that are on their way."""
        self.gave_up: Callable[[], object] = lambda: None
        """To be called when nothing is sent any more, though the client is open: waiting for that must end."""
        self._scope = anyio.CancelScope()
        self._woken = anyio.Event()
        self._settled = anyio.Event()
        self._ended = anyio.Event()
        # With what performs it: a task that is cancelled natively before its first step leaves that to the garbage
        # collector, which warns of a coroutine that was never awaited.
        self._given_out: dict[Request, Coroutine[Any, Any, None]] = {}
        self._delivery: Coroutine[Any, Any, None] | None = None
        self._has_warned = False

    @property
    def schedule(self) -> Schedule:
        """The schedule of what is sent next; another object after another process has sent for a while."""
        return self._handover.schedule

    @property
    def can_send(self) -> bool:
        """The sender runs, or would if it were woken: no bug has ended it, and its tasks live."""
        return self.bug is None and not self.cut_off and not self.tasks_lost

    # ── its task ──

    def start(self) -> None:
        """Run, in a task of the client's task group."""
        self.running, self.asleep = True, False
        self._scope, self._ended = anyio.CancelScope(), anyio.Event()
        self._tasks.start_soon(self._live)

    def wake(self) -> None:
        """Have the sender ask the schedule again, because something has changed."""
        self.asleep = self._naps = False
        self._woken.set()
        if not self.running and not self.closed and self.can_send:
            self.start()

    def calls_came(self, calls: int = 1) -> None:
        """Have so many calls taken that are in the outbox: at once, or a moment after others were, all together."""
        self._came += calls
        if not self._naps or self._came >= TAKE:
            self.wake()

    def outbox_changed(self) -> None:
        """Wake the sender, and those who wait for outcomes: something has changed in the outbox."""
        self.release()
        self._settled = anyio.Event()
        if self.running:
            self.wake()

    def lose_tasks(self) -> None:
        """Begin nothing any more: the tasks have ended, perhaps before the sender's own took a first step."""
        self.closed = self.tasks_lost = True
        self.running = False
        self._ended.set()
        self.release()

    def end_in_child(self, loop: object) -> None:
        """End in a forked child, where all that is under way is the parent's.

        ``loop`` is the child's copy of the parent's loop, in which it may go on, or ``None`` if it has none.
        """
        self.closed = self.landing = self._in_child = True
        if loop is not None and not on_trio():
            cancel_in(loop, self._scope)

    def outlast(self, seconds: float) -> None:
        """Skip so much of an outage at most, from now or its beginning on: as long as a close would wait."""
        self._skips_for, self._well_at = seconds, self._now()

    async def stop(self) -> None:
        """Cancel what is in flight, and wait until nothing is."""
        self._scope.cancel()
        if self.running:
            await self._ended.wait()

    def release(self) -> None:
        """Wake everyone who waits for outcomes, for good: no more are to come."""
        self._settled.set()

    async def wait_settled(self) -> None:
        """Wait until more calls have an outcome than now, or `release` was called."""
        await self._settled.wait()

    async def _live(self) -> None:
        """Take, send, settle, until `stop`.

        A native cancellation of this task (by a loop that is shut down, or an application that cancels all tasks
        there are) does not reach the application's own tasks, and while the client's own task lives, another one goes
        on here. Nor does an unforeseen exception: it is a bug of this library's, and ends the sending.
        """
        again = False
        in_on_dead.set(False)  # `on_dead` may have woken the sender
        cancelled = anyio.get_cancelled_exc_class()  # asked now: where the loop has ended, there is no answer
        try:
            with self._scope:
                async with anyio.create_task_group() as deliveries:
                    while True:
                        await self._run(deliveries)
                        self._handover.begin_anew()
                        self._given_out.clear()
        except GeneratorExit:  # the loop has ended without us, and this coroutine is garbage: nothing of it works now
            raise
        except cancelled:
            if loop_here() is None or not cancelled_natively():
                self.cut_off = not self.closed
                raise
            again = not self.closed and not self._host_is_done()
        except Exception as bug:
            if not self._in_child:  # there, asyncio takes a loop that goes on for none
                self.end_with(bug)
        finally:
            self._live_no_more(again)

    def _live_no_more(self, again: bool) -> None:
        self.running, self.asleep, self._naps = False, True, False
        for begun in [*self._given_out.values(), *([self._delivery] if self._delivery else ())]:
            begun.close()  # what has not begun: all else has ended
        if loop_here() is None:
            return
        if self.bug is None:
            for request in list(self._given_out):  # of tasks that were cancelled before their first step
                self._take_back(request, of_failure(CANCELLED, sent=False))
        self._ended.set()
        if again:
            self.start()
        elif self.bug is None:  # else the client is open still, and says at its end what became of its calls
            self.before_end()
            self.warn_unsent()
        if self.cut_off:
            self._give_up()

    def _give_up(self) -> None:
        self.release()
        self.gave_up()

    def end_with(self, bug: Exception) -> None:
        """Log the first bug with its traceback. Calls go on being accepted; nothing is sent any more."""
        if self.bug is not None:
            return
        while isinstance(bug, ExceptionGroup) and len(bug.exceptions) == 1:
            bug = bug.exceptions[0]
        self.bug = bug
        message = (
            f"a bug of userpilot_async ({type(bug).__name__}) has ended the sending; calls are still taken,"
            " and wait. Please report it; a new client would send again"
        )
        self._log.warn("bug", message, level=logging.ERROR, error=bug)
        self._give_up()

    def warn_unsent(self) -> None:
        """Log, once, how many calls will not be sent any more, and warn of them."""
        pending = self._outbox.ledger.pending
        if pending and not self.closed and not self._has_warned:
            self._has_warned = True
            accepted = counted(pending, "accepted call")
            message = (
                f"a {self._owner} was not closed: {accepted} {'has' if pending == 1 else 'have'} not been delivered"
            )
            if self._outbox.durable:
                message += f"; {'it waits' if pending == 1 else 'they wait'} in {self._outbox.place}"
            remedy = "leave the client by `async with`, or await aclose(); a `blocking` one by `with`, or close()"
            self._log.warn("unsent", f"{message}; {remedy}", level=logging.ERROR)
            warnings.warn(printable(message), ResourceWarning, stacklevel=2)
        self._log.flush()

    async def _run(self, deliveries: TaskGroup) -> None:
        """Take, send, settle, until the outbox is another one's to send. Deliveries of dead letters outlast that."""
        async with anyio.create_task_group() as requests:
            while True:
                if not self._handover.is_current:
                    requests.cancel_scope.cancel()
                    return
                self._woken = anyio.Event()
                taken = self.take_in()
                now = self._now()
                if taken or self._came:  # or none could be taken: who holds as many as may be waits for outcomes
                    self._naps_until = now + NAP
                step = self.schedule.next(now) if self._outbox.sends and not self.landing else math.inf
                self.carry_on()
                self._log.flush_due()
                if self._dead_letters.wants_task():  # after `next`, in which calls die of age
                    self._delivery = delivery = self._deliver_dead_letters()
                    deliveries.start_soon(partial(_itself, delivery), name="userpilot_async: on_dead")
                if isinstance(step, Request):
                    self._given_out[step] = performing = self._perform(step)
                    requests.start_soon(partial(_itself, performing), name="userpilot_async: a request")
                if isinstance(step, Request) or taken == TAKE or step <= now:
                    await anyio.lowlevel.checkpoint()
                elif self.skip_to is not None and self._only_waits(step):
                    self.skip_to(step)
                    await anyio.lowlevel.checkpoint()
                else:
                    await self._sleep(step, now)

    async def _sleep(self, step: float, now: float) -> None:
        """Sleep until ``step``, or something new; a moment at least, if calls were taken, unless others wait for it.

        Who waits in a flush or a close, or an answer that arrives, wakes the sender at once.
        """
        self._naps = now < self._naps_until and not self.schedule.expedited and self.skip_to is None
        until = min(step, self._naps_until) if self._naps else step
        self.asleep, self.sleeps_until, self._came = True, until, 0
        if self.reporting.detailed and not self._naps:
            self.reporting.wait(self.schedule, step, now)
        due = min(until, self._log.due())  # a line may be due earlier than anything to send
        with anyio.move_on_after(due - now if due < math.inf else None):
            await self._woken.wait()
        self.asleep = self._naps = False

    def _only_waits(self, moment: float) -> bool:
        """Ask whether nothing but time can make the schedule go on.

        An outage lasts, unless a flush or a close waits for its end: `outlast` says how much is skipped then.
        """
        schedule = self.schedule
        if moment == math.inf or schedule.in_flight:
            return False
        if schedule.failure is None and schedule.paused is None:
            self._well_at = moment
            return True
        return schedule.expedited > 0 and moment <= self._well_at + self._skips_for

    # ── outbox and schedule ──

    def take_in(self) -> int:
        """Move a slice of calls from the outbox into the schedule; gives their number."""
        return self._handover.take_in()

    def carry_on(self) -> None:
        """Write down in the account what the schedule has decided, and log how the server is, if that has changed."""
        if not self._handover.is_current:
            return
        if self._handover.write_down():
            self._settled.set()
            self._settled = anyio.Event()
        if not self.closed:  # what fails now is what we broke off ourselves
            self.reporting.poll(self.schedule, self._outbox.ledger.pending, self._now())

    def drop_pending(self, outcome: Outcome) -> None:
        """Give this outcome to every call that has none: for a schedule that a bug has broken."""
        self._handover.drop_pending(outcome)

    def rest(self) -> Rest:
        """Give how many requests are left to send, and how many seconds they take."""
        return self.schedule.rest(self._now())

    async def _deliver_dead_letters(self) -> None:
        try:
            await self._dead_letters.deliver_all()
        finally:
            self.wake()

    # ── one request ──

    async def _perform(self, request: Request) -> None:
        verdict = of_failure(CANCELLED, sent=False)
        note = note_of(request)
        try:
            if self._handover.is_current and await self._outbox.send_log.sending(note):
                verdict = of_failure(CANCELLED, sent=True)
                detailed, began = self.reporting.detailed, self._now()
                if detailed:
                    self.reporting.request(request)
                verdict = await exchange(self._connection, request, self.reporting)
                if detailed:
                    self.reporting.answer(request, verdict, self._now() - began)
            else:
                verdict = of_failure(f"{self._outbox.place} cannot note what is sent", sent=False)
        except anyio.get_cancelled_exc_class():
            if not cancelled_natively():
                raise
        finally:
            if self._handover.is_current:
                self._take_back(request, verdict)
                self._outbox.send_log.landed(
                    note,
                    answered=True if verdict.status is not None else False if verdict.meaning is Meaning.LOST else None,
                    lost=(verdict.ambiguous or verdict.meaning in (Meaning.LOST, Meaning.AGAIN))
                    and isinstance(request.head, Post),
                )
            self.wake()

    def _take_back(self, request: Request, verdict: Verdict) -> None:
        self._given_out.pop(request, None)
        if not self._handover.is_current:  # the next sender has noted it as under way
            return
        now = self._now()
        self.schedule.done(request, verdict, now)
        self.reporting.answered(verdict, request, self.schedule, now)
        self.carry_on()


def _itself(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    """Give the coroutine to a task group, which starts functions only."""
    return coroutine
