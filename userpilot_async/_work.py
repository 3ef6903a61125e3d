"""What there is to do: one request, as the schedule gives it out."""

from __future__ import annotations

from enum import Enum

import attrs

from ._bucket import Bucket
from ._bulk import Step
from ._coalesce import Row
from ._gate import Gate
from ._lanes import Lane, Waiting


class Route(Enum):
    """The endpoints, by the names that `Statistics.requests` uses."""

    TRACK = "track"
    IDENTIFY = "identify"
    IDENTIFY_COMPANY = "identify_company"
    BULK_USERS = "bulk_users"
    BULK_COMPANIES = "bulk_companies"
    JOB = "job"
    JOBS = "jobs"


@attrs.define(eq=False)
class Work:
    """One request to make. The sender reads the first five fields; the rest is the schedule's."""

    route: Route
    body: bytes = b""
    """Of a realtime request."""
    rows: list[Row] = attrs.field(factory=list)
    """Of a bulk file, to be sent as ``filename``."""
    filename: str = ""
    job_id: str = ""
    bucket: Bucket = attrs.field(kw_only=True)
    gate: Gate = attrs.field(kw_only=True)
    lane: Lane | None = None
    head: Waiting | Row | None = None
    step: Step | None = None
