"""`userpilot-async outbox`: looking at a file, putting back what it has lost, and giving it to another account."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click.testing
import pytest

from tests.harness.emulator_thread import emulator_thread
from tests.harness.processes import python
from tests.processes.cli.conftest import KEY, NOBODY, fill, identify, lose, track, wait_until
from userpilot_async.cli._exits import Exit
from userpilot_async.sqlite import _admin
from userpilot_async.sqlite._admin import SQLiteAdmin

Invoke = Callable[..., click.testing.Result]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def shown(invoke: Invoke, path: Path) -> dict[str, Any]:
    result = invoke("outbox", path, "--json")
    assert result.exit_code == Exit.FINE, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def beside(path: Path) -> dict[str, str]:
    """What is in the file and beside it."""
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in path.parent.iterdir()}


def spoil(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute(statement, values).rowcount, "nothing was spoilt"


# ── show ──


def test_a_file_that_nobody_uses_is_shown_and_left_as_it_was(invoke: Invoke, path: Path) -> None:
    fill(path, [track(serial=number) for number in range(3)])
    before = beside(path)

    report, text = shown(invoke, path), invoke("outbox", path).output

    assert 3 == report["waiting"]["calls"] == report["account"]["accepted"] == report["account"]["pending"]
    assert 60 > report["waiting"]["oldest_age"] >= 0
    assert report["waiting"]["bytes"] > 0
    assert None is report["sender"]
    assert f"userpilot at {NOBODY}" == report["destination"]
    assert 5 == report["schema_version"]
    assert "3 accepted = 0 delivered + 0 dead + 0 dropped + 0 merged + 3 pending" in text
    assert "no process sends at present" in text
    assert before == beside(path)


def test_show_by_its_name_by_its_url_and_with_the_option_first_say_the_same(invoke: Invoke, path: Path) -> None:
    fill(path, [track()])

    shows = [("outbox", "show", path, "--json"), ("outbox", f"sqlite:///{path}", "--json"), ("outbox", "--json", path)]
    accounts = [json.loads(invoke(*one).stdout)["account"] for one in shows]

    assert [shown(invoke, path)["account"]] * 3 == accounts


def test_losses_are_counted_by_reason_and_where_to_see_them_is_said(invoke: Invoke, path: Path) -> None:
    lose(path, [track(), track("u2")])

    report, text = shown(invoke, path), invoke("outbox", path).output

    assert ({"expired": 2}, 2) == (report["lost_by_reason"]["dead"], report["lost_kept"])
    assert f"2 expired; 2 calls kept: userpilot-async outbox dead {path}" in text


def test_damaged_rows_and_quarantined_files_are_told(invoke: Invoke, path: Path) -> None:
    fill(path, [track()])
    spoil(path, "INSERT INTO damaged SELECT id, at, kind, key, said, moment, size, crc FROM calls")
    for name in ("events.db.damaged-10", "events.db.damaged-2", "events.db.damaged-2-wal", "other.db.damaged-1"):
        (path.parent / name).touch()

    report, text = shown(invoke, path), invoke("outbox", path).output

    assert (1, ["events.db.damaged-2", "events.db.damaged-10"]) == (report["damaged_rows"], report["quarantined"])
    assert "1 rows set aside" in text
    assert "events.db.damaged-2, events.db.damaged-10" in text


def test_an_empty_file_is_shown_as_one(invoke: Invoke, path: Path) -> None:
    path.touch()

    report = shown(invoke, path)

    assert (0, 0, None) == (report["schema_version"], report["account"]["accepted"], report["destination"])
    assert "none yet" in invoke("outbox", path).output
    assert 0 == path.stat().st_size


def test_who_sends_is_told_by_the_lock_and_not_by_what_is_written_there(invoke: Invoke, path: Path) -> None:
    fill(path, [track()])
    lease = path.with_name("events.db.lease")
    lease.write_text(json.dumps({"pid": os.getpid(), "host": "here", "since": 1.0}))

    nobody = shown(invoke, path)["sender"]
    with lease.open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        somebody = shown(invoke, path)["sender"]
        lease.write_text("{")
        unknown = invoke("outbox", path).output

    assert None is nobody
    assert {"pid": os.getpid(), "host": "here", "since": 1.0} == somebody
    assert "sender       another process" in unknown


def test_by_a_link_the_same_is_seen_and_locked_as_by_the_file_itself(invoke: Invoke, path: Path) -> None:
    fill(path, [track()])
    path.with_name("events.db.damaged-1").touch()
    link = path.parent / "elsewhere" / "link.db"
    link.parent.mkdir(0o755)
    link.symlink_to(path)

    with path.with_name("events.db.lease").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        report = shown(invoke, link)

    assert 1 == report["waiting"]["calls"]
    assert None is not report["sender"]
    assert ["events.db.damaged-1"] == report["quarantined"]
    assert ["link.db"] == [one.name for one in link.parent.iterdir()]


def test_beside_a_live_sender_its_process_is_shown_and_after_its_death_nobody(invoke: Invoke, path: Path) -> None:
    with emulator_thread("--latency", "5") as url:
        fill(path, [track(serial=number) for number in range(50)], base_url=url)
        env = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": url}
        with python("-m", "userpilot_async", "drain", "--outbox", str(path), env=env) as sender:
            wait_until(lambda: shown(invoke, path)["requests_under_way"] > 0)
            alive, text = shown(invoke, path), invoke("outbox", path).output
            sender.kill()
            sender.wait()
        dead = shown(invoke, path)

    assert sender.pid == alive["sender"]["pid"]
    assert f"process {sender.pid} on " in text
    assert 50 == alive["waiting"]["calls"] == dead["waiting"]["calls"]
    assert None is dead["sender"]
    assert "under way when the last one ended" in invoke("outbox", path).output


def test_looking_again_and_again_keeps_nobody_from_sending(invoke: Invoke, path: Path) -> None:
    with emulator_thread() as url:
        fill(path, [track(serial=number) for number in range(20)], base_url=url)
        env = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": url}
        with python("-m", "userpilot_async", "drain", "--outbox", str(path), "--once", "--json", env=env) as sender:
            looks = 0
            while sender.returncode is None:
                SQLiteAdmin(path).inspect()
                looks += 1
            status = sender.wait()

    assert looks > 10
    assert Exit.FINE == status, sender.output
    assert 20 == SQLiteAdmin(path).inspect().account.delivered


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("command", [["outbox"], ["outbox", "dead"], ["outbox", "retry"]])
def test_root_is_told_whose_file_it_is_and_leaves_it_as_it_is(invoke: Invoke, path: Path, command: list[str]) -> None:
    """What root makes beside it, its owner could not open any more."""
    fill(path, [track()])
    for one in path.parent.iterdir():
        one.unlink() if one.suffix == ".lock" else os.chown(one, 12_345, 12_345)
    before = beside(path)

    result = invoke(*command, path)

    assert Exit.LOST == result.exit_code
    assert "belongs to uid 12345, and this process runs as uid 0: run it as that user" in result.output
    assert before == beside(path)


@pytest.mark.parametrize(
    "command",
    [["outbox"], ["outbox", "show"], ["outbox", "dead"], ["outbox", "retry"], ["outbox", "rebind", "--api-key", KEY],
     ["outbox", "purge", "--user", "u1", "--yes"], ["drain", "--once", "--api-key", KEY, "--outbox"]],
)  # fmt: skip
def test_beside_a_file_named_by_mistake_nothing_is_made(invoke: Invoke, tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "customers.csv"
    path.write_text("user_id,plan\nu1,pro\n")
    before = beside(path)

    result = invoke(*command, path)

    assert Exit.FINE != result.exit_code
    assert "customers.csv is no outbox of userpilot_async" in result.output
    assert isinstance(result.exception, SystemExit)  # no traceback
    assert before == beside(path)


@pytest.mark.parametrize("command", [["outbox"], ["outbox", "dead"], ["outbox", "retry"], ["outbox", "rebind"]])
@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ("PRAGMA user_version = 99", "which a newer userpilot_async wrote"),
        ("PRAGMA application_id = 7", "is a database, but no outbox"),
    ],
)
def test_what_is_no_outbox_of_ours_is_refused_and_untouched(
    invoke: Invoke, path: Path, command: list[str], spoilt: str, said: str
) -> None:
    fill(path, [track()])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(spoilt)
    before = beside(path)

    result = invoke(*command, path, *(["--api-key", KEY] if "rebind" in command else []))

    assert Exit.LOST == result.exit_code
    assert said in result.output
    assert isinstance(result.exception, SystemExit)  # no traceback
    assert before == beside(path)


@pytest.mark.parametrize("command", [["outbox"], ["outbox", "dead"], ["outbox", "retry"]])
def test_a_damaged_file_is_named_as_such_and_left_to_whoever_sends(
    invoke: Invoke, path: Path, command: list[str]
) -> None:
    fill(path, [track()])
    path.write_bytes(b"\xff" * 100 + path.read_bytes()[100:])
    before = beside(path)

    result = invoke(*command, path)

    assert Exit.LOST == result.exit_code
    assert "is damaged" in result.output
    assert before == beside(path)


def test_a_file_whose_lock_is_never_free_is_given_up_on(
    invoke: Invoke, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path, [track()])
    monkeypatch.setattr(_admin, "PATIENCE", 0.1)

    with path.with_name("events.db.lock").open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        result = invoke("outbox", path)

    assert Exit.LOST == result.exit_code
    assert "is locked: another process has had it" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere.db"],
        ["sqlite:///nowhere.db"],
        ["memory://"],
        ["redis+sentinel://host"],
        ["ftp://host/0"],
        ["sqlite://host/x.db"],
        ["dead"],
        ["."],
        ["purge", "PATH"],
        ["purge", "PATH", "--user", "u1", "--company", "acme"],
        ["retry", "PATH", "--id", "-1"],
        ["rebind", "PATH"],
        ["rebind", "PATH", "--api-key", "K", "--to", "parcelvoy"],
    ],
)
def test_wrong_usage_is_told_apart_from_failure(invoke: Invoke, path: Path, arguments: list[str]) -> None:
    fill(path, [track()])

    result = invoke("outbox", *(str(path) if one == "PATH" else one for one in arguments))

    assert Exit.USAGE == result.exit_code, result.output


# ── dead ──


def test_the_dead_are_listed_with_whose_they_are_and_not_what_they_say(invoke: Invoke, path: Path) -> None:
    fill(path, [identify("u1", plan="PRIVATE"), identify("u1", seats=3), track("u2")])
    lose(path, [])

    text = invoke("outbox", "dead", path).output

    header, *lines = text.splitlines()
    assert ["id", "calls", "accepted", "lost", "kind", "whose", "status", "reason", "detail"] == header.split()
    assert [("0…1", "2", "identify", "u1"), ("2", "1", "track", "u2")] == sorted(
        (words[0], words[1], words[6], words[7]) for words in map(str.split, lines)
    )
    assert "expired" in text
    assert "PRIVATE" not in text


def test_only_the_dead_of_a_reason_are_listed_if_one_is_given(invoke: Invoke, path: Path) -> None:
    lose(path, [track()])

    assert "expired" in invoke("outbox", "dead", path, "--reason", "expired").output
    assert "no dead or dropped calls are kept" in invoke("outbox", "dead", path, "--reason", "invalid").output


def test_the_dead_as_json_are_lines_that_send_reads(invoke: Invoke, path: Path) -> None:
    calls = [track(), identify("u1", plan="pro", company={"id": "acme", "name": "Acme"}), identify("ü\x1b", seats=2)]
    lose(path, [*calls, {**track(serial=2), "occurred_at": "2026-11-21T09:30:15.250000Z"}])

    result = invoke("outbox", "dead", path, "--json")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [*calls, {**track(serial=2), "occurred_at": "2026-11-21T09:30:15.250000Z"}] == lines
    assert result.stderr == ""


def test_a_row_that_nobody_can_read_any_more_is_only_counted(invoke: Invoke, path: Path) -> None:
    lose(path, [track(), track("u2")])
    spoil(path, "UPDATE lost SET said = '{' WHERE id = 0")

    result = invoke("outbox", "dead", path, "--json")

    assert [track("u2")] == [json.loads(line) for line in result.stdout.splitlines()]
    assert "1 call cannot be written" in result.stderr


def test_a_terminal_gets_no_control_characters_of_others(invoke: Invoke, path: Path) -> None:
    lose(path, [track("evil\x1b[2Jid")])

    assert "\x1b" not in invoke("outbox", "dead", path).output


# ── retry ──


def test_retried_calls_wait_at_the_end_in_their_order_with_the_time_they_came(invoke: Invoke, path: Path) -> None:
    lose(path, [track(serial=number) for number in range(3)])
    fill(path, [track("u2")])
    accepted = {one.id: one.at for one in SQLiteAdmin(path).dead_letters().kept}

    result = invoke("outbox", "retry", path)

    assert Exit.FINE == result.exit_code
    assert "3 calls wait again, as 4 to 6" in result.output
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT id, at, said FROM calls ORDER BY id").fetchall()
    assert [3, 4, 5, 6] == [row[0] for row in rows]
    assert [0, 1, 2] == [json.loads(row[2])["metadata"]["serial"] for row in rows[1:]]
    assert list(accepted.values()) == [row[1] for row in rows[1:]]
    report = shown(invoke, path)
    assert {"accepted": 7, "dead": 3, "pending": 4} == {
        name: report["account"][name] for name in ("accepted", "dead", "pending")
    }
    assert 0 == report["lost_kept"]


def test_only_what_was_asked_for_is_retried(invoke: Invoke, path: Path) -> None:
    lose(path, [track(serial=number) for number in range(3)])

    one = invoke("outbox", "retry", path, "--id", "1", "--json")
    none = invoke("outbox", "retry", path, "--reason", "invalid")

    assert {"retried": 1, "first_id": 3, "damaged": 0, "missing": []} == json.loads(one.stdout)
    assert "there is nothing to put back" in none.output
    assert [0, 2] == [lost.id for lost in SQLiteAdmin(path).dead_letters().kept]


def test_ids_that_are_not_kept_fail_and_the_others_wait_again(invoke: Invoke, path: Path) -> None:
    lose(path, [track()])

    result = invoke("outbox", "retry", path, "--id", "0", "--id", "77")

    assert Exit.LOST == result.exit_code
    assert "1 call waits again, as 1" in result.output
    assert "not put back: 77" in result.output


def test_a_damaged_row_is_not_put_back(invoke: Invoke, path: Path) -> None:
    lose(path, [track(), track("u2")])
    spoil(path, "UPDATE lost SET said = '{}' WHERE id = 0")

    result = invoke("outbox", "retry", path)

    assert "1 call waits again" in result.output
    assert "not put back: 1 call whose rows are damaged" in result.output
    assert [0] == [lost.id for lost in SQLiteAdmin(path).dead_letters().kept]


def test_a_live_sender_delivers_what_is_retried_beside_it(invoke: Invoke, path: Path) -> None:
    with emulator_thread() as url:
        lose(path, [track(serial=number) for number in range(5)], base_url=url)
        env = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": url}
        with python("-m", "userpilot_async", "drain", "--outbox", str(path), env=env) as sender:
            wait_until(lambda: shown(invoke, path)["sender"] is not None)
            text = invoke("outbox", "retry", path).output
            wait_until(lambda: shown(invoke, path)["account"]["delivered"] == 5)

    assert f"sender: process {sender.pid}" in text


# ── rebind ──


def test_a_file_goes_to_another_account_and_only_that_one_may_use_it(invoke: Invoke, path: Path) -> None:
    fill(path, [track()])

    result = invoke("outbox", "rebind", path, "--api-key", "NEW-KEY", "--base-url", "http://localhost:9")

    assert Exit.FINE == result.exit_code, result.output
    assert f"1 call waits for userpilot at http://localhost:9 now, before for userpilot at {NOBODY}" in result.output
    fill(path, [track()], key="NEW-KEY", base_url="http://localhost:9")
    drained = invoke("drain", "--outbox", path, "--once", "--api-key", KEY, "--base-url", "http://localhost:9")
    assert Exit.LOST == drained.exit_code
    assert "of another API key" in drained.output
    assert 2 == shown(invoke, path)["waiting"]["calls"]


def test_no_file_is_given_away_under_a_live_sender(invoke: Invoke, path: Path) -> None:
    with emulator_thread() as url:
        fill(path, [], base_url=url)
        env = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": url}
        with python("-m", "userpilot_async", "drain", "--outbox", str(path), env=env):
            wait_until(lambda: shown(invoke, path)["sender"] is not None)
            result = invoke("outbox", "rebind", path, "--api-key", "NEW-KEY", "--base-url", url)

    assert Exit.LOST == result.exit_code
    assert "has a sender" in result.output
    assert Exit.FINE == invoke("outbox", "rebind", path, "--api-key", "NEW-KEY", "--base-url", url).exit_code


def test_calls_of_one_kind_of_server_are_not_given_to_another(invoke: Invoke, path: Path) -> None:
    fill(path, [track()])

    result = invoke("outbox", "rebind", path, "--to", "parcelvoy", "--api-key", KEY, "--base-url", NOBODY)

    assert Exit.LOST == result.exit_code
    assert "1 calls for userpilot, which parcelvoy does not understand" in result.output
    assert f"userpilot at {NOBODY}" == shown(invoke, path)["destination"]
