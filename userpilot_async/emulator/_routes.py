"""Userpilot's endpoints, and the way to those of both APIs.

Each checks its call, changes the store and says the answer. Pure: nothing here waits.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import parse_qs, unquote

import attrs

from userpilot_async.emulator import _rules as rules
from userpilot_async.emulator._bodies import SMALL
from userpilot_async.emulator._calls import Call, Route, apply_now, require_content_type, row_errors
from userpilot_async.emulator._files import Upload, parse_ndjson, parse_object, parse_rows, parse_upload
from userpilot_async.emulator._import_rows import import_row_errors
from userpilot_async.emulator._jobs import Job, JobKind
from userpilot_async.emulator._store import Store
from userpilot_async.emulator._wire import Answer, Payload, json_answer, obey, refuse
from userpilot_async.emulator.parcelvoy import _routes as parcelvoy


def find_route(method: str, path: str) -> Route:
    """The route of a path; a job's id is one segment of it, whatever the quoting in it spells out."""
    if path.lower().startswith(parcelvoy.PREFIX):
        return parcelvoy.find_route(method, path)
    segments = tuple(unquote(segment) for segment in path.split("/")[1:])
    if segments[:2] == ("v1", "background_jobs") and len(segments) == 3:
        segments = ("v1", "background_jobs", "{job_id}")
    methods = ROUTES.get(segments)
    if methods is None:
        return Route("other", not_found, max_body=SMALL)
    return methods.get(method) or Route("other", wrong_method, max_body=SMALL)


def endpoints() -> list[str]:
    """The paths of all endpoints of both APIs; the id of a job, in that of one, stands for any."""
    return [*("/" + "/".join(segments) for segments in ROUTES), *parcelvoy.endpoints()]


def identify(store: Store, call: Call) -> Answer:
    """Source: HTTP API page, "Identify user API": 202; company id required if a company is given."""
    payload = _json_body(call)
    obey(rules.identify_errors(payload))
    return apply_now(call, lambda: store.identify(payload, call.now))


def identify_company(store: Store, call: Call) -> Answer:
    """Source: analytex OpenAPI, `POST /v1/companies/identify`: 202."""
    payload = _json_body(call)
    obey(rules.company_identify_errors(payload))
    return apply_now(call, lambda: store.identify_company(payload, call.now))


def track(store: Store, call: Call) -> Answer:
    """Source: HTTP API page, "Track events API": 202, for an unknown user too; no time, no message id."""
    payload = _json_body(call)
    obey(rules.track_errors(payload))
    return apply_now(call, lambda: store.track(payload, call.now))


def bulk_identify_users(store: Store, call: Call) -> Answer:
    """Source: analytex OpenAPI, `POST /v1/users/bulk_identify`: 202 and the job."""
    rows, upload = _bulk_rows(call, "users")
    obey(row_errors(rows, rules.user_row_errors))
    return _submitted(202, _submit(store, call, "bulk_users", rows, upload), call)


def bulk_identify_companies(store: Store, call: Call) -> Answer:
    """Source: analytex OpenAPI, `POST /v1/companies/bulk_identify`: 202 and the job."""
    rows, upload = _bulk_rows(call, "companies")
    obey(row_errors(rows, rules.company_identify_errors))
    return _submitted(202, _submit(store, call, "bulk_companies", rows, upload), call)


def import_rows(store: Store, call: Call) -> Answer:
    """Source: the vendor's import pages, `POST /v1/imports`: a file, 200 and the job."""
    require_content_type(call, "multipart/form-data")
    upload = parse_upload(call.body, call.headers["content-type"])
    rows = parse_rows(upload.content)
    _require_rows(rows)
    obey(row_errors(rows, import_row_errors))
    return _submitted(200, _submit(store, call, "import", rows, upload), call)


def list_jobs(store: Store, call: Call) -> Answer:
    """Source: analytex OpenAPI, `GET /v1/background_jobs`: 200, newest first.

    The vendor pages its list and documents neither the size nor the parameters: ours are given at construction.
    """
    jobs, size, paging = store.jobs.newest_first(), store.jobs_per_page, store.jobs_paging
    asked = parse_qs(call.query).get("page", ["1"])[0]
    is_number = asked.isascii() and asked.isdecimal() and len(asked) < 10  # `int` refuses 5,000 digits
    page = (int(asked) if is_number and paging != "hidden" else 0) or 1
    shown = [job.as_json(call.now) for job in jobs[(page - 1) * size : page * size]]
    if paging != "links":
        return json_answer(200, shown)
    following = f"{call.path}?page={page + 1}" if page * size < len(jobs) else None
    return json_answer(200, {"jobs": shown, "links": {"next": following}})


def show_job(store: Store, call: Call) -> Answer:
    job = store.jobs.get(unquote(call.path.rpartition("/")[2]))
    if job is None:
        raise refuse(404, "there is no such job")
    return json_answer(200, job.as_json(call.now))


def delete_users(store: Store, call: Call) -> Answer:
    """Source: the vendor's page "Delete Users and Companies", `DELETE /v1/users`: 202 and how many are scheduled."""
    return _delete(store, call, "delete_users", "users")


def delete_companies(store: Store, call: Call) -> Answer:
    """Source: the vendor's page "Delete Users and Companies", `DELETE /v1/companies`: as for users."""
    return _delete(store, call, "delete_companies", "companies")


def not_found(store: Store, call: Call) -> Answer:
    raise refuse(404, "there is no such endpoint", call.path)


def wrong_method(store: Store, call: Call) -> Answer:
    raise refuse(405, "this endpoint does not know the method", call.method)


ROUTES: dict[tuple[str, ...], dict[str, Route]] = {
    ("v1", "identify"): {"POST": Route("identify", identify)},
    ("v1", "companies", "identify"): {"POST": Route("identify", identify_company)},
    ("v1", "track"): {"POST": Route("track", track, max_body=SMALL)},
    ("v1", "users", "bulk_identify"): {"POST": Route("bulk", bulk_identify_users)},
    ("v1", "companies", "bulk_identify"): {"POST": Route("bulk", bulk_identify_companies)},
    ("v1", "imports"): {"POST": Route("imports", import_rows)},
    ("v1", "background_jobs"): {"GET": Route("jobs", list_jobs, max_body=SMALL)},
    ("v1", "background_jobs", "{job_id}"): {"GET": Route("jobs", show_job, max_body=SMALL)},
    ("v1", "users"): {"DELETE": Route("deletions", delete_users)},
    ("v1", "companies"): {"DELETE": Route("deletions", delete_companies)},
}


def _delete(store: Store, call: Call, kind: JobKind, field: Literal["users", "companies"]) -> Answer:
    """Schedule a deletion; it holds no slot, so that several may run. The job is in the list, and not in the answer.

    The vendor says that a message tells how many are scheduled, and gives none: its words are ours.
    """
    payload = _json_body(call)
    obey(rules.deletion_errors(payload, field))
    ids = payload[field]
    upload = Upload(f"{kind}_{len(store.jobs) + 1}.json", call.body)
    job = _submit(store, call, kind, [{field: ids}], upload, total_rows=len(ids))
    are = f"{field} are" if len(ids) != 1 else "user is" if field == "users" else "company is"
    return _of_job(json_answer(202, {"message": f"{len(ids)} {are} scheduled for deletion"}), job)


def _submit(
    store: Store, call: Call, kind: JobKind, rows: list[Payload], upload: Upload, *, total_rows: int | None = None
) -> Job:
    """Start a job, unless another one holds its slot."""
    if store.jobs.holding(kind, call.account, call.now):
        raise refuse(409, "another job of this kind is still running")
    return store.jobs.submit(
        kind,
        rows,
        total_rows=len(rows) if total_rows is None else total_rows,
        account=call.account,
        filename=upload.filename,
        file_size=len(upload.content),
        now=call.now,
        script=call.script,
        writes=call.apply,
    )


def _submitted(status: int, job: Job, call: Call) -> Answer:
    """The job object, as the submission of its rows is answered."""
    return _of_job(json_answer(status, job.as_json(call.now, submitting=True)), job)


def _of_job(answer: Answer, job: Job) -> Answer:
    """The answer, with what the request log remembers of the job."""
    return attrs.evolve(answer, rows=job.total_rows, filename=job.filename, applied=job.writes)


def _bulk_rows(call: Call, field: Literal["users", "companies"]) -> tuple[list[Payload], Upload]:
    """The rows of a bulk call, from JSON or from an NDJSON file."""
    require_content_type(call, "application/json", "multipart/form-data")
    if call.content_type == "multipart/form-data":
        upload = parse_upload(call.body, call.headers["content-type"])
        rows = parse_ndjson(upload.content)
    else:
        if len(call.body) > rules.MAX_FILE_BYTES:
            raise refuse(413, f"the body has {len(call.body)} bytes, the limit is {rules.MAX_FILE_BYTES}")
        # A JSON call names no file; the job shows a name of the server's own.
        upload = Upload(f"{field}_{int(call.now * 1000)}.json", call.body)
        rows = parse_object(call.body).get(field, [])
        if not isinstance(rows, list):
            raise refuse(400, f"{field} must be an array")
    _require_rows(rows)
    if len(rows) > rules.MAX_BULK_ROWS:
        raise refuse(413, f"the request has {len(rows)} rows, the limit is {rules.MAX_BULK_ROWS}")
    return rows, upload


def _require_rows(rows: list[Payload]) -> None:
    if not rows:
        raise refuse(400, "there are no rows")


def _json_body(call: Call) -> Payload:
    require_content_type(call, "application/json")
    return parse_object(call.body)
