"""The questions about files, their jobs, deletions, and the list in which these show. Pure, as those of `_realtime`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from ..._protocol.jobs import Job, is_job, list_in, quoted_job_id
from ._shapes import answer_text, field_name, shape
from ._terms import Answered, Ask, Look, Session, Steps, delete, identify, job_list, needed, upload

POLLS = 8  # of a job, or of the list for it: 1, 2, 4, … 30 seconds apart, two minutes in all
LONGEST_PAUSE = 30.0  # seconds between two of them
SOURCE = "backend-http-import"  # of an import row; "Import event schema", read 2026-10


def pause(polls: int) -> float:
    """Seconds before the next poll, after so many."""
    return min(2.0**polls, LONGEST_PAUSE)


# ── files ──


def without_version(test: Session) -> Steps:
    """Learn whether bulk needs the header X-API-Version, and what its job looks like."""
    user, path = test.user("bulk"), "/v1/users/bulk_identify"
    row = {"user_id": user, "metadata": {"check_number": 1}}
    name = test.filename("bulk")
    seen = yield upload("bulk without X-API-Version", path, user, row, name, versioned=False)
    if seen.ok:
        test.found("bulk is taken without X-API-Version")
    else:
        test.found(f"without X-API-Version: {answer_text(seen)}")
        seen = yield upload("bulk with X-API-Version", path, user, row, name)
        test.found(f"with X-API-Version: {'taken' if seen.ok else answer_text(seen)}")
    yield from _job(test, needed(seen), name, user)


def importing(test: Session) -> Steps:
    """Learn what an import answers, and whether a row blanks the properties that it leaves out."""
    user, name = test.user("import"), test.filename("import")
    needed((yield identify(user, {"check_said": 1, "check_left_out": 1})))
    row = {"event_type": "identify_user", "user_id": user, "source": SOURCE, "inserted_at": test.date,
           "metadata": {"check_said": 2}}  # fmt: skip
    seen = yield upload("import", "/v1/imports", user, row, name)
    if not seen.ok:
        test.found(f"import: {answer_text(seen)}")
    completed = yield from _job(test, needed(seen), name, user)
    if completed:
        question = "Is there still a property check_left_out, which an import row left out?"
        test.looks.append(Look("import", question, user))


def _job(test: Session, seen: Answered, filename: str, user: str) -> Generator[Ask, Answered, bool]:
    """Follow the job that a file has become; true if it has completed."""
    test.in_jobs.append(user)
    test.found(f"the answer to a file: {answer_text(seen)}")
    if not is_job(seen.body):
        test.found("the answer is no job object")
        return False
    job = Job.from_wire(seen.body)
    test.found(f"the job {'has' if job.filename == filename else 'does not have'} the name of the uploaded file")
    if not job.job_id:
        test.found("the job has no id that can be asked for")
        return False
    statuses, before, began = [seen.body.get("status")], seen.at, seen.at
    for polls in range(POLLS):
        path = f"/v1/background_jobs/{quoted_job_id(job.job_id)}"
        seen = needed((yield Ask(what="job", method="GET", path=path, shown="/v1/background_jobs/(id)",
                                 after=pause(polls))))  # fmt: skip
        body = seen.body if isinstance(seen.body, dict) else {}
        statuses.append(body.get("status"))
        if Job.from_wire(body).status.final:
            test.in_jobs.remove(user)
            test.found(f"statuses seen: {_statuses(statuses)}; ended after {_between(before - began, seen.at - began)}")
            return bool(body.get("status") == "completed")
        before = seen.at
    test.found(f"statuses seen: {_statuses(statuses)}; not ended after {seen.at - began:.0f} s")
    return False


def _statuses(statuses: Sequence[Any]) -> str:
    shown = [shape(status, "status").strip('"') for status in statuses]
    return ", ".join(dict.fromkeys(shown))


def _between(least: float, most: float) -> str:
    return f"{least:.0f} to {most:.0f} s"


# ── the job list ──


def paging(test: Session) -> Steps:
    """Learn how the job list is paged, and how to ask for the next page."""
    first = needed((yield job_list()))
    jobs = list_in(first.body)
    if jobs is None:
        test.found(f"the answer is no list: {answer_text(first)}")
        return
    around = "an array" if isinstance(first.body, list) else f"an object with {', '.join(map(field_name, first.body))}"
    test.found(f"the list is {around}; {len(jobs)} jobs on the first page")
    test.found(f"a job in the list: {shape(jobs[0]) if jobs else 'none to be seen'}")
    test.found(f"a header Link {'comes' if 'link' in first.headers else 'does not come'} with it")
    second = yield job_list("page=2")
    test.found(f"?page=2: {_page_text(second, jobs)}")
    for query in ("per_page=1", "limit=1"):
        seen = yield job_list(query)
        test.found(f"?{query}: {_page_text(seen, jobs)}")


def _page_text(seen: Answered, first: Sequence[Any]) -> str:
    """Say how a page differs from the first one."""
    page = list_in(seen.body) if seen.ok else None
    if page is None:
        return answer_text(seen)
    known = set(_ids(first))
    ids = _ids(page)
    if not page:
        return f"{seen.status}, an empty list"
    if ids and not known & set(ids):
        return f"{seen.status}, {len(page)} other jobs"
    if ids == _ids(first):
        return f"{seen.status}, the same {len(page)} jobs"
    return f"{seen.status}, {len(page)} jobs, {len(known & set(ids))} of them on the first page, too"


def _ids(jobs: Sequence[Any]) -> list[str]:
    return [job_id for job in jobs if isinstance(job, dict) and isinstance(job_id := job.get("job_id"), str)]


def deletion(test: Session) -> Steps:
    """Learn what a deletion answers, and how its job shows in the job list."""
    user = test.user("deletion")
    needed((yield identify(user, {"check_number": 1})))
    before = yield job_list()
    known = set(_ids(list_in(before.body) or []))
    seen = yield delete("users", (user,))
    test.found(f"deletion of a user: {answer_text(seen)}")
    needed(seen)
    job_id = Job.from_wire(seen.body).job_id if isinstance(seen.body, dict) else ""
    test.found("the answer has the id of a job" if job_id else "the answer has no id of a job")
    began = earlier = seen.at
    shown = False
    for polls in range(POLLS):
        listed = needed((yield job_list(after=pause(polls))))
        found = _deletion_job(list_in(listed.body) or [], job_id, known)
        if found is not None and not shown:
            shown = True
            test.found(f"it shows in the job list: {shape(found)}")
        if found is not None and Job.from_wire(found).status.final:
            status = shape(found.get("status"), "status").strip('"')
            test.found(f"its job was {status} after {_between(earlier - began, listed.at - began)}")
            return
        earlier = listed.at
    missing = "its job had not ended" if shown else "no job of it showed in the job list"
    test.found(f"{missing} after {earlier - began:.0f} s")


def _deletion_job(jobs: Sequence[Any], job_id: str, known: set[str]) -> dict[str, Any] | None:
    """The job of a deletion: that of the id, or a new one that calls itself one."""
    for job in jobs:
        if not isinstance(job, dict):
            continue
        if job_id and job.get("job_id") == job_id:
            return job
        if not job_id and job.get("job_id") not in known and "delet" in str(job.get("type")).lower():
            return job
    return None
