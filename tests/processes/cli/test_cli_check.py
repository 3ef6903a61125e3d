from __future__ import annotations

import json

import pytest

from tests.harness import RawServer, answer
from tests.harness.raw_server import RefusedPort
from tests.processes.cli.conftest import KEY, Run
from userpilot_async.cli._check import Finding, Heard, as_text, skew
from userpilot_async.cli._exits import Exit


def test_check_tells_key_clock_and_budget(run: Run) -> None:
    result = run("check", "--json")

    finding = json.loads(result.stdout)
    assert result.returncode == Exit.FINE
    assert finding["key"] == "accepted"
    assert 2.0 >= abs(finding["clock_skew"])
    # A look at the jobs, which is how the check asks, is not counted.
    assert (600, 600) == (finding["budget"]["limit"], finding["budget"]["remaining"])


def test_check_never_shows_the_key(run_apart: Run) -> None:
    result = run_apart("check")

    assert KEY not in result.stdout + result.stderr
    assert "key      accepted" in result.stdout


def test_a_refused_key_is_exit_code_4_with_a_hint(run: Run) -> None:
    result = run("check", "--api-key", "WRONG")

    assert result.returncode == Exit.REFUSED
    assert "key      refused" in result.stdout
    assert "App Token" in result.stderr


def test_no_server_is_exit_code_3_and_leaves_everything_unknown(run: Run) -> None:
    with RefusedPort() as nobody:
        result = run("check", "--json", "--base-url", nobody.url)

    finding = json.loads(result.stdout)
    assert result.returncode == Exit.UNREACHABLE
    assert ("unknown", None, None) == (finding["key"], finding["clock_skew"], finding["status"])


def test_another_kind_of_server_is_exit_code_3(run: Run, server: str) -> None:
    result = run("check", "--base-url", f"{server}/elsewhere")

    assert result.returncode == Exit.UNREACHABLE
    assert "does not look like a Userpilot server" in result.stderr


def test_a_clock_that_is_off_is_told_with_its_direction() -> None:
    answer = Heard(200, {"date": "Thu, 01 Jan 1970 00:10:00 GMT"}, at=1_200.0)

    shown = as_text(Finding("https://analytex-eu.userpilot.io", answer, None))

    assert "clock    600 s ahead of the server's" in shown
    assert "(eu)" in shown


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Jan 1970 00:00:00 GMT"])
def test_a_missing_or_senseless_date_gives_no_skew(date: str | None) -> None:
    assert skew(0.0, date) is None


def test_a_web_page_is_exit_code_3_and_says_what_came(run: Run) -> None:
    """A sign-in page says 200 to everything: `check` was content."""
    with RawServer([], then=answer(200, b"<html>please log in</html>", {"content-type": "text/html"})) as page:
        result = run("check", "--base-url", page.url)

    assert result.returncode == Exit.UNREACHABLE
    assert "key      unknown" in result.stdout
    assert "does not look like a Userpilot server: the server answered 200" in result.stderr
    assert "a web page: is a proxy or a sign-in page in between?" in result.stderr


def test_it_asks_once_however_many_jobs_there_are(run: Run) -> None:
    jobs = [{"job_id": f"j{n}", "status": "completed"} for n in range(10)]
    page = answer(200, json.dumps(jobs).encode(), {"content-type": "application/json"})
    with RawServer([], then=page) as server:
        result = run("check", "--base-url", server.url)

    assert (Exit.FINE, 1) == (result.returncode, len(server.requests))
