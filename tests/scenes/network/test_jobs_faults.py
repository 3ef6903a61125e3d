"""Rows 29 to 37: background jobs that get stuck, fail, vanish, or are not ours. On a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from tests.harness.stage.calls import KEY, person
from tests.harness.stage.scenes import Rehearsal, rehearsal
from userpilot_async import Identify, InvalidCall, JobStatus, Rejected, Settings, UserpilotClient

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

MINUTE, HOUR = 60.0, 3_600.0
BULK = "/v1/users/bulk_identify"
LOOK = "/v1/background_jobs/"
LIST = "/v1/background_jobs"


async def identified(scene: Rehearsal, users: int, first: int = 0) -> None:
    """So many users: more than the threshold, so that they go as one file."""
    await scene.identify_all(person(n) for n in range(first, first + users))


def looks(scene: Rehearsal) -> list[Any]:
    return scene.requests(path=LOOK)


# ── 29: stuck ──


@pytest.mark.parametrize("applied", [False, True], ids=["nothing applied", "rows applied"])
async def test_row_29_a_job_stuck_in_processing_is_given_up_after_an_hour_and_its_rows_arrive(applied: bool) -> None:
    """The vendor's worker died; the job says "processing" for ever and keeps its slot."""
    async with rehearsal() as scene:
        scene.goes_wrong("stuck", path=BULK, times=1, job="stuck", apply=applied or None)
        await identified(scene, 100)
        await scene.drained(2 * HOUR)

        assert 1 == len(scene.jobs)
        assert HOUR / 30 + 10 >= len(looks(scene))


async def test_row_29_tracks_and_later_identifies_do_not_wait_for_a_stuck_job() -> None:
    """A track whose user lies in the stuck file follows a repetition of its row, within the minute."""
    async with rehearsal(Settings(job_timeout=600)) as scene:
        scene.goes_wrong("stuck", path=BULK, times=1, job="stuck")
        await identified(scene, 100)
        await anyio.sleep(30)
        tracked = [*await scene.track_all(map(person, range(10))), *await scene.track_all(map(person, range(200, 210)))]
        later = await scene.identify(person(50), {"plan": "pro"})
        await anyio.sleep(30)
        after_half_a_minute = [receipt.status for receipt in tracked]
        await scene.drained(HOUR)

        assert ["delivered"] * 20 == after_half_a_minute
        assert "delivered" == later.status


async def test_row_29_leaving_while_a_job_runs_reports_its_rows_as_submitted() -> None:
    """The server has the rows and goes on with them: they are neither delivered nor lost; the report names the job."""
    async with rehearsal() as scene:
        scene.goes_wrong("slow", path=BULK, times=1, job={"status_sequence": [["processing", 600], "completed"]})
        await identified(scene, 100)
        await anyio.sleep(30)
        report = await scene.leaves(15)
        await anyio.sleep(600)

        assert (False, 100, 100) == (report.complete, report.remaining, report.statistics.submitted)
        assert (scene.jobs[-1].job_id,) == report.jobs
        assert {"submitted": 100} == scene.statuses()


# ── 30: failed ──


async def test_row_30_a_job_that_failed_once_is_tried_once_more() -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("failed", path=BULK, times=1, job="failed")
        await identified(scene, 100)
        await scene.drained(2 * MINUTE)

        assert [100, 100] == [job.total_rows for job in scene.jobs]


async def test_row_30_jobs_that_always_fail_end_in_realtime_requests() -> None:
    """Bulk is broken at the vendor's for a day: nobody's facts are lost, they only cost more requests."""
    async with rehearsal() as scene:
        scene.goes_wrong("failed", path=BULK, job="failed")
        await identified(scene, 64)
        await anyio.sleep(2)
        await scene.track_all(map(person, range(10)))
        await scene.drained(10 * MINUTE)

        assert 64 <= len(scene.requests(path="/v1/identify", status=202))
        assert 1 + 1 + 2 + 4 >= len(scene.jobs)


async def test_row_30_a_job_that_fails_after_half_of_its_rows_leaves_the_right_state() -> None:
    """A failed job says nothing about rows: those that it applied are applied again, and newer facts win."""
    async with rehearsal() as scene:
        scene.goes_wrong("failed", path=BULK, times=1, job="failed", apply=True)
        await identified(scene, 100)
        await anyio.sleep(1.5)
        for n in range(0, 100, 2):
            await scene.identify(person(n), {"plan": "pro", "mail": None})
            await scene.track(person(n))
        await scene.drained(5 * MINUTE)


# ── 31: somebody else's job ──


async def test_row_31_somebody_elses_job_holds_the_slot_for_ten_minutes_and_identifies_go_on() -> None:
    """The nightly sync of another team, with the same key."""
    async with rehearsal() as scene:
        scene.goes_wrong("theirs", path=BULK, times=1, job={"status_sequence": [["processing", 600], "completed"]})
        await submit_another_teams_file(scene)
        await identified(scene, 200)
        await scene.drained(2 * MINUTE)
        await identified(scene, 200, first=200)
        await scene.drained(2 * MINUTE)

        refused = scene.requests(path=BULK, status=409)
        assert 1 <= len(refused) <= 12
        assert ([], 0) == (scene.jobs, scene.statistics.retries)


async def test_row_31_once_the_slot_is_free_files_go_again() -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("theirs", path=BULK, times=1, job={"status_sequence": [["processing", 60], "completed"]})
        await submit_another_teams_file(scene)
        await identified(scene, 100)
        await anyio.sleep(2 * MINUTE)
        await identified(scene, 3_000, first=1_000)
        await scene.drained(10 * MINUTE)

        assert 1 <= len(scene.requests(path=BULK, status=409))
        assert 2_000 <= sum(job.total_rows for job in scene.jobs)


async def submit_another_teams_file(scene: Rehearsal) -> None:
    headers = {"authorization": f"Token {KEY}", "x-api-version": "2020-09-22"}
    transport = httpx.ASGITransport(scene.emulator)
    async with httpx.AsyncClient(transport=transport, base_url="https://emulator.test", headers=headers) as other:
        answer = await other.post(BULK, json={"users": [{"user_id": "somebody of theirs"}]})
    assert 202 == answer.status_code


# ── 32: the answer to the submit is lost ──


async def test_row_32_a_submit_whose_answer_is_lost_is_found_again_by_its_filename() -> None:
    """There is no idempotency key on the wire: a second file would be worked off, and billed, again."""
    async with rehearsal() as scene:
        scene.goes_wrong("lost", path=BULK, times=1, cut="after")
        await identified(scene, 100)
        await scene.drained(2 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]
        assert 1 == len(scene.requests(path=BULK))
        assert 1 <= len(scene.requests(path=LIST, status=200))


async def test_row_32_a_submit_that_never_arrived_is_made_again_under_the_same_name() -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("lost", path=BULK, times=1, cut="before")
        await identified(scene, 100)
        await scene.drained(2 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]
        assert 2 == len(scene.requests(path=BULK))


async def test_row_32_a_submit_that_arrives_after_its_deadline_is_still_found() -> None:
    """The request lay in a proxy's queue for longer than the client waited."""
    async with rehearsal(Settings(upload_timeout=20)) as scene:
        scene.goes_wrong("late", path=BULK, times=1, delay=25.0)
        await identified(scene, 100)
        await scene.drained(3 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]


@pytest.mark.parametrize("status", [502, 504])
async def test_row_32_a_submit_that_was_taken_behind_a_gateways_error_makes_no_second_job(status: int) -> None:
    """A gateway gives up on a submit that the server goes on to take."""
    async with rehearsal() as scene:
        scene.goes_wrong("gateway", path=BULK, times=1, status=status, apply=True)
        await identified(scene, 100)
        await scene.drained(2 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]


async def test_row_32_the_job_list_is_down_too() -> None:
    """Whether the file is there cannot be asked for five minutes; nothing is sent twice on a guess."""
    async with rehearsal() as scene:
        scene.goes_wrong("lost", path=BULK, times=1, cut="after")
        scene.goes_wrong("no list", path=LIST, status=503)
        await identified(scene, 100)
        await anyio.sleep(5 * MINUTE)
        during = scene.statistics
        scene.recovers()
        await scene.drained(2 * MINUTE)

        assert 100 == during.pending
        assert [100] == [job.total_rows for job in scene.jobs]


# ── 33: hostile ids ──

HOSTILE = {
    "a way up": "../../v1/track",
    "a way up, quoted": "..%2f..%2fv1%2ftrack",
    "two dots": "..",
    "a query": "x?user_id=1#f",
    "a host": "//elsewhere.test/v1/track",
    "1 MB": "x" * 1_000_000,
    "CR LF": "x\r\nHost: elsewhere.test\r\n\r\n",
    "NUL": "x\x00y",
    "a lone surrogate": "\ud800",
    "empty": "",
    "a number": 17,
    "a list": ["x"],
}


@pytest.mark.parametrize("job_id", HOSTILE.values(), ids=HOSTILE)
async def test_row_33_a_hostile_job_id_leads_nowhere_but_to_the_jobs(job_id: object) -> None:
    """What the server calls a job is put into a path; the file is found in the list in spite of it."""
    async with rehearsal() as scene:
        scene.goes_wrong(
            "hostile", path=BULK, times=1, status=202, apply=True, body={"job_id": job_id, "status": "queued"}
        )
        await identified(scene, 100)
        await scene.drained(10 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]
        gets = [request for request in scene.emulator.store.requests if request.method == "GET"]
        assert all(request.path == LIST or request.path.startswith(LOOK) for request in gets)
        assert all(1 == request.path.removeprefix(LIST).count("/") for request in gets if request.path != LIST)
        assert not any(segment in (".", "..") for request in gets for segment in request.path.split("/"))
        assert all(4_000 >= len(request.path) for request in gets)


@pytest.mark.parametrize("name", ["a way up", "a way up, quoted", "two dots", "a query", "a host"])
async def test_row_33_the_plain_api_asks_for_a_hostile_job_id_in_one_segment(name: str) -> None:
    async with rehearsal() as scene:
        error = await scene.refused(scene.client.api.job(str(HOSTILE[name])), Rejected)

        (request,) = looks(scene)
        assert 404 == error.status
        assert 1 == request.path.removeprefix(LIST).count("/")


@pytest.mark.parametrize("name", ["1 MB", "CR LF", "NUL", "a lone surrogate", "empty"])
async def test_row_33_the_plain_api_refuses_a_job_id_that_cannot_be_one(name: str) -> None:
    async with rehearsal() as scene:
        error = await scene.refused(scene.client.api.job(str(HOSTILE[name])), InvalidCall)

        assert "job_id" == error.field
        assert 200 >= len(str(error))


# ── 34: statuses ──


@pytest.mark.parametrize(
    "life",
    [
        [["queued", 5], ["reticulating splines", 30], "completed"],
        [["processing", 10], ["validating", 10], ["queued", 10], ["processing", 10], "completed"],
        [["pending_refresh", 5], ["", 5], ["FAILED", 5], ["Completed", 5], "completed"],
    ],
    ids=["unknown", "backwards", "nearly known"],
)
async def test_row_34_a_job_of_strange_statuses_is_waited_for(life: list[Any]) -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("strange", path=BULK, times=1, job={"status_sequence": life})
        await identified(scene, 100)
        await scene.drained(3 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]
        assert 0 == len(scene.requests(path="/v1/identify"))


async def test_row_34_two_404s_on_the_poll_are_waited_out() -> None:
    """The list of jobs is eventually consistent, as lists are."""
    async with rehearsal() as scene:
        scene.goes_wrong("not yet", path=f"{LOOK}*", times=2, status=404)
        await identified(scene, 100)
        await scene.drained(2 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]
        assert 3 <= len(looks(scene))


async def test_row_34_a_job_that_nobody_knows_by_its_id_is_followed_in_the_list() -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("unknown", path=f"{LOOK}*", status=404)
        await identified(scene, 100)
        await scene.drained(5 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]


async def test_row_34_with_no_word_about_jobs_at_all_the_rows_arrive_and_nothing_is_held() -> None:
    """A proxy that lets only POST through: jobs can be submitted and never be seen."""
    async with rehearsal() as scene:
        scene.goes_wrong("no jobs", path=f"{LIST}*", status=404)
        await identified(scene, 100)
        await anyio.sleep(2)
        await scene.track_all(map(person, range(20)))
        await scene.drained(HOUR)

        assert 0 == len(scene.log.said("nothing is sent"))


# ── 35: poison ──


async def test_row_35_one_poison_row_in_10_000_dies_alone() -> None:
    """A row that the server refuses must not take 9,999 others down, nor stop those who come after."""
    async with rehearsal() as scene:
        poison = person(70_000)
        scene.losses = {"invalid": 1}
        scene.goes_wrong("poison", body_contains=poison, status=400)
        await identified(scene, 5_000)
        await scene.client.identify(poison, {"plan": "pro"})
        await identified(scene, 4_999, first=5_000)
        await scene.drained(HOUR)

        assert [Identify(poison, {"plan": "pro"})] == [letter.call for letter in scene.letters]
        assert 30 >= len(scene.requests(path=BULK, status=400))


@pytest.mark.parametrize("found_by", ["a refused file", "a failed job"])
@pytest.mark.parametrize("poisoned", [5, 64], ids=["five in 64", "all"])
async def test_row_35_poison_rows_die_and_the_others_arrive(poisoned: int, found_by: str) -> None:
    async with rehearsal() as scene:
        scene.losses = {"invalid": poisoned}
        in_bulk: dict[str, Any] = {"status": 400} if found_by == "a refused file" else {"job": "failed"}
        scene.goes_wrong("in bulk", path=BULK, body_contains="poison", **in_bulk)
        scene.goes_wrong("alone", path="/v1/identify", body_contains="poison", status=422)
        for n in range(64):
            if poisoned == 64 or n % 13 == 0:  # 0, 13, 26, 39, 52
                await scene.client.identify(person(n), {"note": "poison"})
            else:
                await scene.identify(person(n))
        await scene.drained(HOUR)

        assert 64 - poisoned == scene.statistics.delivered
        assert all(letter.call is not None and {"note": "poison"} == letter.call.metadata for letter in scene.letters)


# ── 36: 413 ──


async def test_row_36_a_413_at_an_undocumented_size_splits_the_file_until_it_fits() -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("too large", path=BULK, body_over=20_000, status=413)
        for n in range(300):
            await scene.identify(person(n), {"story": "s" * 400})
        await anyio.sleep(MINUTE)  # a flush at once would send the last ones, up to 50, in realtime
        await scene.drained(10 * MINUTE)

        assert 0 == len(scene.requests(path="/v1/identify"))
        assert 4 * 4 >= len(scene.requests(path=BULK, status=413))


async def test_row_36_the_size_is_remembered() -> None:
    """Every upload in vain is a file of up to 50 MB."""
    async with rehearsal() as scene:
        scene.goes_wrong("too large", path=BULK, body_over=20_000, status=413)
        for n in range(300):
            await scene.identify(person(n), {"story": "s" * 400})
        await scene.drained(10 * MINUTE)
        learning = len(scene.requests(path=BULK, status=413))
        for n in range(300, 900):
            await scene.identify(person(n), {"story": "s" * 400})
        await scene.drained(20 * MINUTE)

        assert learning + 2 >= len(scene.requests(path=BULK, status=413))


async def test_row_36_a_row_that_is_too_large_alone_is_dead_and_says_so() -> None:
    async with rehearsal() as scene:
        scene.losses = {"too_large": 1}
        scene.goes_wrong("too large", body_over=20_000, status=413)
        await identified(scene, 40)
        await scene.client.identify(person(70_000), {"story": "s" * 30_000})
        await identified(scene, 40, first=40)
        await scene.drained(10 * MINUTE)

        assert ["too_large"] == [letter.reason for letter in scene.letters]


# ── 37: what a job object may look like ──


def as_strings(body: Any) -> Any:
    return _each(body, lambda job: {name: str(job[name]) if isinstance(job[name], int) else job[name] for name in job})


def bare(body: Any) -> Any:
    return _each(body, lambda job: {name: job[name] for name in ("job_id", "status", "filename") if name in job})


def only_status(body: Any) -> Any:
    return _each(body, lambda job: {name: job[name] for name in ("job_id", "status")})


def without_an_id(body: Any) -> Any:
    return _each(body, lambda job: {name: value for name, value in job.items() if name != "job_id"})


def nulls(body: Any) -> Any:
    return _each(body, lambda job: {name: job[name] if name in ("job_id", "status") else None for name in job})


def nonsense(body: Any) -> Any:
    strange = {"total_rows": "1e400", "completed_rows": [], "elapsed_time": True, "file_size": {"a": 1}, "links": 1,
               "start_time": 5, "a new field": {"deep": [1]}, "type": None}  # fmt: skip
    return _each(body, lambda job: {**job, **strange})


def paged(body: Any) -> Any:
    return {"page": 1, "data": [None, 5, "x", *body]} if isinstance(body, list) else body


def _each(body: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    return [change(job) for job in body] if isinstance(body, list) else change(body)


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "searched"])
@pytest.mark.parametrize("shape", [as_strings, bare, nonsense, paged, without_an_id], ids=lambda f: f.__name__)
async def test_row_37_jobs_of_every_shape_are_followed_to_their_end(shape: Callable[[Any], Any], lost: bool) -> None:
    """`/v1/imports` sends its numbers as strings; any field may be missing; fields nobody knows may come."""
    async with rehearsal() as scene:
        scene.network.rewrite = shape
        if lost:
            scene.goes_wrong("lost", path=BULK, times=1, cut="after")
        await identified(scene, 100)
        await scene.drained(3 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]
        assert 0 < scene.network.rewritten


@pytest.mark.parametrize("shape", [only_status, nulls], ids=lambda f: f.__name__)
async def test_row_37_jobs_without_a_filename_are_followed_by_their_id(shape: Callable[[Any], Any]) -> None:
    async with rehearsal() as scene:
        scene.network.rewrite = shape
        await identified(scene, 100)
        await scene.drained(2 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]
        assert 0 < scene.network.rewritten


@pytest.mark.parametrize("said", [None, [], "accepted", 5, {}, {"job_id": None, "status": None}], ids=repr)
async def test_row_37_a_submit_that_is_answered_with_anything_else_is_found_in_the_list(said: Any) -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("no job object", path=BULK, times=1, status=202, apply=True, body=said)
        await identified(scene, 100)
        await scene.drained(2 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]


@pytest.mark.parametrize("shape", [as_strings, nonsense, nulls], ids=lambda f: f.__name__)
async def test_row_37_the_plain_api_reads_numbers_from_strings_and_leaves_out_the_rest(
    shape: Callable[[Any], Any],
) -> None:
    async with rehearsal() as scene:
        scene.network.rewrite = shape
        job = await scene.client.api.bulk_identify_users([{"user_id": "somebody"}])
        end = await scene.client.api.wait_for_job(job, timeout=MINUTE)

        assert JobStatus.COMPLETED is end.status
        assert (1 if shape is as_strings else None) == end.total_rows


async def test_row_37_a_job_in_an_answer_that_is_in_memory_already_is_read() -> None:
    """What `httpx.MockTransport` gives, with which an application tests itself: the status is seen, the body is not."""
    job = {"job_id": "bulk:jobs:1", "status": "completed"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=job))
    async with UserpilotClient(KEY, base_url="https://emulator.test", transport=transport) as client:
        seen = await client.api.job("bulk:jobs:1")

    assert JobStatus.COMPLETED is seen.status
