"""The server's answers, as those get them who ask without a queue: a job, or an error to be raised."""

from __future__ import annotations

import attrs

from .._errors.tree import Rejected, Unavailable
from .._protocol.jobs import Job
from .._protocol.verdict import Meaning, Verdict


def error_of(verdict: Verdict) -> Rejected | Unavailable:
    """The error that a caller gets for a verdict which is no acceptance."""
    ids = {"error_code": verdict.error_code, "request_id": verdict.request_id}
    if verdict.meaning is Meaning.DENIED:
        hint = "wrong API key, the browser's App Token in its place, or a feature your plan does not have"
        return Rejected(verdict.status or 401, f"{hint} ({verdict.detail})" if verdict.detail else hint, **ids)
    later = verdict.meaning in (Meaning.UNSENT, Meaning.LOST, Meaning.AGAIN, Meaning.LIMITED)
    if later or verdict.foreign or verdict.status is None:
        detail = f"the server answered {verdict.status}" if verdict.status else f"no answer: {verdict.detail}"
        words = f": {verdict.server_words}" if verdict.server_words else ""
        detail = f"the server {verdict.detail}{words}" if verdict.foreign else detail
        return Unavailable(detail, ambiguous=verdict.ambiguous, status=verdict.status, **ids)
    return Rejected(verdict.status, verdict.detail, **ids)


def job_in(verdict: Verdict, job_id: str) -> Job:
    """Give the job in an answer; ``job_id`` is for one without its own."""
    job = Job.from_wire(verdict.body)
    return attrs.evolve(job, job_id=job.job_id or job_id)
