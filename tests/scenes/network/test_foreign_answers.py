"""Row 82: a web page, half a body, a list of errors or half a list, where this API's answer should be."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from tests.harness.stage.calls import KEY, Side, person
from tests.harness.stage.parcelvoy import both
from tests.harness.stage.scenes import LIVE_WITHIN, Network, rehearsal
from userpilot_async import Settings, Unavailable, UserpilotAPI, UserpilotClient
from userpilot_async.emulator import Emulator, Fault

pytestmark = pytest.mark.anyio
virtual = pytest.mark.virtual

MINUTE = 60.0
BULK, IMPORTS, LIST = "/v1/users/bulk_identify", "/v1/imports", "/v1/background_jobs"
HTML = "<!doctype html><title>Maintenance</title>We will be back soon"
LATE = Settings(imports="when_late", late_after=30.0, track_per_minute=60, burst=10)
late = partial(rehearsal, LATE, latency=0.05)

# What stands in the place of the job list, for a while: each says nothing about our file.
WORDLESS: dict[str, dict[str, Any]] = {
    "a page": {"status": 200, "body": HTML},
    "half a body": {
        "status": 200, "body": '[{"job_id": "bulk:jobs:1", "fil', "headers": {"content-type": "application/json"},
    },
    "errors": {"status": 200, "body": {"errors": [{"message": "try again later"}]}},
    "nothing": {"status": 200},
    "no list": {"status": 200, "body": {"message": "ok"}},
    "a first page": {
        "status": 200, "body": {"jobs": [{"job_id": "x", "status": "completed", "filename": "x"}], "has_more": True},
    },
}  # fmt: skip
wordless = pytest.mark.parametrize("instead", WORDLESS.values(), ids=WORDLESS)


# ── a page in the place of everything ──


@virtual
@both
async def test_row_82_a_maintenance_page_on_everything_is_held_and_costs_no_event(to: Side) -> None:
    """The page was `200 text/html`, and every event of the night was counted as delivered."""
    async with rehearsal(to=to) as scene:
        scene.goes_wrong("maintenance", status=200, body=HTML)
        await scene.identify_all(map(person, range(5)))
        await scene.track_all(map(person, range(5)))
        await anyio.sleep(10 * MINUTE)
        during, asked = scene.statistics, len(scene.emulator.store.requests)
        said = scene.log.said("nothing is sent")
        scene.recovers()
        await scene.drained(LIVE_WITHIN)

        assert (0, 10, 0) == (during.delivered, during.pending, during.possible_duplicates)
        assert "answered 200 with a web page: is a proxy or a sign-in page in between?" in (during.paused or "")
        assert 1 == len(said)
        assert 25 >= asked
        assert scene.statistics.paused is None


@virtual
async def test_row_82_a_file_answered_with_a_page_is_not_submitted_and_is_looked_for() -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("page", path=BULK, times=1, status=200, body=HTML)
        await scene.identify_all(map(person, range(100)))
        await anyio.sleep(5)
        submitted = scene.statistics.submitted
        await scene.drained(5 * MINUTE)

        assert 0 == submitted
        assert ([100], 2) == ([job.total_rows for job in scene.jobs], len(scene.requests(path=BULK)))


@virtual
async def test_row_82_a_refusal_names_the_ids_that_the_vendors_support_asks_for() -> None:
    async with rehearsal() as scene:
        body = {"errors": [{"message": "no such event", "error_code": "event_unknown"}]}
        scene.goes_wrong("no", path="/v1/track", times=1, status=400, body=body, headers={"x-request-id": "FxZ1"})
        scene.losses = {"invalid": 1}
        await scene.client.track(person(1), "opened", {})
        await scene.drained(MINUTE)
        await anyio.sleep(1)  # letters have a task of their own

        (letter,) = scene.letters
        assert ("no such event", "event_unknown", "FxZ1") == (letter.detail, letter.error_code, letter.request_id)


# ── the answer to an upload is lost, and the list says nothing ──


@virtual
@wordless
async def test_row_82_late_events_are_not_doubled_by_a_list_that_is_none(instead: dict[str, Any]) -> None:
    async with late() as scene:
        scene.goes_wrong("lost", path=IMPORTS, times=1, cut="after")
        scene.goes_wrong("no word", path=LIST, method="GET", times=6, **instead)
        await scene.track_all(person(n % 20) for n in range(200))
        await scene.drained(20 * MINUTE)
        scene.emulator.advance()

        assert 200 == len(scene.events)
        assert 1 == len([job for job in scene.jobs if job.kind == "import"])
        assert 0 == scene.statistics.possible_duplicates


@virtual
@wordless
async def test_row_82_a_bulk_file_is_not_sent_twice_for_a_list_that_is_none(instead: dict[str, Any]) -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("lost", path=BULK, times=1, cut="after")
        scene.goes_wrong("no word", path=LIST, method="GET", times=6, **instead)
        await scene.identify_all(map(person, range(100)))
        await scene.drained(20 * MINUTE)

        assert [100] == [job.total_rows for job in scene.jobs]


async def busy_account(emulator: Emulator, jobs: int) -> None:
    """Somebody else's jobs, newer than ours."""
    headers = {"authorization": f"Token {KEY}", "x-api-version": "2020-09-22"}
    transport = httpx.ASGITransport(emulator)
    async with httpx.AsyncClient(transport=transport, base_url="https://emulator.test", headers=headers) as other:
        for n in range(jobs):
            answer = await other.request("DELETE", "/v1/users", json={"users": [f"gone {n}"]})
            assert 202 == answer.status_code


@virtual
@pytest.mark.parametrize("paging", ["page", "links"])
async def test_row_82_our_file_is_found_on_a_later_page(paging: str) -> None:
    async with late(jobs_per_page=10, jobs_paging=paging) as scene:
        scene.goes_wrong("lost", path=IMPORTS, times=1, cut="after")
        await scene.track_all(person(n % 20) for n in range(200))
        await anyio.sleep(1.5)
        await busy_account(scene.emulator, 34)
        await scene.drained(5 * MINUTE)
        scene.emulator.advance()

        assert 200 == len(scene.events)
        assert 1 == len([job for job in scene.jobs if job.kind == "import"])
        assert 4 <= len(scene.requests(path=LIST, status=200))


@virtual
async def test_row_82_a_list_that_only_ever_shows_its_first_page_is_no_word_either() -> None:
    """The parameter is unknown to us. When the others' jobs are forgotten, ours comes into sight."""
    async with late(jobs_per_page=10, jobs_paging="hidden") as scene:
        scene.goes_wrong("lost", path=IMPORTS, times=1, cut="after")
        await scene.track_all(person(n % 20) for n in range(200))
        await anyio.sleep(1.5)
        await busy_account(scene.emulator, 30)
        await anyio.sleep(20 * MINUTE)
        uploads = len([request for request in scene.requests(path=IMPORTS) if request.method == "POST"])
        scene.emulator.store.jobs_per_page = 100
        await scene.drained(5 * MINUTE)
        scene.emulator.advance()

        assert 1 == uploads
        assert 200 == len(scene.events)


@virtual
@wordless
async def test_row_82_an_import_is_not_doubled_by_a_list_that_is_none(instead: dict[str, Any]) -> None:
    await imported_once(Emulator(clock=lambda: 1_600_854_600.0 + anyio.current_time(), seed=1), instead)


@virtual
@pytest.mark.parametrize("paging", ["page", "links"])
async def test_row_82_an_import_is_found_on_a_later_page(paging: Any) -> None:
    clock = lambda: 1_600_854_600.0 + anyio.current_time()  # noqa: E731
    await imported_once(Emulator(clock=clock, seed=1, jobs_per_page=10, jobs_paging=paging), None, others=34)


async def imported_once(emulator: Emulator, instead: dict[str, Any] | None, others: int = 0) -> None:
    """20 events arrive as 20, whatever the list is answered with while their file is looked for."""
    emulator.faults.add(Fault(name="lost", path=IMPORTS, times=1, cut="after"))
    if instead is not None:
        emulator.faults.add(Fault(name="no word", path=LIST, method="GET", times=6, **instead))
    rows = [
        {"event_type": "track", "user_id": f"u{n}", "event_name": "opened", "inserted_at": "2024-12-01T08:55:43",
         "metadata": {"n": n}}
        for n in range(20)
    ]  # fmt: skip
    network = Network(emulator)
    async with network.open():
        client = UserpilotClient(KEY, base_url="https://emulator.test", transport=network)
        async with client, anyio.create_task_group() as tasks:
            if others:
                tasks.start_soon(_others_come, emulator, others)
            report = await client.import_rows(rows)
    emulator.advance()

    assert 1 == emulator.faults.fired("lost")
    assert list(range(20)) == sorted(event.metadata["n"] for event in emulator.store.events)
    assert (20, 0) == (report.completed, report.possible_duplicates)


@virtual
async def test_row_82_an_import_that_no_list_can_speak_of_goes_again_after_an_hour_and_is_counted() -> None:
    """The file never arrived, and the one page that the server shows is full of others' jobs."""
    emulator = Emulator(
        clock=lambda: 1_600_854_600.0 + anyio.current_time(), seed=1, jobs_per_page=10, jobs_paging="hidden"
    )
    await busy_account(emulator, 30)
    emulator.faults.add(Fault(name="lost", path=IMPORTS, times=1, cut="before"))
    network = Network(emulator)
    row = {"event_type": "track", "user_id": "u1", "event_name": "opened", "inserted_at": "2024-12-01T08:55:43"}
    async with network.open():
        client = UserpilotClient(KEY, base_url="https://emulator.test", transport=network)
        async with client:
            report = await client.import_rows([row])
    first, second = (one.stamp for one in emulator.store.requests if one.family == "imports")

    assert 3_600 <= second - first
    assert (1, 1) == (report.completed, report.possible_duplicates)


async def _others_come(emulator: Emulator, jobs: int) -> None:
    while not len(emulator.store.jobs):
        await anyio.sleep(0.1)
    await busy_account(emulator, jobs)


# ── the form of a bulk file ──


@virtual
@pytest.mark.parametrize("status", [415, 400])
async def test_row_82_a_server_that_takes_no_multipart_gets_json(status: int) -> None:
    """The OpenAPI shows the JSON form only."""
    async with rehearsal() as scene:
        scene.goes_wrong("no files", path=BULK, body_contains='filename="', status=status)
        for users in (range(300), range(300, 400)):
            await scene.identify_all(map(person, users))
            await anyio.sleep(MINUTE)  # a flush at once would send the last ones in realtime
            await scene.drained(5 * MINUTE)

        bulk = [job for job in scene.emulator.store.jobs if job.kind == "bulk_users"]
        assert [300, 100] == [job.total_rows for job in bulk]
        assert [status, 202, 202] == [request.status for request in scene.requests(path=BULK)]
        assert 0 == len(scene.requests(path="/v1/identify"))


@virtual
async def test_row_82_an_array_whose_answer_got_lost_goes_again() -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("no files", path=BULK, body_contains='filename="', status=415)
        scene.goes_wrong("lost", path=BULK, times=1, cut="after")
        await scene.identify_all(map(person, range(100)))
        await scene.drained(10 * MINUTE)

        assert {"delivered": 100} == scene.statuses()


# ── the plain API ──

ASKS = {
    "identify": lambda api: api.identify("u1"),
    "identify_company": lambda api: api.identify_company("acme"),
    "track": lambda api: api.track("u1", "opened"),
    "bulk_identify_users": lambda api: api.bulk_identify_users([{"user_id": "u1"}]),
    "bulk_identify_companies": lambda api: api.bulk_identify_companies([{"company_id": "acme"}]),
    "import_rows": lambda api: api.import_rows(b"{}\n"),
    "jobs": lambda api: api.jobs(),
    "job": lambda api: api.job("bulk:jobs:1"),
    "wait_for_job": lambda api: api.wait_for_job("bulk:jobs:1"),
    "delete_users": lambda api: api.delete_users(["u1"]),
    "delete_companies": lambda api: api.delete_companies(["acme"]),
}
FILES = ("bulk_identify_users", "bulk_identify_companies", "import_rows")
each = pytest.mark.parametrize("name", ASKS)


def api_that_gets(**answer: Any) -> UserpilotAPI:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, **answer))
    return UserpilotAPI(KEY, base_url="https://emulator.test", transport=transport)


@virtual
@each
async def test_row_82_the_plain_api_takes_no_page_for_an_answer(name: str) -> None:
    """`jobs()` was an empty list, and `delete_users` had succeeded."""
    async with api_that_gets(html=HTML, headers={"x-request-id": "FxZ1"}) as api:
        with pytest.raises(Unavailable, match="a web page: is a proxy or a sign-in page in between") as caught:
            await ASKS[name](api)

    assert (200, "FxZ1", name in FILES) == (caught.value.status, caught.value.request_id, caught.value.ambiguous)


@virtual
@each
async def test_row_82_nor_a_list_of_errors(name: str) -> None:
    errors = {"errors": [{"message": "not today", "error_code": "tired"}]}
    async with api_that_gets(json=errors) as api:
        with pytest.raises(Unavailable, match="not today") as caught:
            await ASKS[name](api)

    assert (200, "tired") == (caught.value.status, caught.value.error_code)


@virtual
@each
async def test_row_82_nor_half_a_body(name: str) -> None:
    half = json.dumps({"job_id": "bulk:jobs:1", "status": "completed"}).encode()[:-4]
    async with api_that_gets(content=half, headers={"content-type": "application/json"}) as api:
        with pytest.raises(Unavailable) as caught:
            await ASKS[name](api)

    assert 200 == caught.value.status


@virtual
@pytest.mark.parametrize("name", ["identify", "identify_company", "track", "delete_users", "delete_companies"])
@pytest.mark.parametrize("answer", [{}, {"text": "OK"}, {"json": {"message": "1 was scheduled"}}], ids=["", "OK", "{}"])
async def test_row_82_words_and_nothing_are_answers_where_nothing_else_is_promised(
    name: str, answer: dict[str, Any]
) -> None:
    async with api_that_gets(**answer) as api:
        await ASKS[name](api)


@virtual
@pytest.mark.parametrize("paging", ["page", "links"])
async def test_row_82_jobs_are_listed_page_by_page(paging: Any) -> None:
    emulator = Emulator(
        clock=lambda: 1_600_854_600.0 + anyio.current_time(), jobs_per_page=10, jobs_paging=paging, seed=1
    )
    await busy_account(emulator, 34)
    async with UserpilotAPI(KEY, base_url="https://e.test", transport=httpx.ASGITransport(emulator)) as api:
        listed = await api.jobs()

    assert [job.job_id for job in emulator.store.jobs.newest_first()] == [job.job_id for job in listed]


@virtual
async def test_row_82_the_key_goes_to_no_other_host() -> None:
    asked = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        links = {"next": "https://elsewhere.test/v1/background_jobs?page=2"}
        return httpx.Response(200, json={"jobs": [{"job_id": "j", "status": "queued"}], "links": links})

    transport = httpx.MockTransport(serve)
    async with UserpilotAPI(KEY, base_url="https://emulator.test", transport=transport) as api:
        listed = await api.jobs()

    assert (["j"], {"emulator.test"}) == ([job.job_id for job in listed], set(asked))


@virtual
@pytest.mark.parametrize(
    ("status", "body"),
    [(400, {"errors": [{"message": "unknown parameter"}]}), (500, None), (200, {}), (200, {"errors": ["no"]})],
)
async def test_row_82_a_page_that_the_server_does_not_know_ends_the_list(status: int, body: Any) -> None:
    """Ten jobs look like a full page, and nobody knows what a server does that has but one."""

    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.query:
            return httpx.Response(status, json=body)
        return httpx.Response(200, json=[{"job_id": f"j{n}", "status": "queued"} for n in range(10)])

    transport = httpx.MockTransport(serve)
    async with UserpilotAPI(KEY, base_url="https://emulator.test", transport=transport) as api:
        assert 10 == len(await api.jobs())
