"""Userpilot's server, a few lines long, around the real schedule: time is a number, chance is a seed."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import attrs

from tests.harness import judge
from tests.harness.model import Event, Model, same_events, same_state
from tests.rules.schedule.world import FaultyServer, World
from userpilot_async._calls.values import size_of
from userpilot_async._protocol.verdict import Verdict, of_failure
from userpilot_async._schedule.routes.route import Request
from userpilot_async._settings import Settings
from userpilot_async._userpilot.calls import Call, DeleteCompany, DeleteUser, Identify, Track, deletion_body, track_body
from userpilot_async._userpilot.destination import (
    DELETE_COMPANIES,
    DELETE_USERS,
    IDENTIFY,
    IDENTIFY_COMPANY,
    IMPORTS,
    JOB,
    JOBS,
    TRACK,
    facts_of,
    userpilot,
)

ROWS_PER_SECOND = 30.0


@attrs.define
class Job:
    """A file the server has taken."""

    job_id: str
    filename: str
    kind: str
    rows: list[Any]
    """Of a file, each as it was read; of a deletion, ids."""
    ends_at: float
    fails: bool
    over: bool = False

    @property
    def deletes(self) -> bool:
        """The job deletes users or companies."""
        return self.kind.startswith("delete")


@attrs.define
class Server(FaultyServer):
    """Userpilot's, as its documentation has it."""

    users: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    companies: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    company_of: dict[str, str | None] = attrs.field(factory=dict)
    events: list[Event] = attrs.field(factory=list)
    tracked: list[tuple[str, int]] = attrs.field(factory=list)
    jobs: list[Job] = attrs.field(factory=list)
    uploads: int = 0
    """Files that were sent here, whatever became of them."""
    stamps: dict[str, list[float]] = attrs.field(factory=lambda: {"track": [], "identify": []})
    job_overlaps: int = 0
    conflicts: list[float] = attrs.field(factory=list)
    lost_tracks: int = 0
    down: set[str] = attrs.field(factory=set)
    """Names of endpoints that answer 503."""
    refuses_imports: int = 0
    """The status that imports are answered with, if they are."""
    refuses_all: bool = False
    """The server refuses the key of every request."""
    foreign_until: float = 0.0
    """Until then somebody else's import runs."""
    swallows: set[str] = attrs.field(factory=set)
    """Names of endpoints whose requests get lost."""
    swallowed: int = 0
    """How many requests have got lost."""
    poison: int = -1
    """An import with the event of this number is answered 400."""
    spoilt: str = ""
    """Every deletion job with this id in it fails."""
    loses: set[str] = attrs.field(factory=set)
    """Names of endpoints that do what they are asked, and whose answers get lost."""
    largest_file: int = 0
    """Bytes over which a file is answered 413; 0 for no limit."""
    too_large: int = 0
    """Files that were."""
    blanks: bool = True
    """An import row blanks the properties that it leaves out."""
    dated: dict[int, float] = attrs.field(factory=dict)
    """When the event with this number happened, as the server has it; of several, the first."""
    imported: list[dict[str, Any]] = attrs.field(factory=list)
    """All rows of import files that it has taken."""

    def handle(self, work: Request, now: float) -> Verdict:
        """As any does; some answers get lost."""
        self.uploads += bool(work.filename)
        if work.endpoint.name in self.swallows:
            self.swallowed += 1
            self.note_lost(work)
            return of_failure("ReadTimeout", sent=True)
        verdict = super().handle(work, now)
        if work.endpoint.name not in self.loses or verdict.status is None:
            return verdict
        self.note_lost(work)
        return of_failure("ReadError", sent=True)

    def stamp(self, work: Request, now: float) -> None:
        """Each family of endpoints has a limit of its own."""
        self.work_off(now)
        self.stamps["track" if work.endpoint is TRACK else "identify"].append(now)

    def note_lost(self, work: Request) -> None:
        """A track without an answer may become a double."""
        self.lost_tracks += work.endpoint is TRACK

    def be_well(self) -> None:
        """Nor do the files fail any more that it works on."""
        self.trouble = 0.0
        for job in self.jobs:
            job.fails = job.fails and job.over

    def apply(self, work: Request, now: float) -> tuple[int, Any]:
        """What the documentation says a request does."""
        if work.endpoint.name in self.down:
            return 503, None
        if self.refuses_all:
            return 401, None
        if work.endpoint is IMPORTS and self.refuses_imports:
            return self.refuses_imports, None
        if work.endpoint is IMPORTS and now < self.foreign_until:
            return 409, None
        if work.endpoint is TRACK:
            body = json.loads(work.body)
            user = body["user_id"]
            self.events.append(Event(user, body["event_name"], body["metadata"], self.company_of.get(user)))
            self.tracked.append((user, body["metadata"]["n"]))
            self.dated.setdefault(body["metadata"]["n"], now)
            return 202, None
        if work.endpoint in (IDENTIFY, IDENTIFY_COMPANY):
            body = json.loads(work.body)
            company = body.get("company")
            self.store({**body, **({"company_id": company["id"]} if company else {})}, work.endpoint is IDENTIFY)
            return 202, None
        if work.endpoint is JOBS:
            return 200, [self.describe(job) for job in reversed(self.jobs)]
        if work.endpoint is JOB:
            found = [job for job in self.jobs if job.job_id == work.job_id]
            return (200, self.describe(found[0])) if found else (404, None)
        if work.endpoint in (DELETE_USERS, DELETE_COMPANIES):
            (ids,) = json.loads(work.body).values()
            ends_at, fails = now + self.chance.choice([0.1, 3.0, 40.0]), self.chance.random() < self.trouble
            fails = fails or self.spoilt in ids
            self.jobs.append(Job(f"job:{len(self.jobs)}", "", work.endpoint.name, ids, ends_at, fails))
            return 202, {"message": f"{len(ids)} scheduled"}
        if any(
            not job.over and not job.deletes and (job.kind == "imports") == (work.endpoint is IMPORTS)
            for job in self.jobs
        ):
            self.conflicts.append(now)
            return 409, None
        lines = list(work.lines)
        if self.largest_file and sum(map(len, lines)) > self.largest_file:
            self.too_large += 1
            return 413, None
        rows = [json.loads(line) for line in lines]
        if any(row.get("metadata", {}).get("n") == self.poison for row in rows):
            return 400, None
        if work.endpoint is IMPORTS:
            self.imported += rows
            self.tracked += [(row["user_id"], row["metadata"]["n"]) for row in rows if row["event_type"] == "track"]
        job = Job(f"job:{len(self.jobs)}", work.filename, work.endpoint.name, rows, now + len(rows) / ROWS_PER_SECOND,
                  self.chance.random() < self.trouble)  # fmt: skip
        self.jobs.append(job)
        return 202, self.describe(job)

    def work_off(self, now: float) -> None:
        """Bring jobs up to now."""
        for job in self.jobs:
            if not job.over and job.ends_at <= now:
                job.over = True
                for row in [] if job.fails else job.rows:
                    if job.deletes:
                        self.delete(row, job.kind == "delete_users")
                    elif job.kind == "imports":
                        self.import_row(row)
                    else:
                        self.store(row, job.kind == "bulk_users")

    def import_row(self, row: dict[str, Any]) -> None:
        """Events are dated by their row."""
        user = row["user_id"]
        if row["event_type"] == "identify_user":
            if self.blanks:
                self.users.pop(user, None)
            self.store(row, True)
            return
        self.events.append(Event(user, row["event_name"], row["metadata"], self.company_of.get(user)))
        moment = datetime.fromisoformat(row["inserted_at"]).replace(tzinfo=UTC).timestamp()
        self.dated.setdefault(row["metadata"]["n"], moment)

    def delete(self, whose: str, is_user: bool) -> None:
        """A user goes with their events; a company, out of its users."""
        if is_user:
            self.users.pop(whose, None)
            self.company_of.pop(whose, None)
            self.events = [event for event in self.events if event.user_id != whose]
        else:
            self.companies.pop(whose, None)
            self.company_of = {user: company for user, company in self.company_of.items() if company != whose}

    def store(self, row: dict[str, Any], is_user: bool) -> None:
        """Merge a row into what is stored; an explicit null removes."""
        place = (
            self.users.setdefault(row["user_id"], {}) if is_user else self.companies.setdefault(row["company_id"], {})
        )
        for name, value in row.get("metadata", {}).items():
            if value is None:
                place.pop(name, None)
            else:
                place[name] = value
        if is_user and row.get("company_id"):
            self.company_of[row["user_id"]] = row["company_id"]

    def describe(self, job: Job) -> dict[str, Any]:
        """The job as the server shows it."""
        status = ("failed" if job.fails else "completed") if job.over else "processing"
        named = {"job_id": job.job_id, "filename": job.filename, "status": status, "total_rows": len(job.rows)}
        return {**named, "type": job.kind}


class Simulation(World):
    """`World` with Userpilot in it, and the model of what must come of the calls."""

    def __init__(self, seed: int, settings: Settings | None = None, trouble: float = 0.0, latency: float = 0.3) -> None:
        chance, settings = random.Random(seed), settings or Settings()
        self.server = Server(chance, trouble)
        super().__init__(chance, self.server, settings, userpilot(settings), latency)
        self.model = Model()
        self.accepted: list[Call] = []

    def put(self, call: Call) -> int:
        """Accept a call at this moment."""
        self.accepted.append(call)
        if isinstance(call, Track):
            self.model.track(call.user_id, call.event_name, call.metadata)
            body = track_body(call.user_id, call.event_name, call.metadata)
            said = body if call.occurred_at is None else (body, call.occurred_at)
            return self.outbox.put("track", call.user_id, said, len(body), self.now).id
        if isinstance(call, DeleteUser):
            self.model.delete_user(call.user_id)
            body = deletion_body(call)
            return self.outbox.put("delete_user", call.user_id, body, len(body), self.now).id
        if isinstance(call, DeleteCompany):
            self.model.delete_company(call.company_id)
            body = deletion_body(call)
            return self.outbox.put("delete_company", call.company_id, body, len(body), self.now).id
        size = size_of(call.metadata)
        if isinstance(call, Identify):
            self.model.identify(call.user_id, call.metadata, company=call.company)
            company = dict(call.company) if call.company is not None else None
            facts = facts_of(dict(call.metadata), company, size)
            return self.outbox.put("user", call.user_id, facts, facts[2], self.now).id
        self.model.identify_company(call.company_id, call.metadata)
        facts = (dict(call.metadata), None, size, None)
        return self.outbox.put("company", call.company_id, facts, size, self.now).id

    def check(self) -> None:
        """I1 to I5 and I10, after `drain`."""
        ledger = self.outbox.ledger
        assert ledger.pending == 0
        assert ledger.dropped.keys() <= {"deleted"}
        assert ledger.accepted == ledger.delivered + ledger.merged + ledger.dropped["deleted"] == len(self.accepted)
        assert (self.outbox.waiting_calls, self.outbox.waiting_bytes) == (0, 0)
        same_events(self.model, self.server.events, self.schedule.possible_duplicates)
        # Those that a deletion has dropped meanwhile are not sent again.
        again = self.server.lost_tracks - self.schedule.possible_duplicates
        assert again == 0 or 0 < again <= ledger.dropped["deleted"]
        same_state(self.model, {**{e.user_id: {} for e in self.model.events if e.user_id in self.model.users},
                                **self.server.users}, None, self.server.company_of)  # fmt: skip
        for company, properties in self.model.companies.items():
            assert properties == self.server.companies.get(company, {})
        judge.per_user_order(self.server.tracked)
        for family in self.server.stamps.values():
            judge.requests_in_any_minute(family)
        judge.conflicts(self.server.conflicts)
