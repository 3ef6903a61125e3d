"""A background job as the server may describe it, and when it is worth asking again."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.harness.examples.strategies import json_values
from userpilot_async import Job, JobStatus
from userpilot_async._protocol.jobs import (
    LATEST_FIRST_POLL,
    LONGEST_PAUSE,
    SHORTEST_PAUSE,
    expected_duration,
    first_poll,
    is_job,
    is_list,
    list_in,
    next_poll,
    usable_job_id,
)

DOCUMENTED = {
    "job_id": "bulk:jobs:NX-ac54070e:c6f91301-54c1-4df7-a077-b34715c38875",
    "status": "processing",
    "type": "bulk_users",
    "filename": "users.ndjson",
    "file_size": 1234,
    "total_rows": 100,
    "completed_rows": 40,
    "start_time": "2026-01-02T03:04:05Z",
    "end_time": None,
    "elapsed_time": 12,
    "links": "/v1/background_jobs/1",
    "submitted_at": "2026-01-02T03:04:04Z",
}
READ = Job(
    job_id=DOCUMENTED["job_id"],
    status=JobStatus.PROCESSING,
    type="bulk_users",
    filename="users.ndjson",
    file_size=1234,
    total_rows=100,
    completed_rows=40,
    start_time="2026-01-02T03:04:05Z",
    elapsed_time=12.0,
    submitted_at="2026-01-02T03:04:04Z",
    links="/v1/background_jobs/1",
)


# ── what the server says ──


def test_a_job_is_read_from_the_documented_object():
    assert READ == Job.from_wire(DOCUMENTED)


def test_numbers_may_be_strings_as_the_imports_endpoint_writes_them():
    numbers = {"file_size": "1234", "total_rows": "100", "completed_rows": "40", "elapsed_time": "12"}

    assert READ == Job.from_wire({**DOCUMENTED, **numbers})


def test_a_number_read_from_a_string_is_an_int():
    assert int is type(Job.from_wire({"total_rows": "100"}).total_rows)


@pytest.mark.parametrize("missing", [name for name in DOCUMENTED if name not in ("job_id", "status")])
def test_any_other_field_may_be_missing(missing):
    fields = {name: value for name, value in DOCUMENTED.items() if name != missing}

    assert attrs.evolve(READ, **{missing: None}) == Job.from_wire(fields)


def test_unknown_fields_are_ignored():
    assert READ == Job.from_wire({**DOCUMENTED, "priority": {"level": 1}})


@pytest.mark.parametrize("status", [status.value for status in JobStatus if status is not JobStatus.UNKNOWN])
def test_a_documented_status_is_known(status):
    assert status == Job.from_wire({"status": status}).status.value


@pytest.mark.parametrize("status", ["cancelled", "Completed", "", None, 1, ["completed"], {"a": 1}, True], ids=repr)
def test_any_other_status_is_unknown(status):
    assert JobStatus.UNKNOWN is Job.from_wire({"status": status}).status


def test_only_completed_and_failed_are_final():
    assert {JobStatus.COMPLETED, JobStatus.FAILED} == {status for status in JobStatus if status.final}


@pytest.mark.parametrize("value", ["many", "", "NaN", "inf", "-inf", "1e999", True, None, [], {}, [1]], ids=repr)
def test_what_is_no_finite_number_is_none(value):
    job = Job.from_wire({"total_rows": value, "completed_rows": value, "file_size": value, "elapsed_time": value})

    assert (None, None, None, None) == (job.total_rows, job.completed_rows, job.file_size, job.elapsed_time)


@pytest.mark.parametrize(
    "hostile",
    ["", "x" * 1_025, "x" * 1_000_000, "a\nb", "a\x00b", "a\r\nHost: b", "\u202ea", "\ud800", None, 7, ["a"], {"a": 1}],
    ids=lambda given: ascii(given)[:20],
)
def test_an_id_that_cannot_stand_in_a_url_or_a_message_is_left_out(hostile):
    assert "" == Job.from_wire({"job_id": hostile}).job_id


@pytest.mark.parametrize("odd", ["../../v1/track", "..", "a b", "x" * 1_024, "ä:ö", "a%2Fb", "?a=b#c"])
def test_an_odd_id_is_kept_as_it_is_since_it_is_quoted_in_the_path(odd):
    assert odd == Job.from_wire({"job_id": odd}).job_id


def test_a_text_of_a_megabyte_is_cut():
    assert 1_024 == len(Job.from_wire({"filename": "x" * 1_000_000}).filename)


@pytest.mark.parametrize("links", ["/v1/background_jobs/1", {"self": {"href": "/1"}}, ["/1", None], 7], ids=repr)
def test_links_are_kept_as_they_came(links):
    assert links == Job.from_wire({"links": links}).links


def test_links_of_a_megabyte_are_not():
    assert None is Job.from_wire({"links": {"self": "x" * 1_000_000}}).links


def test_a_job_with_links_can_be_in_a_set():
    assert 1 == len({Job.from_wire({"links": {"self": "/1"}})})


@given(st.dictionaries(st.sampled_from(sorted(DOCUMENTED)) | st.text(), json_values, max_size=12))
def test_any_json_object_is_some_job(fields):
    job = Job.from_wire(fields)

    assert isinstance(job.status, JobStatus)
    assert not job.job_id or usable_job_id(job.job_id)


@given(st.dictionaries(st.sampled_from(sorted(DOCUMENTED)), st.integers() | st.floats() | st.text("0123456789.e+-_ ")))
def test_any_numbers_make_some_job(fields):
    job = Job.from_wire(fields)

    for name in ("file_size", "total_rows", "completed_rows"):
        assert type(getattr(job, name)) in (int, type(None))


# ── lists ──


@pytest.mark.parametrize(
    "body",
    [
        [DOCUMENTED],
        {"jobs": [DOCUMENTED]},
        {"page": 1, "data": [DOCUMENTED], "next": None},
        [None, "job", DOCUMENTED, 7],
    ],
    ids=["array", "object", "page", "garbage between"],
)
def test_the_jobs_of_a_listing_are_found(body):
    assert [READ] == [Job.from_wire(one) for one in list_in(body) if isinstance(one, dict)]


@pytest.mark.parametrize(
    "body",
    [
        None, "jobs", 7, {}, {"jobs": None}, {"errors": []}, {"errors": [{"message": "no"}]},
        {"errors": [{"message": "no"}], "jobs": [DOCUMENTED]},
    ],
    ids=repr,
)  # fmt: skip
def test_what_holds_no_list_of_jobs_is_no_empty_list(body):
    assert list_in(body) is None
    assert not is_list(body)


@pytest.mark.parametrize(
    "body",
    [
        {"warnings": [{"code": 1}], "jobs": [DOCUMENTED]},
        {"links": [{"rel": "self"}], "jobs": [DOCUMENTED]},
        {"filters": [{"name": "all"}], "jobs": [DOCUMENTED]},
        {"data": {"jobs": [DOCUMENTED], "total": 1}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_the_list_of_jobs_is_told_from_other_lists(body):
    assert [DOCUMENTED] == list_in(body)


@given(json_values)
def test_a_list_is_found_in_any_json_or_not(body):
    found = list_in(body)

    assert is_list(body) == (found is not None)
    assert found is None or isinstance(found, list)


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        (DOCUMENTED, True),
        ({"job_id": "j"}, True),
        ({"status": "queued"}, True),
        ({"job_id": "x" * 1_000_000, "status": "queued"}, True),
        ({"job_id": "j", "errors": [{"message": "row 3"}]}, True),
        ({"status": "error", "errors": [{"message": "no"}]}, False),
        ({"job_id": None, "status": None}, False),
        ({"job_id": "", "status": ""}, False),
        ({"job_id": 7}, False),
        ({"message": "ok"}, False),
        ({}, False),
        ([DOCUMENTED], False),
        ("queued", False),
        (None, False),
    ],
)
def test_a_job_object_can_be_followed(body, is_one):
    assert is_one == is_job(body)


@given(json_values)
def test_any_json_is_a_job_object_or_not(body):
    assert is_job(body) in (True, False)


# ── when to look ──


def test_10000_rows_take_five_minutes_and_a_half():
    assert pytest.approx(333.3, abs=0.1) == expected_duration(10_000)


@given(st.integers(0, 10_000))
def test_the_first_poll_is_when_the_job_may_be_done_or_after_ten_seconds(rows):
    assert SHORTEST_PAUSE <= first_poll(rows) <= LATEST_FIRST_POLL


@pytest.mark.parametrize(("rows", "seconds"), [(1, 1.0), (90, 3.0), (300, 10.0), (10_000, 10.0)])
def test_the_first_poll_at_some_sizes(rows, seconds):
    assert seconds == first_poll(rows)


def running(done: int) -> Job:
    return Job(job_id="j", status=JobStatus.PROCESSING, completed_rows=done)


seen_jobs = st.none() | st.integers().map(running)


@given(seen_jobs, st.integers(), st.floats(allow_nan=False), st.integers(0))
@example(running(1), int(1e308), 1e308, 1)
def test_the_next_poll_is_in_1_to_30_seconds_whatever_the_server_says(job, rows, elapsed, looks):
    assert SHORTEST_PAUSE <= next_poll(job, rows, elapsed, looks) <= LONGEST_PAUSE


@pytest.mark.parametrize(
    ("done", "rows", "elapsed", "seconds"),
    [
        pytest.param(50, 100, 10.0, 10.0, id="half done in 10 s"),
        pytest.param(99, 100, 10.0, 1.0, id="nearly done"),
        pytest.param(1, 10_000, 10.0, 30.0, id="slow"),
    ],
)
def test_the_next_poll_is_when_the_rest_may_be_done_at_the_speed_seen(done, rows, elapsed, seconds):
    assert seconds == next_poll(running(done), rows, elapsed, 3)


def test_without_a_row_count_the_pause_doubles():
    assert [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] == [next_poll(None, 100, 10.0, looks) for looks in range(7)]
