"""The route for late events: rows 20, 22, 29 to 32, 35 and 36 for imports, and leaving. On a clock that jumps.

A budget of 60 requests a minute makes a backlog of 200 events late, and the server's 30 rows a second work it off soon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs
import httpx
import pytest

from tests.contract.inline import InlineOutbox
from tests.harness import judge
from tests.harness.stage.calls import KEY, person
from tests.harness.stage.scenes import EPOCH, USERPILOT, Network, Rehearsal, rehearsal
from userpilot_async import Receipt, Settings, UserpilotClient

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

MINUTE, HOUR = 60.0, 3_600.0
IMPORTS = "/v1/imports"
TRACK = "/v1/track"
LIST = "/v1/background_jobs"
LATENCY = 0.05  # of each answer: what is sent after one comes after it by the server's clock, too
LATE = Settings(imports="when_late", late_after=30.0, track_per_minute=60, burst=10)
NO_IMPORTS = "late events go through the realtime endpoint"

late = partial(rehearsal, LATE, latency=LATENCY)


async def backlog(scene: Rehearsal, events: int = 200, users: int = 20) -> list[Receipt]:
    """So many events of so many users, all at once; a moment later those that are late are in a file."""
    receipts = await scene.track_all(person(n % users) for n in range(events))
    await anyio.sleep(2)  # a flush at once would find some of them with a request under way
    return receipts


def uploads(scene: Rehearsal, status: int | None = None) -> list[Any]:
    """The requests with a file, answered so."""
    return [request for request in scene.requests(path=IMPORTS, status=status) if request.method == "POST"]


def rows(scene: Rehearsal) -> list[int]:
    """Of each import job that the server has accepted from this client."""
    return [job.total_rows for job in scene.jobs if job.kind == "import"]


def imported(scene: Rehearsal) -> list[Any]:
    """The events that are there by an import."""
    scene.emulator.advance()
    return [event for event in scene.events if event.via == "import"]


def were_ambiguous(scene: Rehearsal, events: int) -> None:
    """So many more may be there twice, as the test knows: their job said that it failed, or nothing at all."""
    scene.network.lost[TRACK] += events


def forget_gaps(scene: Rehearsal) -> None:
    """Of the events that were given up, those that the server has not got are missing there, and that is right."""
    scene.emulator.advance()
    there = {(event.user_id, event.metadata["n"]) for event in scene.events}
    gone = {mark for mark, receipt in scene.receipts.items() if receipt.status == "dropped"} - there
    scene.model.events = [e for e in scene.model.events if (e.user_id, e.metadata["n"]) not in gone]


async def until_uploaded(scene: Rehearsal) -> None:
    """Until the server has said that it has a file."""
    while not scene.statistics.submitted:
        await anyio.sleep(0.1)


# ── without a fault ──


async def test_a_backlog_is_at_the_server_with_its_own_times_long_before_it_could_be_sent() -> None:
    async with late() as scene:
        await scene.track_all(person(n % 20) for n in range(100))
        await anyio.sleep(0.5)
        await backlog(scene, 100)
        submitted = scene.statistics.submitted
        await scene.drained(MINUTE)

        assert [submitted] == rows(scene)
        assert 150 <= submitted
        moments = {event.occurred_at for event in imported(scene)}
        assert 0.5 == pytest.approx(max(moments) - min(moments), abs=1e-5)
        assert 0 == scene.statistics.possible_duplicates


async def test_receipts_and_statistics_say_which_way_calls_went() -> None:
    async with late() as scene:
        in_bulk = await scene.identify_all(map(person, range(60)))
        await scene.drained(MINUTE)
        at_once = await scene.track(person(0))
        await scene.drained(MINUTE)
        late_ones = await backlog(scene)
        on_its_way = (late_ones[-1].status, late_ones[-1].route)
        await scene.drained(5 * MINUTE)

        assert ({"bulk"}, "realtime") == ({receipt.route for receipt in in_bulk}, at_once.route)
        assert ("submitted", None) == on_its_way
        assert Counter(receipt.route for receipt in scene.receipts.values()) == scene.statistics.routes
        assert sum(rows(scene)) == scene.statistics.routes["import"]


async def test_what_happened_long_ago_is_imported_at_once_with_the_time_it_was_given() -> None:
    long_ago = datetime.now(UTC) - timedelta(days=3)
    dated = attrs.evolve(USERPILOT, track=partial(_track_at, long_ago))
    async with late(to=dated) as scene:
        receipt = await scene.track(person(1))
        outcome = await receipt.outcome(MINUTE)

        assert "import" == outcome.route
        assert [long_ago.timestamp()] == pytest.approx([event.occurred_at for event in imported(scene)], abs=1e-5)


async def _track_at(moment: datetime, client: UserpilotClient, user: str, name: str, said: Any) -> Receipt:
    return await client.track(user, name, said, occurred_at=None if name == "fresh" else moment)


async def test_a_pending_identify_is_in_the_same_file_with_all_that_was_said_before() -> None:
    """An import blanks what its row leaves out."""
    async with late() as scene:
        said = {"plan": "free", "name": "Ann", "city": "Cork"}
        await scene.identify(person(1), said, company={"id": "acme", "size": 5})
        await scene.drained(MINUTE)
        scene.goes_wrong("no identifies", path="/v1/identify", status=503)
        await scene.identify(person(2))  # this one finds out
        await anyio.sleep(20)
        pending = await scene.identify(person(1), {"plan": "pro", "name": None})
        first = await scene.identify(person(3), {"plan": "free"})
        await backlog(scene)
        scene.recovers()
        await scene.drained(5 * MINUTE)

        assert ("import", "import") == (pending.route, first.route)
        assert [scene.statistics.routes["import"]] == rows(scene)


# ── 20: imports are not allowed ──


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_row_20_an_account_without_imports_drains_in_realtime_and_says_so_in_one_line(status: int) -> None:
    async with late() as scene:
        scene.goes_wrong("no imports", path=IMPORTS, status=status)
        await scene.identify_all(map(person, range(20)))
        await backlog(scene)
        await scene.drained(5 * MINUTE)
        await backlog(scene, 100)
        await scene.drained(5 * MINUTE)

        assert ({"realtime": 320}, 1) == (scene.statistics.routes, len(uploads(scene)))
        assert 1 == len(scene.log.said(NO_IMPORTS))
        assert f"answers {status} on imports" in scene.log.said(NO_IMPORTS)[0]
        assert f"answers {status} on imports" in (scene.statistics.imports_closed or "")
        assert ([], None) == (scene.log.said("nothing is sent"), scene.statistics.paused)


async def test_row_20_a_plan_without_imports() -> None:
    """By the server's own words, not by a scripted fault."""
    async with late(imports_enabled=False) as scene:
        await backlog(scene)
        await scene.drained(5 * MINUTE)

        assert ({"realtime": 200}, 1) == (scene.statistics.routes, len(scene.log.said(NO_IMPORTS)))
        assert "the plan of this account has no imports" in (scene.statistics.imports_closed or "")


async def test_row_20_a_refusal_that_quotes_the_key_is_not_quoted() -> None:
    async with late() as scene:
        body = {"errors": [{"message": "the key NX-ac54070e-live-77 has no imports"}]}
        scene.goes_wrong("no imports", path=IMPORTS, status=403, body=body)
        await backlog(scene)
        await scene.drained(5 * MINUTE)

        said = f"{scene.log.said(NO_IMPORTS)} {scene.statistics.imports_closed}"
        assert "answers 403 on imports" in said
        assert "NX-" not in said


async def test_row_20_a_key_that_is_refused_everywhere_for_a_while_closes_nothing() -> None:
    async with late() as scene:
        scene.goes_wrong("wrong key for imports", path=IMPORTS, status=401)
        await scene.track_all(person(n % 20) for n in range(200))
        while not scene.statistics.imports_closed:
            await anyio.sleep(0.02)
        scene.goes_wrong("wrong key", status=401)
        await anyio.sleep(5 * MINUTE)
        held = scene.statistics.paused
        scene.recovers()
        await scene.drained(5 * MINUTE)

        assert held is not None
        assert scene.statistics.imports_closed is None
        assert rows(scene)


async def test_while_a_file_is_on_its_way_later_events_of_those_in_it_do_not_overtake_it() -> None:
    async with late() as scene:
        scene.goes_wrong("slow", path=IMPORTS, times=1, delay=20.0)
        await backlog(scene)
        behind = [*await scene.track_all(map(person, range(5)))]
        others = [*await scene.track_all(map(person, range(100, 105)))]
        await anyio.sleep(15)
        meanwhile = ([receipt.status for receipt in behind], [receipt.status for receipt in others])
        await scene.drained(5 * MINUTE)

        assert (["pending"] * 5, ["delivered"] * 5) == meanwhile
        assert {"realtime"} == {receipt.route for receipt in behind}


# ── an outage of everything ──


async def test_row_16_after_an_outage_all_identifies_and_events_arrive_in_order_and_once() -> None:
    """Seven minutes in which people came and changed their companies: files and requests share what was left."""
    async with late() as scene:
        scene.network.refuses = True
        for n in range(80):
            await scene.identify(person(n), {"plan": "free"}, company={"id": f"company {n % 3}", "size": n})
            await scene.track(person(n))
            await anyio.sleep(5)
            await scene.track(person(n))
            await scene.identify(person(n), {"plan": "pro"}, company={"id": f"company {n % 4}"})
            await scene.track(person(n // 2))
        scene.recovers()
        await scene.drained(HOUR)

        assert 0 < scene.network.refused
        assert {"realtime", "import"} <= set(scene.statistics.routes)
        assert 240 == len(scene.events)
        assert 0 == scene.statistics.possible_duplicates


# ── imports are out of order, and nothing else is ──


async def test_an_outage_of_imports_only_lets_the_backlog_drain_in_realtime() -> None:
    async with late() as scene:
        scene.goes_wrong("down", path=IMPORTS, status=503)
        await backlog(scene)
        await scene.drained(10 * MINUTE)

        assert ({"realtime": 200}, None) == (scene.statistics.routes, scene.statistics.imports_closed)


@pytest.mark.parametrize("asked", [None, "7"], ids=["429", "Retry-After"])
async def test_row_22_a_429_on_imports_is_waited_out(asked: str | None) -> None:
    async with late() as scene:
        headers = {"x-ratelimit-reset": None, "retry-after": asked}  # that would be the end of the minute
        scene.goes_wrong("limited", path=IMPORTS, times=3, status=429, headers=headers)
        await backlog(scene)
        await scene.drained(10 * MINUTE)

        assert (3, 0) == (scene.statistics.rate_limited, scene.statistics.possible_duplicates)
        assert [429, 429, 429, 200] == [request.status for request in uploads(scene)][:4]
        pauses = [b.stamp - a.stamp for a, b in zip(uploads(scene)[:3], uploads(scene)[1:4], strict=True)]
        assert (1.0 if asked is None else float(asked)) <= min(pauses)
        assert 100 <= scene.statistics.routes["import"]


async def test_row_22_ten_minutes_of_429_on_imports_cost_no_event_and_fresh_ones_go_on() -> None:
    async with late() as scene:
        scene.goes_wrong("limited", path=IMPORTS, status=429)
        await backlog(scene)
        await anyio.sleep(8 * MINUTE)
        fresh = await scene.track(person(500))
        outcome = await fresh.outcome(MINUTE)
        await anyio.sleep(MINUTE)
        scene.recovers()
        await scene.drained(10 * MINUTE)

        assert "realtime" == outcome.route
        assert 0 == scene.statistics.possible_duplicates


# ── 31: somebody else's import ──


async def test_row_31_somebody_elses_import_lets_events_go_in_realtime_until_it_is_over() -> None:
    """Events wait for the import's end, in vain, for a minute at most."""
    async with late() as scene:
        theirs = {"status_sequence": [["processing", 5 * MINUTE], "completed"]}
        scene.goes_wrong("theirs", path=IMPORTS, times=1, job=theirs)
        await import_another_teams_file(scene)
        await backlog(scene, 500)
        await anyio.sleep(4.5 * MINUTE)
        meanwhile = scene.statistics
        await scene.drained(10 * MINUTE)

        assert ({"realtime"}, 0) == (set(meanwhile.routes), meanwhile.submitted)
        assert 200 <= meanwhile.delivered
        assert 1 <= len(uploads(scene, status=409)) <= 14
        assert 500 - scene.statistics.routes["realtime"] == sum(rows(scene)) > 0
        assert (0, 0) == (scene.statistics.possible_duplicates, scene.statistics.retries)


async def import_another_teams_file(scene: Rehearsal) -> None:
    headers = {"authorization": f"Token {KEY}", "x-api-version": "2020-09-22"}
    transport = httpx.ASGITransport(scene.emulator)
    line = b'{"event_type":"identify_user","user_id":"theirs","source":"backend-http","inserted_at":"2026-01-01"}\n'
    async with httpx.AsyncClient(transport=transport, base_url="https://emulator.test", headers=headers) as other:
        answer = await other.post(IMPORTS, files={"file": ("theirs.ndjson", line)})
    assert 200 == answer.status_code


# ── 32: the answer to the upload is lost ──


@pytest.mark.parametrize("on_ambiguous", ["send", "drop"])
@pytest.mark.parametrize(
    "lost",
    [{"cut": "after"}, {"status": 502, "apply": True}, {"status": 504, "apply": True}],
    ids=["cut", "502", "504"],
)
async def test_row_32_an_upload_whose_answer_is_lost_is_found_by_its_filename(
    lost: dict[str, Any], on_ambiguous: Literal["send", "drop"]
) -> None:
    """There is no idempotency key on the wire: a second file would be 200 events twice."""
    async with rehearsal(attrs.evolve(LATE, on_ambiguous=on_ambiguous), latency=LATENCY) as scene:
        scene.goes_wrong("lost", path=IMPORTS, times=1, **lost)
        await backlog(scene)
        await scene.drained(5 * MINUTE)

        assert (1, 1) == (len(uploads(scene)), len(rows(scene)))
        assert uploads(scene)[0].filename == scene.jobs[0].filename
        assert 1 <= len([request for request in scene.requests(path=LIST, status=200) if request.path == LIST])
        assert (0, 200) == (scene.statistics.possible_duplicates, scene.statistics.delivered)


async def test_row_32_an_upload_that_never_arrived_is_made_again_under_the_same_name() -> None:
    async with late() as scene:
        scene.goes_wrong("lost", path=IMPORTS, times=1, cut="before")
        await backlog(scene)
        await scene.drained(5 * MINUTE)
        were_ambiguous(scene, rows(scene)[0])

        assert (2, 1) == (len(uploads(scene)), len(rows(scene)))
        assert scene.jobs[0].filename == uploads(scene)[1].filename
        assert len(imported(scene)) == scene.statistics.possible_duplicates
        assert 200 == len(scene.events)


async def test_row_32_an_upload_that_arrives_after_its_deadline_is_still_found() -> None:
    async with rehearsal(attrs.evolve(LATE, upload_timeout=20), latency=LATENCY) as scene:
        scene.goes_wrong("late", path=IMPORTS, times=1, delay=25.0)
        await backlog(scene)
        await scene.drained(5 * MINUTE)

        assert (1, 1) == (len(uploads(scene)), len(rows(scene)))
        assert 0 == scene.statistics.possible_duplicates


async def test_row_32_while_the_list_of_jobs_is_down_nothing_is_sent_again_on_a_guess_and_fresh_events_go_on() -> None:
    async with late() as scene:
        scene.goes_wrong("lost", path=IMPORTS, times=1, cut="after")
        scene.goes_wrong("no list", path=f"{LIST}*", status=503)
        await backlog(scene)
        await anyio.sleep(3 * MINUTE)
        fresh = await scene.track(person(500))
        went = (await fresh.outcome(MINUTE)).route
        pending = scene.statistics.pending
        scene.recovers()
        await scene.drained(5 * MINUTE)

        assert ("realtime", rows(scene)) == (went, [pending])
        assert (1, 0) == (len(uploads(scene)), scene.statistics.possible_duplicates)


async def test_row_32_one_answer_in_twenty_is_lost_and_doubles_are_of_requests_only() -> None:
    """Every second upload is among them: each has its events once."""
    async with late() as scene:
        for _ in range(4):
            scene.goes_wrong("upload", path=IMPORTS, times=1, cut="after")
            scene.goes_wrong("answer", times=None, probability=0.05, cut="after")
            await backlog(scene)
            await scene.drained(10 * MINUTE)
            scene.recovers()

        assert 4 <= len(rows(scene))
        times = Counter((event.user_id, event.metadata["n"]) for event in imported(scene))
        assert {1} == set(times.values())


# ── 29, 30: jobs that come to nothing ──


@pytest.mark.parametrize("applied", [False, True], ids=["nothing applied", "all applied"])
async def test_row_30_after_a_job_that_failed_once_its_events_go_in_another_and_are_counted(applied: bool) -> None:
    """A failed job says nothing about rows."""
    async with late() as scene:
        scene.goes_wrong("failed", path=IMPORTS, times=1, job="failed", apply=applied or None)
        await backlog(scene)
        await scene.drained(10 * MINUTE)
        first, second = rows(scene)
        were_ambiguous(scene, first)

        assert first == second == scene.statistics.possible_duplicates
        assert (200 + first if applied else 200) == len(scene.events)


@pytest.mark.parametrize("applied", [False, True], ids=["nothing applied", "all applied"])
async def test_row_30_whoever_prefers_gaps_has_gaps_and_no_doubles(applied: bool) -> None:
    async with rehearsal(attrs.evolve(LATE, on_ambiguous="drop"), latency=LATENCY) as scene:
        scene.goes_wrong("failed", path=IMPORTS, times=1, job="failed", apply=applied or None)
        receipts = await backlog(scene)
        await scene.drained(10 * MINUTE)
        (given_up,) = rows(scene)
        scene.losses = {"ambiguous": given_up}
        forget_gaps(scene)

        assert given_up == sum((receipt.status, receipt.reason) == ("dropped", "ambiguous") for receipt in receipts)
        assert (200 if applied else 200 - given_up) == len(scene.events)
        assert 1 == len(uploads(scene))


async def test_row_30_an_identify_of_a_file_that_failed_goes_again_although_its_events_do_not() -> None:
    """Twice the same identify is the same identify."""
    async with rehearsal(attrs.evolve(LATE, on_ambiguous="drop"), latency=LATENCY) as scene:
        scene.goes_wrong("failed", path=IMPORTS, times=1, job="failed")
        scene.goes_wrong("no identifies", path="/v1/identify", times=6, status=503)
        receipt = await scene.identify(person(1), {"plan": "pro"})
        await backlog(scene)
        await scene.drained(10 * MINUTE)
        (failed,) = rows(scene)
        scene.losses = {"ambiguous": failed - 1}
        forget_gaps(scene)

        assert ("delivered", "realtime") == (receipt.status, receipt.route)
        assert 200 - (failed - 1) == len(scene.events)


async def test_row_30_jobs_that_always_fail_end_in_realtime_requests() -> None:
    """Imports are broken at the vendor's: nobody's events are lost, they only come late."""
    async with late() as scene:
        scene.goes_wrong("failed", path=IMPORTS, job="failed")
        await scene.identify_all(map(person, range(40)))
        await backlog(scene, 200, users=40)
        await scene.drained(HOUR)
        were_ambiguous(scene, scene.statistics.possible_duplicates)

        assert {"realtime": 240} == scene.statistics.routes
        assert 2 <= len(rows(scene)) <= 12  # 200, twice, and halves of it; not one for each person
        assert 200 == len(scene.events)
        assert 200 <= scene.statistics.possible_duplicates <= sum(rows(scene)) <= 5 * 240


@pytest.mark.parametrize("applied", [False, True], ids=["nothing applied", "all applied"])
async def test_row_29_a_stuck_job_is_given_up_and_its_events_arrive_while_fresh_ones_do_not_wait(applied: bool) -> None:
    """The job keeps its slot at the server: what was in it goes one by one."""
    async with rehearsal(attrs.evolve(LATE, job_timeout=600.0), latency=LATENCY) as scene:
        scene.goes_wrong("stuck", path=IMPORTS, times=1, job="stuck", apply=applied or None)
        await backlog(scene)
        await until_uploaded(scene)
        stuck = scene.statistics.submitted
        await anyio.sleep(MINUTE)
        fresh = await scene.track(person(500))
        went = (await fresh.outcome(MINUTE)).route
        await scene.drained(HOUR)
        were_ambiguous(scene, stuck)

        assert ("realtime", [stuck]) == (went, rows(scene))
        assert {"realtime": 201} == scene.statistics.routes
        assert stuck == scene.statistics.possible_duplicates
        assert (201 + stuck if applied else 201) == len(scene.events)


# ── 36: 413 ──


async def test_row_36_a_413_at_an_undocumented_size_splits_the_file_and_is_remembered() -> None:
    async with late() as scene:
        scene.goes_wrong("too large", path=IMPORTS, body_over=20_000, status=413)
        await backlog(scene)
        await scene.drained(10 * MINUTE)
        learning = len(uploads(scene, status=413))
        files = len(rows(scene))
        await backlog(scene, 400)
        await scene.drained(20 * MINUTE)

        assert 1 <= learning <= 8
        assert files >= 2
        assert learning + 2 >= len(uploads(scene, status=413))
        assert 0 == scene.statistics.possible_duplicates


async def test_row_36_events_of_one_person_that_are_too_large_together_arrive_all_the_same() -> None:
    """In smaller files or one by one: they are one person's, and in one file for that reason only."""
    async with late() as scene:
        scene.goes_wrong("too large", path=IMPORTS, body_over=20_000, status=413)
        await backlog(scene, 200, users=1)
        await scene.drained(10 * MINUTE)

        assert 200 == sum(scene.statistics.routes.values())
        assert 8 >= len(uploads(scene))
        assert 0 == scene.statistics.possible_duplicates


# ── 35: poison ──


async def test_row_35_an_event_that_imports_refuse_goes_in_realtime_and_the_others_do_not() -> None:
    async with late() as scene:
        scene.goes_wrong("poison", path=IMPORTS, body_contains="poison", status=400)
        await scene.track_all(person(n % 20) for n in range(100))
        await scene.track(person(300), "poison")
        await backlog(scene, 100)
        await scene.drained(HOUR)

        assert "realtime" == scene.receipts[person(300), 1].route
        assert 50 <= scene.statistics.routes["import"]
        assert 0 == scene.statistics.possible_duplicates


# ── leaving ──


async def test_on_leaving_what_cannot_be_sent_in_time_is_uploaded_and_the_report_names_the_job() -> None:
    async with rehearsal(Settings(imports="when_late", track_per_minute=60, burst=10), latency=LATENCY) as scene:
        await scene.identify_all(map(person, range(5)))
        receipts = await backlog(scene, 250)  # at 60 a minute four minutes: in time, but not before the end
        await anyio.sleep(0.5)
        assert ([], 0) == (uploads(scene), scene.statistics.in_flight)
        report = await scene.leaves(10)
        uploaded = len([request for request in uploads(scene) if request.status == 200])
        await anyio.sleep(5 * MINUTE)

        assert (False, 1) == (report.complete, uploaded)
        assert (scene.jobs[-1].job_id,) == report.jobs
        assert report.remaining == report.statistics.submitted == report.statistics.pending
        assert {"delivered", "submitted"} == {receipt.status for receipt in receipts}
        assert report.remaining == len(imported(scene))
        assert 250 == len(scene.events)
        assert f"submitted in {scene.jobs[-1].job_id}" in str(report)


@pytest.mark.parametrize("users", [1, 4, 20])
async def test_on_leaving_events_of_people_with_a_request_under_way_are_uploaded_too(users: int) -> None:
    """The busiest people are those whose requests are under way."""
    async with rehearsal(Settings(imports="when_late"), latency=0.3) as scene:
        await scene.track_all(person(n % users) for n in range(1_000))
        report = await scene.leaves(10)
        await anyio.sleep(5 * MINUTE)

        assert 0 == report.statistics.dropped
        assert report.remaining == report.statistics.submitted == len(imported(scene))
        assert 1_000 == len(scene.events)


async def test_on_leaving_an_upload_whose_answer_is_lost_is_looked_for_before_the_end() -> None:
    async with late() as scene:
        scene.goes_wrong("lost", path=IMPORTS, times=1, cut="after")
        await scene.track_all(person(n) for n in range(200))
        await anyio.sleep(0.5)
        report = await scene.leaves(15)
        await anyio.sleep(5 * MINUTE)

        assert (scene.jobs[-1].job_id,) == report.jobs
        assert [report.remaining] == [report.statistics.submitted] == rows(scene)
        assert 200 == len(scene.events)


async def test_on_leaving_an_upload_that_takes_too_long_is_not_waited_for_and_its_events_are_accounted_for() -> None:
    async with late() as scene:
        scene.goes_wrong("slow", path=IMPORTS, delay=HOUR)
        await backlog(scene)
        report = await scene.leaves(5)
        scene.losses = {"closed": report.statistics.dropped}
        forget_gaps(scene)

        assert (0, ()) == (report.remaining, report.jobs)
        assert 150 <= report.statistics.dropped
        assert 200 == report.statistics.dropped + report.statistics.delivered


# ── a durable outbox and its next sender ──


class VirtualFile(InlineOutbox):
    """A file without a thread, whose calendar is the server's."""

    wall = staticmethod(lambda: EPOCH + anyio.current_time())
    steady = staticmethod(lambda: anyio.current_time())


@asynccontextmanager
async def taking_over(scene: Rehearsal, folder: Path) -> AsyncIterator[Network]:
    """Another client goes on with the file, over a network of its own; it leaves at the end of the block."""
    network = Network(scene.emulator)
    outbox = VirtualFile(folder / "events.db", durability="process")
    async with network.open():
        client = UserpilotClient(KEY, base_url="https://emulator.test", transport=network, outbox=outbox, settings=LATE)
        async with client:
            scene.client = client
            yield network
            await scene.leaves(10)
    scene.network.lost.update(network.lost)


@pytest.mark.parametrize("ends", ["killed", "killed before the answer", "closed"])
async def test_a_file_whose_sender_ended_while_its_job_ran_is_found_by_the_next_one(ends: str, tmp_path: Path) -> None:
    """`kill -9`, or a deployment, in the minutes in which the server works on the import."""
    outbox = VirtualFile(tmp_path / "events.db", durability="process")
    durable = attrs.evolve(USERPILOT, client=partial(UserpilotClient, outbox=outbox))
    async with late(to=durable) as scene:
        if ends == "killed before the answer":
            scene.goes_wrong("slow", path=IMPORTS, times=1, latency=20.0)
        await scene.identify_all(map(person, range(5)))
        await backlog(scene)
        while not uploads(scene) or (ends != "killed before the answer" and not scene.statistics.submitted):
            await anyio.sleep(0.1)
        first = scene.client
        while [request for request in scene.requests() if request.stamp > EPOCH + anyio.current_time() - 0.2]:
            await anyio.sleep(0.05)  # no event is under way
        before = first.statistics()
        if ends != "closed":
            outbox.die()
        report = await first.aclose(0 if ends != "closed" else 1)
        async with taking_over(scene, tmp_path):
            taken = scene.statistics
            await scene.drained(10 * MINUTE)

            assert before.accepted == taken.accepted
            assert 0 < taken.pending <= before.pending
            assert 0 == scene.statistics.pending
            assert {"realtime", "import"} == set(scene.statistics.routes)
        if ends == "closed":
            assert (scene.jobs[0].job_id,) == report.jobs

        assert (1, 1) == (len(uploads(scene)), len(rows(scene)))
        assert 1 <= len([request for request in scene.requests(path=LIST, status=200) if request.path == LIST])
        assert 0 == scene.statistics.possible_duplicates
        assert 0 == judge.duplicates([(e.user_id, e.metadata["n"]) for e in scene.events], 0)
