"""The brain: pending calls by user, and what to do next.

Sans-IO, in the way h11 is: `Schedule.add` takes a call in, `Schedule.next` says what to do or how long to
wait, `Schedule.done` takes the answer in. No clock, no chance, no waiting: everything is handed in, so that
whole days can be tested in a moment. What became of calls is written to `Schedule.settled`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Literal

from ._bucket import Bucket
from ._bulk import BulkSlot, Change, SlotState, Step
from ._coalesce import MAX_ROWS, Row, RowState, cut, realtime_body
from ._gate import HOLD_PROBE, Gate, backoff
from ._jobs import expected_duration
from ._lanes import Event, Facts, Lane, Place, Ticket, body_of
from ._ledger import DELIVERED, Outcome
from ._lines import Lines
from ._settings import Settings
from ._settlements import Settlements
from ._values import Value, size_of
from ._verdict import Meaning, Verdict
from ._work import Route, Work

LONGEST_LINGER = 15.0  # seconds that a file waits for a pause in the updates; 10,000 rows take the server 333
_CHORES = 200  # rows settled in one go: about half a millisecond of the application's loop


class Schedule:
    """See the module. ``chance`` gives 0 … 1 for jitter, ``filename`` a new unique name, ``server`` is for messages."""

    def __init__(
        self,
        settings: Settings,
        *,
        chance: Callable[[], float],
        filename: Callable[[], str],
        now: float,
        server: str = "the server",
    ) -> None:
        self.settled = Settlements()
        self.track_bucket = Bucket(settings.track_per_minute, settings.burst, now)
        self.identify_bucket = Bucket(settings.identify_per_minute, settings.burst, now)
        self.slot = BulkSlot(filename, chance, settings.job_timeout)
        self.held: str | None = None
        """Why nothing is sent; one request a minute looks whether it is still so."""
        self.outage: str | None = None
        """What keeps happening to requests, while several in a row have failed."""
        self.hurry = 0
        """So many wait for everything to be sent: do not linger for merges."""
        self.in_flight = 0
        self.retries = 0
        self.possible_duplicates = 0
        self.rate_limited = 0
        self.jobs_completed = 0
        self._settings = settings
        self._server = server
        self._chance = chance
        self._lines = Lines()
        self._latest: dict[Literal["user", "company"], float] = {"user": now, "company": now}
        self._track_gate, self._identify_gate, self._bulk_gate = Gate(), Gate(), Gate()
        self._chores: Iterator[None] = iter(())
        self._chores_waiting = False
        self._turn = 0
        self._last_kind: Literal["user", "company"] = "user"  # so that companies, which are few, go first
        self._probe_at = 0.0
        self._probing = False

    # ── a call comes in ──

    def add(self, ticket: Ticket) -> None:
        """Take in an accepted call. Calls of one user come in the order of their acceptance."""
        call_id, accepted_at, kind, key, said = ticket
        if kind == "track":
            lane = self._lines.lane("user", key)
            event: Event = said  # type: ignore[assignment]  # what `kind` says
            lane.calls.append((call_id, accepted_at, event))
            self._lines.came_in(lane)
            return
        facts: Facts = said  # type: ignore[assignment]  # the same
        lane = self._lines.lane(kind, key)
        row = self._add_row(lane, call_id, facts, accepted_at)
        company = facts[1]
        if company is not None and len(company) > 1:
            self._add_company(row, company, accepted_at)

    def _add_row(self, lane: Lane, call_id: int | None, facts: Facts, accepted_at: float) -> Row:
        metadata, company, size = facts
        company_id = str(company["id"]) if company is not None else None
        self._latest[lane.kind] = accepted_at
        row = lane.merges(facts)
        if row is not None:
            before = row.size
            if call_id is not None and row.ids:
                self.settled.merged.append(row.ids[-1])
            row.take_in(call_id, metadata, company_id, size, accepted_at)
            self.settled.freed += before + size - row.size
            return row
        row = Row(lane.kind, lane.key, metadata, company_id, array("Q"), accepted_at, size)
        if call_id is not None:
            row.ids.append(call_id)
        lane.calls.append(row)
        lane.newest = row
        self._lines.came_in(lane)
        return row

    def _add_company(self, user: Row, company: Mapping[str, Value], accepted_at: float) -> None:
        """A company's properties travel as a row of their own, whose fate the user's row shares."""
        properties = {name: value for name, value in company.items() if name != "id"}
        size = size_of(properties)
        self.settled.freed -= size  # nobody has charged the queue for this row yet
        lane = self._lines.lane("company", str(company["id"]))
        row = self._add_row(lane, None, (properties, None, size), accepted_at)
        if not any(row is needed for needed in user.needs):
            user.needs = (*user.needs, row)
            user.open_parts += 1
            if row.riders is None:
                row.riders = []
            row.riders.append(user)

    # ── what to do next ──

    def next(self, now: float) -> Work | float:
        """A request to make now, or the time until which there is none.

        ``inf`` means until something is added or done.
        """
        if self._do_chores():
            return now
        earliest = min(self._expire(now), self._lines.wake(now))
        if self.in_flight >= self._settings.concurrency:
            return earliest
        if self.held is not None and (self._probing or now < self._probe_at):
            return earliest if self._probing else min(earliest, self._probe_at)
        ways = (self._next_bulk, self._next_identify, self._next_track)
        self._turn = (self._turn + 1) % len(ways)  # so that no route starves another of connections
        for way in ways[self._turn :] + ways[: self._turn]:
            found = way(now)
            if isinstance(found, Work):
                self._begin(found, now)
                return found
            earliest = min(earliest, found)
        return earliest

    def _begin(self, work: Work, now: float) -> None:
        work.bucket.take(now)
        work.gate.enter()
        self.in_flight += 1
        self._probing = self.held is not None
        if work.lane is not None:
            work.head = work.lane.calls[0]
            self._lines.take(work.lane, Place.BUSY)
        if work.step is not None:
            self.slot.asked()

    def _next_track(self, now: float) -> Work | float:
        lane = self._lines.first_track()
        if lane is None:
            return math.inf
        opens = self._opens(self._track_gate, self.track_bucket, now)
        if opens > now:
            return opens
        body = body_of(lane.calls[0][2])  # type: ignore[index]  # a head in this line is a track
        return Work(Route.TRACK, body, bucket=self.track_bucket, gate=self._track_gate, lane=lane)

    def _next_identify(self, now: float) -> Work | float:
        opens = self._opens(self._identify_gate, self.identify_bucket, now)
        urgent = self._lines.first_urgent()
        if urgent is not None and opens > now:
            return opens
        if urgent is not None and not self._is_patience_over(now):
            return self._realtime(urgent)
        earliest = math.inf
        for waiting in self._lines.patient.values():
            if not waiting or (len(waiting) > self._settings.bulk_threshold and not self._bulk_is_shut(now)):
                continue
            first = next(iter(waiting.values()))
            due = max(opens, self._ripe_at(first, now))
            if due <= now:
                return self._realtime(first)
            earliest = min(earliest, due)
        return earliest if urgent is None else self._realtime(urgent)

    def _is_patience_over(self, now: float) -> bool:
        """A row that nothing waits behind has waited so long that it goes before one with a track behind it."""
        first = (next(iter(waiting.values())) for waiting in self._lines.patient.values() if waiting)
        return any(self._ripe_at(lane, now) + LONGEST_LINGER <= now for lane in first)

    def _realtime(self, lane: Lane) -> Work:
        row = lane.calls[0]
        assert isinstance(row, Row)
        if row.state is RowState.WAITING:
            row.state = RowState.SENDING
        route = Route.IDENTIFY if row.kind == "user" else Route.IDENTIFY_COMPANY
        return Work(route, realtime_body(row), bucket=self.identify_bucket, gate=self._identify_gate, lane=lane)

    def _next_bulk(self, now: float) -> Work | float:
        opens = self._opens(self._bulk_gate, self.identify_bucket, now)
        ripe = self._fill_slot(now, may_start=opens <= now)
        step = self.slot.next(now)
        if not isinstance(step, Step):
            return max(opens, min(step, ripe))
        if opens > now:
            return opens
        work = Work(Route.JOB, filename=step.batch.filename, job_id=step.job_id, bucket=self.identify_bucket,
                    gate=self._bulk_gate, step=step)  # fmt: skip
        if step.what == "search":
            work.route = Route.JOBS
        elif step.what == "submit":
            work.route = Route.BULK_USERS if step.batch.kind == "user" else Route.BULK_COMPANIES
            work.rows = step.batch.rows
        return work

    def _fill_slot(self, now: float, may_start: bool) -> float:
        """Start a file if there are rows enough; else say when there may be."""
        earliest = math.inf
        for kind in sorted(self._lines.patient, key=lambda kind: kind == self._last_kind):
            waiting = self._lines.patient[kind]
            if len(waiting) <= self._settings.bulk_threshold:
                continue
            ripe = self._file_ripe_at(kind, waiting, now)
            if ripe > now:
                earliest = min(earliest, ripe)
            elif not self.slot.takes_rows(now):
                earliest = min(earliest, self.slot.opens_at())
            elif not may_start:
                earliest = now
            else:
                heads = (lane.calls[0] for lane in waiting.values())
                rows = cut((row for row in heads if isinstance(row, Row)), MAX_ROWS, self.slot.max_bytes)
                self.slot.start(kind, rows)
                for row in rows:
                    lane = waiting[row.key]
                    self._lines.take(lane, Place.PARKED)
                    lane.batched, lane.newest = row, None
                self._last_kind = kind
        return earliest

    def _ripe_at(self, lane: Lane, now: float) -> float:
        """When its head has lingered long enough for others to merge with."""
        head = lane.calls[0]
        assert isinstance(head, Row)
        return now if self.hurry else head.accepted_at + self._settings.flush_interval

    def _file_ripe_at(self, kind: Literal["user", "company"], waiting: Mapping[str, Lane], now: float) -> float:
        """A file waits for updates to pause, because the job will take so much longer; but not for ever."""
        first = self._ripe_at(next(iter(waiting.values())), now)
        if first > now or self.hurry:
            return first
        linger = min(LONGEST_LINGER, expected_duration(len(waiting)) / 10)
        return min(self._latest[kind] + self._settings.flush_interval, first + linger)

    def _bulk_is_shut(self, now: float) -> bool:
        """Somebody else holds the job slot, or bulk does not work: meanwhile the realtime endpoint goes on."""
        return self.slot.foreign_until > now or self._bulk_gate.opens_at(now) > now

    def _opens(self, gate: Gate, bucket: Bucket, now: float) -> float:
        return max(gate.opens_at(now), bucket.ready_at(now))

    # ── an answer comes in ──

    def done(self, work: Work, verdict: Verdict, now: float) -> None:
        """Take in what became of a request that `next` gave out."""
        self.in_flight -= 1
        self._return_token(work, verdict, now)
        work.gate.leave()
        self._tell_gate(work, verdict, now)
        if work.step is not None:
            self._carry_out(self.slot.done(work.step, verdict, now))
        elif work.lane is not None:
            self._lane_done(work, work.lane, verdict, now)

    def _return_token(self, work: Work, verdict: Verdict, now: float) -> None:
        if verdict.status is None and verdict.meaning is Meaning.LOST:
            work.bucket.lost(now)
        elif verdict.status is None:
            work.bucket.unsent()
        else:
            work.bucket.answered(now)
        if work.lane is not None:  # other endpoints may have limits of their own
            work.bucket.heard(verdict.rate.limit, verdict.rate.remaining, verdict.rate.reset, now)

    def _tell_gate(self, work: Work, verdict: Verdict, now: float) -> None:
        self._probing = False
        meaning = verdict.meaning
        missing_job = work.step is not None and work.step.what != "submit" and verdict.status in (404, 405)
        if meaning in (Meaning.DENIED, Meaning.MISCONFIGURED) and not missing_job:
            self.held = _why_held(verdict, work.route, self._server)
            self._probe_at = now + HOLD_PROBE
            return
        if verdict.status is not None:
            self.held = None
        if meaning is Meaning.LIMITED:
            self.rate_limited += 1
            work.gate.limited(now, verdict.delay)
        elif meaning in (Meaning.AGAIN, Meaning.LOST, Meaning.UNSENT):
            self.retries += 1
            work.gate.failed(now, verdict.delay, self._chance())
            if work.gate.failing:
                self.outage = f"{self._server}: {verdict.status or verdict.detail} on {work.route.value}"
        else:
            work.gate.succeeded()
            if not any(gate.failing for gate in (self._track_gate, self._identify_gate, self._bulk_gate)):
                self.outage = None

    def _lane_done(self, work: Work, lane: Lane, verdict: Verdict, now: float) -> None:
        if not lane.calls or lane.calls[0] is not work.head:
            self._lines.came_back(lane)  # a job's end has settled the row while it was being repeated
            return
        fate = self._fate(work, verdict)
        if fate is not None:
            self.settled.head(lane, fate)
            self._lines.came_back(lane)
            return
        if isinstance(work.head, Row) and work.head.state is RowState.SENDING:
            work.head.state = RowState.WAITING
        if verdict.meaning in (Meaning.DENIED, Meaning.MISCONFIGURED, Meaning.LIMITED):
            self._lines.came_back(lane, first=True)
        else:
            lane.attempts += 1
            self._lines.sleep(lane, now + max(verdict.delay, backoff(lane.attempts, self._chance())))

    def _fate(self, work: Work, verdict: Verdict) -> Outcome | None:
        """The final outcome that this answer means for one call, or ``None`` if it goes again."""
        meaning = verdict.meaning
        if meaning is Meaning.ACCEPTED:
            return DELIVERED
        if meaning in (Meaning.INVALID, Meaning.TOO_LARGE):
            return Outcome("dead", meaning.value)
        if meaning is Meaning.LOST and work.route is Route.TRACK:  # an identify twice is the same identify
            if self._settings.on_ambiguous == "drop":
                return Outcome("dropped", "ambiguous")
            self.possible_duplicates += 1
        return None

    # ── rows leave the job slot ──

    def _carry_out(self, change: Change) -> None:
        self.settled.marked(change.submitted, True)
        self.settled.marked(change.withdrawn, False)
        self.jobs_completed += change.delivered
        if change.ended:
            self._chores = chain(self._chores, self._end(change))
            self._chores_waiting = True

    def _end(self, change: Change) -> Iterator[None]:
        fate = DELIVERED if change.delivered else Outcome("dead", change.dead) if change.dead else None
        for row in change.ended:
            lane = self._lines.lane(row.kind, row.key)
            lane.batched = None
            if row.state is RowState.BATCHED:
                if fate is not None:
                    self.settled.head(lane, fate)
                else:
                    row.state = RowState.SENDING if lane.place is Place.BUSY else RowState.WAITING
                    if not any(isinstance(call, Row) for call in lane.calls[1:]):
                        lane.newest = row  # others may merge into it again
            if lane.place not in (Place.BUSY, Place.ASLEEP):
                self._lines.came_back(lane)
            elif lane.calls:
                self._lines.ages.enter(lane)
            yield

    def _do_chores(self) -> bool:
        """Settle some of the rows that a job's or a company's end has left to settle; true if there are more."""
        if self._chores_waiting:
            self._chores_waiting = sum(1 for _ in islice(self._chores, _CHORES)) == _CHORES
            if not self._chores_waiting:
                self._chores = iter(())
        return self.settled.follow(_CHORES) or self._chores_waiting

    # ── calls leave unsent ──

    def drop_oldest(self, outcome: Outcome) -> bool:
        """Give up the oldest call that no request carries; false if there is none."""
        return self._give_up(math.inf, outcome, at_most=1) > 0

    def _expire(self, now: float) -> float:
        """Calls die of age, never of a number of attempts. When the next one will."""
        limit = now - self._settings.max_age
        self._give_up(limit, Outcome("dead", "expired"))
        oldest = self._lines.ages.oldest()
        return max(now + 1.0, oldest.head_time() + self._settings.max_age) if oldest is not None else math.inf

    def _give_up(self, accepted_until: float, outcome: Outcome, at_most: int = 1_000) -> int:
        given_up = 0
        while given_up < at_most:
            lane = self._lines.ages.oldest()
            if lane is None or lane.head_time() > accepted_until:
                break
            head = lane.calls[0]
            # A company row is not given up under its users: they would be lost with it.
            if lane.place is Place.BUSY or (isinstance(head, Row) and (head.state is RowState.BATCHED or head.awaited)):
                self._lines.ages.set_aside(lane)  # it is watched again when its head comes back
                continue
            self.settled.head(lane, outcome)
            given_up += 1
            self._lines.head_left(lane)
        return given_up

    def abandon(self, outcome: Outcome) -> None:
        """The end: everything that the server has not taken into a job meets ``outcome``."""
        while self._do_chores():
            pass
        running = self.slot.batch if self.slot.state is SlotState.RUNNING else None
        submitted = {id(row) for row in running.rows} if running is not None else set()
        for lane in list(self._lines):
            staying = [lane.calls.pop(0)] if lane.calls and id(lane.calls[0]) in submitted else []
            while lane.calls:
                self.settled.head(lane, outcome)
            lane.calls = staying
            self._lines.take(lane, Place.PARKED)
            self._lines.came_back(lane)
        while self._do_chores():
            pass
        for row in running.rows if running is not None else ():
            if not row.settled and row.outcome not in (None, DELIVERED):  # a part of it is lost: so is the call
                row.state = RowState.ANSWERED
                self.settled.close(row)
        self.settled.marked(running.rows if running is not None else (), True)


def _why_held(verdict: Verdict, route: Route, server: str) -> str:
    if verdict.meaning is Meaning.DENIED:
        return (
            f"{server} refuses the API key ({verdict.status} on {route.value}); "
            "is it the browser's App Token instead of the API key?"
        )
    if verdict.status is None:
        return f"{server}: {verdict.detail}"
    return f"{server} answers {verdict.status} on {route.value}: is the URL (the region) right?"
