"""The account's data: what every accepted call leaves behind. Pure: no waiting, and time is handed in."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import blake2b
from typing import Literal, TypeAlias

from userpilot_async.emulator import parcelvoy
from userpilot_async.emulator._import_rows import context_of, moment
from userpilot_async.emulator._jobs import Job, Jobs
from userpilot_async.emulator._records import (
    Applied,
    AppliedLog,
    Company,
    Counters,
    Event,
    PageView,
    Requested,
    User,
    Via,
)
from userpilot_async.emulator._rules import MAX_EVENT_NAME_BYTES, company_id_of, company_properties
from userpilot_async.emulator._saved import Saved, records, table
from userpilot_async.emulator._wire import Payload

Paging: TypeAlias = Literal["page", "links", "hidden"]
JOBS_PER_PAGE = 100  # ours: the vendor documents no number


class Store:
    """Users, companies, events and logs; in `parcelvoy` what came by the other API.

    `applied` is the one order in which everything took effect, by either.

    Read the attributes freely; only `advance`, `identify` and their neighbours should change them.
    """

    def __init__(
        self,
        speed: float = 1.0,
        *,
        jobs_per_page: int = JOBS_PER_PAGE,
        jobs_paging: Paging = "page",
        strict: bool = False,
    ) -> None:
        self.jobs_per_page = jobs_per_page
        self.jobs_paging: Paging = jobs_paging
        self.users: dict[str, User] = {}
        self.companies: dict[str, Company] = {}
        self.events: list[Event] = []
        self.page_views: list[PageView] = []
        self.requests: list[Requested] = []
        self.jobs: Jobs = Jobs(speed)
        self.log: AppliedLog = AppliedLog()
        self.applied: list[Applied] = self.log.entries
        self.parcelvoy: parcelvoy.Store = parcelvoy.Store(self.log, strict=strict)
        self._requests: Counter[tuple[str, str]] = Counter()
        self._tracked: set[bytes] = set()
        self._event_names: set[str] = set()
        self._counts: Counter[str] = Counter()

    def advance(self, now: float) -> None:
        """Let the jobs do what they would have done by now, each row at its own moment."""
        for due, job, row in self.jobs.work_off(now):
            self._counts["rows"] += 1
            self._apply_row(job, row, due)

    def record(self, requested: Requested) -> None:
        self.requests.append(requested)
        status = "cut" if requested.status is None else str(requested.status)
        self._requests[requested.family, status] += 1

    def identify(self, payload: Payload, stamp: float, *, via: Via = "realtime", job_id: str | None = None) -> None:
        """Merge into the user, creating it if needed; a company named moves the user there.

        A realtime call carries a `company` object with the company's properties in it; a row only a `company_id`.
        """
        user = self._user(payload["user_id"], stamp)
        _merge(user.properties, payload.get("metadata", {}), replace=via == "import")
        if via == "realtime":
            company = payload.get("company")
            company_id = company_id_of(company) if company else None
            properties = company_properties(company) if company else {}
        else:
            company_id, properties = payload.get("company_id") or None, {}
        if company_id is not None:
            _merge(self._company(company_id, stamp).properties, properties)
            user.company_id = company_id
        self.log.add("identify", user.user_id, payload, stamp, via, job_id)

    def identify_company(
        self, payload: Payload, stamp: float, *, via: Via = "realtime", job_id: str | None = None
    ) -> None:
        company = self._company(payload["company_id"], stamp)
        _merge(company.properties, payload.get("metadata", {}), replace=via == "import")
        self.log.add("company", company.company_id, payload, stamp, via, job_id)

    def track(self, payload: Payload, stamp: float, *, via: Via = "realtime", job_id: str | None = None) -> None:
        """Store an event; dated on arrival, unless an import row says when it happened."""
        user = self._met(payload["user_id"], stamp)
        imported_at = moment(payload["inserted_at"]) if via == "import" else None
        metadata = payload.get("metadata", {})
        self._count_event(payload, metadata, imported_at)
        event = Event(
            sequence=self.log.add("track", payload["user_id"], payload, stamp, via, job_id),
            stamp=stamp,
            user_id=payload["user_id"],
            event_name=payload["event_name"],
            metadata=metadata,
            company_id=_company_then(payload, user, via),
            user_known=user is not None,
            via="import" if via == "import" else "track",
            occurred_at=stamp if imported_at is None else imported_at,
            context=context_of(payload) if via == "import" else {},
        )
        self.events.append(event)
        if not event.user_known:
            self._counts["unknown_user_events"] += 1

    def view_page(self, row: Payload, stamp: float, job_id: str | None) -> None:
        user = self._met(row["user_id"], stamp)
        occurred_at = moment(row["inserted_at"])
        view = PageView(
            sequence=self.log.add("page_view", row["user_id"], row, stamp, "import", job_id),
            stamp=stamp,
            user_id=row["user_id"],
            row=row,
            company_id=_company_then(row, user, "import"),
            user_known=user is not None,
            occurred_at=stamp if occurred_at is None else occurred_at,
            context=context_of(row),
        )
        self.page_views.append(view)

    def forget_users(self, user_ids: set[str], stamp: float, job_id: str | None) -> None:
        """The right to be forgotten: profiles and events go. The applied log stays, it is the tests' memory."""
        for user_id in sorted(user_ids):
            self.users.pop(user_id, None)
            self.log.add("delete_user", user_id, {}, stamp, "deletion", job_id)
        self.events = [event for event in self.events if event.user_id not in user_ids]
        self.page_views = [view for view in self.page_views if view.user_id not in user_ids]

    def forget_companies(self, company_ids: set[str], stamp: float, job_id: str | None) -> None:
        """The companies go; their users stay, without a company."""
        for company_id in sorted(company_ids):
            self.companies.pop(company_id, None)
            self.log.add("delete_company", company_id, {}, stamp, "deletion", job_id)
        for user in self.users.values():
            if user.company_id in company_ids:
                user.company_id = None

    def counters(self, now: float) -> Counters:
        requests: dict[str, dict[str, int]] = {}
        for (family, status), count in sorted(self._requests.items()):
            requests.setdefault(family, {})[status] = count
        return Counters(
            requests=requests,
            unique_users=len(self.users),
            companies=len(self.companies),
            events=len(self.events),
            page_views=len(self.page_views),
            duplicate_events=self._counts["duplicate_events"],
            unknown_user_events=self._counts["unknown_user_events"],
            rows=self._counts["rows"],
            jobs=dict(Counter(job.status(now) for job in self.jobs)),
            event_name_bytes=self._counts["event_name_bytes"],
            events_over_name_limit=self._counts["events_over_name_limit"],
            parcelvoy=self.parcelvoy.counts(),
        )

    def saved(self) -> Saved:
        """All of it as JSON."""
        return {
            "users": table(User, self.users.values()),
            "companies": table(Company, self.companies.values()),
            "events": table(Event, self.events),
            "page_views": table(PageView, self.page_views),
            "requests": table(Requested, self.requests),
            "applied": table(Applied, self.applied),
            "jobs": self.jobs.saved(),
            "counts": dict(self._counts),
            "parcelvoy": self.parcelvoy.saved(),
        }

    def restore(self, saved: Saved) -> None:
        """Fill an empty store with what was saved; raises KeyError, TypeError or ValueError for what was not."""
        self.users = {user.user_id: user for user in records(User, saved["users"])}
        self.companies = {company.company_id: company for company in records(Company, saved["companies"])}
        self.events = records(Event, saved["events"])
        self.page_views = records(PageView, saved["page_views"])
        for requested in records(Requested, saved["requests"]):
            self.record(requested)
        self.applied[:] = records(Applied, saved["applied"])
        for entry in self.applied:
            if entry.kind == "track":
                imported_at = moment(entry.payload["inserted_at"]) if entry.via == "import" else None
                self._count_event(entry.payload, entry.payload.get("metadata", {}), imported_at)
        self._counts = Counter(saved["counts"])
        self.jobs.restore(saved["jobs"])
        self.parcelvoy.restore(saved["parcelvoy"])

    def _apply_row(self, job: Job, row: Payload, due: float) -> None:
        if job.kind == "delete_users":
            self.forget_users(set(row["users"]), due, job.job_id)
        elif job.kind == "delete_companies":
            self.forget_companies(set(row["companies"]), due, job.job_id)
        elif job.kind == "bulk_users":
            self.identify(row, due, via="bulk", job_id=job.job_id)
        elif job.kind == "bulk_companies":
            self.identify_company(row, due, via="bulk", job_id=job.job_id)
        else:
            self._apply_import_row(row, due, job.job_id)

    def _apply_import_row(self, row: Payload, due: float, job_id: str) -> None:
        event_type = row["event_type"]
        if event_type == "identify_user":
            self.identify(row, due, via="import", job_id=job_id)
        elif event_type == "identify_company":
            self.identify_company(row, due, via="import", job_id=job_id)
        elif event_type == "track":
            self.track(row, due, via="import", job_id=job_id)
        else:
            self.view_page(row, due, job_id)

    def _user(self, user_id: str, stamp: float) -> User:
        user = self._met(user_id, stamp)
        if user is None:
            user = self.users[user_id] = User(user_id, {}, None, stamp, stamp)
        return user

    def _met(self, user_id: str, stamp: float) -> User | None:
        """The user if there is one, seen now."""
        user = self.users.get(user_id)
        if user is not None:
            user.last_seen = stamp
        return user

    def _company(self, company_id: str, stamp: float) -> Company:
        company = self.companies.get(company_id)
        if company is None:
            company = self.companies[company_id] = Company(company_id, {}, stamp, stamp)
        company.last_seen = stamp
        return company

    def _count_event(self, payload: Payload, metadata: Payload, imported_at: float | None) -> None:
        name = payload["event_name"]
        # A digest, because a long run would otherwise hold every payload a second time.
        what = json.dumps([payload["user_id"], name, metadata, imported_at], sort_keys=True)
        digest = blake2b(what.encode(), digest_size=16).digest()
        if digest in self._tracked:
            self._counts["duplicate_events"] += 1
        self._tracked.add(digest)
        if name not in self._event_names:
            self._event_names.add(name)
            self._counts["event_name_bytes"] += len(name.encode())
            if self._counts["event_name_bytes"] > MAX_EVENT_NAME_BYTES:
                self._counts["events_over_name_limit"] += 1


def _merge(properties: Payload, changes: Payload, *, replace: bool = False) -> None:
    """Key by key; null removes. `replace`: an import blanks what its row leaves out."""
    if replace:
        properties.clear()
    for name, value in changes.items():
        if value is None:
            properties.pop(name, None)
        else:
            properties[name] = value


def _company_then(payload: Payload, user: User | None, via: Via) -> str | None:
    """The company to book an event on: the one an import row names, else the user's at this moment."""
    named: str | None = payload.get("company_id") if via == "import" else None
    return named or (user.company_id if user else None)
