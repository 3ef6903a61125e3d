"""Row 39: real applications under real servers are told to stop in the middle of their work."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.harness import Program, judge, python
from tests.harness.processes import UVICORN_LISTENING
from tests.harness.stage.loops import events_at
from tests.processes.apps._load import accounts_in, visitors_of

CLOSE_TIMEOUT = 10.0  # the default of `Settings`
WITHIN_BUDGET = 110  # calls: 100 go at once, the rest at ten a second

UVICORN = ("-m", "uvicorn", "--port", "0")
AIOHTTP_LISTENING = re.compile(r"Running on (?P<url>http://\S+?) ")
STOPPED = {0, -signal.SIGTERM}  # uvicorn raises the signal again when it has finished


def environment(emulator_url: str, **more: str) -> dict[str, str]:
    return {"USERPILOT_API_KEY": "up-canary-3f1c", "USERPILOT_BASE_URL": emulator_url, **more}


def markers_at(url: str) -> list[str]:
    return [event["metadata"]["report"] for event in events_at(url)]


def stop(program: Program, within: float) -> int:
    """SIGTERM; its exit status, if it comes in time."""
    program.terminate()
    asked = time.monotonic()
    status = program.wait(within + 5.0)
    judge.within_bound(time.monotonic() - asked, within)
    return status


@pytest.fixture(
    params=[
        pytest.param(
            ((*UVICORN, "tests.processes.apps.fastapi_app:app"), UVICORN_LISTENING), id="fastapi under uvicorn"
        ),
        pytest.param((("-m", "tests.processes.apps.aiohttp_app"), AIOHTTP_LISTENING), id="aiohttp"),
    ]
)
def application(request: pytest.FixtureRequest, emulator_url: str):
    command, listening = request.param
    with python(*command, env=environment(emulator_url)) as program:
        yield program, program.wait_for_line(listening)["url"]


def test_row_39_an_idle_application_stops_at_once(application: tuple[Program, str]) -> None:
    program, _ = application
    status = stop(program, within=1.0)

    assert status in STOPPED
    [(account, _)] = accounts_in(program)
    assert 0 == judge.conservation(account)
    assert "Traceback" not in program.output


def test_row_39_a_sigterm_among_requests_delivers_every_event_that_was_answered_for(
    application: tuple[Program, str], emulator_url: str
) -> None:
    program, url = application
    with visitors_of(url, at_most=WITHIN_BUDGET) as load:
        load.wait_answered(40)
        status = stop(program, within=CLOSE_TIMEOUT)

    arrived = markers_at(emulator_url)
    [(account, losses)] = accounts_in(program)
    assert status in STOPPED
    assert {} == losses
    assert account.delivered == judge.conservation(account)
    judge.nothing_lost(load.answered, arrived)
    judge.duplicates(arrived, 0)
    assert account.delivered == len(arrived)
    judge.per_user_order(
        (event["user_id"], int(event["metadata"]["report"].split("-")[1])) for event in events_at(emulator_url)
    )
    assert "Traceback" not in program.output
    judge.no_canary({"output": program.output}, ["up-canary-3f1c"])


@pytest.mark.night
def test_row_39_a_load_beyond_the_budget_is_drained_for_the_close_timeout_and_the_rest_is_reported(
    emulator_url: str,
) -> None:
    with python(*UVICORN, "tests.processes.apps.fastapi_app:app", env=environment(emulator_url)) as program:
        url = program.wait_for_line(UVICORN_LISTENING)["url"]
        with visitors_of(url) as load:
            load.wait_answered(600)
            status = stop(program, within=CLOSE_TIMEOUT)

    arrived = set(markers_at(emulator_url))
    [(account, losses)] = accounts_in(program)
    missing = load.answered - arrived
    assert status in STOPPED
    assert len(load.answered) <= judge.conservation(account)
    assert 0 == account.pending
    assert {"closed"} == set(losses)
    assert account.dropped == losses["closed"]
    assert 0 < len(missing) <= account.dropped
    assert account.delivered <= len(arrived)
    assert account.delivered >= 150, "100 at once and ten a second for nearly ten seconds should have gone"


def test_row_39_an_open_stream_ends_after_the_graceful_timeout_and_the_events_arrive(emulator_url: str) -> None:
    command = (*UVICORN, "--timeout-graceful-shutdown", "1", "tests.processes.apps.streaming_app:app")
    with python(*command, env=environment(emulator_url)) as program:
        url = program.wait_for_line(UVICORN_LISTENING)["url"]
        with httpx.Client(base_url=url, timeout=20.0) as client, client.stream("GET", "/stream") as stream:
            assert "open\n" == next(stream.iter_text())
            for n in range(20):
                httpx.post(f"{url}/users/u/reports/{n}").raise_for_status()
            status = stop(program, within=1.0 + CLOSE_TIMEOUT)

    [(account, losses)] = accounts_in(program)
    assert status in STOPPED
    assert {} == losses
    assert 20 == account.delivered == judge.conservation(account)
    assert [str(n) for n in range(20)] == markers_at(emulator_url)


def test_row_39_gunicorns_workers_each_drain_before_they_end(emulator_url: str, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    command = "-m gunicorn tests.processes.apps.fastapi_app:app -w 2 -k uvicorn.workers.UvicornWorker -b 127.0.0.1:0"
    # Buffered: without, `print` writes its words one by one, and those of two workers mix in a line.
    env = {**environment(emulator_url, HOME=str(tmp_path)), "PYTHONUNBUFFERED": None}
    with python(*command.split(), env=env) as program:
        url = program.wait_for_line(r"Listening at: (?P<url>http://\S+)")["url"]
        _wait_for_lines(program, "Application startup complete", 2)
        with visitors_of(url, at_most=WITHIN_BUDGET) as load:
            load.wait_answered(40)
            status = stop(program, within=CLOSE_TIMEOUT)

    arrived = markers_at(emulator_url)
    accounts = accounts_in(program)
    assert 0 == status
    assert 2 == len(accounts)
    assert [{}, {}] == [losses for _, losses in accounts]
    assert len(arrived) == sum(judge.conservation(account) for account, _ in accounts)
    judge.nothing_lost(load.answered, arrived)
    judge.duplicates(arrived, 0)


def _wait_for_lines(program: Program, text: str, count: int) -> None:
    """Until so many processes of the program have said it."""
    deadline = time.monotonic() + 10.0
    while program.output.count(text) < count:
        assert time.monotonic() < deadline, program.output
        time.sleep(0.01)
