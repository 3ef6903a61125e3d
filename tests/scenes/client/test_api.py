"""Every endpoint of the HTTP API against an emulator in the same process, on a clock that jumps."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from contextlib import nullcontext
from hashlib import sha256

import anyio
import httpx
import pytest

from tests.harness import TLSServer
from userpilot_async import (
    ClientClosed,
    ClientNotOpen,
    InvalidCall,
    Job,
    JobFailed,
    JobStatus,
    Rejected,
    Unavailable,
    UserpilotAPI,
    UserpilotClient,
)
from userpilot_async.emulator import Emulator, Fault

pytestmark = pytest.mark.anyio

IMPORT_ROW = {
    "event_type": "track", "user_id": "u1", "event_name": "exported", "source": "backend-http",
    "inserted_at": "2026-01-02T03:04:05", "metadata": {"rows": 3},
}  # fmt: skip
CSV = (
    b"event_type,user_id,event_name,source,inserted_at\r\n"
    b"track,u1,exported,backend-http,2026-01-02T03:04:05\r\n"
)  # fmt: skip

REALTIME = {
    "identify": lambda api: api.identify("u1", {"plan": "pro"}),
    "identify_company": lambda api: api.identify_company("acme", {"seats": 3}),
    "track": lambda api: api.track("u1", "exported", {"rows": 3}),
}
ENDPOINTS = {
    **REALTIME,
    "bulk_identify_users": lambda api: api.bulk_identify_users([{"user_id": "u1"}]),
    "bulk_identify_companies": lambda api: api.bulk_identify_companies([{"company_id": "acme"}]),
    "import_rows": lambda api: api.import_rows([IMPORT_ROW]),
    "jobs": lambda api: api.jobs(),
    "job": lambda api: api.job("bulk:jobs:1"),
    "wait_for_job": lambda api: api.wait_for_job("bulk:jobs:1"),
    "delete_users": lambda api: api.delete_users(["u1"]),
    "delete_companies": lambda api: api.delete_companies(["acme"]),
}
# Twice is the same as once.
REPEATABLE = {
    name: ENDPOINTS[name] for name in ("identify", "identify_company", "jobs", "delete_users", "delete_companies")
}
# Twice is twice: two events, two jobs.
UNREPEATABLE = {
    name: ENDPOINTS[name] for name in ("track", "bulk_identify_users", "bulk_identify_companies", "import_rows")
}


def each(endpoints):
    return pytest.mark.parametrize("ask", list(endpoints.values()), ids=list(endpoints))


def each_way_to_fail(*faults):
    return pytest.mark.parametrize("fault", faults, ids=lambda fault: str(fault.status or fault.cut))


def requests(emulator: Emulator) -> list[int | None]:
    """The answer to each request that came, `None` where the connection was cut."""
    return [request.status for request in emulator.store.requests]


def stored(emulator: Emulator) -> dict[str, dict[str, object]]:
    emulator.advance()
    return {user_id: user.properties for user_id, user in emulator.store.users.items()}


# ── each endpoint, when all is well ──


@pytest.mark.virtual
async def test_identify_creates_a_user_in_a_company(new_api, emulator):
    async with new_api() as api:
        await api.identify("u1", {"plan": "pro"}, company={"id": "acme", "name": "Acme"})

    user = emulator.store.users["u1"]
    assert ({"plan": "pro"}, "acme") == (user.properties, user.company_id)
    assert {"name": "Acme"} == emulator.store.companies["acme"].properties


@pytest.mark.virtual
@pytest.mark.parametrize("name", ["id", "company_id"])
async def test_identify_sends_the_companys_id_by_both_names(new_api, cable, name):
    async with new_api() as api:
        await api.identify("u1", company={name: "acme", "seats": 3})

    assert {"id": "acme", "company_id": "acme", "seats": 3} == json.loads(cable.requests[0].content)["company"]


@pytest.mark.virtual
async def test_identify_company_creates_a_company(new_api, emulator):
    async with new_api() as api:
        await api.identify_company("acme", {"seats": 3})

    assert {"seats": 3} == emulator.store.companies["acme"].properties


@pytest.mark.virtual
async def test_track_records_an_event(new_api, emulator):
    async with new_api() as api:
        await api.track("u1", "exported", {"rows": 3})

    event = emulator.store.events[0]
    assert ("u1", "exported", {"rows": 3}) == (event.user_id, event.event_name, event.metadata)


@pytest.mark.virtual
async def test_bulk_identify_users_is_one_job(new_api, emulator):
    rows = [{"user_id": "u1", "metadata": {"n": 1}, "company_id": "acme"}, {"user_id": "u2"}]
    async with new_api() as api:
        job = await api.bulk_identify_users(rows, filename="mine.ndjson")
        done = await api.wait_for_job(job)

    assert ("mine.ndjson", 2, JobStatus.QUEUED) == (job.filename, job.total_rows, job.status)
    assert (job.job_id, JobStatus.COMPLETED, 2) == (done.job_id, done.status, done.completed_rows)
    assert {"u1": {"n": 1}, "u2": {}} == {name: user.properties for name, user in emulator.store.users.items()}
    assert "acme" == emulator.store.users["u1"].company_id


@pytest.mark.virtual
async def test_bulk_identify_companies_is_one_job(new_api, emulator):
    async with new_api() as api:
        job = await api.bulk_identify_companies([{"company_id": "acme", "metadata": {"seats": 3}}])
        await api.wait_for_job(job)

    assert {"seats": 3} == emulator.store.companies["acme"].properties


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("rows", "filename"),
    [
        ([IMPORT_ROW], None),
        (json.dumps(IMPORT_ROW).encode(), "mine.ndjson"),
        (CSV, "mine.csv"),
    ],
    ids=["dicts", "NDJSON", "CSV"],
)
async def test_import_rows_is_one_job_whose_numbers_are_ints(new_api, emulator, rows, filename):
    async with new_api() as api:
        job = await api.import_rows(rows, filename=filename)
        await api.wait_for_job(job)

    assert (int, 1) == (type(job.total_rows), job.total_rows)
    assert ["exported"] == [event.event_name for event in emulator.store.events]


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("filename", "content_type"),
    [(None, b"application/x-ndjson"), ("a.ndjson", b"application/x-ndjson"), ("a.csv", b"text/csv")],
)
async def test_a_file_goes_under_its_name_and_its_type(new_api, cable, filename, content_type):
    async with new_api() as api:
        job = await api.import_rows(CSV, filename=filename)

    part = b'name="file"; filename="' + job.filename.encode() + b'"\r\nContent-Type: ' + content_type
    assert part in cable.requests[0].content


@pytest.mark.virtual
async def test_two_files_without_a_name_get_different_ones(new_api):
    async with new_api() as api:
        first = await api.bulk_identify_users([{"user_id": "u1"}])
        await api.wait_for_job(first)
        second = await api.bulk_identify_users([{"user_id": "u1"}])

    assert first.filename != second.filename


@pytest.mark.virtual
async def test_jobs_lists_what_the_server_lists(new_api):
    async with new_api() as api:
        submitted = await api.bulk_identify_users([{"user_id": "u1"}])
        imported = await api.import_rows([IMPORT_ROW])
        listed = await api.jobs()

    assert [imported.job_id, submitted.job_id] == [job.job_id for job in listed]


@pytest.mark.virtual
async def test_job_is_the_job_as_it_stands(new_api):
    async with new_api() as api:
        submitted = await api.bulk_identify_users([{"user_id": "u1"}])
        await anyio.sleep(1.5)
        seen = await api.job(submitted.job_id)

    assert (submitted.job_id, JobStatus.VALIDATING) == (seen.job_id, seen.status)


@pytest.mark.virtual
async def test_delete_users_forgets_users(new_api, emulator):
    async with new_api() as api:
        await api.identify("u1")
        await api.identify("u2")
        scheduled = await api.delete_users(iter(["u1"]))
        (job,) = await api.jobs()
        await api.wait_for_job(job)

    assert 1 == scheduled
    assert {"u2"} == set(emulator.store.users)


@pytest.mark.virtual
async def test_delete_companies_forgets_companies(new_api, emulator):
    async with new_api() as api:
        await api.identify_company("acme")
        await api.identify_company("initech")
        scheduled = await api.delete_companies(["acme", "initech"])
        (job,) = await api.jobs()
        await api.wait_for_job(job)

    assert (2, "delete_companies") == (scheduled, job.type)
    assert {} == emulator.store.companies


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("body", "scheduled"),
    [
        ("", None),
        ([], None),
        ({"status": "ok"}, None),
        ({"message": "1 user is scheduled for deletion"}, 1),
        ({"message": "10,000 users will be deleted daily at 2:00 AM UTC."}, 10_000),
        ({"message": "2 of 3 users"}, None),
        ({"message": "user u1 is scheduled"}, None),
        ({"message": ["1"]}, None),
        ({"job_id": "bulk:jobs:1", "status": "queued", "total_rows": 3}, 3),
    ],
)  # fmt: skip
async def test_a_deletion_says_how_many_are_scheduled_if_its_answer_does(new_api, emulator, body, scheduled):
    emulator.faults.add(Fault(status=200, body=body))
    async with new_api() as api:
        assert scheduled == await api.delete_users(["u1"])


@pytest.mark.virtual
@each({name: ask for name, ask in ENDPOINTS.items() if name != "wait_for_job"})
async def test_every_request_has_the_headers_of_the_contract(new_api, cable, ask):
    async with new_api("SECRET") as api:
        with pytest.raises(Rejected) if ask is ENDPOINTS["job"] else nullcontext():
            await ask(api)

    sent = cable.requests[0].headers
    assert ("Token SECRET", "2020-09-22") == (sent["authorization"], sent["x-api-version"])
    # An answer of 200 kB can unpack to 60 MB.
    assert ("application/json", "identity") == (sent["accept"], sent["accept-encoding"])


@pytest.mark.virtual
async def test_a_path_before_the_endpoints_is_kept(cable, emulator):
    async with UserpilotAPI("KEY", base_url="https://proxy.test/userpilot/", transport=cable) as api:
        with pytest.raises(Rejected):
            await api.track("u1", "exported")

    assert "https://proxy.test/userpilot/v1/track" == str(cable.requests[0].url)


# ── bad input never leaves ──


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (lambda api: api.identify(""), "user_id"),
        (lambda api: api.identify("u1", {"plan": []}), "metadata['plan']"),
        (lambda api: api.identify("u1", company={"name": "Acme"}), "company['id']"),
        (lambda api: api.identify_company(None), "company_id"),
        (lambda api: api.track("u1", ""), "event_name"),
        (lambda api: api.track("u1", "e", {"a": "x" * 10_240}), "metadata"),
        (lambda api: api.bulk_identify_users([]), "rows"),
        (lambda api: api.bulk_identify_users([{"user_id": "u1"}, {"metadata": {}}]), "rows[2].user_id"),
        (lambda api: api.bulk_identify_users([{"user_id": "u1", "company_id": ""}]), "rows[1].company['id']"),
        (lambda api: api.bulk_identify_users([{"user_id": str(n)} for n in range(10_001)]), "rows"),
        (lambda api: api.bulk_identify_companies([]), "rows"),
        (lambda api: api.bulk_identify_companies([{"company_id": "acme", "metadata": {1: 1}}]), "rows[1].metadata"),
        (lambda api: api.import_rows([]), "rows"),
        (lambda api: api.import_rows(b""), "rows"),
        (lambda api: api.job(""), "job_id"),
        (lambda api: api.job(None), "job_id"),
        (lambda api: api.job("x" * 1_000_000), "job_id"),
        (lambda api: api.job("a\r\nHost: b"), "job_id"),
        (lambda api: api.job("\ud800"), "job_id"),
        (lambda api: api.wait_for_job(Job(job_id="", status=JobStatus.QUEUED)), "job_id"),
        (lambda api: api.delete_users("u1"), "users"),
        (lambda api: api.delete_users([1]), "users"),
        (lambda api: api.delete_companies([" "]), "companies"),
    ],
)
async def test_what_the_server_could_never_take_is_refused_before_it_leaves(new_api, cable, ask, field):
    async with new_api() as api:
        with pytest.raises(InvalidCall) as caught:
            await ask(api)

    assert field == caught.value.field
    assert [] == cable.requests


@pytest.mark.virtual
@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.bulk_identify_users(["u1"]),
        lambda api: api.bulk_identify_companies([None]),
        lambda api: api.import_rows([{**IMPORT_ROW, "metadata": {"n": float("nan")}}]),
        lambda api: api.import_rows([{**IMPORT_ROW, "metadata": {"at": b"bytes"}}]),
        lambda api: api.import_rows([{**IMPORT_ROW, "user_id": "\ud800"}]),
        lambda api: api.import_rows(["a line"]),
    ],
    ids=["a user row that is a str", "a company row that is None", "NaN", "bytes", "surrogate", "a row that is a str"],
)
async def test_rows_that_are_no_rows_are_an_invalid_call(new_api, ask):
    async with new_api() as api:
        with pytest.raises(InvalidCall):
            await ask(api)


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("job_id", "path"),
    [
        ("bulk:jobs:NX-1:c6", b"/v1/background_jobs/bulk%3Ajobs%3ANX-1%3Ac6"),
        ("../../v1/track", b"/v1/background_jobs/..%2F..%2Fv1%2Ftrack"),
        ("..", b"/v1/background_jobs/%2E%2E"),
        (".", b"/v1/background_jobs/%2E"),
        ("a?b=c#d", b"/v1/background_jobs/a%3Fb%3Dc%23d"),
        ("a%2Fb", b"/v1/background_jobs/a%252Fb"),
        ("a\\b", b"/v1/background_jobs/a%5Cb"),
        ("//evil.test/x", b"/v1/background_jobs/%2F%2Fevil.test%2Fx"),
    ],
)
async def test_a_job_id_is_one_segment_of_the_path(new_api, cable, job_id, path):
    async with new_api() as api:
        with pytest.raises(Rejected) as caught:
            await api.job(job_id)

    assert (404, path) == (caught.value.status, cable.requests[0].url.raw_path)


# ── waiting for a job ──


@pytest.mark.virtual
async def test_waiting_for_a_job_shows_its_progress_and_ends_soon_after_it(new_api):
    """600 rows: 2 s before they are worked off, 20 s for the rows, 2 s after them."""
    seen = []
    async with new_api() as api:
        job = await api.bulk_identify_users([{"user_id": str(n)} for n in range(600)])
        started = anyio.current_time()
        done = await api.wait_for_job(job, on_progress=seen.append)
        took = anyio.current_time() - started

    assert done is seen[-1]
    assert 600 == done.completed_rows
    assert {JobStatus.PROCESSING, JobStatus.COMPLETED} <= {one.status for one in seen}
    assert sorted(one.completed_rows for one in seen) == [one.completed_rows for one in seen]
    assert 24 <= took <= 24 + 30
    assert 12 >= len(seen)


@pytest.mark.virtual
async def test_a_job_may_be_waited_for_by_its_id(new_api):
    async with new_api() as api:
        job = await api.bulk_identify_users([{"user_id": "u1"}])
        done = await api.wait_for_job(job.job_id)

    assert JobStatus.COMPLETED is done.status


@pytest.mark.virtual
async def test_a_failed_job_raises(new_api, emulator):
    emulator.faults.add(Fault(family="bulk", job="failed"))
    seen = []
    async with new_api() as api:
        job = await api.bulk_identify_users([{"user_id": "u1"}])
        with pytest.raises(JobFailed) as caught:
            await api.wait_for_job(job, on_progress=seen.append)

    assert job.job_id == caught.value.job_id
    assert JobStatus.FAILED is seen[-1].status


@pytest.mark.virtual
async def test_waiting_for_a_stuck_job_ends_with_the_timeout(new_api, emulator):
    emulator.faults.add(Fault(family="bulk", job="stuck"))
    async with new_api() as api:
        job = await api.bulk_identify_users([{"user_id": "u1"}])
        started = anyio.current_time()
        with pytest.raises(TimeoutError):
            await api.wait_for_job(job, timeout=300)

    assert pytest.approx(300) == anyio.current_time() - started


@pytest.mark.virtual
async def test_a_stuck_job_is_looked_at_twice_a_minute(new_api, emulator):
    emulator.faults.add(Fault(family="bulk", job="stuck"))
    seen = []
    async with new_api() as api:
        job = await api.bulk_identify_users([{"user_id": "u1"}])
        with pytest.raises(TimeoutError):
            await api.wait_for_job(job, timeout=3_600, on_progress=seen.append)

    assert 110 <= len(seen) <= 130


@pytest.mark.virtual
async def test_unknown_statuses_and_steps_back_are_waited_through(new_api, emulator):
    life = ["queued", "reticulating", ["processing", 5], "queued", ["completed", 1]]
    emulator.faults.add(Fault(family="bulk", job={"status_sequence": life}))
    seen = []
    async with new_api() as api:
        job = await api.bulk_identify_users([{"user_id": "u1"}])
        done = await api.wait_for_job(job, on_progress=seen.append)

    assert JobStatus.COMPLETED is done.status
    assert JobStatus.UNKNOWN in {one.status for one in seen}


@pytest.mark.virtual
async def test_a_look_that_fails_once_does_not_end_the_waiting(new_api, emulator):
    emulator.faults.add(Fault(family="jobs", status=503, times=2))
    async with new_api() as api:
        job = await api.bulk_identify_users([{"user_id": "u1"}])
        done = await api.wait_for_job(job)

    assert JobStatus.COMPLETED is done.status


# ── the server says no ──


@pytest.mark.virtual
@each(ENDPOINTS)
async def test_a_wrong_key_is_rejected_with_a_hint_at_the_app_token(cable, ask):
    emulator_with_keys = Emulator(clock=lambda: 0.0, api_keys={"another"})
    transport = type(cable)(emulator_with_keys)
    async with UserpilotAPI("KEY", base_url="https://emulator", transport=transport) as api:
        with pytest.raises(Rejected, match="App Token") as caught:
            await ask(api)

    assert 401 == caught.value.status
    assert [401] == requests(emulator_with_keys)


@pytest.mark.virtual
async def test_a_plan_without_imports_is_rejected_with_401(cable):
    transport = type(cable)(Emulator(clock=lambda: 0.0, imports_enabled=False))
    async with UserpilotAPI("KEY", base_url="https://emulator", transport=transport) as api:
        with pytest.raises(Rejected, match="your plan") as caught:
            await api.import_rows([IMPORT_ROW])
        await api.track("u1", "exported")

    assert 401 == caught.value.status


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("bulk_identify_users", "bulk_identify_users"),
        ("bulk_identify_users", "bulk_identify_companies"),
        ("bulk_identify_companies", "bulk_identify_users"),
        ("import_rows", "import_rows"),
    ],
)
async def test_a_second_job_at_a_time_is_rejected_with_409_at_once(new_api, emulator, first, second):
    async with new_api() as api:
        await ENDPOINTS[first](api)
        with pytest.raises(Rejected, match="still running") as caught:
            await ENDPOINTS[second](api)

    assert 409 == caught.value.status
    assert 2 == len(requests(emulator))


@pytest.mark.virtual
@pytest.mark.parametrize("status", [302, 307, 400, 403, 404, 405, 413, 415, 422])
async def test_a_no_is_not_asked_again_and_not_followed(new_api, emulator, status):
    emulator.faults.add(Fault(status=status, headers={"location": "https://elsewhere.test/v1/identify"}, times=None))
    async with new_api() as api:
        with pytest.raises(Rejected) as caught:
            await api.identify("u1")

    assert status == caught.value.status
    assert [status] == requests(emulator)


@pytest.mark.virtual
async def test_a_rejection_has_the_servers_own_words(new_api):
    async with new_api() as api:
        with pytest.raises(Rejected, match="event_type") as caught:
            await api.import_rows([{"user_id": "u1"}])

    assert 400 == caught.value.status


@pytest.mark.virtual
@pytest.mark.parametrize("body", ["<html>fine</html>", [1], "7"], ids=["HTML", "array", "number"])
async def test_a_submission_answered_with_no_job_may_have_been_taken(new_api, emulator, body):
    emulator.faults.add(Fault(family="bulk", status=202, body=body, apply=True))
    async with new_api() as api:
        with pytest.raises(Unavailable, match="no job object") as caught:
            await api.bulk_identify_users([{"user_id": "u1"}])

    assert caught.value.ambiguous


@pytest.mark.virtual
@pytest.mark.parametrize("body", ["<html>fine</html>", {"jobs": None}, "7"], ids=["HTML", "object", "number"])
async def test_a_listing_that_is_none_is_no_empty_list(new_api, emulator, body):
    """Nobody's proxy says that an account has no jobs."""
    emulator.faults.add(Fault(status=200, body=body, times=None))
    async with new_api() as api:
        with pytest.raises(Unavailable, match="no list of jobs") as caught:
            await api.jobs()

    assert (200, False) == (caught.value.status, caught.value.ambiguous)


# ── the server says later, or nothing ──


@pytest.mark.virtual
@each({name: ask for name, ask in ENDPOINTS.items() if name not in ("job", "wait_for_job")})
@each_way_to_fail(Fault(status=429), Fault(status=503), Fault(status=500), Fault(status=408), Fault(status=425))
async def test_an_answer_that_means_later_is_asked_again(new_api, emulator, ask, fault):
    emulator.faults.add(fault)
    async with new_api() as api:
        await ask(api)

    assert [fault.status, 200 if ask in (ENDPOINTS["jobs"], ENDPOINTS["import_rows"]) else 202] == requests(emulator)


@pytest.mark.virtual
@each({name: ask for name, ask in ENDPOINTS.items() if name not in ("job", "wait_for_job")})
async def test_a_connection_refused_is_tried_again(new_api, cable, ask):
    cable.refusals = 2
    async with new_api() as api:
        await ask(api)

    assert 1 == len(cable.requests)


@pytest.mark.virtual
@each(ENDPOINTS)
async def test_after_three_refused_connections_the_server_is_unavailable_and_nothing_was_done(new_api, cable, ask):
    cable.refusals = 3
    async with new_api() as api:
        with pytest.raises(Unavailable, match=r"^no answer: ConnectError$") as caught:
            await ask(api)

    assert not caught.value.ambiguous
    assert 0 == cable.refusals


@pytest.mark.virtual
@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_it_is_tried_as_often_as_was_asked_for(new_api, emulator, attempts):
    emulator.faults.add(Fault(status=503, times=None))
    async with new_api(attempts=attempts) as api:
        with pytest.raises(Unavailable) as caught:
            await api.track("u1", "exported")

    about = f"error_code service_unavailable, request {emulator.store.requests[-1].request_id}"
    assert f"the server answered 503 ({about})" == str(caught.value)
    assert (False, 503) == (caught.value.ambiguous, caught.value.status)
    assert [503] * attempts == requests(emulator)


@pytest.mark.virtual
@each(UNREPEATABLE)
@each_way_to_fail(Fault(cut="after"), Fault(cut="before"), Fault(status=502), Fault(status=504))
async def test_what_counts_twice_is_not_sent_twice_when_its_answer_got_lost(new_api, emulator, ask, fault):
    emulator.faults.add(fault)
    async with new_api() as api:
        with pytest.raises(Unavailable) as caught:
            await ask(api)

    assert (True, fault.status) == (caught.value.ambiguous, caught.value.status)
    assert [fault.status] == requests(emulator)


@pytest.mark.virtual
async def test_an_event_whose_answer_got_lost_is_there_once(new_api, emulator):
    emulator.faults.add(Fault(cut="after"))
    async with new_api() as api:
        with pytest.raises(Unavailable):
            await api.track("u1", "exported")

    assert 1 == len(emulator.store.events)


@pytest.mark.virtual
@each(REPEATABLE)
@each_way_to_fail(Fault(cut="after"), Fault(cut="before"), Fault(status=502), Fault(status=504))
async def test_what_is_the_same_twice_is_sent_again_when_its_answer_got_lost(new_api, emulator, ask, fault):
    emulator.faults.add(fault)
    async with new_api() as api:
        await ask(api)

    assert [fault.status, 200 if ask is ENDPOINTS["jobs"] else 202] == requests(emulator)


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7", "x-ratelimit-reset": None}, 7),
        ({"retry-after": "1e9", "x-ratelimit-reset": None}, 60),
        ({"retry-after": "soon", "x-ratelimit-reset": None}, 1),
        ({}, 60),
    ],
    ids=["seconds", "for ever", "a word", "the end of the minute"],
)
async def test_the_server_is_left_alone_for_as_long_as_it_asks(new_api, emulator, headers, seconds):
    emulator.faults.add(Fault(status=429, headers=headers))
    async with new_api() as api:
        started = anyio.current_time()
        await api.track("u1", "exported")

    first, second = (request.stamp for request in emulator.store.requests)
    assert pytest.approx(seconds, abs=1.0) == second - first
    assert pytest.approx(seconds, abs=1.0) == anyio.current_time() - started


@pytest.mark.virtual
@each(REALTIME)
async def test_a_server_that_says_nothing_is_given_up_after_the_request_timeout(new_api, emulator, ask):
    emulator.faults.add(Fault(latency=1_000_000.0, times=None))
    async with new_api(attempts=1, request_timeout=15.0) as api:
        started = anyio.current_time()
        with pytest.raises(Unavailable, match=r"^no answer: timeout$") as caught:
            await ask(api)
        took = anyio.current_time() - started

    assert caught.value.ambiguous
    assert pytest.approx(15.0) == took


@pytest.mark.virtual
async def test_an_upload_has_a_timeout_of_its_own(new_api, emulator):
    emulator.faults.add(Fault(latency=1_000_000.0, times=None))
    async with new_api(request_timeout=15.0, upload_timeout=120.0) as api:
        started = anyio.current_time()
        with pytest.raises(Unavailable):
            await api.bulk_identify_users([{"user_id": "u1"}])
        took = anyio.current_time() - started

    assert pytest.approx(120.0) == took


# ── many at once, and callers that leave ──


@pytest.mark.virtual
@pytest.mark.parametrize("connections", [1, 3])
async def test_no_more_requests_are_in_flight_than_there_are_connections(new_api, cable, emulator, connections):
    emulator.latency = 1.0
    async with new_api(connections=connections) as api, anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(api.track, f"u{number}", "exported")

    assert connections == cable.most_in_flight
    assert 12 == len(emulator.store.events)


@pytest.mark.virtual
async def test_a_caller_that_leaves_by_a_scope_takes_its_request_along(new_api, cable, emulator):
    emulator.latency = 100.0
    async with new_api(connections=1, request_timeout=1_000.0) as api:
        for _ in range(30):
            with anyio.move_on_after(1.0):
                await api.track("u1", "exported")
        emulator.latency = 0.0
        await api.track("u1", "exported")

    assert 0 == cable.in_flight
    assert 31 == len(emulator.store.events)


@pytest.mark.virtual
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("steps", range(8))
async def test_native_cancellation_of_a_caller_leaves_the_api_usable(new_api, cable, emulator, steps):
    """At each of the first steps in turn, and then in the middle of the answer."""
    emulator.latency = 100.0
    async with new_api(connections=1, request_timeout=1_000.0) as api:
        for _ in range(10):
            caller = asyncio.ensure_future(api.track("u1", "exported"))
            for _ in range(steps):
                await asyncio.sleep(0)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        emulator.latency = 0.0
        await api.identify("u1", {"plan": "pro"})

    assert 0 == cable.in_flight
    assert {"u1": {"plan": "pro"}} == stored(emulator)


@pytest.mark.virtual
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_native_timeouts_of_callers_leave_the_api_usable(new_api, cable, emulator):
    emulator.latency = 100.0
    async with new_api(connections=2, request_timeout=1_000.0) as api:
        for _ in range(50):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(api.track("u1", "exported"), 0.5)
        emulator.latency = 0.0
        await api.identify("u1")

    assert 0 == cable.in_flight
    assert {"u1": {}} == stored(emulator)


# ── opening and closing ──


@pytest.mark.virtual
@each(ENDPOINTS)
async def test_an_api_that_is_not_open_says_so(new_api, cable, ask):
    with pytest.raises(ClientNotOpen, match="async with UserpilotAPI"):
        await ask(new_api())

    assert [] == cable.requests


@pytest.mark.virtual
async def test_an_api_that_was_closed_says_so(new_api):
    async with new_api() as api:
        pass

    with pytest.raises(ClientClosed, match="is not open"):
        await api.track("u1", "exported")


@pytest.mark.virtual
async def test_who_waits_while_the_api_is_closed_is_told(new_api, emulator):
    emulator.latency = 100.0
    told = []

    async def ask(api):
        with pytest.raises(ClientClosed, match=r"^the API client was closed") as caught:
            await api.track("u1", "exported")
        told.append(caught.value)

    async with anyio.create_task_group() as tasks, new_api(connections=1, request_timeout=1_000.0) as api:
        for _ in range(3):
            tasks.start_soon(ask, api)
        await anyio.sleep(1)

    assert 3 == len(told)
    assert 1 == anyio.current_time()


@pytest.mark.virtual
async def test_an_api_may_be_opened_again(new_api, emulator):
    api = new_api()
    for _ in range(2):
        async with api:
            await api.track("u1", "exported")

    assert 2 == len(emulator.store.events)


@pytest.mark.virtual
@pytest.mark.parametrize("door", [UserpilotAPI, UserpilotClient])
async def test_what_the_application_raises_inside_travels_out_unchanged(cable, door):
    """`except KeyError:` around an `async with` is what everybody writes."""
    with pytest.raises(KeyError, match="mine"):
        async with door("KEY", base_url="https://emulator", transport=cable):
            raise KeyError("mine")


@pytest.mark.virtual
async def test_the_api_of_a_client_goes_past_its_queue(cable, emulator):
    async with UserpilotClient("KEY", base_url="https://emulator", transport=cable) as client:
        await client.api.track("u1", "exported")
        accepted = client.statistics().accepted

    assert (0, 1) == (accepted, len(emulator.store.events))


@pytest.mark.parametrize(
    "options",
    [
        {"connections": 0}, {"connections": -1}, {"attempts": 0}, {"request_timeout": 0}, {"request_timeout": -1},
        {"request_timeout": "15"}, {"upload_timeout": None},
    ],
    ids=repr,
)  # fmt: skip
def test_an_option_that_cannot_be_right_is_refused_at_construction(options):
    """Without connections the first call waits for ever."""
    with pytest.raises(ValueError, match=next(iter(options))):
        UserpilotAPI("KEY", **options)


# ── the key ──


def fingerprint(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:8]


@pytest.mark.virtual
async def test_a_key_is_rotated_without_opening_anew(new_api, emulator):
    keys = ["first"]
    async with new_api(lambda: keys[-1]) as api:
        await api.track("u1", "exported")
        keys.append("second")
        await api.track("u1", "exported")

    used = [request.key_fingerprint for request in emulator.store.requests]
    assert [fingerprint("first"), fingerprint("second")] == used


@pytest.mark.virtual
async def test_a_request_that_is_repeated_asks_for_the_key_anew(new_api, emulator):
    emulator.faults.add(Fault(status=503))
    keys = iter(["first", "second"])
    async with new_api(lambda: next(keys)) as api:
        await api.track("u1", "exported")

    used = [request.key_fingerprint for request in emulator.store.requests]
    assert [fingerprint("first"), fingerprint("second")] == used


@pytest.mark.virtual
@pytest.mark.parametrize("give", [lambda: 1 / 0, lambda: "", lambda: "a b", lambda: None, lambda: b"KEY"])
async def test_a_callable_that_gives_no_key_is_a_delivery_error_and_not_the_end(new_api, cable, give):
    gives = [give]
    async with new_api(lambda: gives[-1]()) as api:
        with pytest.raises(
            Unavailable, match=r"^no answer: the api_key callable (raised|returned what is no key:) \w+"
        ) as caught:
            await api.track("u1", "exported")
        gives.append(lambda: "KEY")
        await api.track("u1", "exported")

    assert not caught.value.ambiguous
    assert 1 == len(cable.requests)


SECRET = "hjk" + "mnp" + "qrs"


@pytest.mark.virtual
@each(ENDPOINTS)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=401, times=None), Fault(status=503, times=None), Fault(status=400, times=None),
        Fault(cut="after", times=None), Fault(latency=1e6, times=None), Fault(status=202, body="{", times=None),
    ],
    ids=["401", "503", "400", "cut", "timeout", "garbage"],
)  # fmt: skip
async def test_the_key_is_in_no_error_no_log_and_no_repr(new_api, emulator, caplog, ask, fault):
    caplog.set_level(logging.DEBUG)
    emulator.faults.add(fault)
    said = []
    async with new_api(SECRET) as api:
        try:
            with anyio.move_on_after(600):
                await ask(api)
        except Exception as error:
            said.extend([*traceback.format_exception(error), repr(error), str(error)])
        said.extend([repr(api), repr(vars(api))])

    assert emulator.store.requests
    assert SECRET not in "".join(said)
    assert SECRET not in caplog.text


@pytest.mark.virtual
async def test_the_key_is_in_no_log_when_the_callable_raises_with_it(new_api, caplog):
    caplog.set_level(logging.DEBUG)

    def give():
        raise LookupError(f"the vault knows no {SECRET}")

    async with new_api(give) as api:
        with pytest.raises(Unavailable) as caught:
            await api.track("u1", "exported")

    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in caplog.text


# ── certificates, on a real wire ──


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "Https"])
@pytest.mark.parametrize("certificate", ["good", "self_signed", "expired", "wrong_name"])
async def test_a_certificate_that_nobody_vouches_for_is_refused_however_the_scheme_is_written(scheme, certificate):
    """Even the good one is issued by an authority that only these tests know."""
    with TLSServer(certificate=certificate) as server:
        async with UserpilotAPI("KEY", base_url=f"{scheme}://127.0.0.1:{server.port}", attempts=1) as api:
            with pytest.raises(Unavailable, match="certificate is not trusted"):
                await api.track("u1", "exported")

    assert [] == server.requests


async def test_a_client_that_trusts_nobody_is_what_the_last_test_needs():
    """Guards it: the same server does answer a client that trusts its authority."""
    with TLSServer() as server:
        async with httpx.AsyncClient(verify=server.client_context(), trust_env=False) as client:
            answer = await client.get(f"https://127.0.0.1:{server.port}/")

    assert answer.is_success


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_an_exception_keeps_nothing_of_the_answers_body() -> None:
    """An error tracker, which collects exceptions, would collect megabytes, and what a server says of people."""
    said = httpx.MockTransport(lambda request: httpx.Response(400, json={"errors": [], "people": ["anna.kowalska"]}))
    async with UserpilotAPI("KEY", base_url="https://emulator", transport=said) as api:
        with pytest.raises(Rejected) as caught:
            await api.identify("u1")

    error = caught.value
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [known for known in frames if "caught" not in known]  # but for this test's own
    assert ours
    assert error.__context__ is None
    assert "anna.kowalska" not in repr((vars(error), ours))
