"""The brain: pending calls by user, and what to do next.

Sans-IO, in the way h11 is: `Schedule.add` takes a call in, `Schedule.next` says what to do or how long to
wait, `Schedule.done` takes the answer in. No clock, no chance, no waiting: everything is handed in, so that
whole days can be tested in a moment. What became of calls is written to `Schedule.settled`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urlsplit

from .._account.losses import Rest, told
from .._calls.outcome import BY_BULK, BY_IMPORT, DELIVERED, NO_WORDS, Outcome, Words
from .._calls.payload import Companion, Event, IdentifyPayload, Ticket, companion_of, companion_size, size_of_identify
from .._calls.rows import Row, RowState
from .._protocol.backoff import Gate, backoff
from .._protocol.hold import Hold
from .._protocol.job_list import Pages
from .._protocol.rate_limit import Bucket
from .._protocol.verdict import CANCELLED, Meaning, Verdict, as_promised
from .._settings import DeliverySettings
from .calendar import Calendar, never_set
from .completion import Completion
from .dedup import Dedup
from .destination import Destination, Files, Imports, Route
from .job_batch import Step
from .job_slot import JobSlot, SlotState
from .key_queue import KeyQueue, Post, QueueState
from .outlook import Outlook
from .queues import Queues
from .routes.bulk import LONGEST_LINGER, BulkRoute
from .routes.events import EventRoute
from .routes.late_events import FILE, LateEventRoute
from .routes.route import EventBatch, Request
from .settlement import Settlements
from .takeover import Takeover

SUSPICIOUS = 2  # failures in a row of an array, after which it goes again in halves


class Schedule:
    """See the module. ``chance`` gives 0 … 1 for jitter, ``filename`` a new unique name.

    ``calendar`` dates what is imported (without one, the schedule's clock does); ``server`` is for messages.
    """

    def __init__(
        self,
        settings: DeliverySettings,
        destination: Destination,
        *,
        chance: Callable[[], float],
        filename: Callable[[], str],
        now: float,
        calendar: Calendar | None = None,
        server: str = "the server",
    ) -> None:
        self.settled = Settlements()
        self.buckets = {name: Bucket(limit, destination.burst, now) for name, limit in destination.budgets.items()}
        """By the names that routes use."""
        files, imports = destination.files, destination.imports
        self.slot = JobSlot(
            filename, chance, files.job_timeout if files else 0.0, takes_arrays=bool(files and files.arrays),
            new_pages=_pages_of(files, server),
        )  # fmt: skip
        self.import_slot = JobSlot(
            filename, chance, imports.job_timeout if imports else 0.0, idempotent=False,
            repeats=settings.on_ambiguous == "send", new_pages=_pages_of(imports, server),
        )  # fmt: skip
        self.slots = (self.slot, self.import_slot)
        self.outage: str | None = None
        """What keeps happening to requests, while several in a row have failed."""
        self.failure: str | None = None
        """What happened to the last request, if it failed."""
        self.hurry = 0
        """So many wait for everything to be sent: do not linger for merges."""
        self.in_flight = 0
        self.retries = 0
        self._repeated = 0
        self.rate_limited = 0
        self.jobs_completed = 0
        self._settings = settings
        self._to = destination
        self._server = server
        self._chance = chance
        self._queues = Queues(destination.kinds)
        self._arrays = EventRoute(destination.events)
        self._once = Dedup()
        self._track_gate, self._identify_gate, self._bulk_gate, self._import_gate = Gate(), Gate(), Gate(), Gate()
        self._calendar = calendar = calendar or never_set(now)
        self.backlog: LateEventRoute | None = None
        """The route for late events, where there is one."""
        if imports is not None:
            self.backlog = LateEventRoute(
                self.import_slot, self._queues, self.buckets[destination.events.route.budget],
                wanted=imports.wanted, late_after=imports.late_after,
                linger=settings.flush_interval, calendar=calendar,
            )  # fmt: skip
        self._filing = BulkRoute(destination.files, self.slot, self._queues, settings.flush_interval, now)
        ways: list[Callable[[float], Request | float]] = [self._next_identify, self._next_events]
        if destination.files is not None:
            ways.insert(0, self._next_bulk)
        if self.backlog is not None:
            ways.insert(0, self._next_import)
        self._turns = [ways[turn:] + ways[:turn] for turn in range(len(ways))]
        self._endings = Completion(
            self._queues, self._once, self.slots, self.settled, repeats=settings.on_ambiguous == "send"
        )
        if self.backlog is not None and self.backlog.trust.wanted:
            self._endings.known = self.backlog.known
        gates = {"events": self._track_gate, "identifies": self._identify_gate, "files": self._bulk_gate}
        self._outlook = Outlook(self._queues, self.buckets, gates, destination)
        self._turn = 0
        self._hold = Hold()
        self._begun = 0
        self._last_taken = -math.inf  # when the server was well

    @property
    def held(self) -> str | None:
        """Why nothing is sent; one request a minute looks whether it is still so."""
        return self._hold.why

    @property
    def possible_duplicates(self) -> int:
        """Events that were sent again, and which the server may have had."""
        return self._repeated + self._endings.repeated

    # ── a call comes in ──

    def inherit(self, left: Takeover, now: float) -> None:
        """Go on where another sender stopped: before the first call is added."""
        for budget, returning in left.spent.items():
            if budget in self.buckets:
                self.buckets[budget].inherit(returning, now)
        if left.unknown:
            for bucket in self.buckets.values():
                bucket.inherit_nothing(left.unknown, now)
        bulk = [file for file in left.files if file.kind != FILE]
        for file in bulk[:1]:  # there is one job slot
            self._filing.resume(file, now)
        if self.backlog is not None:
            for file in [file for file in left.files if file.kind == FILE][:1]:
                self.backlog.resume(file, now)  # also where no new ones are wanted

    def add(self, ticket: Ticket, was_sent: bool = False) -> None:
        """Take in an accepted call. Calls of one user come in the order of their acceptance.

        ``was_sent`` says that another sender ended before the answer to it came.
        """
        call_id, accepted_at, kind, key, said = ticket
        if self._filing.resuming is not None:
            self._filing.came_in(call_id - 1, accepted_at)
        backlog = self.backlog
        if backlog is not None and backlog.resuming:
            backlog.came_in(call_id - 1, accepted_at)
        if kind == "track":
            queue = self._queues.queue("user", key)
            event: Event = said  # type: ignore[assignment]  # what `kind` says
            if was_sent and self._settings.on_ambiguous == "drop":
                self.settled.unheld(call_id, event, Outcome("dropped", "ambiguous"))
                return
            self._repeated += was_sent
            if backlog is not None:
                backlog.latest = accepted_at
                if backlog.resuming and backlog.rejoins(queue, (call_id, accepted_at, event)):
                    backlog.came_in(call_id, accepted_at)
                    return
            queue.add((call_id, accepted_at, event))
            self._queues.waiting_events += 1
        elif kind in self._to.posts:
            body: bytes = said  # type: ignore[assignment]  # the same
            if kind in self._to.once and self._is_known(call_id, body, accepted_at):
                return
            queue = self._queues.queue("user", key)
            self._add_post(queue, Post(kind, [call_id], accepted_at, body, was_sent))
        else:
            facts: IdentifyPayload = said  # type: ignore[assignment]  # the same
            queue = self._queues.queue(kind, key)
            companion, size = companion_of(facts), size_of_identify(facts)
            if companion is None:
                self._add_row(queue, call_id, facts, size, accepted_at, call_id)
            else:
                row = self._add_row(queue, call_id, facts, size - companion_size(companion), accepted_at, call_id)
                self._add_companion(row, companion, accepted_at, call_id)
            if self._filing.resuming is not None:
                self._filing.came_in(call_id, accepted_at)
            return
        self._queues.came_in(queue)

    def _add_post(self, queue: KeyQueue, post: Post) -> None:
        queue.add(post)
        if post.kind in self._to.once:
            self._once.came_in(post)

    def _is_known(self, call_id: int, body: bytes, accepted_at: float) -> bool:
        """This has been said before: it meets the same fate as then."""
        before = self._once.waiting(body)
        if before is not None:
            before.ids.append(call_id)
            before.accepted_at = accepted_at  # it dies of the age of who said it last
        elif not self._once.was_delivered(body):
            return False
        self.settled.again(call_id, len(body), None if before is not None else DELIVERED)
        return True

    def _add_row(
        self, queue: KeyQueue, call_id: int | None, facts: IdentifyPayload, size: int, accepted_at: float, said_by: int
    ) -> Row:
        """The row that has these facts now. ``call_id`` is the call it carries, ``said_by`` the one that says so."""
        metadata, fields, _, _ = facts
        if self._filing.resuming is not None or (self.backlog is not None and self.backlog.resuming):
            said = Row(queue.kind, queue.key, metadata, fields, _ids(call_id), accepted_at, size, said_by=said_by)
            rejoined = self._rejoined(queue, said)
            if rejoined is not None:
                if call_id is not None:
                    self.settled.merged += rejoined.ids[-2:-1]
                return rejoined
        self._filing.latest[queue.kind] = accepted_at
        row = queue.waiting_row
        if row is not None and self._to.merges(row, facts, queue.calls[-1] is row):
            before = row.size
            if call_id is not None and row.ids:
                self.settled.merged.append(row.ids[-1])
            row.take_in(call_id, metadata, fields, size, accepted_at, said_by)
            self.settled.freed += before + size - row.size
            if queue.claimed_row is not None and fields is not None and queue.place is QueueState.URGENT:
                self._queues.head_left(queue)  # it names a company now: events in a file must not be booked on that
            return row
        row = Row(queue.kind, queue.key, metadata, fields, _ids(call_id), accepted_at, size, said_by=said_by)
        queue.add(row)
        self._queues.came_in(queue)
        return row

    def _rejoined(self, queue: KeyQueue, said: Row) -> Row | None:
        """The row that says this in a file that was taken over, of whichever kind; ``None`` if none does."""
        row = self._filing.rejoins(queue, said) if self._filing.resuming is not None else None
        if row is None and self.backlog is not None and self.backlog.resuming and queue.kind == "user":
            row = self.backlog.rejoins_row(queue, said)
        return row

    def _add_companion(self, row: Row, said: Companion, at: float, said_by: int) -> None:
        """What a call says of another (a user's of the company) travels as a row of its own; they share their fate."""
        kind, key, properties, size = said
        facts: IdentifyPayload = (properties, None, size, None)
        other = self._add_row(self._queues.queue(kind, key), None, facts, size, at, said_by)
        if not any(other is needed for needed in row.needs):
            row.needs = (*row.needs, other)
            row.open_parts += 1
            if other.riders is None:
                other.riders = []
            other.riders.append(row)

    # ── what to do next ──

    def next(self, now: float) -> Request | float:
        """A request to make now, or the time until which there is none.

        ``inf`` means until something is added or done.
        """
        self._calendar.look(now)
        if self._endings.do_chores():
            return now
        earliest = min(self._endings.expire(now, self._settings.max_age), self._queues.wake(now))
        if self.in_flight >= self._settings.concurrency:
            return earliest
        if self._hold.opens_at(now) > now:
            return min(earliest, self._hold.opens_at(now))
        self._turn = (self._turn + 1) % len(self._turns)  # so that no route starves another of connections
        for way in self._turns[self._turn]:
            found = way(now)
            if isinstance(found, Request):
                self._begin(found, now)
                return found
            earliest = min(earliest, found)
        return earliest

    def _begin(self, work: Request, now: float) -> None:
        self._begun += 1
        work.begun_at, work.number = now, self._begun
        work.bucket.take(now)
        work.gate.enter()
        self.in_flight += 1
        self._hold.began(work.number, now)
        if work.queue is not None:
            work.head = work.queue.calls[0]
            self._queues.send(work.queue)
        if work.step is not None:
            self._slot_of(work).asked()

    def _next_events(self, now: float) -> Request | float:
        linger = 0.0 if self.hurry else self._settings.flush_interval
        ripe = self._arrays.ripe_at(self._queues, now, linger)
        if ripe is None:
            return math.inf
        if self.backlog is not None and self._sets_late_aside(self.backlog, now):
            return now
        route = self._to.events.route
        opens = max(ripe, self._opens(self._track_gate, route, now))
        if opens > now:
            return opens
        load, body = self._arrays.load(self._queues)
        return Request(route, body, bucket=self.buckets[route.budget], gate=self._track_gate, load=load)

    def _sets_late_aside(self, backlog: LateEventRoute, now: float) -> bool:
        """The first queue in line has waited too long: it leaves the line, and others come first."""
        queue = self._queues.first_event()
        return queue is not None and backlog.sets_aside(queue, now)

    def _next_import(self, now: float) -> Request | float:
        imports, backlog = self._to.imports, self.backlog
        assert imports is not None
        assert backlog is not None
        if not backlog.trust.wanted and self.import_slot.state is SlotState.FREE:
            return math.inf
        backlog.trust.shut = self.held is not None
        release = backlog.release(now)
        if release <= now:
            return now
        opens = self._opens(self._import_gate, imports.submit, now)
        ripe = backlog.fill_slot(now, self.hurry > 0, may_start=opens <= now)
        step = self.import_slot.next(now)
        if not isinstance(step, Step):
            return min(release, max(opens, min(step, ripe)))
        if opens > now:
            return min(release, opens)
        work = self._step(step, imports.route(step), self._import_gate)
        known, date = backlog.known, self._calendar.date
        work.lines = (line for row in work.rows for line in imports.lines(row, known.of(row), date))
        return work

    def _step(self, step: Step, route: Route, gate: Gate) -> Request:
        work = Request(route, bucket=self.buckets[route.budget], gate=gate, step=step)
        work.filename, work.job_id, work.query = step.batch.filename, step.job_id, step.query
        if step.what == "submit":
            work.rows = step.batch.rows
            if step.form == "array" and self._to.files is not None:
                work.array = self._to.files.arrays[step.batch.kind]
        return work

    def _next_identify(self, now: float) -> Request | float:
        urgent = self._queues.first_urgent()
        if urgent is not None and self.backlog is not None and self.backlog.sets_aside(urgent, now):
            return now
        if urgent is not None:
            opens = self._opens(self._identify_gate, self._route_of(urgent), now)
            if opens > now:
                return opens
            if not self._is_patience_over(now):
                return self._realtime(urgent)
        earliest = math.inf
        for kind, waiting in self._queues.merging.items():
            if not waiting or (self._filing.takes(waiting) and not self._bulk_is_shut(now)):
                continue
            first = next(iter(waiting.values()))
            opens = self._opens(self._identify_gate, self._to.rows[kind], now)
            due = max(opens, self._filing.ripe_at(first, now, self.hurry))
            if due <= now:
                return self._realtime(first)
            earliest = min(earliest, due)
        return earliest if urgent is None else self._realtime(urgent)

    def _is_patience_over(self, now: float) -> bool:
        """A row that nothing waits behind has waited so long that it goes before one with a track behind it."""
        first = (next(iter(waiting.values())) for waiting in self._queues.merging.values() if waiting)
        return any(self._filing.ripe_at(queue, now, self.hurry) + LONGEST_LINGER <= now for queue in first)

    def _route_of(self, queue: KeyQueue) -> Route:
        head = queue.calls[0]
        return self._to.posts[head.kind] if isinstance(head, Post) else self._to.rows[queue.kind]

    def _realtime(self, queue: KeyQueue) -> Request:
        head = queue.calls[0]
        if isinstance(head, Row) and head.state is RowState.WAITING:
            head.state = RowState.SENDING
        body = self._to.row_body(head) if isinstance(head, Row) else head.body  # type: ignore[union-attr]  # no track
        route = self._route_of(queue)
        return Request(route, body, bucket=self.buckets[route.budget], gate=self._identify_gate, queue=queue)

    def _next_bulk(self, now: float) -> Request | float:
        files = self._to.files
        assert files is not None
        opens = self._opens(self._bulk_gate, files.look, now)
        ripe = self._filing.fill_slot(now, self.hurry, may_start=opens <= now)
        step = self.slot.next(now)
        if not isinstance(step, Step):
            return max(opens, min(step, ripe))
        if opens > now:
            return opens
        work = self._step(step, files.route(step), self._bulk_gate)
        work.lines = map(files.line, work.rows)
        return work

    def _bulk_is_shut(self, now: float) -> bool:
        """Somebody else holds the job slot, or bulk does not work: meanwhile the realtime endpoint goes on."""
        return self.slot.foreign_until > now or self._bulk_gate.opens_at(now) > now

    def _opens(self, gate: Gate, route: Route, now: float) -> float:
        return max(gate.opens_at(now), self.buckets[route.budget].ready_at(now))

    # ── an answer comes in ──

    def done(self, work: Request, verdict: Verdict, now: float) -> None:
        """Take in what became of a request that `next` gave out."""
        verdict = self._to.reads(as_promised(verdict, work.route.promises))
        self.in_flight -= 1
        self._return_token(work, verdict, now)
        work.gate.leave()
        self._tell_gate(work, verdict, now)
        if work.step is not None:
            self._step_done(work, work.step, verdict, now)
        elif work.load is not None:
            self._load_done(work, work.load, verdict, now)
        elif work.queue is not None:
            self._queue_done(work, work.queue, verdict, now)

    def _step_done(self, work: Request, step: Step, verdict: Verdict, now: float) -> None:
        slot = self._slot_of(work)
        slot.outlast(self._last_taken, now, self._settings.max_age)
        change = slot.done(step, verdict, now)
        self.jobs_completed += change.delivered
        if slot is self.import_slot and self.backlog is not None:
            if change.withdrawn or (step.what == "submit" and not change.submitted):
                self.backlog.trust.failed(now)
            elif change.submitted:
                self.backlog.trust.went()
        over = "" if slot.has(step.batch) else step.batch.filename
        self._endings.carry_out(change, BY_BULK if slot is self.slot else BY_IMPORT, over)

    def _slot_of(self, work: Request) -> JobSlot:
        return self.import_slot if work.gate is self._import_gate else self.slot

    def _return_token(self, work: Request, verdict: Verdict, now: float) -> None:
        if verdict.status is None and verdict.meaning is Meaning.LOST:
            work.bucket.lost(now)
        elif verdict.status is None:
            work.bucket.unsent()
        else:
            work.bucket.answered(now)
        if work.step is None:  # other endpoints may have limits of their own
            work.bucket.heard(verdict.rate.limit, verdict.rate.remaining, verdict.rate.reset, now)

    def _tell_gate(self, work: Request, verdict: Verdict, now: float) -> None:
        self._hold.ended(work.number)
        meaning = verdict.meaning
        missing_job = work.step is not None and work.step.what != "submit" and verdict.status in (404, 405)
        answered = verdict.status is not None and not verdict.foreign
        imports = self.backlog is not None and work.gate is self._import_gate and work.rows and self.held is None
        if imports and answered and meaning in (Meaning.DENIED, Meaning.MISCONFIGURED):
            assert self.backlog is not None
            self.backlog.trust.close(self._why_no_imports(verdict, work.route), now)
            return
        if self.backlog is not None and answered:
            self.backlog.trust.heard(denied=meaning is Meaning.DENIED, begun_at=work.begun_at)
        if meaning in (Meaning.DENIED, Meaning.MISCONFIGURED) and not missing_job:
            self._refused(work, verdict, now)
            return
        if answered and not missing_job:
            self._hold.lift(work.number, taken=meaning is Meaning.ACCEPTED)
        if meaning is Meaning.LIMITED:
            self.rate_limited += 1
            work.gate.limited(now, verdict.delay)
        elif meaning in (Meaning.AGAIN, Meaning.LOST, Meaning.UNSENT):
            self._failed(work, verdict, now)
        else:
            self._taken(work, now)

    def _refused(self, work: Request, verdict: Verdict, now: float) -> None:
        """The answer speaks of key or URL."""
        why = self._why_held(verdict, work.route)
        self.failure = f"{why} {verdict.words.ids}".rstrip()
        if work.gate.is_past(work.number):
            return
        # Somebody on the way may mind what is in one request; 401 minds the key.
        believed = work.gate.refused(now, at_once=not verdict.ambiguous)
        if verdict.status == 401 or believed or self.held is not None:
            ours = verdict.detail if verdict.foreign or verdict.status is None else ""
            about = (verdict.meaning, verdict.status, ours)
            self._hold.close(why, verdict.words.ids, work.number, self._begun, now, about=about)

    def _failed(self, work: Request, verdict: Verdict, now: float) -> None:
        """The server is not well, or nothing came from it."""
        self.retries += 1
        work.gate.failed(now, verdict.delay, self._chance())
        if verdict.detail != CANCELLED:
            what = f"{self._server}: {verdict.status or verdict.detail} on {work.route.name}"
            what = self._foreign(verdict, work.route) if verdict.foreign else what
            self.failure = f"{what} {verdict.words.ids}".rstrip()
        if work.gate.failing:
            self.outage = self.failure

    def _taken(self, work: Request, now: float) -> None:
        """The server is well."""
        self.failure, self._last_taken = None, now
        if self.backlog is not None and work.gate.failing:
            self.backlog.trust.forgive()  # an outage is over: it was none of files
        work.gate.succeeded(now, work.number)
        if work.gate is self._import_gate and not self._queues.waiting_events:
            # Nobody is left whose request could tell that the outage is over.
            self._track_gate.succeeded(now, work.number)
        if not any(gate.failing for gate in self._gates):
            self.outage = None

    @property
    def _gates(self) -> tuple[Gate, ...]:
        return self._track_gate, self._identify_gate, self._bulk_gate, self._import_gate

    def _why_no_imports(self, verdict: Verdict, route: Route) -> str:
        said = told(verdict.detail)
        return f"{self._server} answers {verdict.status} on {route.name}{said}: does the plan have imports?"

    def _why_held(self, verdict: Verdict, route: Route) -> str:
        if verdict.meaning is Meaning.DENIED:
            refused = f"{self._server} refuses the API key ({verdict.status} on {route.name})"
            return f"{refused}; {self._to.wrong_key}"
        if verdict.status is None:
            return f"{self._server}: {verdict.detail}"
        if verdict.foreign:
            return self._foreign(verdict, route)
        return f"{self._server} answers {verdict.status} on {route.name}: {self._to.wrong_url}"

    def _foreign(self, verdict: Verdict, route: Route) -> str:
        return f"{self._server}, asked for {route.name}, {verdict.detail}"

    def _load_done(self, work: Request, load: EventBatch, verdict: Verdict, now: float) -> None:
        meaning = verdict.meaning
        if meaning is Meaning.ACCEPTED:
            self._arrays.answered(load)
            self.settled.delivered(load.parts, load.size)
            for queue, _ in load.parts:
                self._queues.come_back(queue)
            return
        ambiguous = meaning is Meaning.LOST or verdict.ambiguous
        self._queues.waiting_events += load.calls
        if meaning in (Meaning.INVALID, Meaning.TOO_LARGE) and load.calls > 1:
            (self._arrays.refused if meaning is Meaning.INVALID else self._arrays.too_large)(load)
            self._back_in_line(load)
        elif meaning in (Meaning.INVALID, Meaning.TOO_LARGE):
            self._lose(load, Outcome("dead", meaning.value), verdict.words)
        elif ambiguous and self._settings.on_ambiguous == "drop" and not verdict.doubtful:
            self._lose(load, Outcome("dropped", "ambiguous"))
        else:
            self._repeated += load.calls if ambiguous else 0
            # What fails again and again may be one event's fault, and the others must not die of its company.
            if load.calls > 1 and (verdict.doubtful or self._fails_again(load, meaning)):
                self._arrays.refused(load)
            self._wait_for_better(load, verdict, now)

    def _fails_again(self, load: EventBatch, meaning: Meaning) -> bool:
        if meaning in (Meaning.UNSENT, Meaning.LIMITED):
            return False
        return any(queue.failures >= SUSPICIOUS for queue, _ in load.parts)

    def _back_in_line(self, load: EventBatch) -> None:
        for queue, _ in reversed(load.parts):
            self._queues.come_back(queue, first=True)

    def _lose(self, load: EventBatch, outcome: Outcome, words: Words = NO_WORDS) -> None:
        for queue, calls in load.parts:
            for _ in range(calls):
                self._endings.head(queue, outcome, words)
            self._queues.come_back(queue)

    def _wait_for_better(self, load: EventBatch, verdict: Verdict, now: float) -> None:
        if verdict.meaning is Meaning.LIMITED:
            self._back_in_line(load)
            return
        attempts = 1 + max(queue.failures for queue, _ in load.parts)
        due = now + max(verdict.delay, backoff(attempts, self._chance()))
        for queue, _ in load.parts:
            queue.failed(attempts)
            self._queues.back_off(queue, due)

    def _queue_done(self, work: Request, queue: KeyQueue, verdict: Verdict, now: float) -> None:
        head = work.head
        if not queue.calls or queue.calls[0] is not head:
            self._queues.come_back(queue)  # a job's end has settled the row while it was being repeated
            return
        fate = self._fate(head, verdict)
        if fate is not None:
            self._endings.head(queue, fate, NO_WORDS if fate is DELIVERED else verdict.words)
            self._queues.come_back(queue)
            return
        if isinstance(head, Row) and head.state is RowState.SENDING:
            head.state = RowState.WAITING
        self._wait_for_better(EventBatch([(queue, 1)]), verdict, now)

    def _fate(self, head: object, verdict: Verdict) -> Outcome | None:
        """The final outcome that this answer means for a row or post, or ``None`` if it goes again.

        An identify twice is the same identify, so one whose answer got lost always goes again.
        """
        meaning = verdict.meaning
        if meaning is Meaning.ACCEPTED:
            return DELIVERED
        if isinstance(head, Post):
            if meaning is Meaning.INVALID and head.lost and head.kind in self._to.once:
                return DELIVERED  # what is done once is refused the second time: the lost answer was a yes
            # A 500 may have come after the deed.
            head.lost = head.lost or verdict.ambiguous or meaning in (Meaning.LOST, Meaning.AGAIN)
        return Outcome("dead", meaning.value) if meaning in (Meaning.INVALID, Meaning.TOO_LARGE) else None

    # ── calls leave unsent ──

    def succeed(self, before: Schedule) -> None:
        """Go on counting where another schedule of this sender stopped."""
        self.hurry, self.retries, self._repeated = before.hurry, before.retries, before.possible_duplicates
        self.rate_limited, self.jobs_completed = before.rate_limited, before.jobs_completed

    def leave_by(self, deadline: float | None) -> None:
        """What waits is lost after this."""
        if self.backlog is not None:
            self.backlog.leave_by = deadline

    @property
    def settings(self) -> DeliverySettings:
        """The settings that the schedule keeps to."""
        return self._settings

    @property
    def failures(self) -> int:
        """Requests in a row that came to nothing, of the route where they are most."""
        return max(gate.failures for gate in self._gates)

    def budget_waits(self, now: float) -> Mapping[str, float]:
        """Seconds until the next request may go, by budget; ``inf`` where one has to be answered before."""
        return {name: bucket.ready_at(now) - now for name, bucket in self.buckets.items()}

    def rest(self, now: float) -> Rest:
        """How long it will take to send all that waits, at the present budgets."""
        return self._outlook.rest(now)

    def waits_for(self, now: float) -> str:
        """What stands before the next request, for the log at DEBUG."""
        if self.held is not None:
            return "nothing is sent at present"
        if self.in_flight >= self._settings.concurrency:
            return "as many requests are under way as may be"
        return self._outlook.waits_for(now)

    @property
    def imports_closed(self) -> str | None:
        """Why late events go through the realtime endpoint all the same."""
        return self.backlog.trust.closed if self.backlog is not None else None

    def drop_oldest(self, outcome: Outcome) -> bool:
        """Give up the oldest call that no request carries; false if there is none."""
        return self._endings.give_up(math.inf, outcome, at_most=1) > 0

    def abandon(self, outcome: Outcome) -> None:
        """The end: everything that the server has not taken into a job meets ``outcome``."""
        if self.backlog is not None:
            self.backlog.abandon()
        self._endings.abandon(outcome)


def _ids(call_id: int | None) -> array[int]:
    return array("Q") if call_id is None else array("Q", (call_id,))


def _pages_of(files: Files | Imports | None, server: str) -> Callable[[], Pages]:
    """What begins a walk through the job list at this server: nowhere else does a link lead."""
    host = urlsplit(server).hostname or ""
    return partial(Pages, host, files.listing.path) if files is not None else Pages
