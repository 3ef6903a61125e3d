"""`check --live`: its price and its question first, its report, its exit codes, and an interrupt in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.harness import RawServer, answer
from tests.harness.processes import REPOSITORY
from tests.harness.raw_server import RefusedPort
from tests.processes.cli.conftest import KEY, NAMES, Env, Received, Run, wait_until
from userpilot_async.cli._exits import Exit

IDS = "userpilot-async-check-"


def faulty(server: str, **fault: object) -> None:
    httpx.post(f"{server}/__emulator__/faults", json={"times": None, **fault}, trust_env=False).raise_for_status()


def test_it_says_what_it_costs_and_sends_nothing_before_somebody_agrees(run: Run, received: Received) -> None:
    refused, unasked = run("check", "--live", stdin="n\n"), run("check", "--live", stdin="")

    assert "53     5      7          2  at most" in refused.stderr
    assert "Ask now? [y/N]" in refused.stderr
    assert "nothing was sent" in refused.stderr
    assert (Exit.LOST, Exit.USAGE) == (refused.returncode, unasked.returncode)
    assert "--yes answers it" in unasked.stderr
    assert [] == received("requests")


def test_it_answers_its_questions_and_writes_a_report_without_key_and_ids(
    run: Run, received: Received, tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    result = run("check", "--live", "--yes", "--report", str(report))
    text = report.read_text()

    assert Exit.FINE == result.returncode
    assert "## How is the job list paged?" in text
    assert "identify: 202, no body" in text
    assert "Test ids made: 9, not deleted: 0." in text
    assert not [one for one in (KEY, IDS, "127.0.0.1") if one in text + result.stdout]
    shown = [line for line in (result.stdout + result.stderr).splitlines() if "report written to" not in line]
    assert [] == [line for line in shown if len(line) > 80]
    wait_until(lambda: [] == received("users") + received("companies"))


def test_what_the_dashboard_shows_is_asked_of_the_person_and_reported_as_json(run: Run, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = run("check", "--live", "--json", "--report", str(report), stdin="y\ny\nn\ns\n")
    made = json.loads(report.read_text())

    assert made == json.loads(result.stdout)
    assert ["yes", "no", "not looked at"] == [look["seen"] for look in made["dashboard"]]
    assert "a host of its own" == made["region"]


def test_a_refused_key_is_exit_code_4_and_a_report_of_refusals(run: Run, received: Received) -> None:
    result = run("check", "--live", "--yes", "--json", "--api-key", "WRONG")
    made = json.loads(result.stdout)

    assert Exit.REFUSED == result.returncode
    assert "App Token" in result.stderr
    assert {"refused: the key, or the plan, does not allow it"} == {one["outcome"] for one in made["questions"]}
    assert [] == received("users")


def test_no_server_is_exit_code_3_after_three_requests(run: Run) -> None:
    with RefusedPort() as closed:
        result = run("check", "--live", "--yes", "--json", "--base-url", closed.url)

    assert Exit.UNREACHABLE == result.returncode
    assert 5 == result.stdout.count("not asked: the server does not answer")


def test_a_page_is_exit_code_1_with_the_ids_that_may_exist(run: Run) -> None:
    """Something took the requests, and whether that was Userpilot cannot be known."""
    with RawServer([], then=answer(200, b"<html>log in</html>", {"content-type": "text/html"})) as page:
        result = run("check", "--live", "--yes", "--base-url", page.url)

    assert Exit.LOST == result.returncode
    assert "no answer of Userpilot's API (200, text/html that is no JSON)" in result.stdout
    assert f"could not be deleted: {IDS}" in result.stderr


def test_a_report_that_cannot_be_written_is_said_before_anything_is_sent(run: Run, received: Received) -> None:
    result = run("check", "--live", "--yes", "--report", "/nowhere/report.md")

    assert Exit.USAGE == result.returncode
    assert [] == received("requests")


@pytest.mark.parametrize("option", [["--yes"], ["--report", "x.md"]])
def test_its_options_are_not_for_the_plain_check(run: Run, option: list[str]) -> None:
    result = run("check", *option)

    assert Exit.USAGE == result.returncode
    assert "belong to --live" in result.stderr


def test_an_interrupt_in_the_middle_deletes_the_test_users_and_writes_the_report(
    environment: Env, server: str, received: Received, tmp_path: Path
) -> None:
    faulty(server, path="/v1/imports", latency=60.0)
    report = tmp_path / "report.md"
    words = [sys.executable, "-m", "userpilot_async", "check", "--live", "--yes", "--report", str(report)]
    env = {name: value for name, value in os.environ.items() if not name.startswith(NAMES)}
    env |= {name: value for name, value in environment.items() if value is not None}
    running = subprocess.Popen(
        words, cwd=REPOSITORY, env={**env, "PYTHONPATH": str(REPOSITORY)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_until(lambda: any(one["path"] == "/v1/imports" for one in received("requests")))
        running.send_signal(signal.SIGINT)
        shown, errors = running.communicate(timeout=30)
    finally:
        running.kill()

    assert Exit.INTERRUPTED == running.returncode
    assert "interrupted: deleting" in errors
    assert "What does an import answer, and does its row blank what it leaves out?\n  ! interrupted" in shown
    assert "The run was interrupted." in report.read_text()
    wait_until(lambda: [] == received("users") + received("companies"))
