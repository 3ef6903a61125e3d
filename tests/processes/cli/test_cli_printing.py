"""What files, servers and arguments say cannot steer the terminal of whoever runs a command."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest
from rich.console import Console

from tests.harness.behaviours import answer
from tests.harness.raw_server import RawServer
from tests.processes.cli.conftest import fill, identify, lose, track
from userpilot_async import Job, JobStatus, Statistics
from userpilot_async._calls.stored import sealed
from userpilot_async.cli import cli
from userpilot_async.cli._client_text import table as client_table
from userpilot_async.cli._console import cell, echo, echo_json_line, printable_errors
from userpilot_async.cli._import_text import ImportView
from userpilot_async.cli._progress import Progress
from userpilot_async.imports import ImportProgress

HOSTILE = "x\x1b]0;gone\x07\x1b[2J\x9b31m\r\u202e[red]\udcff"
NAMED = HOSTILE.replace("\r", "").replace("]0;gone", "")  # as a file name, which a shell's TAB may complete

Run = Callable[..., click.testing.Result]


def is_tame(text: str) -> bool:
    return all(one.isprintable() or one == "\n" for one in text)


@pytest.fixture
def run(invoke: object) -> Run:
    """Run the command line in this process as on a terminal, where click takes no escapes out."""

    def run(*arguments: object) -> click.testing.Result:
        return click.testing.CliRunner().invoke(cli, list(map(str, arguments)), color=True)

    return run


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    """An outbox with a hostile name, for a server with a hostile one, of which a process with a hostile one sends."""
    path = tmp_path / f"{NAMED}.db"
    lose(tmp_path / "events.db", [track(HOSTILE.replace("\udcff", "")), identify("u\x9b1")])
    fill(tmp_path / "events.db", [track()])
    (tmp_path / "events.db").rename(path)
    with sqlite3.connect(path) as db:
        about = json.loads(db.execute("SELECT said FROM about").fetchone()[0].rpartition("#")[0])
        about["destination"] = "userpilot at " + HOSTILE.replace("\udcff", "")
        for table in ("about", "about_again"):
            db.execute(f"UPDATE {table} SET said = ?", (sealed(about),))
        db.execute("UPDATE lost SET reason = ?, detail = ?", ("x\x1b[2J", "y\x9b31m\nz"))
    db.close()
    return path


def test_an_outbox_is_shown_without_what_a_terminal_obeys(run, outbox):
    lease = os.open(outbox.with_name(f"{outbox.name}.lease"), os.O_RDWR | os.O_CREAT)
    os.pwrite(lease, json.dumps({"pid": 1, "host": HOSTILE, "since": 0}).encode(), 0)
    fcntl.flock(lease, fcntl.LOCK_EX)
    shown = run("outbox", outbox)
    os.close(lease)

    assert shown.exit_code == 0, shown.output
    assert is_tame(shown.output)
    assert 5 <= len(shown.output.splitlines()) <= 9
    assert r"x\x1b]0;gone\x07" in shown.output


@pytest.mark.parametrize(
    "arguments", [("dead",), ("retry",), ("purge", "--user", HOSTILE, "--yes"), ("purge", "--company", HOSTILE),
                  ("rebind", "--api-key", "KEY")],
)  # fmt: skip
def test_whatever_is_done_with_it_prints_nothing_of_the_kind(run, outbox, arguments):
    name, *rest = arguments

    assert is_tame(run("outbox", name, outbox, *rest).output)


def test_lost_calls_as_json_are_exact_and_in_ascii(run, outbox):
    lines = run("outbox", "dead", outbox, "--json").stdout.splitlines()

    assert [track(HOSTILE.replace("\udcff", "")), identify("u\x9b1")] == [json.loads(line) for line in lines]
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_an_outbox_as_json_is_exact(run, outbox):
    shown = run("outbox", outbox, "--json").stdout

    assert is_tame(shown)
    assert shown.isascii()
    assert str(outbox) == json.loads(shown)["file"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", HOSTILE), ("import", "--check", "PATH"), ("import", "--dry-run", "PATH"), ("send", HOSTILE),
        ("outbox", HOSTILE), ("outbox", f"redis://{HOSTILE}"), ("outbox", "purge", "PATH"),
        ("drain", "--outbox", "PATH"),
        ("drain", "--outbox", f"{HOSTILE}:1/0"), ("check", "--base-url", HOSTILE), ("check", f"--{HOSTILE}"),
        ("check", "--region", HOSTILE), (HOSTILE,), ("jobs", "watch", HOSTILE),
        ("jobs", "watch", "1", "--timeout", HOSTILE),
        ("check", "--api-key", HOSTILE), ("emulate", "--allow-host", HOSTILE), ("send", "--to", HOSTILE, "-"),
        ("outbox", "retry", "PATH", "--id", HOSTILE), ("demo", HOSTILE),
    ],
)  # fmt: skip
def test_what_was_typed_is_quoted_tamely(run, tmp_path, arguments):
    path = tmp_path / NAMED
    path.write_text('{"event_type": "track\\u001b[2J"}\nno row\n')
    result = run(*(path if one == "PATH" else one for one in arguments))

    assert 0 != result.exit_code
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.output
    assert is_tame(result.output)


def test_the_journal_of_an_import_is_quoted_tamely(run, tmp_path):
    path, journal = tmp_path / f"{NAMED}.ndjson", tmp_path / f"{NAMED}.ndjson.import"
    path.write_text('{"event_type": "track"}\n')
    journal.write_bytes(b"\x1b[2J no journal")

    result = run("import", path, "--api-key", "KEY", "--base-url", "http://127.0.0.1:9")

    assert is_tame(result.output)


def test_what_a_server_says_is_printed_tamely(run):
    jobs = [
        {"job_id": "j1", "status": "x\x1b[2J", "type": HOSTILE[:-1], "submitted_at": "a\rb", "filename": "f\x1b[2J"}
    ]
    refused = {"errors": [{"message": "no\x1b[2J\nError: fine", "error_code": "e\x9b1m"}]}
    for status, body in ((200, jobs), (403, refused), (404, refused)):
        with RawServer(
            [], then=answer(status, json.dumps(body).encode(), {"content-type": "application/json"})
        ) as server:
            for command in (["jobs"], ["check"], ["jobs", "watch", "j1", "--timeout", "0"]):
                result = run(*command, "--api-key", "KEY", "--base-url", server.url)

                assert is_tame(result.output), command


# ── the pieces ──


def drawn(what: Any) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_nothing_in_a_table_is_markup_or_an_escape():
    shown = drawn(cell(HOSTILE))

    assert is_tame(shown)
    assert "[red]" in shown


def test_progress_is_drawn_and_said_tamely(capfd):
    counts = dict.fromkeys(("accepted", "delivered", "dropped", "merged", "pending", "submitted", "waiting_bytes"), 1)
    job = Job(job_id="1", status=JobStatus.UNKNOWN)
    seen = Statistics(**counts, dead=1, paused=HOSTILE, lost_by_reason={HOSTILE: 1}, job=job)
    view = ImportView(sends=True)
    view.see(ImportProgress(waiting_for=HOSTILE, refused=1))
    Progress(Console(stderr=True)).print(HOSTILE)

    assert all(map(is_tame, (drawn(client_table(seen, {}, 1.0)), drawn(view.table(1.0)))))
    assert is_tame(capfd.readouterr().err)


def test_a_line_stays_one_line(capfd):
    echo("one\ntwo\r\nthree", "four")

    assert "one\\ntwo\\r\\nthree\nfour\n" == capfd.readouterr().out


@pytest.mark.parametrize("text", ["plain", "ü\x7f\x9b\u2028\U0001f600", 'quo"te\\'])
def test_json_is_ascii_and_says_the_same(capfd, text):
    echo_json_line(json.dumps({text: text}, ensure_ascii=False))
    shown = capfd.readouterr().out

    assert {text: text} == json.loads(shown)
    assert re.fullmatch(r"[ -~]*\n", shown)


@pytest.mark.parametrize("kind", [click.ClickException, click.UsageError, click.BadParameter, click.NoSuchOption])
def test_an_error_of_the_command_line_is_one_tame_line(kind, capfd):
    with pytest.raises(kind) as raised, printable_errors():
        raise kind(f"{HOSTILE}\nError: nothing")
    raised.value.show()

    assert is_tame(capfd.readouterr().err)
    assert "\n" not in raised.value.format_message()
