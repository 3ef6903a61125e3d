"""Userpilot's realtime API as a destination: its endpoints, budgets and limits, and how calls look on its wire.

Source: docs.userpilot.com, read 2026-10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, cast  # noqa: F401  # Literal and InvalidCall are in fields that DeadCall inherits

import attrs

from .._calls.payload import (
    Event,
    IdentifyPayload,
    Key,
    Kind,
    Payload,
    body_of,
    companion_properties,
    occurred_at,
    size_of_identify,
)
from .._calls.rows import FiledRow, Row, RowState
from .._calls.values import MAX_PROPERTIES, Value, encode_json, encode_text, measured, size_of
from .._errors.tree import InvalidCall  # noqa: F401  # as Literal
from .._protocol.verdict import Promise
from .._schedule.destination import Deletions, Destination, Endpoint, Events, Files, Imports, LostCall
from .._settings import Settings
from .calls import Call, Identify, IdentifyCompany, Track, deletion_from_body, track_body, track_from_body


@attrs.frozen(kw_only=True)
class DeadCall(LostCall):
    """A call for Userpilot that will not be delivered."""

    call: Call | None = attrs.field(default=None, repr=False)
    """The call as it could be made again: of merged identifies, all that they said together."""


TRACK = Endpoint("track", "/v1/track", "track")
IDENTIFY = Endpoint("identify", "/v1/identify", "identify")
IDENTIFY_COMPANY = Endpoint("identify_company", "/v1/companies/identify", "identify")
BULK_USERS = Endpoint("bulk_users", "/v1/users/bulk_identify", "identify", promises=Promise.NEW_JOB)
BULK_COMPANIES = Endpoint("bulk_companies", "/v1/companies/bulk_identify", "identify", promises=Promise.NEW_JOB)
DELETE_USERS = Endpoint("delete_users", "/v1/users", "identify", method="DELETE")
DELETE_COMPANIES = Endpoint("delete_companies", "/v1/companies", "identify", method="DELETE")
DAY = 86_400.0  # seconds in which deletions are carried out; "Delete Users and Companies", read 2026-11
MOST_DELETIONS = 100  # in one request; no limit is documented
SOURCE = "backend-http-import"  # of rows of an import; "Import event schema"
IMPORTS = Endpoint("imports", "/v1/imports", "identify", promises=Promise.NEW_JOB)
JOB = Endpoint("job", "/v1/background_jobs/{job_id}", "identify", method="GET", promises=Promise.JOB)
JOBS = Endpoint("jobs", "/v1/background_jobs", "identify", method="GET", promises=Promise.JOBS)


def userpilot(settings: Settings) -> Destination:
    """Events one a request; identifies one a request or in files of 10,000; two budgets."""
    return Destination(
        name="userpilot",
        budgets={"track": settings.track_per_minute, "identify": settings.identify_per_minute},
        burst=settings.burst,
        events=Events(endpoint=TRACK),
        rows={"user": IDENTIFY, "company": IDENTIFY_COMPANY},
        row_body=realtime_body,
        merges=merges,
        files=Files(
            threshold=settings.bulk_threshold,
            submit={"company": BULK_COMPANIES, "user": BULK_USERS},  # companies, which are few, go first
            poll=JOB,
            listing=JOBS,
            line=bulk_line,
            arrays={"company": "companies", "user": "users"},
            job_timeout=settings.job_timeout,
        ),
        imports=Imports(
            wanted=settings.imports is not None,
            late_after=settings.late_after,
            submit=IMPORTS,
            poll=JOB,
            listing=JOBS,
            lines=import_lines,
            job_timeout=settings.job_timeout,
        ),
        deletions=Deletions(
            of={"delete_user": "user", "delete_company": "company"},
            submit={"user": DELETE_USERS, "company": DELETE_COMPANIES},
            body=deletions_body,
            listing=JOBS,
            most=MOST_DELETIONS,
            job_timeout=DAY + settings.job_timeout,
            unlink=unlink,
        ),
        call_of=call_of,
        row_call=row_call,
        lost_call=DeadCall,
        wrong_key="is it the browser's App Token instead of the API key?",
        wrong_url="is the URL (the region) right?",
    )


def facts_of(metadata: dict[str, Value], company: dict[str, Value] | None, size: int) -> IdentifyPayload:
    """The payload of an identify. ``company`` has its ``id``, and beside it what is said of the company itself."""
    if company is None:
        return metadata, None, size, None
    company_id = str(company["id"])
    fields: dict[str, Any] = {"company_id": company_id}
    size += size_of(fields)
    if len(company) == 1:
        return metadata, fields, size, None
    properties = {name: value for name, value in company.items() if name != "id"}
    its_size = size_of(properties)
    return metadata, fields, size + its_size, ("company", company_id, properties, its_size)


def merges(row: Row, facts: IdentifyPayload, last: bool) -> bool:
    """Whether these facts may go into a row that waits.

    It may lie before tracks: an identify moves ahead of them, but only if it does not move the user to another
    company, because every event is booked on the user's company of the moment.
    """
    properties, fields, _, _ = facts
    if fields is not None and not last and fields != row.fields:
        return False
    return row.has_room_for(properties, MAX_PROPERTIES)


def realtime_body(row: Row) -> bytes:
    """The row as the body of ``POST /v1/identify`` or ``POST /v1/companies/identify``.

    The sources name a company's id ``id`` (older document, integrations in the field) and ``company_id``
    (OpenAPI): both are sent.
    """
    if row.kind == "company":
        return encode_json({"company_id": row.key, "metadata": row.metadata}).encode()
    body: dict[str, object] = {"user_id": row.key, "metadata": row.metadata}
    if row.fields is not None:
        company_id = row.fields["company_id"]
        body["company"] = {"id": company_id, "company_id": company_id}
    return encode_json(body).encode()


def bulk_line(kind: Kind, row: FiledRow) -> bytes:
    """The row as one line of a bulk file."""
    if isinstance(row, Row):
        fields = encode_json(row.fields) if row.fields else "{}"
        key, metadata = row.key, encode_json(row.metadata)
    else:
        key, _, _, _, metadata, packed_fields = row
        fields = packed_fields or "{}"
    if kind == "company":
        return f'{{"company_id":{encode_text(key)},"metadata":{metadata}}}\n'.encode()
    beside = f"{fields[1:-1]}," if fields != "{}" else ""
    return f'{{"user_id":{encode_text(key)},{beside}"metadata":{metadata}}}\n'.encode()


def deletions_body(kind: Kind, keys: Sequence[str]) -> bytes:
    """The body of ``DELETE /v1/users`` or ``DELETE /v1/companies``. Source: OpenAPI, read 2026-10."""
    return encode_json({"users" if kind == "user" else "companies": list(keys)}).encode()


def unlink(row: Row, companies: Mapping[str, int]) -> None:
    """Have a user's row not name one of these companies, which a deletion with this id deletes after it."""
    company_id = row.fields["company_id"] if row.fields is not None else ""
    if row.said_by < companies.get(company_id, -1):
        row.fields = None


def import_lines(row: Row, known: Mapping[str, Any], date: Callable[[float], float]) -> Iterator[bytes]:
    """The row, if it is one, and the events behind it as lines of an import file.

    An import may blank the properties that an ``identify_user`` row leaves out, so it says all that are known.
    ``date`` turns the schedule's time into seconds since 1970; it is asked when a line is made. Times are UTC, written
    as in the vendor's samples: "Import event schema", read 2026-10.
    """
    if row.state is RowState.BATCHED:
        line = {"event_type": "identify_user", "user_id": row.key, **(row.fields or {}), "source": SOURCE}
        line.update(inserted_at=_inserted_at(date(row.accepted_at)), metadata=known)
        yield encode_json(line).encode() + b"\n"
    for _, accepted_at, event in row.events or ():
        given = occurred_at(event)
        moment = _inserted_at(date(accepted_at)) if given is None else _written(given)
        head = f'{{"event_type":"track","source":"{SOURCE}","inserted_at":"{moment}",'
        yield head.encode() + body_of(event)[1:] + b"\n"


def _inserted_at(moment: float) -> str:
    return _written(datetime.fromtimestamp(moment, UTC))


def _written(moment: datetime) -> str:
    """The text of a moment in UTC, as all moments of calls are."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def call_of(kind: Kind, key: Key, payload: Payload) -> Call:
    """The call that was put as ``said``."""
    if kind == "track":
        event = cast("Event", payload)
        track = track_from_body(body_of(event))
        moment = occurred_at(event)
        return track if moment is None else attrs.evolve(track, occurred_at=moment)
    if kind in ("delete_user", "delete_company"):
        return deletion_from_body(kind, cast("bytes", payload))
    metadata, fields, _, companion = cast("IdentifyPayload", payload)
    if kind == "company":
        return IdentifyCompany(str(key), metadata)
    company = {"id": fields["company_id"], **(companion_properties(companion) if companion else {})} if fields else None
    return Identify(str(key), metadata, company)


def as_put(call: Track | Identify | IdentifyCompany) -> tuple[Kind, Key, Payload, int]:
    """The kind, key, payload and size of a call, as a client puts it: the other way round than `call_of`."""
    if isinstance(call, Track):
        body = track_body(call.user_id, call.event_name, call.metadata)
        return "track", call.user_id, body if call.occurred_at is None else (body, call.occurred_at), len(body)
    properties, size = measured(call.metadata)
    if isinstance(call, IdentifyCompany):
        return "company", call.company_id, (properties, None, size, None), size
    facts = facts_of(properties, dict(call.company) if call.company is not None else None, size)
    return "user", call.user_id, facts, size_of_identify(facts)


def row_call(row: Row) -> Identify | IdentifyCompany:
    """The one call that says what the row says."""
    if row.kind == "company":
        return IdentifyCompany(row.key, row.metadata)
    company: dict[str, Value] | None = None
    if row.fields is not None:
        company_id = row.fields["company_id"]
        company = {"id": company_id, "company_id": company_id}
        for lost in (other for other in row.needs if other.key == company_id):
            company.update((name, value) for name, value in lost.metadata.items() if name not in company)
    return Identify(row.key, row.metadata, company)
