from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.processes.cli.conftest import KEY, Run
from userpilot_async import Job, JobStatus
from userpilot_async.cli import cli
from userpilot_async.cli._exits import Exit
from userpilot_async.cli._jobs import table

Submit = Callable[..., str]


@pytest.fixture
def submit(server: str) -> Submit:
    """Submit a job of so many rows; its id."""

    def submit(rows: int = 3) -> str:
        headers = {"Authorization": f"Token {KEY}", "X-API-Version": "2020-09-22"}
        with httpx.Client(base_url=server, headers=headers, trust_env=False) as http:
            users = [{"user_id": f"u{number}"} for number in range(rows)]
            answer = http.post("/v1/users/bulk_identify", json={"users": users}).raise_for_status()
            return str(answer.json()["job_id"])

    return submit


def test_jobs_are_listed_as_a_table_with_whole_ids(run: Run, submit: Submit) -> None:
    job_id = submit()

    result = run("jobs")

    assert result.returncode == Exit.FINE
    assert job_id in result.stdout


def test_jobs_are_listed_as_json(run: Run, submit: Submit) -> None:
    job_id = submit()

    assert [job_id] == [job["job_id"] for job in json.loads(run("jobs", "--json").stdout)["jobs"]]


def test_an_empty_list_says_so(run: Run) -> None:
    assert run("jobs").stdout.strip() == "no background jobs"


def test_watch_waits_for_the_end(run_apart: Run, submit: Submit) -> None:
    result = run_apart("jobs", "watch", submit(60), "--json")

    job = json.loads(result.stdout)
    assert result.returncode == Exit.FINE
    assert ("completed", 60) == (job["status"], job["completed_rows"])


def test_watch_of_a_job_that_nobody_knows_fails(run: Run) -> None:
    result = run("jobs", "watch", "bulk:jobs:nothing")

    assert result.returncode == Exit.LOST
    assert "404" in result.stderr


@pytest.mark.parametrize("job_id", ["", "j1\x1b[2J", "j" * 2_000])
def test_watch_of_what_is_no_id_is_wrong_usage(job_id: str) -> None:
    result = CliRunner().invoke(cli, ["jobs", "watch", job_id, "--api-key", "KEY"])

    assert result.exit_code == Exit.USAGE, result.exception
    assert "ID is not the id of a job" in result.output


def test_watch_gives_up_when_its_time_is_up(run: Run, submit: Submit) -> None:
    result = run("jobs", "watch", submit(10_000), "--timeout", "0.5")

    assert result.returncode == Exit.LOST
    assert "the time was up" in result.stderr


def test_watch_takes_the_servers_options_on_either_side(run: Run, submit: Submit) -> None:
    job_id = submit()

    result = run("jobs", "--api-key", KEY, "watch", job_id, env={"USERPILOT_API_KEY": None})

    assert result.returncode == Exit.FINE


def test_a_refused_key_is_exit_code_4(run: Run) -> None:
    assert run("jobs", "--api-key", "WRONG").returncode == Exit.REFUSED


def test_what_a_server_calls_its_jobs_cannot_steer_a_terminal() -> None:
    job = Job(job_id="bulk:1", status=JobStatus.UNKNOWN, type="[red]\x1b[2J", submitted_at="a\rb")
    console = Console(width=200)

    with console.capture() as captured:
        console.print(table([job]))

    assert "\x1b" not in captured.get()
    assert "\r" not in captured.get()
    assert "[red]" in captured.get()
