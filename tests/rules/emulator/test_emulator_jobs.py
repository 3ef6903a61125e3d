"""Bulk jobs: one at a time, by a timetable; and the list of all jobs."""

from __future__ import annotations

import json
import re

import pytest

from userpilot_async.emulator import Emulator, Fault

pytestmark = pytest.mark.anyio


# All that the vendor's documents name; `submitted_at` is in the answer to a submission alone.
FIELDS = {"job_id", "status", "type", "filename", "file_size", "total_rows", "completed_rows", "start_time", "end_time",
          "elapsed_time", "links"}  # fmt: skip


def users(count):
    return [{"user_id": f"u{number}", "metadata": {"n": number}} for number in range(count)]


async def status_of(client, job):
    return (await client.get(job["links"])).json()["status"]


async def test_a_submit_answers_202_with_the_job(client):
    answer = await client.post("/v1/users/bulk_identify", json={"users": users(3)})
    job = answer.json()

    assert 202 == answer.status_code
    assert re.fullmatch(r"bulk:jobs:NX-[0-9a-f]{8}:[0-9a-f-]{36}", job["job_id"])
    assert ("queued", 3, 0) == (job["status"], job["total_rows"], job["completed_rows"])
    assert ("2020-09-23T09:50:00Z", None) == (job["start_time"], job["end_time"])
    assert FIELDS | {"submitted_at"} == set(job)


@pytest.mark.parametrize("speed", [1.0, 60.0])
async def test_a_job_lives_by_its_timetable_divided_by_speed(clock, connect, speed):
    """60 rows take 2 s at 1,800 a minute: 0 queued, 1 validating, 2 processing, 4 pending_refresh, 6 completed."""
    client = connect(Emulator(clock=clock, speed=speed))
    job = (await client.post("/v1/users/bulk_identify", json={"users": users(60)})).json()
    begun = clock.now
    life = []
    for seconds in (0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5):
        clock.now = begun + seconds / speed
        seen = (await client.get(job["links"])).json()
        life.append((seen["status"], seen["completed_rows"]))

    assert [
        ("queued", 0),
        ("validating", 0),
        ("processing", 15),
        ("processing", 45),
        ("pending_refresh", 60),
        ("pending_refresh", 60),
        ("completed", 60),
    ] == life


async def test_a_finished_job_names_its_end_and_its_length(client, clock):
    job = (await client.post("/v1/users/bulk_identify", json={"users": users(30)})).json()
    clock.now += 3600
    job = (await client.get(job["links"])).json()

    assert ("2020-09-23T09:50:05Z", 5) == (job["end_time"], job["elapsed_time"])
    assert "submitted_at" not in job


async def test_rows_are_applied_one_after_another_each_at_its_own_moment(client, emulator, clock):
    begun = clock.now
    await client.post("/v1/users/bulk_identify", json={"users": users(60)})
    clock.now += 2.5
    emulator.advance()
    half_way = list(emulator.store.users)
    clock.now += 100
    emulator.advance()

    assert [f"u{number}" for number in range(15)] == half_way
    assert [f"u{number}" for number in range(60)] == [entry.id for entry in emulator.store.applied]
    assert pytest.approx(begun + 3) == emulator.store.applied[29].stamp


async def test_a_bulk_row_merges_and_moves_like_an_identify(client, emulator, clock):
    await client.post("/v1/identify", json={"user_id": "u1", "metadata": {"a": 1, "b": 2}, "company": {"id": "c1"}})
    row = {"user_id": "u1", "metadata": {"b": None, "c": 3}, "company_id": "c2"}
    await client.post("/v1/users/bulk_identify", json={"users": [row]})
    clock.now += 60
    emulator.advance()

    user = emulator.store.users["u1"]
    assert ({"a": 1, "c": 3}, "c2") == (user.properties, user.company_id)
    assert "bulk" == emulator.store.applied[-1].via


async def test_an_ndjson_file_is_taken_and_its_name_echoed(client, emulator, clock, file_of):
    rows = [{"company_id": "c1", "metadata": {"seats": 1}}, {"company_id": "c2"}]
    answer = await client.post("/v1/companies/bulk_identify", files=file_of(*rows, filename="batch-7f3a.ndjson"))
    clock.now += 60
    listed = (await client.get("/v1/background_jobs")).json()

    assert "batch-7f3a.ndjson" == answer.json()["filename"]
    assert [("batch-7f3a.ndjson", "completed")] == [(job["filename"], job["status"]) for job in listed]
    assert {"seats": 1} == emulator.store.companies["c1"].properties
    assert "batch-7f3a.ndjson" == emulator.store.requests[0].filename
    assert 2 == emulator.store.requests[0].rows


async def test_one_bulk_job_runs_at_a_time_users_and_companies_together(client, clock):
    first = await client.post("/v1/users/bulk_identify", json={"users": users(30)})
    same = await client.post("/v1/users/bulk_identify", json={"users": users(1)})
    clock.now += 4.9
    other = await client.post("/v1/companies/bulk_identify", json={"companies": [{"company_id": "c1"}]})
    clock.now += 0.1
    after = await client.post("/v1/companies/bulk_identify", json={"companies": [{"company_id": "c1"}]})

    assert [202, 409, 409, 202] == [answer.status_code for answer in (first, same, other, after)]


async def test_the_slot_belongs_to_one_key(emulator, connect):
    for key in ("A", "B"):
        answer = await connect(emulator, key=key).post("/v1/users/bulk_identify", json={"users": users(1)})
        assert 202 == answer.status_code


async def test_a_company_object_in_a_bulk_row_has_no_effect(client, emulator, clock):
    """In the bulk rows the company is only a `company_id`; its properties travel in a companies row."""
    rows = [
        {"user_id": "u1", "company": {"id": "c9", "name": "Acme"}},
        {"user_id": "u2", "company": 7},
        {"user_id": "u3", "company_id": "c1", "company": {"id": "c9", "name": "Acme"}},
    ]
    answer = await client.post("/v1/users/bulk_identify", json={"users": rows})
    clock.now += 60
    emulator.advance()

    assert 202 == answer.status_code
    assert [None, None, "c1"] == [user.company_id for user in emulator.store.users.values()]
    assert {"c1": {}} == {company.company_id: company.properties for company in emulator.store.companies.values()}


@pytest.mark.parametrize("path", ["/v1/users/bulk_identify", "/v1/imports"])
async def test_a_failed_job_does_not_say_which_row_was_at_fault(client, emulator, clock, file_of, path):
    at = {"event_type": "identify_user", "source": "backend-http", "inserted_at": "2024-12-01T08:55:43"}
    emulator.faults.add(Fault(fail_if_row_contains="u-poison"))
    seen = []
    for poison in ("u-poison", "u-sound"):
        job = (await client.post(path, files=file_of({**at, "user_id": "u1"}, {**at, "user_id": poison}))).json()
        clock.now += 60
        seen.append((await client.get(job["links"])).json())

    failed, completed = seen
    assert ("failed", "completed") == (failed["status"], completed["status"])
    assert FIELDS == set(completed) == set(failed)
    assert {"job_id", "links", "status", "start_time", "end_time", "elapsed_time", "file_size"} >= {
        name for name in failed if failed[name] != completed[name]
    }
    assert "poison" not in json.dumps(failed)
    assert ["u1", "u-sound"] == list(emulator.store.users)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        "u1",
        ["u1"],
        [{"user_id": "u1"}, {"metadata": {}}],
        [{"user_id": "u1", "company_id": ""}],
        [{"user_id": "u1", "company_id": 7}],
        [{"user_id": "u1", "metadata": {"a": []}}],
    ],
)
async def test_one_malformed_row_refuses_the_whole_request(client, emulator, rows):
    answer = await client.post("/v1/users/bulk_identify", json={"users": rows})

    assert 400 == answer.status_code
    assert 0 == len(emulator.store.jobs)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"{", b"[]\n", b'{"user_id": "u1"}\nnonsense\n'])
async def test_a_malformed_file_is_refused(client, content):
    answer = await client.post("/v1/users/bulk_identify", files={"file": ("rows.ndjson", content)})

    assert 400 == answer.status_code


async def test_an_upload_needs_the_field_file_and_a_readable_body(client, file_of):
    elsewhere = {"rows": file_of(*users(1))["file"]}
    unreadable = {"Content-Type": "multipart/form-data"}

    assert 400 == (await client.post("/v1/users/bulk_identify", files=elsewhere)).status_code
    assert 400 == (await client.post("/v1/users/bulk_identify", content=b"x", headers=unreadable)).status_code


@pytest.mark.parametrize(("field", "name"), [("users", "user_id"), ("companies", "company_id")])
async def test_10_000_rows_are_accepted_and_10_001_are_too_many(client, file_of, field, name):
    rows = [{name: f"id{number}"} for number in range(10_001)]
    path = f"/v1/{field}/bulk_identify"

    assert 413 == (await client.post(path, json={field: rows})).status_code
    assert 413 == (await client.post(path, files=file_of(*rows))).status_code
    assert 202 == (await client.post(path, files=file_of(*rows[1:]))).status_code


FIFTY_MB = 50 * 1024 * 1024
ROW = (
    b'{"event_type": "identify_user", "user_id": "u", "company_id": "c", "source": "backend-http",'
    b' "inserted_at": "2024-12-01T08:55:43"}'
)
UPLOADS = {  # path → status of the largest file
    "/v1/users/bulk_identify": 202,
    "/v1/companies/bulk_identify": 202,
    "/v1/imports": 200,
}


@pytest.mark.parametrize(("path", "accepted"), UPLOADS.items())
async def test_a_file_has_50_mb_and_not_a_byte_more(client, path, accepted):
    content = ROW.ljust(FIFTY_MB)  # blanks at the end of a line are no data

    assert 413 == (await client.post(path, files={"file": ("rows.ndjson", content + b" ")})).status_code
    assert accepted == (await client.post(path, files={"file": ("rows.ndjson", content)})).status_code


@pytest.mark.parametrize("field", ["users", "companies"])
async def test_rows_as_json_have_50_mb_and_not_a_byte_more(client, field):
    row = {"user_id": "u", "company_id": "c"}
    body, headers = json.dumps({field: [row]}).encode().ljust(FIFTY_MB), {"Content-Type": "application/json"}

    assert 413 == (await client.post(f"/v1/{field}/bulk_identify", content=body + b" ", headers=headers)).status_code
    assert 202 == (await client.post(f"/v1/{field}/bulk_identify", content=body, headers=headers)).status_code


async def test_the_newest_job_is_listed_first(client, clock):
    ids = []
    for _ in range(3):
        ids.append((await client.post("/v1/users/bulk_identify", json={"users": users(1)})).json()["job_id"])
        clock.now += 60

    assert ids[::-1] == [job["job_id"] for job in (await client.get("/v1/background_jobs")).json()]


async def test_a_job_is_found_by_its_id_quoted_or_not(client):
    job = (await client.post("/v1/users/bulk_identify", json={"users": users(1)})).json()

    assert 200 == (await client.get(f"/v1/background_jobs/{job['job_id']}")).status_code
    assert 200 == (await client.get(f"/v1/background_jobs/{job['job_id'].replace(':', '%3A')}")).status_code


@pytest.mark.parametrize("job_id", ["none", "bulk%3Ajobs%3ANX-0%3A0", "..%2F..%2Fv1%2Ftrack", "%2e%2e", "a%00b"])
async def test_a_job_id_that_names_no_job_is_404_whatever_path_it_spells(client, job_id):
    assert 404 == (await client.get(f"/v1/background_jobs/{job_id}")).status_code


# ── the pages of the list ──


async def shown(client, query):
    answer = (await client.get("/v1/background_jobs", params=query)).json()
    jobs = answer["jobs"] if isinstance(answer, dict) else answer
    following = answer["links"]["next"] if isinstance(answer, dict) else None
    return [job["filename"] for job in jobs], following


async def seven_jobs(client):
    for n in range(7):
        assert 202 == (await client.request("DELETE", "/v1/users", json={"users": [f"u{n}"]})).status_code
    return [f"delete_users_{n}.json" for n in range(7, 0, -1)]


@pytest.mark.parametrize("jobs_paging", ["page", "links", "hidden"])
async def test_the_list_shows_so_many_jobs_a_page_newest_first(connect, clock, jobs_paging):
    async with connect(Emulator(clock=clock, jobs_per_page=3, jobs_paging=jobs_paging)) as client:
        names = await seven_jobs(client)
        pages = [await shown(client, query) for query in ({}, {"page": "2"}, {"page": "3"}, {"page": "4"})]

    there = [names[:3], names[3:6], names[6:], []] if jobs_paging != "hidden" else [names[:3]] * 4
    assert there == [page for page, _ in pages]
    to = [f"/v1/background_jobs?page={n}" for n in (2, 3)]
    assert ([*to, None, None] if jobs_paging == "links" else [None] * 4) == [following for _, following in pages]


@pytest.mark.parametrize("page", ["0", "-1", "many", "", "²", "9" * 5_000])
async def test_a_page_that_is_no_number_is_the_first(connect, clock, page):
    async with connect(Emulator(clock=clock, jobs_per_page=3)) as client:
        names = await seven_jobs(client)

        assert names[:3] == (await shown(client, {"page": page}))[0]


@pytest.mark.parametrize("options", [{"jobs_per_page": 0}, {"jobs_paging": "cursor"}])
def test_a_list_cannot_be_paged_in_another_way(options):
    with pytest.raises(ValueError, match="must be"):
        Emulator(**options)
