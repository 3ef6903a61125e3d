"""A live check and servers that refuse, stall, say nothing or something else: all is written down, and all deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.scenes.conftest import Cable
from userpilot_async import UserpilotAPI
from userpilot_async._errors.secret import Secret
from userpilot_async.cli.live._conversation import Conversation, Transcript
from userpilot_async.cli.live._questions import QUESTIONS
from userpilot_async.cli.live._report import as_markdown, report
from userpilot_async.cli.live._terms import ANSWERED, FOREIGN, INTERRUPTED, NOT_ASKED, NOT_BEGUN, Session
from userpilot_async.emulator import Emulator, Fault

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

KEY, PREFIX = "CANARY-KEY", "check-run-1"


class Run:
    """A live check of the emulator, on the loop's clock."""

    def __init__(self, emulator: Emulator, cable: Cable) -> None:
        self.emulator = emulator
        self.cable = cable
        self.said: list[str] = []
        self.talk = Conversation(Session(PREFIX, "2020-09-23T09:50:00"), QUESTIONS, self.said.append)

    async def part(self, part: Callable[..., Any]) -> None:
        transcript = Transcript(self.cable)
        async with UserpilotAPI(KEY, base_url="https://emulator", transport=transcript, attempts=1) as api:
            await part(api, transcript)

    async def whole(self) -> dict[str, Any]:
        await self.part(self.talk.ask)
        await self.part(self.talk.delete)
        return self.report()

    def report(self) -> dict[str, Any]:
        made = report(self.talk, "us", {}, Secret(KEY), interrupted=False)
        text = json.dumps(made) + as_markdown(made)
        assert KEY.lower() not in text.lower()
        assert PREFIX not in text
        return made

    async def users(self) -> set[str]:
        """Users whom the emulator knows when all its jobs are over."""
        await anyio.sleep(600)
        self.emulator.advance()
        return {*self.emulator.store.users, *self.emulator.store.companies}


@pytest.fixture
def run(emulator: Emulator, cable: Cable) -> Run:
    return Run(emulator, cable)


def outcomes(made: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["outcome"] for one in made["questions"]}


ALL = [question.name for question in QUESTIONS]


async def test_all_questions_are_answered_and_nothing_of_it_stays(run):
    made = await run.whole()

    assert dict.fromkeys(ALL, ANSWERED) == outcomes(made)
    assert ["null", "unknown", "import"] == [look["name"] for look in made["dashboard"]]
    assert {"made": 9, "left": 0} == made["test_ids"]
    assert set() == await run.users()
    assert len(ALL) == len(run.said)


async def test_the_report_shows_requests_by_path_status_headers_and_shape(run):
    made = await run.whole()
    imported = next(one for one in made["questions"] if one["name"] == "import")["requests"]

    assert "POST /v1/imports" == imported[1]["request"]
    assert 200 == imported[1]["status"]
    assert "x-ratelimit-remaining" in imported[1]["headers"]
    assert "total_rows: string of digits" in imported[1]["answer"]
    assert "GET /v1/background_jobs/(id)" == imported[2]["request"]


async def test_bulk_goes_out_without_the_version_once(run):
    await run.whole()
    sent = ["x-api-version" in request.headers for request in run.cable.requests if "bulk" in request.url.path]

    assert False is sent[0]
    assert 1 == len([request for request in run.cable.requests if "x-api-version" not in request.headers])


async def test_a_refused_key_is_the_answer_to_each_question_and_there_is_nothing_to_delete(run):
    run.emulator.faults.add(Fault(status=401, times=None))
    made = await run.whole()

    assert {"refused: the key, or the plan, does not allow it"} == set(outcomes(made).values())
    assert {"made": 0, "left": 0} == made["test_ids"]
    assert [] == [request for request in run.cable.requests if request.method == "DELETE"]


async def test_a_plan_without_imports_is_one_answer_among_others(run):
    run.emulator.faults.add(Fault(status=402, path="/v1/imports", times=None))
    made = await run.whole()

    assert "refused: the key, or the plan, does not allow it" == outcomes(made).pop("import")
    assert len(ALL) - 1 == list(outcomes(made).values()).count(ANSWERED)
    assert set() == await run.users()


async def test_a_429_is_waited_out_once(run):
    run.emulator.faults.add(Fault(status=429, times=1, headers={"retry-after": "7"}))
    made = await run.whole()
    limited, again = run.emulator.store.requests[:2]

    assert dict.fromkeys(ALL, ANSWERED) == outcomes(made)
    assert (429, "/v1/identify", "/v1/identify") == (limited.status, limited.path, again.path)
    assert again.stamp - limited.stamp >= 7


async def test_a_server_that_says_429_for_ever_is_left_alone_after_two_of_each(run):
    run.emulator.faults.add(Fault(status=429, times=None, headers={"retry-after": "3600"}))
    began = anyio.current_time()
    made = await run.whole()

    assert {"refused: over the rate limit, also after waiting"} == set(outcomes(made).values())
    assert 60 * 20 >= anyio.current_time() - began


async def test_a_page_is_no_answer_and_its_users_may_exist(run):
    """A proxy may have let the request through, and lost the answer."""
    page = run.emulator.faults.add(Fault(status=200, body="<html>please log in</html>", times=None))
    await run.part(run.talk.ask)
    asked = run.report()
    run.emulator.faults.remove(page.name)
    await run.part(run.talk.delete)

    assert {FOREIGN} == set(outcomes(asked).values())
    assert all("text/html that is no JSON" in one["stopped_by"] for one in asked["questions"])
    assert 7 <= asked["test_ids"]["left"]
    assert 0 == run.report()["test_ids"]["left"]


async def test_a_server_that_says_nothing_is_asked_three_times_and_then_no_more(run):
    run.emulator.faults.add(Fault(cut="before", times=None))
    made = await run.whole()

    assert ["no answer"] * 3 + [NOT_ASKED] * (len(ALL) - 3) == list(outcomes(made).values())
    assert made["test_ids"]["left"] == made["test_ids"]["made"] > 0


async def test_a_server_that_hangs_costs_a_minute_and_not_the_evening(run):
    run.emulator.faults.add(Fault(delay=10_000.0, times=None))
    began = anyio.current_time()
    await run.part(run.talk.ask)

    assert 60 >= anyio.current_time() - began


async def test_an_answer_that_was_applied_and_lost_leaves_no_user(run):
    run.emulator.faults.add(Fault(cut="after", path="/v1/identify", times=None))
    made = await run.whole()

    assert "no answer" in outcomes(made).values()
    assert set() == await run.users()


async def test_bodies_that_make_no_sense_end_no_run(run):
    run.emulator.faults.add(Fault(status=200, body=[1, None, {"job_id": ["x"], "status": 7}], times=None, apply=True))
    made = await run.whole()

    assert len(ALL) == len(made["questions"])
    assert INTERRUPTED not in outcomes(made).values()


@pytest.mark.parametrize("seconds", [0.5, 2.5, 4.5, 9.0])
async def test_an_interrupt_at_any_time_deletes_what_was_made(run, seconds):
    run.emulator.latency = 0.3
    with anyio.move_on_after(seconds):
        await run.part(run.talk.ask)
    asked = outcomes(run.report())
    await run.part(run.talk.delete)

    assert INTERRUPTED in asked.values()
    assert NOT_BEGUN == asked["paging"]
    assert 0 == run.report()["test_ids"]["left"]
    assert set() == await run.users()


async def test_a_deletion_that_fails_is_tried_three_times_and_names_what_is_left(run):
    await run.part(run.talk.ask)
    run.emulator.faults.add(Fault(status=503, method="DELETE", times=None))
    await run.part(run.talk.delete)

    assert 6 == len([request for request in run.cable.requests if request.method == "DELETE"]) - 1
    assert 8 == len(run.talk.remains.ids)
    assert all(id.startswith(PREFIX) for id in run.talk.remains.ids)


async def test_a_key_that_the_server_says_back_is_not_in_the_report(run):
    said = {KEY: 1, "status": KEY, "message": f"key {KEY}"}
    run.emulator.faults.add(Fault(status=202, body=said, headers={f"x-{KEY.lower()}": KEY}, times=None))

    made = await run.whole()

    assert "x-(the API key)" in json.dumps(made)
