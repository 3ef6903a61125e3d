"""The sender: outbox → schedule → API → settle. It waits, and decides nothing."""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from ._coalesce import MAX_FILE_BYTES
from ._destination import Destination, LostCall
from ._inheritance import Request
from ._jobs import quoted_job_id
from ._lanes import Post
from ._letters import Letters
from ._loops import cancelled_natively, host_here
from ._notices import Notices
from ._outbox import Outbox
from ._schedule import Schedule
from ._settlements import Settlement
from ._verdict import CANCELLED, Meaning, Verdict, of_failure
from ._work import Work

if TYPE_CHECKING:
    from ._http import Connection

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
        letters: Letters,
        notices: Notices,
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
        self.broken = False
        """It ended with an exception, which is on its way out through the application's `async with`."""
        self.lands = False
        """What is under way may end; nothing else begins."""
        self.closed = False
        """Its end is meant: calls left are somebody else's to report."""
        self.before_end: Callable[[], object] = lambda: None
        """To be called before it says what is left: takes in what is on its way."""
        self._scope = anyio.CancelScope()
        self._wake = anyio.Event()
        self._settled = anyio.Event()
        self._ended = anyio.Event()
        self._given_out: set[Work] = set()
        self._held: str | None = None
        self._trouble: str | None = None
        self._no_imports: str | None = None

    def start(self) -> None:
        """Run, in a task of the client's task group."""
        self.running, self.asleep = True, False
        self._scope, self._ended = anyio.CancelScope(), anyio.Event()
        self._tasks.start_soon(self._live)

    def rouse(self) -> None:
        """Something has changed: look again."""
        self.asleep = False
        self._wake.set()
        if not self.running and not self.closed and not self.broken:
            self.start()

    def look_again(self) -> None:
        """Something has changed in the outbox."""
        self.release()
        self._settled = anyio.Event()
        if self.running:
            self.rouse()

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
        there are) does not reach the application's own tasks, and while the task that opened the client lives,
        another one goes on here.
        """
        again = False
        try:
            with self._scope:
                async with anyio.create_task_group() as letters:
                    while True:
                        await self._run(letters)
                        self._begin_anew()
        except anyio.get_cancelled_exc_class():
            if not cancelled_natively():
                raise
            again = not self.closed and not self._host_is_done()
        except BaseException:
            self.broken = True
            raise
        finally:
            for work in list(self._given_out):  # of tasks that were cancelled before their first step
                self._take_back(work, of_failure(CANCELLED, sent=False))
            self.running, self.asleep = False, True
            self._ended.set()
            if again:
                self.start()
            else:
                self.before_end()
                self.warn_unsent()

    def warn_unsent(self) -> None:
        """Never silent: calls that nobody will send any more."""
        pending = self._outbox.ledger.pending
        if pending and not self.closed:
            message = f"a {self._owner} was not closed: {pending} accepted calls have not been delivered"
            if self._outbox.durable:
                message += f"; they wait in {self._outbox.place}"
            self._notices.say(logging.ERROR, "unsent", message)
            warnings.warn(message, ResourceWarning, stacklevel=2)

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
                if self._letters.wants_task():  # after `next`, in which calls die of age
                    letters.start_soon(self._deliver_letters)
                if isinstance(step, Work):
                    self._given_out.add(step)
                    requests.start_soon(self._perform, step)
                elif taken or step <= now:
                    await anyio.lowlevel.checkpoint()
                else:
                    self.asleep, self.sleeps_until = True, step
                    with anyio.move_on_after(step - now if step < math.inf else None):
                        await self._wake.wait()
                    self.asleep = False

    def take_in(self, limit: int = TAKE) -> int:
        """Move calls from the outbox into the schedule; how many."""
        if self._term != self._outbox.term:
            return 0
        inheritance = self._outbox.inherited()
        if inheritance is not None:
            self.schedule.inherit(inheritance, self._now())
        tickets = self._outbox.take(limit)
        for ticket in tickets:
            self.schedule.add(ticket, self._outbox.was_sent(ticket[0]))
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
        if settled.marks:
            marks, settled.marks = settled.marks, []
            for ids, submitted, size in marks:
                self._outbox.submitted(ids, submitted, size)
        if settled.done:
            done, settled.done = settled.done, []
            lost: Counter[str] = Counter()
            for settlement in done:
                self._settle(settlement, lost)
            for reason, calls in lost.items():
                self._say_lost(reason, calls)
            self._settled.set()
            self._settled = anyio.Event()
        if self.schedule.imports_closed != self._no_imports:
            self._no_imports = self.schedule.imports_closed
            if self._no_imports is not None:
                message = (
                    f"late events go through the realtime endpoint, which dates them on arrival: {self._no_imports}"
                )
                self._notices.say(logging.WARNING, "imports", message)
        if settled.forgotten:
            for filename in settled.forgotten:
                self._outbox.forget(filename)
            settled.forgotten = []
        trouble = self.schedule.held or self.schedule.outage
        if (trouble is None) != (self._trouble is None) or self.schedule.held != self._held:
            self._say_trouble()
        self._trouble, self._held = trouble, self.schedule.held

    def _settle(self, settlement: Settlement, lost: Counter[str]) -> None:
        self._outbox.settle(settlement)
        reason = settlement.outcome.reason
        if settlement.carriers and reason is not None:
            lost[reason] += 1 + len(settlement.merged)
            self._letters.post(partial(self._letter, settlement))

    def _letter(self, settlement: Settlement) -> LostCall:
        outcome = settlement.outcome
        return self._destination.lost_call(
            status="dropped" if outcome.status == "dropped" else "dead",
            reason=outcome.reason or "",
            call=settlement.call(self._destination),
            merged=len(settlement.merged),
            detail=settlement.detail,
        )

    def mourn(self, letter: Callable[[], LostCall], reason: str) -> None:
        """A call is lost that never came as far as the schedule."""
        self._letters.post(letter, bounded=True)
        self._say_lost(reason, 1)
        self.rouse()

    def _say_lost(self, reason: str, calls: int) -> None:
        message, failure = f"calls lost, reason {reason}", self.schedule.failure
        if reason == "closed" and failure is not None:
            message += f"; the last request failed: {failure}"
        self._notices.say(logging.WARNING, reason, message, calls)

    def _say_trouble(self) -> None:
        if self.closed:  # what fails now is what we broke off ourselves
            return
        if self.schedule.held is not None:
            self._notices.say(logging.ERROR, "held", f"nothing is sent, and nothing is lost: {self.schedule.held}")
        elif self.schedule.outage is not None:
            message = f"requests keep failing; calls wait and are sent again: {self.schedule.outage}"
            self._notices.say(logging.WARNING, "outage", message)
        else:
            self._notices.say(logging.WARNING, "resumed", "the server takes calls again")

    async def _deliver_letters(self) -> None:
        try:
            await self._letters.deliver_all()
        finally:
            self.rouse()

    # ── one request ──

    async def _perform(self, work: Work) -> None:
        verdict = of_failure(CANCELLED, sent=False)
        request = _noted(work)
        try:
            if self._term == self._outbox.term and await self._outbox.sending(request):
                verdict = of_failure(CANCELLED, sent=True)
                verdict = await self._exchange(work)
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
                    lost=verdict.meaning in (Meaning.LOST, Meaning.AGAIN) and isinstance(work.head, Post),
                )
            self.rouse()

    def _take_back(self, work: Work, verdict: Verdict) -> None:
        self._given_out.discard(work)
        if self._term != self._outbox.term:  # whoever has taken over has noted it as under way
            return
        self.schedule.done(work, verdict, self._now())
        self.carry_on()

    async def _exchange(self, work: Work) -> Verdict:
        route, path = work.route, work.route.path
        if work.rows:
            body = await self._encode(work)
            if len(body) > MAX_FILE_BYTES and len(work.rows) > 1:
                return Verdict(Meaning.TOO_LARGE, detail="the file is larger than the server takes")
            return await self._connection.exchange(route.name, route.method, path, body, filename=work.filename)
        if work.job_id:
            path = path.format(job_id=quoted_job_id(work.job_id))
        return await self._connection.exchange(route.name, route.method, path, work.body or None)

    async def _encode(self, work: Work) -> bytes:
        """The file, made in slices so that 10,000 rows do not stop the loop for 40 ms."""
        slices: list[bytes] = []
        while lines := b"".join(islice(work.lines, ENCODE)):
            slices.append(lines)
            await anyio.lowlevel.checkpoint()
        return b"".join(slices)


def _noted(work: Work) -> Request:
    """The request as the outbox notes it down."""
    request = Request(work.route.budget, work.carried())
    if work.step is not None:
        request.filename, request.kind = work.step.batch.filename, work.step.batch.kind
        last_calls = [row.events[-1][0] if row.events else row.last_call for row in work.rows]
        request.last_calls = [call_id for call_id in last_calls if call_id is not None]
    return request
