"""`send --to parcelvoy`: what Userpilot's calls have, for a server that shows nothing to a public key."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import click.testing
import httpx
import pytest

from tests.harness.raw_server import RefusedPort
from tests.processes.cli.conftest import KEY, Env, Received, Run
from userpilot_async._userpilot.calls import from_bytes
from userpilot_async.cli import cli
from userpilot_async.cli._exits import Exit
from userpilot_async.parcelvoy import from_line

IDENTIFY = '{"type":"identify","external_id":"u1","email":"ann@example.com","data":{"plan":"pro"}}\n'
ALIAS = '{"type":"alias","anonymous_id":"a1","external_id":"u1"}\n'
DEVICE = (
    '{"type":"device","device_id":"d1","external_id":"u1","os":"iOS","model":"iPad","app_build":"7",'
    '"app_version":"1.2"}\n'
)
TRACK = '{"type":"track","name":"Opened","external_id":"u1","data":{"serial":1}}\n'
BAD = '{"type":"identify","data":{"plan":"PRIVATE"}}\n'

Deliver = Callable[..., "CompletedProcess[str]"]
SetFault = Callable[..., None]


@pytest.fixture
def deliver(run: Run) -> Deliver:
    """Send these lines to Parcelvoy."""

    def deliver(lines: str, *options: str, **rest: Any) -> CompletedProcess[str]:
        return run("send", "--to", "parcelvoy", *options, "-", stdin=lines, **rest)

    return deliver


@pytest.fixture
def set_fault(server: str) -> SetFault:
    """Script a fault of the emulator's."""

    def set_fault(**fault: Any) -> None:
        with httpx.Client(base_url=server, trust_env=False) as http:
            http.post("/__emulator__/faults", json={"family": "parcelvoy_events", **fault}).raise_for_status()

    return set_fault


def event(name: str, serial: int = 1) -> str:
    return TRACK.replace("Opened", name).replace('"serial":1', f'"serial":{serial}')


# ── what arrives ──


def test_every_kind_of_call_arrives_at_the_person_it_is_of(deliver: Deliver, received: Received) -> None:
    """The visitor comes first: an alias of somebody whom the server has not met does nothing."""
    visit = '{"type":"track","name":"Visited","anonymous_id":"a1"}\n'

    result = deliver(visit + ALIAS + IDENTIFY + DEVICE + TRACK)

    assert result.returncode == Exit.FINE
    assert "5 accepted = 5 delivered + 0 dead + 0 dropped + 0 merged + 0 pending" in result.stdout
    (user,) = received("parcelvoy/users")
    assert ("u1", ["a1"], ["d1"], {"plan": "pro"}) == (
        user["external_id"], user["anonymous_ids"], user["devices"], user["data"]
    )  # fmt: skip
    assert [(None, "Visited"), ("u1", "Opened")] == [
        (one["external_id"], one["name"]) for one in received("parcelvoy/events")
    ]


def test_the_question_whether_somebody_is_there_leaves_nothing_behind(deliver: Deliver, received: Received) -> None:
    result = deliver("")

    assert result.returncode == Exit.FINE
    assert [422] == [request["status"] for request in received("requests")]
    assert received("applied") == []


def test_a_thousand_events_travel_in_few_requests(deliver: Deliver, received: Received) -> None:
    result = deliver("".join(event("Opened", number) for number in range(1_000)), "--json")

    report = json.loads(result.stdout)
    assert result.returncode == Exit.FINE
    assert (1_000, 1_000, 0) == (report["accepted"], report["delivered"], report["jobs_completed"])
    assert 20 > report["requests_total"]
    assert list(range(1_000)) == [one["data"]["serial"] for one in received("parcelvoy/events")]


def test_the_report_talks_of_no_jobs_and_names_the_question_that_was_asked(deliver: Deliver) -> None:
    result = deliver(TRACK)

    assert "job" not in result.stdout + result.stderr
    assert "1 key check" in result.stdout


def test_options_win_over_the_environment(deliver: Deliver, server: str) -> None:
    wrong: Env = {"PARCELVOY_API_KEY": "WRONG", "PARCELVOY_BASE_URL": "https://nowhere.invalid"}

    assert Exit.FINE == deliver(TRACK, "--api-key", KEY, "--base-url", server, env=wrong).returncode


# ── bad lines ──


def test_a_bad_line_is_named_by_number_and_reason_never_by_value(deliver: Deliver, received: Received) -> None:
    result = deliver(IDENTIFY + BAD + TRACK)

    assert result.returncode == Exit.LOST
    assert "line 2: external_id is missing, and so is anonymous_id" in result.stderr
    assert "PRIVATE" not in result.stdout + result.stderr
    assert len(received("parcelvoy/events")) == 1


def test_a_line_for_userpilot_is_a_bad_line(deliver: Deliver) -> None:
    result = deliver('{"type":"track","user_id":"u1","event_name":"Opened"}\n')

    assert result.returncode == Exit.LOST
    assert "line 1: " in result.stderr


def test_strict_stops_at_the_first_bad_line_and_delivers_what_came_before(deliver: Deliver, received: Received) -> None:
    result = deliver(IDENTIFY + BAD + TRACK, "--strict", "--json")

    report = json.loads(result.stdout)
    assert result.returncode == Exit.LOST == report["exit_code"]
    assert (1, 1) == (report["accepted"], report["delivered"])
    assert [2] == [line["line"] for line in report["rejected_lines"]]
    assert received("parcelvoy/events") == []


def test_an_event_that_the_server_refuses_is_counted_and_takes_no_other_with_it(
    deliver: Deliver, received: Received, set_fault: SetFault
) -> None:
    set_fault(body_contains="Refused", status=422, times=None)

    result = deliver(event("First") + event("Refused") + event("Last"))

    assert result.returncode == Exit.LOST
    assert "3 accepted = 2 delivered + 1 dead" in result.stdout
    assert "lost: 1 invalid" in result.stdout
    assert ["First", "Last"] == [one["name"] for one in received("parcelvoy/events")]


# ── no server, no key, no time ──


def test_no_server_is_exit_code_3(deliver: Deliver) -> None:
    with RefusedPort() as nobody:
        result = deliver(TRACK, env={"PARCELVOY_BASE_URL": nobody.url})

    assert result.returncode == Exit.UNREACHABLE
    assert "unavailable" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("status", [404, 405, 302, 200])
def test_another_kind_of_server_is_exit_code_3(deliver: Deliver, set_fault: SetFault, status: int) -> None:
    """Also one that answers 200 with its front page, whatever it is sent: every call would count as delivered."""
    set_fault(status=status, body="<h1>Welcome</h1>", times=None)

    result = deliver(TRACK)

    assert result.returncode == Exit.UNREACHABLE
    assert f"does not look like a Parcelvoy server: it answered {status}" in result.stderr


def test_a_server_that_restarts_is_asked_again(deliver: Deliver, set_fault: SetFault) -> None:
    set_fault(status=503)

    assert Exit.FINE == deliver(TRACK).returncode


def test_a_server_that_answers_400_to_everything_loses_nothing(deliver: Deliver, set_fault: SetFault) -> None:
    """To the client a 400 is about the call. To Parcelvoy it is also what an error of its own becomes."""
    set_fault(status=400, times=None)

    result = deliver(TRACK, "--json")

    assert result.returncode == Exit.UNREACHABLE
    assert 0 == json.loads(result.stdout)["accepted"]


def test_a_refused_key_is_exit_code_4_and_stays_unsaid(deliver: Deliver) -> None:
    result = deliver(TRACK, "--json", env={"PARCELVOY_API_KEY": "WRONG-KEY"})

    assert result.returncode == Exit.REFUSED == json.loads(result.stdout)["exit_code"]
    assert "is it the public key of this project?" in result.stderr
    assert "WRONG-KEY" not in result.stdout + result.stderr


def test_a_key_that_is_nobodys_is_a_refused_key_though_the_server_says_404(
    deliver: Deliver, set_fault: SetFault
) -> None:
    """The server looks for the project of a key that looks like one, and finds none."""
    body = {"status": "error", "error": "The requested project does not exist.", "code": 6000}
    set_fault(status=404, body=body, times=None)

    result = deliver(TRACK)

    assert result.returncode == Exit.REFUSED
    assert "The requested project does not exist." in result.stderr


def test_time_up_says_why_calls_are_left(deliver: Deliver, set_fault: SetFault) -> None:
    """The first question finds the server well; the one at the end finds what has become of it."""
    set_fault(skip=1, status=503, times=None)

    result = deliver(TRACK, "--timeout", "2", "--json")

    report = json.loads(result.stdout)
    assert result.returncode == Exit.UNREACHABLE
    assert (1, {"closed": 1}) == (report["accepted"], report["lost_by_reason"])
    assert "it answered 503" in report["error"]


# ── usage ──


@pytest.mark.parametrize("missing", ["base_url", "api_key"])
def test_what_is_missing_is_named_with_parcelvoys_own_variable(deliver: Deliver, missing: str) -> None:
    variable = f"PARCELVOY_{missing.upper()}"

    result = deliver(TRACK, env={variable: None})

    assert result.returncode == Exit.USAGE
    assert f"{missing} is missing: pass it, " in result.stderr
    assert f"set {variable}" in result.stderr


def test_a_region_is_wrong_usage(deliver: Deliver) -> None:
    result = deliver(TRACK, "--region", "eu")

    assert result.returncode == Exit.USAGE
    assert "--region is for Userpilot" in result.stderr


def test_a_region_in_the_environment_is_not_meant_for_parcelvoy(deliver: Deliver) -> None:
    assert Exit.FINE == deliver(TRACK, env={"USERPILOT_REGION": "eu"}).returncode


def test_the_lines_in_the_help_are_lines_that_can_be_sent() -> None:
    shown = click.testing.CliRunner().invoke(cli, ["send", "--help"]).output
    userpilot, _, parcelvoy = shown.partition("--to parcelvoy")

    assert 3 == len([from_bytes(line) for line in userpilot.splitlines() if "{" in line])
    assert 4 == len([from_line(line) for line in parcelvoy.splitlines() if "{" in line])
