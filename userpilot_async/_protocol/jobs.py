"""A background job: what the server says of it, and when it is worth asking again.

Source: docs.userpilot.com, "Background jobs" and "Bulk identify", read 2026-10. The lives of a job:
``queued → validating → processing → pending_refresh → completed``, or ``failed`` from any of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import attrs

from .._errors.foreign import is_a
from .._errors.tree import InvalidCall

ROWS_PER_SECOND = 1_800 / 60  # documented speed of bulk jobs; an older page says 1,200 a minute
MAX_JOB_ID = 1_024  # characters; real ones have about 60
MAX_LINKS = 4_096  # characters of a job's links as JSON; the documented one is a path

MAX_MESSAGE = 1_024  # characters of a message that are read
_NUMBER = re.compile(r"(?<![\w.,:-])(?:[0-9]{1,9}|[0-9]{1,3}(?:,[0-9]{3}){1,2})(?![\w:-]|[.,][0-9])")  # no part of 2:00

_NO_JOBS = ("errors", "links", "_links", "warnings")  # lists beside the one of jobs

LATEST_FIRST_POLL = 10.0  # seconds after the submission; the poll costs one request and shows the real speed
SHORTEST_PAUSE = 1.0  # seconds between two polls
LONGEST_PAUSE = 30.0


class JobStatus(StrEnum):
    """Only ``completed`` and ``failed`` are final. A status that is not documented reads as ``UNKNOWN``."""

    QUEUED = "queued"
    VALIDATING = "validating"
    PROCESSING = "processing"
    PENDING_REFRESH = "pending_refresh"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> JobStatus:
        return cls.UNKNOWN

    @property
    def final(self) -> bool:
        """The job will not change any more."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED)


@attrs.frozen(kw_only=True)
class Job:
    """A background job as the server described it; whatever it left out is ``None``."""

    job_id: str
    """Opaque; it has colons. Empty if the server gave none that could be used."""
    status: JobStatus
    type: str | None = None
    filename: str | None = None
    file_size: int | None = None
    total_rows: int | None = None
    completed_rows: int | None = None
    submitted_at: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    elapsed_time: float | None = None
    links: Any = attrs.field(default=None, hash=False)
    """Where the server says that there is more about it: whatever JSON it gives; ``None`` if that is over 4 kB."""

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Job:
        """Total on anything a JSON object may hold: numbers as strings, fields missing, unknown, or of another type."""
        job_id = fields.get("job_id")
        status = fields.get("status")
        return cls(
            job_id=job_id if isinstance(job_id, str) and usable_job_id(job_id) else "",
            status=JobStatus(status) if isinstance(status, str) else JobStatus.UNKNOWN,
            file_size=_integer(fields.get("file_size")),
            total_rows=_integer(fields.get("total_rows")),
            completed_rows=_integer(fields.get("completed_rows")),
            elapsed_time=_number(fields.get("elapsed_time")),
            links=_bounded(fields.get("links")),
            **{
                name: _text(fields.get(name)) for name in ("type", "filename", "submitted_at", "start_time", "end_time")
            },
        )


def is_job(body: Any) -> bool:
    """Whether ``body`` is a job to follow: it has a usable id, or at least a status, and is no list of errors."""
    if not isinstance(body, dict):
        return False
    job_id, status = body.get("job_id"), body.get("status")
    if isinstance(job_id, str) and usable_job_id(job_id):
        return True
    return isinstance(status, str) and bool(status) and not body.get("errors")


def list_in(body: Any) -> list[Any] | None:
    """The list, or the one in the object around it; ``None`` if there is none, or if it is one of errors.

    The vendor paginates the list in some undocumented way, so an object around it is read, too.
    """
    if isinstance(body, list):
        return body
    if not isinstance(body, dict) or body.get("errors"):
        return None
    lists = [value for name, value in body.items() if isinstance(value, list) and name not in _NO_JOBS]
    if not lists:
        return next((found for inner in body.values() if isinstance(inner, dict) and (found := _inner(inner))), None)
    return max(lists, key=lambda found: any(map(is_job, found)))


def _inner(body: dict[str, Any]) -> list[Any] | None:
    """A list of jobs one level deeper: ``{"data": {"jobs": […]}}``."""
    return next((one for one in body.values() if isinstance(one, list) and any(map(is_job, one))), None)


def is_list(body: Any) -> bool:
    """Whether ``body`` is a job list, or an object around one."""
    return list_in(body) is not None


def scheduled_in(body: Any) -> int | None:
    """How many deletions a server says it has scheduled; ``None`` if that cannot be told.

    The vendor promises a message with the number, and not its words: it is the only number in it, or it is in doubt.
    A server that answers with the job says it as the job's ``total_rows``.
    """
    if not isinstance(body, dict):
        return None
    message = body.get("message")
    numbers = _NUMBER.findall(message[:MAX_MESSAGE]) if isinstance(message, str) else []
    return int(numbers[0].replace(",", "")) if len(numbers) == 1 else Job.from_wire(body).total_rows


def usable_job_id(job_id: str) -> bool:
    """Short and printable: one that may be put into a URL (quoted) and into a message."""
    return 0 < len(job_id) <= MAX_JOB_ID and job_id.isprintable()


def quoted_job_id(job_id: str) -> str:
    """A job's id as one segment of a path: it has colons, and a hostile one may have slashes and dots."""
    if not is_a(job_id, str) or not usable_job_id(job_id):
        raise InvalidCall("job_id", "must be a printable str of at most 1,024 characters")
    quoted = quote(job_id, safe="")
    return quoted.replace(".", "%2E") if set(job_id) <= {"."} else quoted


def expected_duration(rows: int) -> float:
    """Seconds that a job of so many rows takes at the documented speed."""
    return rows / ROWS_PER_SECOND


def first_poll(rows: int) -> float:
    """Seconds from the submission to the first poll: when the job may be done, or earlier, to learn the speed."""
    return min(max(SHORTEST_PAUSE, expected_duration(rows)), LATEST_FIRST_POLL)


def next_poll(job: Job | None, rows: int, elapsed: float, polls: int) -> float:
    """Seconds until the next poll of a job of so many ``rows``, after ``polls`` of them in ``elapsed`` seconds.

    What is left at the speed seen so far, if the server counts its rows; else a pause that doubles. An early poll sees
    little, so that it must not make for a long pause.
    """
    pause = SHORTEST_PAUSE * 2.0 ** min(polls, 10)
    longest = max(SHORTEST_PAUSE, expected_duration(rows)) * 2.0 ** min(polls, 10)
    done = job.completed_rows if job is not None else None
    if done is not None and 0 < done < rows and elapsed > 0:
        pause = (rows - done) * elapsed / done
    return min(max(pause, SHORTEST_PAUSE), longest, LONGEST_PAUSE)


def _integer(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None else None


def _number(value: object) -> float | None:
    """A finite number, also one written as a string, as ``/v1/imports`` writes them."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if number - number == 0.0 else None


def _bounded(value: Any) -> Any:
    """JSON that is short enough to keep, or ``None``."""
    try:
        return value if value is not None and len(json.dumps(value)) <= MAX_LINKS else None
    except (ValueError, TypeError, RecursionError):  # what the encoder raises for what no JSON decoder gave
        return None


def _text(value: object) -> str | None:
    return value[:MAX_JOB_ID] if isinstance(value, str) else None
