"""The sender: outbox → schedule → API → settle. It waits, and decides nothing."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._account.losses import Rest, counted, why_lost
from .._calls.outcome import Outcome
from .._calls.payload import event_id, ticket_id
from .._calls.rows import MAX_FILE_BYTES
from .._errors.printable import printable
from .._outbox.protocol import Outbox
from .._protocol.jobs import quoted_job_id
from .._protocol.verdict import CANCELLED, Meaning, Verdict, of_failure
from .._runtime.event_loop import cancel_in, cancelled_natively, host_here, loop_here, on_trio
from .._runtime.log import RateLimitedLog
from .._runtime.reentry import in_on_dead
from .._schedule.destination import Destination, LostCall
from .._schedule.key_queue import Post
from .._schedule.routes.route import Request
from .._schedule.schedule import Schedule
from .._schedule.settlement import Settlement
from .._schedule.takeover import RequestNote
from .dead_letters import DeadLetters
from .reporting import Reporting

if TYPE_CHECKING:
    from .connection import Connection

TAKE = 250  # calls moved into the schedule in one go: about half a millisecond of the application's loop
ENCODE = 100  # lines encoded in one go, for the same reason


class Sender:
    """Runs until it is cancelled; everything it knows is in the schedule and in the outbox."""

    def __init__(
        self,
        outbox: Outbox,
        new_schedule: Callable[[], Schedule],
        destination: Destination,
        connection: Connection,
        letters: DeadLetters,
        notices: RateLimitedLog,
        now: Callable[[], float],
        tasks: TaskGroup,
        owner: str,
    ) -> None:
        self.schedule = new_schedule()
        self._new_schedule = new_schedule
        self._term = outbox.term
        self._outbox = outbox
        self._destination = destination
        self._connection = connection
        self._letters = letters
        self._notices = notices
        self._now = now
        self._tasks = tasks
        self._owner = owner
        self._host_is_done = host_here()
        self.asleep = False
        """`rouse` would change something."""
        self.sleeps_until = 0.0
        """When it looks again by itself; `inf` if only something new can make it."""
        self.running = False
        self.bug: Exception | None = None
        """A bug of this library's ended it: it has been logged, and is raised where the client is left."""
        self.cut_off = False
        """On trio: a scope around the client was cancelled, and with it the tasks in which this runs."""
        self.lands = False
        """What is under way may end; nothing else begins."""
        self.closed = False
        """Its end is meant: calls left are somebody else's to report."""
        self._in_child = False
        self.before_end: Callable[[], object] = lambda: None
        """To be called before it says what is left: takes in what is on its way."""
        self.gave_up: Callable[[], object] = lambda: None
        """To be called when nothing is sent any more, though the client is open: nobody need wait for that."""
        self._scope = anyio.CancelScope()
        self._wake = anyio.Event()
        self._settled = anyio.Event()
        self._ended = anyio.Event()
        # With what performs it: a task that is cancelled natively before its first step leaves that to the garbage
        # collector, which warns of a coroutine that was never awaited.
        self._given_out: dict[Request, Coroutine[Any, Any, None]] = {}
        self._delivery: Coroutine[Any, Any, None] | None = None
        self.reporting = Reporting(notices, destination, connection.base_url)
        self._no_imports: str | None = None
        self._warned = False

    def start(self) -> None:
        """Run, in a task of the client's task group."""
        self.running, self.asleep = True, False
        self._scope, self._ended = anyio.CancelScope(), anyio.Event()
        self._tasks.start_soon(self._live)

    def rouse(self) -> None:
        """Something has changed: look again."""
        self.asleep = False
        self._wake.set()
        if not self.running and not self.closed and self.sends:
            self.start()

    @property
    def sends(self) -> bool:
        """It does, or would if it were roused."""
        return self.bug is None and not self.cut_off

    def look_again(self) -> None:
        """Something has changed in the outbox."""
        self.release()
        self._settled = anyio.Event()
        if self.running:
            self.rouse()

    def end(self) -> None:
        """The tasks it ran in have ended, perhaps before its own took a first step: it begins no other."""
        self.closed, self.running = True, False
        self._ended.set()
        self.release()

    def end_in_child(self, loop: object) -> None:
        """This is a forked child: what is under way is the parent's.

        ``loop`` is the child's copy of the parent's loop, in which it may go on, or ``None`` if it has none.
        """
        self.closed = self.lands = self._in_child = True
        if loop is not None and not on_trio():
            cancel_in(loop, self._scope)

    async def stop(self) -> None:
        """Cancel what is in flight, and wait until nothing is."""
        self._scope.cancel()
        if self.running:
            await self._ended.wait()

    def release(self) -> None:
        """Nothing will be settled any more: whoever waits for that looks once again."""
        self._settled.set()

    async def wait_settled(self) -> None:
        """Until calls have met their fate since the last look."""
        await self._settled.wait()

    async def _live(self) -> None:
        """Take, send, settle, until `stop`.

        A native cancellation of this task (by a loop that is shut down, or an application that cancels all tasks
        there are) does not reach the application's own tasks, and while the client's own task lives, another one goes
        on here. Nor does an exception that nobody foresaw: it is a bug of this library's, and ends the sending.
        """
        again = False
        in_on_dead.set(False)  # whoever has roused it
        cancelled = anyio.get_cancelled_exc_class()  # asked now: where the loop has ended, nobody would know
        try:
            with self._scope:
                async with anyio.create_task_group() as letters:
                    while True:
                        await self._run(letters)
                        self._begin_anew()
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
        self.running, self.asleep = False, True
        for begun in [*self._given_out.values(), *([self._delivery] if self._delivery else ())]:
            begun.close()  # what has not begun: all else has ended
        if loop_here() is None:
            return
        if self.bug is None:
            for work in list(self._given_out):  # of tasks that were cancelled before their first step
                self._take_back(work, of_failure(CANCELLED, sent=False))
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
        self._notices.say(logging.ERROR, "bug", message, error=bug)
        self._give_up()

    def warn_unsent(self) -> None:
        """Log, once, how many calls will not be sent any more, and warn of them."""
        pending = self._outbox.ledger.pending
        if pending and not self.closed and not self._warned:
            self._warned = True
            accepted = counted(pending, "accepted call")
            message = (
                f"a {self._owner} was not closed: {accepted} {'has' if pending == 1 else 'have'} not been delivered"
            )
            if self._outbox.durable:
                message += f"; {'it waits' if pending == 1 else 'they wait'} in {self._outbox.place}"
            remedy = "leave the client by `async with`, or await aclose(); a `blocking` one by `with`, or close()"
            self._notices.say(logging.ERROR, "unsent", f"{message}; {remedy}")
            warnings.warn(printable(message), ResourceWarning, stacklevel=2)
        self._notices.say_rest()

    def _begin_anew(self) -> None:
        """Another one has taken over what was in hand: forget it, but for the counts."""
        before, self.schedule = self.schedule, self._new_schedule()
        self.schedule.succeed(before)
        self._term = self._outbox.term
        self._given_out.clear()

    async def _run(self, letters: TaskGroup) -> None:
        """Take, send, settle, until the outbox is another one's to send. Letters about lost calls go on after that."""
        async with anyio.create_task_group() as requests:
            while True:
                if self._term != self._outbox.term:
                    requests.cancel_scope.cancel()
                    return
                self._wake = anyio.Event()
                taken = self.take_in()
                now = self._now()
                step = self.schedule.next(now) if self._outbox.sends and not self.lands else math.inf
                self.carry_on()
                self.reporting.say_due()
                if self._letters.wants_task():  # after `next`, in which calls die of age
                    self._delivery = delivery = self._deliver_letters()
                    letters.start_soon(partial(_itself, delivery), name="userpilot_async: on_dead")
                if isinstance(step, Request):
                    self._given_out[step] = performing = self._perform(step)
                    requests.start_soon(partial(_itself, performing), name="userpilot_async: a request")
                elif taken or step <= now:
                    await anyio.lowlevel.checkpoint()
                else:
                    self.asleep, self.sleeps_until = True, step
                    if self.reporting.detailed:
                        self.reporting.wait(self.schedule, step, now)
                    wake = min(step, self.reporting.due())  # a line may be due earlier than anything to send
                    with anyio.move_on_after(wake - now if wake < math.inf else None):
                        await self._wake.wait()
                    self.asleep = False

    def take_in(self, limit: int = TAKE) -> int:
        """Move calls from the outbox into the schedule; how many."""
        if self._term != self._outbox.term:
            return 0
        inheritance = self._outbox.inherited()
        if inheritance is not None:
            now = self._now()
            self.schedule.inherit(inheritance, now)
            if inheritance.unknown:
                self.reporting.budgets_unknown(self.schedule, self._outbox.place, now)
        tickets = self._outbox.take(limit)
        for ticket in tickets:
            self.schedule.add(ticket, self._outbox.was_sent(ticket_id(ticket)))
        return len(tickets)

    def carry_on(self) -> None:
        """Write down in the account what the schedule has decided."""
        if self._term != self._outbox.term:
            return
        settled = self.schedule.settled
        if settled.merged or settled.freed:
            merged, freed = settled.merged, settled.freed
            settled.merged, settled.freed = [], 0
            self._outbox.merged(merged, freed)
            if merged and self.reporting.detailed:
                self.reporting.merge(len(merged))
        if settled.marks:
            marks, settled.marks = settled.marks, []
            for ids, submitted, size in marks:
                self._outbox.submitted(ids, submitted, size)
        if settled.done:
            done, settled.done = settled.done, []
            for settlement in done:
                self._settle(settlement)
            self.reporting.say_losses(self.schedule)
            self._settled.set()
            self._settled = anyio.Event()
        if self.schedule.imports_closed != self._no_imports:
            self._no_imports = self.schedule.imports_closed
            if self._no_imports is not None:
                slow = "late events go through the realtime endpoint, which dates them on arrival"
                message = f"{slow}: {self._no_imports}; one file an hour looks whether that has changed"
                self._notices.say(logging.WARNING, "imports", message)
        if settled.forgotten:
            for filename in settled.forgotten:
                self._outbox.forget(filename)
            settled.forgotten = []
        if not self.closed:  # what fails now is what we broke off ourselves
            self.reporting.look(self.schedule, self._outbox.ledger.pending, self._now())

    def drop_pending(self, outcome: Outcome) -> None:
        """Settle what a broken schedule cannot: whatever has no outcome gets this one."""
        ledger, calls = self._outbox.ledger, 0
        while (call_id := ledger.oldest_pending()) < ledger.next_id:
            ledger.settle(call_id, outcome)
            calls += 1
        if calls:
            self._notices.lost(outcome.reason or "", calls, why=str)

    def _settle(self, settlement: Settlement) -> None:
        self._outbox.settle(settlement)
        self.reporting.settled(settlement)
        if settlement.carriers and settlement.outcome.reason is not None:
            self._letters.post(partial(self._letter, settlement))

    def _letter(self, settlement: Settlement) -> LostCall:
        outcome = settlement.outcome
        return self._destination.lost_call(
            status="dropped" if outcome.status == "dropped" else "dead",
            reason=outcome.reason or "",
            call=settlement.call(self._destination),
            merged=len(settlement.merged),
            detail=settlement.words.detail,
            error_code=settlement.words.error_code,
            request_id=settlement.words.request_id,
        )

    def mourn(self, letter: Callable[[], LostCall], reason: str, why: Callable[[], str] | None = None) -> None:
        """A call is lost that never came as far as the schedule. ``why`` is for the log, which may not ask."""

        def reasons() -> str:
            if reason == "invalid" and (error := letter().error) is not None:  # of a call from a thread
                return str(error)
            return why_lost(reason, self.schedule.settings)

        self._letters.post(letter, bounded=True)
        self._notices.lost(reason, 1, why=why or reasons)
        self.rouse()

    def count_out(self, reason: str) -> None:
        """A call is lost that never came as far as the schedule, and of which nobody but the log can be told."""
        self._notices.lost(reason, 1, why=lambda: why_lost(reason, self.schedule.settings))

    def rest(self) -> Rest:
        """What is left to send, and how long that takes."""
        return self.schedule.rest(self._now())

    async def _deliver_letters(self) -> None:
        try:
            await self._letters.deliver_all()
        finally:
            self.rouse()

    # ── one request ──

    async def _perform(self, work: Request) -> None:
        verdict = of_failure(CANCELLED, sent=False)
        request = _noted(work)
        try:
            if self._term == self._outbox.term and await self._outbox.sending(request):
                verdict = of_failure(CANCELLED, sent=True)
                detailed, began = self.reporting.detailed, self._now()
                if detailed:
                    self.reporting.request(work)
                verdict = await self._exchange(work)
                if detailed:
                    self.reporting.answer(work, verdict, self._now() - began)
            else:
                verdict = of_failure(f"{self._outbox.place} cannot note what is sent", sent=False)
        except anyio.get_cancelled_exc_class():
            if not cancelled_natively():
                raise
        finally:
            if self._term == self._outbox.term:
                self._take_back(work, verdict)
                self._outbox.landed(
                    request,
                    answered=True if verdict.status is not None else False if verdict.meaning is Meaning.LOST else None,
                    lost=(verdict.ambiguous or verdict.meaning in (Meaning.LOST, Meaning.AGAIN))
                    and isinstance(work.head, Post),
                )
            self.rouse()

    def _take_back(self, work: Request, verdict: Verdict) -> None:
        self._given_out.pop(work, None)
        if self._term != self._outbox.term:  # whoever has taken over has noted it as under way
            return
        now = self._now()
        self.schedule.done(work, verdict, now)
        self.reporting.answered(verdict, work, self.schedule, now)
        self.carry_on()

    async def _exchange(self, work: Request) -> Verdict:
        route, path = work.endpoint, work.endpoint.path
        if work.rows:
            body = await self._encode(work)
            if len(body) > MAX_FILE_BYTES and len(work.rows) > 1:
                return Verdict(Meaning.TOO_LARGE, detail="the file is larger than the server takes")
            if self.reporting.detailed:
                self.reporting.file(work, len(body))
            filename = None if work.array else work.filename
            return await self._connection.exchange(route.name, route.method, path, body, filename=filename)
        if work.job_id:
            path = path.format(job_id=quoted_job_id(work.job_id))
        if work.query:
            path = f"{path}?{work.query}"
        return await self._connection.exchange(
            route.name, route.method, path, work.body or None, promises=route.promises
        )

    async def _encode(self, work: Request) -> bytes:
        """The file, made in slices so that 10,000 rows do not stop the loop for 40 ms."""
        slices: list[bytes] = []
        between = b"," if work.array else b""  # a newline before it is white space to JSON
        while lines := between.join(islice(work.lines, ENCODE)):
            slices.append(lines)
            await anyio.lowlevel.checkpoint()
        body = between.join(slices)
        return b'{"%s":[%s]}' % (work.array.encode(), body) if work.array else body


def _itself(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    """For a task group, which starts functions."""
    return coroutine


def _noted(work: Request) -> RequestNote:
    """The request as the outbox notes it down."""
    request = RequestNote(work.endpoint.budget, work.carried(), in_rows=work.in_rows())
    if work.step is not None:
        request.filename, request.kind = work.step.batch.filename, work.step.batch.kind
        last_calls = [event_id(row.events[-1]) if row.events else row.last_call for row in work.rows]
        request.last_calls = [call_id for call_id in last_calls if call_id is not None]
        request.filed = work.filed()
    return request
