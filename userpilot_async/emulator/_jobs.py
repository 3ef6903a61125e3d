"""Background jobs. Where a job stands is read off its timetable: a function of when it was submitted and now."""

from __future__ import annotations

import heapq
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, TypeAlias
from urllib.parse import quote

import attrs

from userpilot_async.emulator._saved import Saved, finite, moment
from userpilot_async.emulator._wire import Payload

JobKind: TypeAlias = Literal["bulk_users", "bulk_companies", "import", "delete_users", "delete_companies"]
Ending: TypeAlias = Literal["completed", "failed", "stuck"]

ROWS_PER_SECOND = 1_800 / 60  # "1,800 rows a minute"; OpenAPI, bulk_identify (an older page says 1,200)
QUEUED = 1.0  # ours, like the next two: the vendor names the stages and not their length
VALIDATING = 1.0
PENDING_REFRESH = 2.0
SCRIPTED = 1.0  # a status of a script that gives no length of its own
NEVER = math.inf

SLOTS: dict[JobKind, str] = {"bulk_users": "bulk", "bulk_companies": "bulk", "import": "import"}
"""A slot takes one job at a time: bulk jobs of users and companies together, imports apart."""


@attrs.frozen
class JobScript:
    """The course that a fault gives to the job of a submit. The default is an ordinary job."""

    ending: Ending = "completed"
    stages: tuple[tuple[str, float], ...] = ()  # (status, its length), instead of the ordinary life


@attrs.frozen
class Stage:
    """A status and the moment from which the job shows it."""

    status: str
    begins_at: float


@attrs.define(eq=False)
class Job:
    """A background job. Of `rows`, those from `applied_rows` on are still to be applied.

    A deletion is applied as one row, whatever the number of ids in it, which `total_rows` gives.
    """

    job_id: str
    kind: JobKind
    account: str
    filename: str
    file_size: int
    rows: list[Payload] = attrs.field(repr=False)
    total_rows: int
    submitted_at: float
    stages: tuple[Stage, ...]
    rows_from: float  # the moment work on the first row begins
    row_interval: float  # seconds a row takes; 0 if all are applied at once
    writes: bool  # False: the job goes through its life and changes nothing
    applied_rows: int = 0

    def status(self, now: float) -> str:
        return self._stage(now).status

    def is_over(self, now: float) -> bool:
        """The last stage is reached and is an ending; a stuck job is never over."""
        return now >= self.stages[-1].begins_at and self.stages[-1].status in ("completed", "failed")

    def row_due(self, index: int) -> float:
        return self.rows_from + (index + 1) * self.row_interval

    def completed_rows(self, now: float) -> int:
        if now < self.rows_from:
            return 0
        if not self.row_interval:
            return self.total_rows
        # 1e-6 rows: the moment that `row_due` gives for a row has to count that row, however it was rounded.
        return min(self.total_rows, int((now - self.rows_from) / self.row_interval + 1e-6))

    def due_rows(self, now: float) -> Iterator[tuple[float, Job, Payload]]:
        """The rows to apply by now, each with its moment."""
        if self.writes:
            for index in range(self.applied_rows, min(len(self.rows), self.completed_rows(now))):
                yield self.row_due(index), self, self.rows[index]

    def as_json(self, now: float, *, submitting: bool = False) -> Payload:
        """The job object. An import job gives its numbers as strings, as the vendor's API does."""
        number = str if self.kind == "import" else int
        ended_at = self.stages[-1].begins_at if self.is_over(now) else None
        answer: Payload = {
            "job_id": self.job_id,
            "status": self.status(now),
            "type": self.kind,
            "filename": self.filename,
            "file_size": number(self.file_size),
            "total_rows": number(self.total_rows),
            "completed_rows": number(self.completed_rows(now)),
            "start_time": _iso(self.submitted_at),
            "end_time": None if ended_at is None else _iso(ended_at),
            "elapsed_time": number(int((now if ended_at is None else ended_at) - self.submitted_at)),
            "links": f"/v1/background_jobs/{quote(self.job_id, safe='')}",
        }
        if submitting:
            answer["submitted_at"] = _iso(self.submitted_at)
        return answer

    def _stage(self, now: float) -> Stage:
        return next((stage for stage in reversed(self.stages) if stage.begins_at <= now), self.stages[0])


class Jobs:
    """Every job ever submitted, in order; keeps apart those that still have something to do."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._by_id: dict[str, Job] = {}
        self._unfinished: list[Job] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_id.values())

    def __reversed__(self) -> Iterator[Job]:
        return reversed(self._by_id.values())

    def newest_first(self) -> list[Job]:
        return list(reversed(self._by_id.values()))

    def get(self, job_id: str) -> Job | None:
        return self._by_id.get(job_id)

    def under_way(self, now: float) -> list[tuple[str, int]]:
        """Status and completed rows of each job that is not over: what a look at the list would see move."""
        return [(job.status(now), job.completed_rows(now)) for job in self._unfinished]

    def holding(self, kind: JobKind, account: str, now: float) -> Job | None:
        """The job that keeps `account` from submitting another of `kind`."""
        slot = SLOTS.get(kind)
        for job in self._unfinished:
            if slot is not None and SLOTS.get(job.kind) == slot and job.account == account and not job.is_over(now):
                return job
        return None

    def submit(
        self,
        kind: JobKind,
        rows: list[Payload],
        *,
        total_rows: int,
        account: str,
        filename: str,
        file_size: int,
        now: float,
        script: JobScript,
        writes: bool | None,
    ) -> Job:
        """Take in a job. `writes=None`: it changes what it says it changes, and nothing if it is to fail."""
        stages = _timetable(total_rows, now, script, self._speed)
        rows_from, row_interval = _pace(kind, stages, script, self._speed, forced=bool(writes))
        job = Job(
            job_id=f"bulk:jobs:NX-{account}:{uuid.uuid4()}",
            kind=kind,
            account=account,
            filename=filename,
            file_size=file_size,
            rows=rows,
            total_rows=total_rows,
            submitted_at=now,
            stages=stages,
            rows_from=rows_from,
            row_interval=row_interval,
            writes=script.ending == "completed" if writes is None else writes,
        )
        self._by_id[job.job_id] = job
        self._unfinished.append(job)
        return job

    def saved(self) -> list[Saved]:
        """Every job as JSON, in order."""
        return [
            {
                **attrs.asdict(job, recurse=False),
                "stages": [[stage.status, finite(stage.begins_at)] for stage in job.stages],
                "rows_from": finite(job.rows_from),
            }
            for job in self._by_id.values()
        ]

    def restore(self, saved: list[Saved]) -> None:
        """Take in jobs that were saved; raises KeyError, TypeError or ValueError for what is none."""
        for fields in saved:
            stages = tuple(Stage(status, moment(begins_at)) for status, begins_at in fields["stages"])
            job = Job(**{**fields, "stages": stages, "rows_from": moment(fields["rows_from"])})
            self._by_id[job.job_id] = job
            self._unfinished.append(job)

    def work_off(self, now: float) -> Iterator[tuple[float, Job, Payload]]:
        """Yield each row that fell due, across all jobs by its moment, and count it as applied."""
        if not self._unfinished:
            return
        due = [job.due_rows(now) for job in self._unfinished]
        for when, job, row in list(heapq.merge(*due, key=lambda entry: entry[0])):
            job.applied_rows += 1
            yield when, job, row
        for job in self._unfinished:
            if job.is_over(now):
                job.rows = []  # applied, or never to be: a day's run need not hold every file it ever saw
        self._unfinished = [job for job in self._unfinished if not job.is_over(now)]


def _timetable(rows: int, now: float, script: JobScript, speed: float) -> tuple[Stage, ...]:
    processing = rows / ROWS_PER_SECOND
    life: tuple[tuple[str, float], ...] = (
        ("queued", QUEUED),
        ("validating", VALIDATING),
        ("processing", processing),
    )
    if script.stages:
        life = script.stages
    elif script.ending == "failed":
        life = (*life, ("failed", NEVER))
    elif script.ending == "completed":
        life = (*life, ("pending_refresh", PENDING_REFRESH), ("completed", NEVER))
    stages, begins_at = [], now
    for status, length in life:
        stages.append(Stage(status, begins_at))
        begins_at += length / speed
    return tuple(stages)


def _pace(
    kind: JobKind, stages: tuple[Stage, ...], script: JobScript, speed: float, *, forced: bool
) -> tuple[float, float]:
    """When the first row begins, and how long each takes.

    Ordinary rows are worked off one after another. Deletions happen at the end, all together, and so do the rows of a
    job whose life is a script, since its statuses may be in any order. A stuck job does not move unless `forced`.
    """
    begins = {stage.status: stage.begins_at for stage in reversed(stages)}
    if script.stages or kind in ("delete_users", "delete_companies"):
        return begins.get("completed", NEVER), 0.0
    if script.ending == "stuck" and not forced:
        return NEVER, 0.0
    return begins["processing"], 1 / ROWS_PER_SECOND / speed


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
