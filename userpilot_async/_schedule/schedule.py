"""The brain: pending calls by key, and what to do next.

Sans-IO, in the way h11 is: `Schedule.add` takes a call in, `Schedule.next` says what to do or how long to
wait, `Schedule.done` takes the answer in. No clock, no chance, no waiting: everything is handed in, so that
whole days can be tested in a moment. What became of calls is written to `Schedule.settled`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from .._account.losses import Rest
from .._calls.outcome import Outcome
from .._calls.payload import Ticket
from .._protocol.jobs import Job
from .._protocol.rate_limit import Bucket
from .._protocol.verdict import Meaning, Verdict, as_promised
from .._settings import DeliverySettings
from .calendar import Calendar, never_set
from .completion import Completion
from .dedup import Dedup
from .destination import Destination
from .health import ServerHealth
from .intake import Intake
from .job_slot import JobSlot
from .outlook import Outlook
from .posts import Deletion
from .queues import Queues
from .routes.bulk import BulkRoute
from .routes.context import RouteContext, Urgency
from .routes.deletions import DeletionRoute
from .routes.events import EventRoute
from .routes.identifies import IdentifyRoute
from .routes.import_breaker import ImportBreaker
from .routes.late_events import LateEventRoute
from .routes.route import Request, Route
from .settlement import Settlements
from .settling import Settling
from .takeover import Takeover


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
        self.settings = settings
        """The settings that the schedule keeps to."""
        self.settled = Settlements()
        self.buckets = {name: Bucket(limit, destination.burst, now) for name, limit in destination.budgets.items()}
        """By the names that endpoints use."""
        self.in_flight = 0
        """Requests that were given out, and have not ended."""
        self._to = destination
        self._calendar = calendar or never_set(now)
        self._urgency = Urgency(settings.flush_interval)
        self._queues = Queues(
            destination.kinds, Settling(destination.pauses), destination.packs, packs_events=destination.packs_events
        )
        self._dedup = Dedup()
        self._settled_at = -math.inf  # when the server has settled all that an earlier sender sent
        repeats = settings.on_ambiguous == "send"
        self._completion = Completion(self._queues, self._dedup, self.settled, repeats=repeats)
        imports = destination.imports
        self._breaker = ImportBreaker(imports is not None and imports.wanted)
        self._health = ServerHealth(server, destination, self._breaker, chance)
        context = RouteContext(
            settings, destination, self._queues, self.buckets, self._completion, self._health, self._urgency,
            self._calendar, chance, filename, server,
        )  # fmt: skip
        self._bulk = BulkRoute(context, destination.files) if destination.files is not None else None
        self._late = LateEventRoute(context, imports, self._breaker) if imports is not None else None
        if self._late is not None and self._breaker.wanted:
            self._completion.known = self._late.known
        files = [route for route in (self._bulk, self._late) if route is not None]
        self._intake = Intake(context, self._dedup, self.settled, files)
        self._routes: list[Route] = [*reversed(files), IdentifyRoute(context, self._bulk), EventRoute(context)]
        if destination.deletions is not None:
            self._routes.append(DeletionRoute(context, destination.deletions))
        self._turn = 0
        self._health.gates = gates = {route.name: route.gate for route in reversed(self._routes)}
        self._outlook = Outlook(self._queues, self.buckets, gates, destination)

    # ── calls come in ──

    def inherit(self, left: Takeover, now: float) -> None:
        """Go on where another sender stopped: before the first call is added."""
        for budget, returning in left.spent.items():
            if budget in self.buckets:
                self.buckets[budget].inherit(returning, now)
        if left.unknown:
            for bucket in self.buckets.values():
                bucket.inherit_nothing(left.unknown, now)
        for file in left.files:
            for route in self._routes:
                route.adopt(file, now)
        self._intake.expect_files()
        self._settled_at = now + self._queues.settling.longest

    def add(self, ticket: Ticket, was_sent: bool = False) -> None:
        """Take in an accepted call. Calls of one user come in the order of their acceptance.

        ``was_sent`` says that another sender ended before the answer to it came.
        """
        self.add_all((ticket,), lambda call_id: was_sent)

    def add_all(self, tickets: Iterable[Ticket], was_sent: Callable[[int], bool]) -> None:
        """Take in accepted calls, as `add` does; ``was_sent`` says of a call's id what it says there of the call."""
        self._intake.add_all(tickets, was_sent)

    # ── what to do next ──

    def next(self, now: float) -> Request | float:
        """A request to make now, or the time until which there is none.

        ``inf`` means until something is added or done.
        """
        self._calendar.read(now)
        if self._completion.do_chores():
            return now
        expires, wakes = self._completion.expire(now, self.settings.max_age), self._queues.wake(now)
        if wakes <= now:  # first all of them: those of one array go in one again, or who spoils it is not found
            return now
        earliest = min(expires, wakes)
        if self.in_flight >= self.settings.concurrency:
            return earliest
        opens = max(self._health.opens_at(now), self._settled_at)
        if opens > now:
            return min(earliest, opens)
        if self._late is not None and self._late.set_late_aside(now):
            return now
        self._turn = (self._turn + 1) % len(self._routes)  # so that no route starves another of connections
        for route in (*self._routes[self._turn :], *self._routes[: self._turn]):
            found = route.next(now)
            if isinstance(found, Request):
                self._health.began(found, now)
                found.bucket.take(now)
                self.in_flight += 1
                return found
            earliest = min(earliest, found)
        return earliest

    def done(self, request: Request, verdict: Verdict, now: float) -> None:
        """Take in what became of a request that `next` gave out."""
        verdict = self._to.reads(as_promised(verdict, request.endpoint.promises))
        self.in_flight -= 1
        self._return_token(request, verdict, now)
        self._health.ended(request, verdict, now, events_wait=self._queues.waiting_events > 0)
        if self._queues.settling.longest:
            self._queues.answered(request.queues, now)
        request.route.done(request, verdict, now)

    def _return_token(self, request: Request, verdict: Verdict, now: float) -> None:
        if verdict.status is None and verdict.meaning is Meaning.LOST:
            request.bucket.lost(now)
        elif verdict.status is None:
            request.bucket.unsent()
        else:
            request.bucket.answered(now)
        if request.load is not None or request.head is not None:  # other endpoints may have limits of their own
            request.bucket.heard(verdict.rate.limit, verdict.rate.remaining, verdict.rate.reset, now)

    # ── calls leave unsent ──

    def drop_oldest(self, outcome: Outcome) -> bool:
        """Give up the oldest call that no request carries; false if there is none."""
        return self._completion.give_up(math.inf, outcome, at_most=1) > 0

    def abandon(self, outcome: Outcome) -> Iterator[None]:
        """The end: everything that the server has not taken into a job meets ``outcome``, a call with each step."""
        for route in self._routes:
            route.abandon()
        yield from self._completion.abandon(outcome, self.slots)

    # ── what the sender reports and asks ──

    def succeed(self, before: Schedule) -> None:
        """Go on counting where another schedule of this sender stopped."""
        self.expedited = before.expedited
        self._health.go_on(before._health)
        self._completion.go_on(before._completion)

    @property
    def expedited(self) -> int:
        """So many callers wait for everything to be sent: nothing lingers for others to share a request with."""
        return self._urgency.expedited

    @expedited.setter
    def expedited(self, callers: int) -> None:
        self._urgency.expedited = callers

    def leave_by(self, deadline: float | None) -> None:
        """Everything that still waits at this moment will be lost; ``None`` for never."""
        self._urgency.leave_by = deadline

    @property
    def paused(self) -> str | None:
        """Why nothing is sent; one request a minute asks whether that has changed."""
        return self._health.paused

    @property
    def outage(self) -> str | None:
        """The failure that goes on, while several requests in a row have failed."""
        return self._health.outage

    @property
    def failure(self) -> str | None:
        """The failure of the last request, if it failed."""
        return self._health.failure

    def waiting(self, kind: str, keys: Iterable[str]) -> int:
        """How many of these keys have calls that wait, or are on their way."""
        return sum(self._queues.has(kind, key) for key in keys)

    @property
    def only_deletes(self) -> bool:
        """Nothing waits but deletions that the server has taken, and carries out without us: that may take a day."""
        if self._queues.have_packed:
            return False
        calls = chain.from_iterable(queue.calls for queue in self._queues)
        first = next(calls, None)  # one that waits is found at once, of a hundred thousand
        return first is not None and all(isinstance(one, Deletion) and one.submitted for one in chain((first,), calls))

    @property
    def failures(self) -> int:
        """Requests in a row that came to nothing, of the route where they are most."""
        return self._health.failures

    @property
    def retries(self) -> int:
        """Requests that failed, and whose calls go again."""
        return self._health.retries

    @property
    def rate_limited(self) -> int:
        """Requests that were answered 429."""
        return self._health.rate_limited

    @property
    def possible_duplicates(self) -> int:
        """Events that were sent again, and which the server may have had."""
        return self._completion.possible_duplicates + self._completion.files.possible_duplicates

    @property
    def jobs_completed(self) -> int:
        """Jobs of the server that have ended well."""
        return self._completion.files.jobs_completed

    @property
    def slots(self) -> Sequence[JobSlot]:
        """The slots that jobs run in, of rows and of events, as far as the server has them."""
        return [route.slot for route in (self._bulk, self._late) if route is not None]

    @property
    def job(self) -> Job | None:
        """The job that works off rows at present."""
        return self._bulk.slot.job if self._bulk is not None else None

    @property
    def import_job(self) -> Job | None:
        """The job that works off events at present."""
        return self._late.slot.job if self._late is not None else None

    @property
    def imports_closed(self) -> str | None:
        """Why late events go through the realtime endpoint all the same."""
        return self._breaker.closed

    def budget_waits(self, now: float) -> Mapping[str, float]:
        """Seconds until the next request may go, by budget; ``inf`` where one has to be answered before."""
        return {name: bucket.ready_at(now) - now for name, bucket in self.buckets.items()}

    def rest(self, now: float) -> Rest:
        """How long it will take to send all that waits, at the present budgets."""
        return self._outlook.rest(now)

    def waits_for(self, now: float) -> str:
        """The reason why no request is made at present, for the log at DEBUG."""
        if self.paused is not None:
            return "nothing is sent at present"
        if self.in_flight >= self.settings.concurrency:
            return "as many requests are under way as may be"
        return self._outlook.waits_for(now)
