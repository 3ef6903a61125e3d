"""`userpilot-async drain`, and `send --outbox`: calls that wait on disk, and the processes that send them."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click.testing
import httpx
import pytest

from tests.harness.emulator_thread import emulator_thread
from tests.harness.processes import python
from tests.harness.raw_server import RefusedPort
from tests.processes.cli.conftest import KEY, NOBODY, Env, Received, Run, fill, identify, lose, track, wait_until
from userpilot_async.cli._exits import Exit
from userpilot_async.sqlite._admin import SQLiteAdmin

Invoke = Callable[..., click.testing.Result]
DRAIN = ("-m", "userpilot_async", "drain", "--outbox")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def lines(*calls: object) -> str:
    return "".join(json.dumps(call) + "\n" for call in calls)


# ── drain ──


def test_once_sends_all_that_waits_and_ends(run: Run, server: str, received: Received, path: Path) -> None:
    fill(path, [identify(plan="pro"), *(track(serial=number) for number in range(10))], base_url=server)

    result = run("drain", "--outbox", f"sqlite:///{path}", "--once")

    assert Exit.FINE == result.returncode, result.stderr
    assert "11 accepted = 11 delivered + 0 dead + 0 dropped + 0 merged + 0 pending" in result.stdout
    assert "11 of them waited already" in result.stdout
    assert list(range(10)) == [event["metadata"]["serial"] for event in received("events")]
    assert None is SQLiteAdmin(path).holder()


def test_what_waited_too_long_goes_as_an_import_if_that_is_asked_for(
    run: Run, server: str, received: Received, path: Path
) -> None:
    fill(path, [track(serial=number) for number in range(10)], base_url=server)
    with closing(sqlite3.connect(path)) as db:
        assert 10 == db.execute("SELECT count(*) FROM calls").fetchone()[0]

    result = run("drain", "--outbox", str(path), "--once", "--late-after", "0.001")

    assert Exit.FINE == result.returncode, result.stderr
    assert ({"import"}, list(range(10))) == (
        {event["via"] for event in received("events")}, [event["metadata"]["serial"] for event in received("events")]
    )  # fmt: skip


def test_parcelvoy_has_no_late_events(run: Run, path: Path) -> None:
    result = run("drain", "--outbox", str(path), "--once", "--late-after", "60", "--to", "parcelvoy")

    assert Exit.USAGE == result.returncode
    assert "--late-after is for Userpilot" in result.stderr


def test_the_report_is_of_this_run_and_not_of_the_files_whole_life(run: Run, server: str, path: Path) -> None:
    lose(path, [track("gone")], base_url=server)
    fill(path, [track()], base_url=server)

    result = run("drain", "--once", "--json", env={"USERPILOT_OUTBOX": str(path)})

    report = json.loads(result.stdout)
    assert Exit.FINE == result.returncode == report["exit_code"]
    assert (1, 1, 1, 0, {}) == (
        report["accepted"], report["delivered"], report["found_waiting"], report["dead"], report["lost_by_reason"]
    )  # fmt: skip


def test_parcelvoys_calls_are_drained_to_parcelvoy(run: Run, server: str, received: Received, path: Path) -> None:
    fill(path, [{"type": "track", "name": "Opened", "external_id": "u1"}], base_url=server, to="parcelvoy")

    result = run("drain", "--to", "parcelvoy", "--once", env={"PARCELVOY_OUTBOX": str(path)})

    assert Exit.FINE == result.returncode, result.stderr
    assert ["Opened"] == [event["name"] for event in received("parcelvoy/events")]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_sends_what_others_put_until_a_signal_ends_it_with_0(
    environment: Env, server: str, received: Received, path: Path, end: signal.Signals
) -> None:
    with python(*DRAIN, str(path), env=environment) as drain:
        wait_until(lambda: path.exists() and SQLiteAdmin(path).holder() is not None)
        for serial in range(3):
            fill(path, [track(serial=serial)], base_url=server)
            wait_until(lambda expected=serial + 1: len(received("events")) == expected)
        drain.send_signal(end)

        assert Exit.FINE == drain.wait(), drain.output
    assert "3 accepted = 3 delivered" in drain.output
    assert {"events.db", "events.db.lock", "events.db.lease", "events.db.ballast"} == {
        one.name for one in path.parent.iterdir()
    }


def test_what_a_signal_leaves_waits_in_the_file(path: Path) -> None:
    """A second one does not wait for requests that are under way."""
    with emulator_thread("--latency", "5") as url:
        fill(path, [track(f"u{number}") for number in range(20)], base_url=url)
        env = {"USERPILOT_BASE_URL": url, "USERPILOT_API_KEY": KEY}
        with python(*DRAIN, str(path), env=env) as drain:
            wait_until(lambda: SQLiteAdmin(path).inspect().under_way > 0)
            drain.terminate()
            drain.wait_for_line("a second signal stops at once")
            drain.terminate()

            assert Exit.FINE == drain.wait(), drain.output
    assert f"20 calls wait in {path}" in drain.output
    assert 20 == SQLiteAdmin(path).inspect().account.waiting


def test_a_second_one_stands_by_says_so_and_goes_on_when_the_first_is_killed(
    environment: Env, server: str, received: Received, path: Path
) -> None:
    with python(*DRAIN, str(path), env=environment) as first:
        wait_until(lambda: path.exists() and SQLiteAdmin(path).holder() is not None)
        with python(*DRAIN, str(path), env=environment) as second:
            second.wait_for_line("another process sends; this one stands by")
            fill(path, [track(serial=1)], base_url=server)
            wait_until(lambda: len(received("events")) == 1)
            first.kill()
            second.wait_for_line("the other process has ended: this one sends now")
            fill(path, [track(serial=2)], base_url=server)
            wait_until(lambda: len(received("events")) == 2)
            holder = SQLiteAdmin(path).holder()

    assert holder is not None
    assert second.pid == holder.pid


def test_once_waits_for_what_another_process_sends(environment: Env, server: str, path: Path) -> None:
    with emulator_thread("--latency", "0.3", "--api-key", KEY) as url:
        env = {**environment, "USERPILOT_BASE_URL": url}
        fill(path, [track(serial=number) for number in range(8)], base_url=url)
        with python(*DRAIN, str(path), env=env) as sender:
            wait_until(lambda: SQLiteAdmin(path).holder() is not None)
            with python(*DRAIN, str(path), "--once", "--json", env=env) as once:
                assert Exit.FINE == once.wait(30), once.output
            holder = SQLiteAdmin(path).holder()

    assert holder is not None
    assert sender.pid == holder.pid
    assert (8, 0) == (SQLiteAdmin(path).inspect().account.delivered, SQLiteAdmin(path).inspect().account.waiting)


def test_once_ends_when_nothing_is_left_of_what_has_come_in_meanwhile_either(path: Path) -> None:
    with emulator_thread("--latency", "2") as url:
        fill(path, [track(f"u{number}") for number in range(8)], base_url=url)
        env = {"USERPILOT_BASE_URL": url, "USERPILOT_API_KEY": KEY}
        with python(*DRAIN, str(path), "--once", env=env) as drain:
            wait_until(lambda: SQLiteAdmin(path).inspect().under_way > 0)
            fill(path, [track(f"u{number}") for number in range(8, 16)], base_url=url)

            assert Exit.FINE == drain.wait(30), drain.output
    assert "16 accepted = 16 delivered" in drain.output
    assert "8 of them waited already" in drain.output


def test_once_without_a_server_is_exit_code_3_and_everything_still_waits(run: Run, path: Path) -> None:
    with RefusedPort() as nobody:
        fill(path, [track()], base_url=nobody.url)
        result = run("drain", "--outbox", str(path), "--once", env={"USERPILOT_BASE_URL": nobody.url})

    assert Exit.UNREACHABLE == result.returncode
    assert "unavailable" in result.stderr
    assert 1 == SQLiteAdmin(path).inspect().account.waiting


@pytest.mark.night
def test_without_once_a_server_that_is_down_is_waited_for(path: Path) -> None:
    with RefusedPort() as nobody:
        fill(path, [track()], base_url=nobody.url)
        env = {"USERPILOT_BASE_URL": nobody.url, "USERPILOT_API_KEY": KEY}
        with python(*DRAIN, str(path), env=env) as drain:
            drain.wait_for_line("requests fail, 1 call waits and is sent again", timeout=60)
            drain.terminate()

            assert Exit.FINE == drain.wait(30), drain.output
    assert f"1 call waits in {path}" in drain.output
    assert 1 == SQLiteAdmin(path).inspect().account.waiting


def test_another_accounts_file_is_refused_in_one_sentence(run: Run, server: str, path: Path) -> None:
    fill(path, [track()], base_url=server, key="OTHER-KEY")

    drained = run("drain", "--outbox", str(path), "--once")
    sent = run("send", "--outbox", str(path), "-", stdin=lines(track()))

    for result in (drained, sent):
        assert Exit.LOST == result.returncode
        assert "has calls for the account of another API key" in result.stderr
        assert "Traceback" not in result.stderr
    assert 1 == SQLiteAdmin(path).inspect().account.waiting


def test_a_file_of_a_newer_version_is_refused_and_nothing_appears_beside_it(invoke: Invoke, path: Path) -> None:
    fill(path, [track()])
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}

    result = invoke("drain", "--outbox", path, "--once", "--api-key", KEY, "--base-url", NOBODY)

    assert Exit.LOST == result.exit_code
    assert "which a newer userpilot_async wrote" in result.output
    assert before == {one.name: one.read_bytes() for one in path.parent.iterdir()}


@pytest.mark.parametrize("place", ["memory://", "ftp://x", "sqlite://x/y", "sqlite:///x.db?sender=no", None])
def test_what_cannot_be_drained_is_wrong_usage(invoke: Invoke, place: str | None) -> None:
    options = [] if place is None else ["--outbox", place]

    assert Exit.USAGE == invoke("drain", "--once", "--api-key", KEY, *options).exit_code


# ── send ──


def test_send_puts_the_calls_into_the_outbox_and_delivers_them(run: Run, received: Received, path: Path) -> None:
    result = run("send", "--outbox", str(path), "-", stdin=lines(identify(plan="pro"), track()))

    assert Exit.FINE == result.returncode, result.stderr
    assert "2 accepted = 2 delivered + 0 dead + 0 dropped + 0 merged + 0 pending" in result.stdout
    assert 1 == len(received("events"))
    assert 2 == SQLiteAdmin(path).inspect().account.delivered


def test_what_send_could_not_deliver_waits_for_the_next_run(run: Run, server: str, path: Path) -> None:
    with httpx.Client(base_url=f"{server}/__emulator__", trust_env=False) as emulator:
        emulator.post("/faults", json={"path": "/v1/track", "status": 503, "times": None}).raise_for_status()
        first = run("send", "--outbox", str(path), "--timeout", "2", "-", stdin=lines(track(), track("u2")))
        emulator.delete("/faults").raise_for_status()
    second = run("send", "--outbox", str(path), "--json", "-", stdin=lines(track("u3")))

    assert Exit.LOST == first.returncode
    assert f"2 calls wait in {path}" in first.stdout
    report = json.loads(second.stdout)
    assert Exit.FINE == second.returncode
    assert (3, 3, 2) == (report["accepted"], report["delivered"], report["found_waiting"])


def test_send_beside_a_live_sender_leaves_the_sending_to_that(environment: Env, run: Run, path: Path) -> None:
    with python(*DRAIN, str(path), env=environment) as sender:
        wait_until(lambda: path.exists() and SQLiteAdmin(path).holder() is not None)
        result = run("send", "--outbox", str(path), "--json", "-", stdin=lines(track()))
        holder = SQLiteAdmin(path).holder()

    report = json.loads(result.stdout)
    assert Exit.FINE == result.returncode
    assert (1, 1) == (report["accepted"], report["delivered"])
    assert {"jobs": 1} == report["requests"]  # the question whether the server is there
    assert holder is not None
    assert sender.pid == holder.pid
