"""`userpilot-async import`: history from files, what becomes of bad rows, and going on after an end in the middle."""

from __future__ import annotations

import gzip
import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import click.testing
import httpx
import pytest
from rich.console import Console

from tests.harness.emulator_thread import emulator_thread
from tests.harness.processes import python
from tests.harness.raw_server import RefusedPort
from tests.processes.cli.conftest import KEY, Received, Run, wait_until
from userpilot_async import Job, JobStatus
from userpilot_async.cli._exits import Exit
from userpilot_async.cli._import_text import ImportView
from userpilot_async.cli._text import duration_text
from userpilot_async.imports import ImportProgress

Invoke = Callable[..., click.testing.Result]
Rows = list["dict[str, Any]"]

AT = "2024-11-30T09:00:00Z"
SECRET = "PRIVATE-VALUE"
IMPORT = ("-m", "userpilot_async", "import")


def user(user_id: str = "u1", **metadata: Any) -> dict[str, Any]:
    return {"event_type": "identify_user", "user_id": user_id, "inserted_at": AT, "metadata": metadata}


def event(serial: int = 1, user_id: str = "u1", **fields: Any) -> dict[str, Any]:
    row = {"event_type": "track", "user_id": user_id, "event_name": "Opened", "inserted_at": AT}
    return {**row, "metadata": {"serial": serial}, **fields}


def bad(serial: int = 0) -> dict[str, Any]:
    return event(serial, user_id="", metadata={"name": SECRET})


def written(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.ndjson"


@pytest.fixture
def serials(received: Received) -> Callable[[], list[int]]:
    """What the events carry that the emulator has, in order."""
    return lambda: [item["metadata"]["serial"] for item in received("events")]


Serials = Callable[[], "list[int]"]


def beside(path: Path) -> set[str]:
    return {one.name for one in path.parent.iterdir()} - {path.name}


def fail_next(server: str, **fault: Any) -> None:
    httpx.post(f"{server}/__emulator__/faults", json={"path": "/v1/imports", **fault}).raise_for_status()


# ── importing ──


def test_rows_arrive_with_the_time_at_which_they_happened(run: Run, received: Received, path: Path) -> None:
    written(path, [user(plan="pro"), event(1), event(2, inserted_at="2024-12-01T08:55:43.5Z")])

    result = run("import", str(path))

    assert Exit.FINE == result.returncode, result.stderr
    assert "3 lines read, 3 rows valid, 0 refused" in result.stdout
    assert "3 rows uploaded in 1 file, 3 of them completed" in result.stdout
    assert "possible duplicates: 0" in result.stdout
    assert [{"plan": "pro"}] == [one["properties"] for one in received("users")]
    at = [datetime.fromtimestamp(one["occurred_at"], UTC).isoformat() for one in received("events")]
    assert ["2024-11-30T09:00:00+00:00", "2024-12-01T08:55:43.500000+00:00"] == at


def test_csv_and_gzip_are_read_as_they_are(run: Run, serials: Serials, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f'event_type,user_id,event_name,inserted_at,metadata\ntrack,u1,Opened,{AT},"{{""serial"": 7}}"\n')
    packed = tmp_path / "packed.ndjson.gz"
    packed.write_bytes(gzip.compress(json.dumps(event(8)).encode()))

    result = run("import", str(table), str(packed))

    assert Exit.FINE == result.returncode, result.stderr
    assert [7, 8] == serials()
    assert f"{table} and 1 more: 2 lines read, 2 rows valid, 0 refused" in result.stdout
    assert "2 rows uploaded in 1 file, 2 of them completed" in result.stdout


def test_another_tools_export_is_converted_on_the_way(run: Run, received: Received, path: Path) -> None:
    said = {"type": "track", "userId": "u1", "event": "Opened", "properties": {"a": {"b": 1}}, "timestamp": AT}
    written(path, [said])

    result = run("import", "--from", "segment", str(path))

    assert Exit.FINE == result.returncode, result.stderr
    assert [("u1", "Opened", {"a.b": 1})] == [
        (one["user_id"], one["event_name"], one["metadata"]) for one in received("events")
    ]


def test_lines_that_give_no_row_are_counted_by_kind_in_text_and_json(run: Run, path: Path) -> None:
    def call(event: str, day: int, **properties: Any) -> dict[str, Any]:
        at = f"2024-12-{day:02}T08:55:43Z"
        return {"event": event, "distinct_id": "u1", "timestamp": at, "properties": properties}

    groups = {"$groups": {"team": "red"}}
    known = [call("$set", 9, **{"$set": {"plan": "pro"}}), call("$set", 2, **{"$set": {"plan": "free"}})]
    own = [call("$autocapture", 1), call("$autocapture", 1)]
    written(path, [*own, *known, call("Opened", 9, text="x" * 11_000, **groups)])
    command = ("import", "--from", "posthog", "--check", "--shorten", "--company-group", "Team")

    text, report = run(*command, str(path)), json.loads(run(*command, "--json", str(path)).stdout)

    kind = "`$autocapture`: no page, not an event of a person"
    assert Exit.FINE == text.returncode, text.stderr
    assert "5 lines read, 4 rows valid, 0 refused, 2 skipped" in text.stdout
    assert f"lines gave no row:\n  2 × {kind}\n" in text.stdout
    assert "  1 × the group `team` is taken for the company\n" in text.stdout
    assert "  1 × properties left out of events, because all together were over 10 KB\n" in text.stdout
    assert "rows behind younger ones of their user or company: 1, by up to 7 days" in text.stdout
    (one,) = report["reports"]
    assert (5, 3, 2, 0) == tuple(one[name] for name in ("read", "with_rows", "skipped", "lines_refused"))
    assert {kind: 2} == one["skipped_by_kind"]
    assert (2, 1, 604_800) == (report["skipped"], report["out_of_order"], one["out_of_order_by"])


def test_a_file_is_explained_before_anything_is_sent(run: Run, received: Received, path: Path) -> None:
    call = {"type": "track", "userId": "u1", "event": "Opened", "properties": {"a": {"b": 1}}, "timestamp": AT}
    written(path, [call, {"type": "alias", "userId": "u1"}])
    command = ("import", "--explain", "--from", "segment")

    text, report = run(*command, str(path)), json.loads(run(*command, "--json", str(path)).stdout)

    assert Exit.FINE == text.returncode, text.stderr
    assert '"metadata": {"a.b": 1}' in text.stdout
    assert "what went where:\n  1 × Opened: track\n  1 × alias: skipped: `alias`: Userpilot joins" in text.stdout
    assert [1, 2] == [example["line"] for example in report["reports"][0]["examples"]]
    assert ([], set()) == (received("events"), beside(path))
    assert Exit.USAGE == run(*command, "--check", str(path)).returncode


def test_a_later_file_says_who_the_anonymous_people_of_an_earlier_one_became(
    run: Run, received: Received, tmp_path: Path
) -> None:
    call = {"type": "track", "anonymousId": "a1", "event": "Opened", "timestamp": AT}
    first = written(tmp_path / "day1", [call, {**call, "anonymousId": "a2"}])
    second = written(tmp_path / "day2", [{**call, "type": "identify", "userId": "u1"}])
    command = ("import", "--from", "segment", "--anonymous")

    joined = run(*command, "join", str(first), str(second))
    rules = tmp_path / "map.toml"
    rules.write_text('[events]\nrename = {Opened = "opened"}\n')
    explained = run(*command, "join", "--map", str(rules), "--explain", str(first), str(second))

    assert Exit.FINE == joined.returncode, joined.stderr
    assert ["u1", "a2"] == [one["user_id"] for one in received("events")]
    assert "  1 × joined: " in joined.stdout
    assert "  1 × anonymous: " in joined.stdout
    assert '"user_id": "u1", "event_name": "opened"' in explained.stdout.partition("day2")[0]
    assert "2 skipped" in run(*command, "drop", "--check", str(first)).stdout
    assert Exit.USAGE == run("import", "--anonymous", "join", "--check", str(first)).returncode


def test_a_file_of_which_no_line_gives_a_row_is_exit_code_1(run: Run, path: Path) -> None:
    written(path, [{"event": "$autocapture", "distinct_id": "u1", "timestamp": AT, "properties": {}}])

    assert Exit.LOST == run("import", "--from", "posthog", "--check", str(path)).returncode
    assert Exit.USAGE == run("import", "--check", "--company-group", "team", str(path)).returncode


def test_the_report_as_json_is_all_that_stdout_has(run: Run, tmp_path: Path) -> None:
    first, second = written(tmp_path / "a", [event(1)]), written(tmp_path / "b", [event(2), bad()])

    result = run("import", "--json", str(first), str(second))

    report = json.loads(result.stdout)
    assert Exit.LOST == result.returncode == report["exit_code"]
    assert (3, 2, 1, 2, 2) == tuple(report[name] for name in ("read", "valid", "refused", "uploaded", "completed"))
    (one,) = report["reports"]
    assert (f"{first} and 1 more", [str(first), str(second)]) == (one["file"], one["paths"])
    assert f"{first}.and-more.rejected.ndjson" == one["rejected"]
    assert {"field": "user_id", "line": 2, "file": str(second)}.items() <= one["first_errors"][0].items()
    assert 1 == len(one["jobs"])
    assert (None, False, None, []) == tuple(
        report[name] for name in ("error", "interrupted", "broken_off", "imported_before")
    )


# ── bad rows ──


def test_a_bad_row_is_named_and_kept_while_the_good_ones_go(run: Run, serials: Serials, path: Path) -> None:
    written(path, [event(1), bad(), event(2)])

    result = run("import", str(path))

    rejected = path.with_name("history.ndjson.rejected.ndjson")
    assert Exit.LOST == result.returncode
    assert "line 2: user_id is missing" in result.stderr
    assert f"1 was refused: see {rejected}" in result.stdout
    assert SECRET not in result.stdout + result.stderr
    assert [1, 2] == serials()
    kept = json.loads(rejected.read_text())
    assert (2, "user_id", bad()) == (kept["line"], kept["field"], json.loads(kept["row"]))


def test_ten_bad_rows_are_named_and_the_others_counted(invoke: Invoke, path: Path) -> None:
    written(path, [event(1), *(bad() for _ in range(30))])

    result = invoke("import", "--check", path)

    assert Exit.LOST == result.exit_code
    assert [f"line {number}: user_id is missing" for number in range(2, 12)] == [
        line for line in result.stderr.splitlines() if line.startswith("line ")
    ]
    assert "and 20 more: --rejected FILE keeps them all" in result.stderr


def test_strict_sends_nothing_until_every_row_is_right(run: Run, serials: Serials, path: Path) -> None:
    written(path, [event(1), bad(), event(2)])

    refused = run("import", "--strict", str(path))

    assert Exit.LOST == refused.returncode
    assert "line 2: user_id is missing" in refused.stderr
    assert [] == serials()
    assert Exit.FINE == run("import", "--strict", str(written(path, [event(1), event(2)]))).returncode
    assert [1, 2] == serials()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\0\0", b"hello\nworld\n"])
def test_a_file_of_another_kind_is_refused_before_anything_is_sent_of_any(
    run: Run, serials: Serials, path: Path, content: bytes
) -> None:
    written(path, [event(1)])
    other = path.with_name("other")
    other.write_bytes(content)

    result = run("import", str(path), str(other))

    assert Exit.LOST == result.returncode
    assert str(other) in result.stderr
    assert "Traceback" not in result.stderr
    assert [] == serials()


# ── sending nothing ──


def test_check_needs_neither_key_nor_server_and_leaves_nothing_behind(invoke: Invoke, path: Path) -> None:
    written(path, [user(), event()])

    result = invoke("import", "--check", path)

    assert Exit.FINE == result.exit_code, result.output
    assert "2 lines read, 2 rows valid, 0 refused" in result.stdout
    assert set() == beside(path)


def test_check_keeps_bad_rows_where_it_is_told_to(invoke: Invoke, path: Path) -> None:
    written(path, [event(), bad()])

    result = invoke("import", "--check", "--rejected", path.with_name("bad"), path)

    assert Exit.LOST == result.exit_code
    assert {"bad"} == beside(path)
    assert 2 == json.loads(path.with_name("bad").read_text())["line"]


def test_a_dry_run_writes_what_would_be_uploaded(invoke: Invoke, path: Path) -> None:
    written(path, [user(plan="pro"), user(seats=3)])

    result = invoke("import", "--dry-run", path)

    assert Exit.FINE == result.exit_code, result.output
    folder = path.with_name("history.ndjson.upload")
    assert f"1 file written to {folder}; nothing was sent" in result.stdout
    assert {folder.name} == beside(path)
    (upload,) = folder.iterdir()
    rows = [json.loads(line) for line in upload.read_text().splitlines()]
    assert [{"plan": "pro"}, {"plan": "pro", "seats": 3}] == [row["metadata"] for row in rows]


def test_a_dry_run_does_not_mix_its_files_with_others(invoke: Invoke, path: Path, tmp_path: Path) -> None:
    """To upload by hand what lies there would upload an older run's files, too."""
    written(path, [event()])
    folder = tmp_path / "out"

    codes = [invoke("import", "--dry-run-to", folder, path).exit_code for _ in range(2)]

    assert [Exit.FINE, Exit.USAGE] == codes
    assert 1 == len(list(folder.iterdir()))


# ── how it ends, and how it goes on ──


def test_a_file_that_was_imported_is_passed_over_unless_forced(run: Run, serials: Serials, path: Path) -> None:
    written(path, [event(1)])

    results = [run("import", str(path)), run("import", str(path)), run("import", "--force", str(path))]

    assert [Exit.FINE] * 3 == [result.returncode for result in results]
    assert "--force" in results[1].stderr
    assert [1, 1] == serials()


def test_several_files_that_were_imported_are_sent_again_if_forced(run: Run, serials: Serials, path: Path) -> None:
    files = [str(written(path.with_name(f"{number}.ndjson"), [event(number)])) for number in range(3)]

    results = [run("import", *files), run("import", *files), run("import", "--force", *files)]

    assert [Exit.FINE] * 3 == [result.returncode for result in results]
    assert f"{files[0]} and 2 more was imported on" in results[1].stderr
    assert [0, 1, 2] * 2 == serials()


def test_a_rehearsal_elsewhere_is_no_import_here(run: Run, serials: Serials, path: Path) -> None:
    """After a try with the emulator, the account itself would get nothing, and the command would call that fine."""
    written(path, [event(1)])
    with emulator_thread("--api-key", KEY) as rehearsal:
        tried = run("import", str(path), env={"USERPILOT_BASE_URL": rehearsal})

    results = [run("import", str(path)), run("import", "--force", str(path))]

    assert [Exit.FINE, Exit.LOST, Exit.FINE] == [result.returncode for result in (tried, *results)]
    assert f"at another server, {rehearsal}" in results[0].stderr
    assert "--force" in results[0].stderr
    assert [1] == serials()


def test_several_files_are_one_history(run: Run, received: Received, tmp_path: Path) -> None:
    first = written(tmp_path / "day1", [user(plan="free", seats=3)])
    second = written(tmp_path / "day2", [user(plan="pro")])

    results = [run("import", str(first)), run("import", str(first), str(second))]

    assert [Exit.FINE] * 2 == [result.returncode for result in results]
    assert [{"plan": "pro", "seats": 3}] == [one["properties"] for one in received("users")]


def test_what_is_new_among_files_that_were_imported_is_said(run: Run, serials: Serials, tmp_path: Path) -> None:
    files = [written(tmp_path / f"{number}.ndjson", [event(number)]) for number in range(3)]

    run("import", *map(str, files[:2]))
    result = run("import", *map(str, files))

    assert Exit.FINE == result.returncode
    assert "imported before, and not sent again: 0.ndjson, 1.ndjson" in result.stdout
    assert [0, 1, 2] == serials()


def test_standard_input_is_imported_once(run: Run, serials: Serials, tmp_path: Path) -> None:
    content = "".join(json.dumps(row) + "\n" for row in [event(1), bad(), event(2)])
    command = ("import", "-", "--journal", str(tmp_path / "stdin.import"))

    results = [run(*command, stdin=text) for text in (content, content, f"{content}\n")]

    assert [Exit.LOST] * 3 == [one.returncode for one in results]
    assert "-: 3 lines read, 2 rows valid, 1 refused" in results[0].stdout
    assert "the stream was imported on" in results[1].stderr
    assert "is the journal of a stream that was imported on" not in results[1].stderr
    assert [1, 2] == serials()
    assert "--journal" in run("import", "-", stdin=content).stderr


@pytest.mark.parametrize("more", [("--explain",), ("--check",), ("--journal", "j")])
def test_people_on_standard_input_are_not_joined(run: Run, more: tuple[str, ...]) -> None:
    result = run("import", "-", "--from", "segment", "--anonymous", "join", *more, stdin="{}\n")

    assert Exit.USAGE == result.returncode
    words = "--anonymous join reads FILE twice, and standard input can be read once: save it as a file"
    assert words in " ".join(result.stderr.split())


def test_standard_input_is_explained_checked_and_written(run: Run, tmp_path: Path) -> None:
    content = json.dumps(event(1)) + "\n"
    folder = tmp_path / "out"

    outputs = [run("import", option, "-", stdin=content).stdout for option in ("--explain", "--check")] + [
        run("import", "--dry-run-to", str(folder), "-", stdin=content).stdout
    ]

    assert "-: 1 lines; nothing was sent" in outputs[0]
    assert "-: 1 lines read, 1 rows valid" in outputs[1]
    assert f"1 file written to {folder}; nothing was sent" in outputs[2]


def test_a_map_changes_the_rows_also_those_that_are_explained(run: Run, received: Received, path: Path) -> None:
    written(path, [event(1, metadata={"serial": 1, "ip": "x", "Plan": "pro"}), event(2, event_name="Beat")])
    rules = path.with_name("map.toml")
    rules.write_text('[events]\ndrop = ["Beat"]\n[properties]\ndrop = ["ip"]\nrename = {Plan = "plan"}\n')

    explained = run("import", "--explain", "--map", str(rules), str(path))
    result = run("import", "--map", str(rules), str(path))

    assert '"metadata": {"serial": 1, "plan": "pro"}' in explained.stdout
    assert "1 × track: skipped: `Beat`: dropped by the map" in explained.stdout
    assert Exit.FINE == result.returncode
    assert "1 × `Beat`: dropped by the map" in result.stdout
    assert "1 × the property `ip`: dropped by the map" in result.stdout
    assert [{"serial": 1, "plan": "pro"}] == [one["metadata"] for one in received("events")]


def test_a_map_that_is_none_is_wrong_usage_and_says_what_is_allowed(run: Run, path: Path) -> None:
    written(path, [event(1)])
    rules = path.with_name("map.toml")
    rules.write_text("[event]\n")

    result = run("import", "--map", str(rules), str(path))

    assert Exit.USAGE == result.returncode
    assert "has a key 'event'; allowed are company_key, events, properties" in result.stderr


def test_what_the_first_run_refused_is_not_forgotten_by_the_second(run: Run, path: Path) -> None:
    """A script that repeats the command until it ends with 0 would take the second end for a success."""
    written(path, [event(1), bad()])

    results = [run("import", str(path)) for _ in range(2)]

    assert [Exit.LOST] * 2 == [result.returncode for result in results]
    assert f"of its rows, 1 was refused: see {path}.rejected.ndjson" in results[1].stderr


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_same_command_goes_on_where_a_signal_ended_it(path: Path, tmp_path: Path, end: signal.Signals) -> None:
    """In one upload of three files, while its job is worked off."""
    paths = [str(written(tmp_path / f"{number}.ndjson", [event(number)] * (1 + 150 * number))) for number in range(3)]
    with emulator_thread("--speed", "5", "--api-key", KEY) as url:
        env = {"USERPILOT_BASE_URL": url, "USERPILOT_API_KEY": KEY}
        with python(*IMPORT, "--json", *paths, env=env) as first:
            wait_until(lambda: any(one["metadata"]["serial"] == 1 for one in items(url, "events")))
            first.send_signal(end)
            code = first.wait()
        with python(*IMPORT, *paths, env=env) as second:
            assert Exit.FINE == second.wait(60.0), second.output
        sent = [one["metadata"]["serial"] for one in items(url, "events")]

    if end != signal.SIGKILL:
        assert Exit.INTERRUPTED == code
        assert "the same command goes on from there" in first.output
        report = json.loads(first.output[first.output.index("{") : first.output.rindex("}") + 1])
        assert (Exit.INTERRUPTED, True, None) == (report["exit_code"], report["interrupted"], report["error"])
        counts = {"read": 453, "valid": 453, "refused": 0, "uploaded": 453, "files": 1}
        assert {"file": f"{paths[0]} and 2 more", "paths": paths, **counts} == report["broken_off"]
    assert [0] + [1] * 151 + [2] * 301 == sent
    assert f"{paths[0]} and 2 more: 453 rows are uploaded already; the import goes on from there" in second.output


SILENT = """
import os, sys
os.dup2(os.pipe()[0], 0)
from userpilot_async.__main__ import main
main()
"""


def test_a_silent_standard_input_can_be_interrupted(tmp_path: Path) -> None:
    """A thread that waits for its next bytes is not waited for."""
    with emulator_thread("--api-key", KEY) as url:
        env = {"USERPILOT_BASE_URL": url, "USERPILOT_API_KEY": KEY}
        with python("-c", SILENT, "import", "-", "--journal", str(tmp_path / "j"), env=env) as one:
            wait_until(lambda: items(url, "requests"))  # the server was asked for its jobs: what follows is read
            one.send_signal(signal.SIGINT)
            assert Exit.INTERRUPTED == one.wait(30.0), one.output


def items(url: str, what: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{url}/__emulator__/{what}", params={"limit": 100_000}, trust_env=False)
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_a_file_that_has_changed_since_it_was_begun_is_not_gone_on_with(
    run: Run, server: str, serials: Serials, path: Path
) -> None:
    written(path, [event(1)])
    fail_next(server, status=403)
    run("import", str(path))

    result = run("import", str(written(path, [event(1), event(2)])))

    assert Exit.LOST == result.returncode
    assert str(path) in result.stderr
    assert "changed" in result.stderr
    assert [] == serials()


def test_a_plan_without_imports_is_exit_code_4_until_it_has_them(
    run: Run, server: str, serials: Serials, path: Path
) -> None:
    written(path, [event(1)])
    fail_next(server, status=401)

    refused = run("import", str(path))

    assert Exit.REFUSED == refused.returncode
    assert "the server accepts the key, but takes no imports" in refused.stderr
    assert Exit.FINE == run("import", str(path)).returncode
    assert [1] == serials()


def test_a_missing_key_is_wrong_usage(invoke: Invoke, path: Path) -> None:
    result = invoke("import", written(path, [event()]))

    assert Exit.USAGE == result.exit_code
    assert "the API key is missing: set USERPILOT_API_KEY, or give --api-key" in result.output


def test_no_server_is_exit_code_3(run: Run, path: Path) -> None:
    written(path, [event()])

    with RefusedPort() as nobody:
        result = run("import", str(path), env={"USERPILOT_BASE_URL": nobody.url})

    assert Exit.UNREACHABLE == result.returncode
    assert "unavailable" in result.stderr


def test_a_refused_key_is_exit_code_4_and_stays_unsaid(run: Run, path: Path) -> None:
    written(path, [event()])

    result = run("import", "--json", str(path), env={"USERPILOT_API_KEY": "WRONG-KEY"})

    assert Exit.REFUSED == result.returncode == json.loads(result.stdout)["exit_code"]
    assert "WRONG-KEY" not in result.stdout + result.stderr
    assert "no imports" not in result.stderr


def test_an_import_begun_with_another_key_goes_on_only_if_told_to(
    run: Run, server: str, serials: Serials, path: Path
) -> None:
    with emulator_thread("--no-imports") as other:
        begun = run("import", str(written(path, [event(1)])), env={"USERPILOT_BASE_URL": other})

    refused, taken = run("import", str(path)), run("import", "--rebind", str(path))

    assert [Exit.REFUSED, Exit.LOST, Exit.FINE] == [one.returncode for one in (begun, refused, taken)]
    assert [1] == serials()


@pytest.mark.parametrize(
    "options",
    [
        ("--check", "--dry-run"),
        ("--from", "nobody"),
        ("--rejected", "SECOND", "SECOND"),
        ("s3://bucket/x",),
        ("http://example.com/x",),
        ("--map", "FIRST"),
        ("-",),
        ("--rejected", "FIRST"),
        ("--rejected", "FIRST.import"),
        ("--check", "--force"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(invoke: Invoke, path: Path, options: tuple[str, ...]) -> None:
    written(path, [event()])
    second = written(path.with_name("second"), [event()])

    words = [
        {"FIRST": str(path), "FIRST.import": f"{path}.import", "SECOND": str(second)}.get(word, word)
        for word in options
    ]
    result = invoke("import", "--api-key", "K", path, *words)

    assert Exit.USAGE == result.exit_code
    assert "Traceback" not in result.output
    assert {"second"} == beside(path)


# ── what one sees ──

JOB = Job(job_id="bulk:1", status=JobStatus.PROCESSING, total_rows=60_000, completed_rows=20_000)
SEEN = ImportProgress(
    bytes_read=25_000_000, bytes_total=100_000_000, read=250_010, valid=249_990, refused=20, files=2, uploaded=120_000,
    job=JOB, waiting_for="the [server] is away", elapsed=80.0,
)  # fmt: skip
START = ImportProgress()


def seen(*moments: ImportProgress, sends: bool = True) -> ImportView:
    view = ImportView(sends=sends)
    for moment in moments:
        view.see(moment)
    return view


def drawn(view: ImportView) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(view.table(80.0))
    return captured.get()


@pytest.mark.parametrize(
    "number",
    ["250,010", "249,990", "120,000", "processing, 20,000 of 60,000 rows", "about 15 min left", "the [server] is away"],
)
def test_every_number_is_in_the_plain_line_and_in_the_table(number: str) -> None:
    view = seen(START, SEEN)

    assert number in view.line()
    assert number in drawn(view)


def test_what_sends_nothing_talks_of_no_upload() -> None:
    view = seen(START, attrs.evolve(SEEN, job=None, uploaded=0, files=0), sends=False)

    assert "uploaded" not in view.line() + drawn(view)
    assert "about 4 min left" in view.line()


def test_the_time_left_is_that_of_the_servers_pace_in_this_run() -> None:
    """80,000 of about a million rows in 80 seconds; what an earlier run did tells nothing of the pace."""
    earlier = attrs.evolve(START, uploaded=40_000, elapsed=40.0)

    assert 919.96 == pytest.approx(seen(START, SEEN).left or 0)
    assert 919.96 == pytest.approx(seen(earlier, SEEN).left or 0)
    assert 240.0 == seen(START, SEEN, sends=False).left


def test_the_pace_of_a_run_that_goes_on_begins_where_the_running_job_stands() -> None:
    """At first it is not known how many of the uploaded rows wait; 120,000 of them seem to be done."""
    begun_by_another_run = attrs.evolve(START, uploaded=120_000)
    later = attrs.evolve(SEEN, job=attrs.evolve(JOB, completed_rows=30_000), elapsed=90.0)

    assert 909.96 == pytest.approx(seen(begun_by_another_run, SEEN, later).left or 0)


def test_rows_of_an_upload_are_not_done_before_its_job_was_looked_at() -> None:
    over = attrs.evolve(SEEN, job=attrs.evolve(JOB, status=JobStatus.COMPLETED, completed_rows=60_000))
    uploaded = attrs.evolve(SEEN, job=None, uploaded=220_000)

    assert [80_000, 80_000, 120_000, 120_000] == [
        seen(*moments).done
        for moments in [(START, SEEN), (START, SEEN, uploaded), (START, over), (START, over, uploaded)]
    ]


def test_a_job_stays_in_sight_while_the_progress_tells_of_other_things() -> None:
    reading = attrs.evolve(SEEN, job=None, read=300_000)
    over = attrs.evolve(SEEN, job=attrs.evolve(JOB, status=JobStatus.COMPLETED))

    assert JOB == seen(START, SEEN, reading).job
    assert None is seen(START, over, reading).job


def test_the_time_left_is_not_guessed() -> None:
    packed = attrs.evolve(SEEN, bytes_total=None)
    waiting = attrs.evolve(SEEN, uploaded=60_000, job=attrs.evolve(JOB, completed_rows=0))
    begun_by_another_run = attrs.evolve(START, uploaded=120_000)
    over = attrs.evolve(SEEN, bytes_read=SEEN.bytes_total or 0)

    assert [None] * 4 == [seen(*moments).left for moments in [(SEEN,), (START, packed), (START, waiting), ()]]
    assert None is seen(begun_by_another_run, SEEN).left
    assert None is seen(START, over, sends=False).left
    assert "left" not in seen().line() + drawn(seen())


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (9_000, "2.5 h")])
def test_a_duration_is_said_as_one_says_it(seconds: float, said: str) -> None:
    assert said == duration_text(seconds)
