from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness.emulator_thread import emulator_thread
from tests.harness.processes import REPOSITORY, program, python
from tests.harness.raw_server import RefusedPort
from tests.processes.cli.conftest import KEY, Env, Received, Run
from userpilot_async.cli._exits import Exit

IDENTIFY = '{"type":"identify","user_id":"u1","metadata":{"plan":"pro"},"company":{"id":"acme"}}\n'
TRACK = '{"type":"track","user_id":"u1","event_name":"Opened","metadata":{"serial":1}}\n'
PARCELVOY_TRACK = '{"type":"track","external_id":"u1","name":"Opened","data":{"serial":1}}\n'
DELETIONS = '{"type":"delete_user","user_id":"u1"}\n{"type":"delete_company","company_id":"acme"}\n'
BAD = '{"type":"identify","user_id":"u1","metadata":{"plan":["PRIVATE"]}}\n'


def test_send_delivers_what_stdin_says(run: Run, received: Received) -> None:
    result = run("send", "-", stdin=IDENTIFY + TRACK)

    assert result.returncode == Exit.FINE
    assert "2 accepted = 2 delivered + 0 dead + 0 dropped + 0 merged + 0 pending" in result.stdout
    assert [{"plan": "pro"}] == [user["properties"] for user in received("users")]
    assert [("u1", "acme")] == [(event["user_id"], event["company_id"]) for event in received("events")]


def test_send_deletes_whom_a_line_says(run: Run, received: Received) -> None:
    result = run("send", "-", stdin=IDENTIFY + IDENTIFY.replace("u1", "u2").replace("acme", "globex"))
    assert result.returncode == Exit.FINE, result.stderr

    result = run("send", "-", stdin=TRACK + DELETIONS)

    assert result.returncode == Exit.LOST  # the track of who is deleted behind it
    assert "3 accepted = 2 delivered + 0 dead + 1 dropped + 0 merged + 0 pending" in result.stdout
    assert (["u2"], ["globex"], []) == (
        [user["user_id"] for user in received("users")],
        [company["company_id"] for company in received("companies")],
        received("events"),
    )


def test_many_users_travel_as_one_job(run: Run, received: Received, tmp_path: Path) -> None:
    path = tmp_path / "users.ndjson"
    path.write_text("".join(IDENTIFY.replace("u1", f"u{number}") for number in range(60)))

    result = run("send", str(path), "--json")

    report = json.loads(result.stdout)
    assert result.returncode == Exit.FINE
    assert (60, 60, 1) == (report["accepted"], report["delivered"], report["jobs_completed"])
    assert len(received("users")) == 60


def test_a_bad_line_is_named_by_number_and_reason_never_by_value(run: Run, received: Received) -> None:
    result = run("send", "-", stdin=IDENTIFY + BAD + TRACK)

    assert result.returncode == Exit.LOST
    assert (
        "line 2: metadata['plan'] must be str, int, float, bool, None, datetime, date, Decimal, UUID or Enum, not list"
        in result.stderr
    )
    assert "PRIVATE" not in result.stdout + result.stderr
    assert len(received("events")) == 1


def test_strict_stops_at_the_first_bad_line_and_delivers_what_came_before(run: Run, received: Received) -> None:
    result = run("send", "--strict", "--json", "-", stdin=IDENTIFY + BAD + TRACK)

    report = json.loads(result.stdout)
    assert result.returncode == Exit.LOST == report["exit_code"]
    assert (1, 1) == (report["accepted"], report["delivered"])
    assert [2] == [line["line"] for line in report["rejected_lines"]]
    assert received("events") == []


def test_no_server_is_exit_code_3(run: Run) -> None:
    with RefusedPort() as nobody:
        result = run("send", "-", stdin=TRACK, env={"USERPILOT_BASE_URL": nobody.url})

    assert result.returncode == Exit.UNREACHABLE
    assert "unavailable" in result.stderr
    assert result.stdout == ""


def test_a_refused_key_is_exit_code_4_and_stays_unsaid(run: Run) -> None:
    result = run("send", "-", "--json", stdin=TRACK, env={"USERPILOT_API_KEY": "WRONG-KEY"})

    assert result.returncode == Exit.REFUSED == json.loads(result.stdout)["exit_code"]
    assert "WRONG-KEY" not in result.stdout + result.stderr


def test_time_up_is_no_success_even_if_nothing_was_read(run: Run) -> None:
    result = run("send", "-", "--timeout", "0", stdin=TRACK)

    assert result.returncode == Exit.LOST
    assert "the time was up" in result.stderr


@pytest.mark.parametrize(
    ("to", "line", "events", "end"),
    [
        ("userpilot", TRACK, "events", signal.SIGINT),
        ("userpilot", TRACK, "events", signal.SIGHUP),
        ("parcelvoy", PARCELVOY_TRACK, "parcelvoy/events", signal.SIGINT),
    ],
)
def test_calls_leave_while_the_pipe_is_open_and_a_signal_ends_it_with_a_report(
    environment: Env, received: Received, tmp_path: Path, to: str, line: str, events: str, end: signal.Signals
) -> None:
    """`tail -f calls.ndjson | userpilot-async send -` must not wait for a buffer to fill."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)  # both ways, or it would wait for a reader
    try:
        with python("-m", "userpilot_async", "send", "--to", to, str(pipe), env=environment) as sending:
            os.write(writer, line.encode())
            wait_until(lambda: len(received(events)) == 1)
            sending.send_signal(end)

            assert sending.wait() == Exit.INTERRUPTED
            assert "1 accepted = 1 delivered" in sending.output
    finally:
        os.close(writer)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A pipe that `send` reads, and the end at which a test writes."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    yield path, writer
    os.close(writer)


def test_a_terminal_that_is_closed_costs_no_call(tmp_path: Path, pipe: tuple[Path, int]) -> None:
    """What was read is delivered, though every word about it fails."""
    path, writer = pipe
    terminal, theirs = os.openpty()
    with emulator_thread("--latency", "0.3", "--api-key", KEY) as url:
        env = {**os.environ, "USERPILOT_BASE_URL": url, "USERPILOT_API_KEY": KEY, "PYTHONPATH": str(REPOSITORY)}
        sending = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, str(path)], cwd=REPOSITORY, env=env, stdin=theirs, stdout=theirs,
            stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        try:
            with httpx.Client(base_url=url, trust_env=False) as http:
                events = lambda: http.get("/__emulator__/events").json()["items"]  # noqa: E731
                os.write(writer, TRACK.encode() * 9)  # all at once: eight of them go, and one waits
                wait_until(lambda: len(events()) > 0)
                os.close(terminal)

                assert sending.wait(20) == Exit.INTERRUPTED
                assert len(events()) == 9
        finally:
            sending.kill()
            sending.wait()


IN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # it is this process's, which hears of its end
from userpilot_async.__main__ import main
sys.argv[1:] = ["send", sys.argv[1]]
main()
"""


def test_nohup_keeps_it_from_hearing_that_the_terminal_is_closed(
    environment: Env, received: Received, pipe: tuple[Path, int]
) -> None:
    path, writer = pipe
    command = f'trap "" HUP; exec "{sys.executable}" -m userpilot_async send "{path}"'
    with program(["sh", "-c", command], env=environment) as sending:
        os.write(writer, TRACK.encode())
        wait_until(lambda: len(received("events")) == 1)
        sending.send_signal(signal.SIGHUP)
        os.write(writer, TRACK.encode())
        wait_until(lambda: len(received("events")) == 2)
        sending.send_signal(signal.SIGINT)

        assert sending.wait() == Exit.INTERRUPTED
        assert "2 accepted = 2 delivered" in sending.output


def test_stdin_that_is_closed_is_said_in_one_sentence(environment: Env) -> None:
    command = f'exec "{sys.executable}" -m userpilot_async send - <&-'
    with program(["sh", "-c", command], env=environment) as sending:
        assert sending.wait() == Exit.USAGE
        assert "Error: stdin is closed: there is nothing to read\n" == sending.output


def test_an_interrupt_with_calls_waiting_is_ended_at_once_by_a_second_one(tmp_path: Path) -> None:
    """And what had not left is counted, not forgotten."""
    path = tmp_path / "calls.ndjson"
    path.write_text("".join(TRACK.replace('"serial":1', f'"serial":{number}') for number in range(1_000)))
    with emulator_thread("--latency", "0.2", "--api-key", KEY) as url:
        env = {"USERPILOT_BASE_URL": url, "USERPILOT_API_KEY": KEY}
        with python("-m", "userpilot_async", "send", str(path), env=env) as sending:
            sending.wait_for_line("1,000 accepted")
            sending.send_signal(signal.SIGINT)
            sending.wait_for_line("a second signal stops at once")
            sending.send_signal(signal.SIGINT)

            assert sending.wait() == Exit.INTERRUPTED
            assert "1,000 accepted = " in sending.output
            assert "closed" in sending.output


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
