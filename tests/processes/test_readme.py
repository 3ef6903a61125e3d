"""Every block of the README is run, or is the source of an application that another test runs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click.testing
import httpx
import pytest

from tests.harness.processes import program, python
from userpilot_async.cli import cli
from userpilot_async.imports import checked

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SCRIPTS = [code for code in PYTHON if "asyncio.run(" in code or "with blocking(" in code]
IN_REDIS = "redis://localhost:6379/0"
# What stands in a script of which a test of its own says what comes of it.
SHOWN_BELOW = (IN_REDIS, "sqlite:///", "receipt", "with blocking(", "import_file", "when_late", "ParcelvoyClient")
CONSOLE = [line[2:] for language, code in BLOCKS if language == "console" for line in code.splitlines()]
HISTORY, SEGMENT, CALLS, PEOPLE = [code for language, code in BLOCKS if language == "json"]


def surroundings(url: str) -> dict[str, str]:
    key = "key-of-the-readme"
    return {
        "USERPILOT_BASE_URL": url, "USERPILOT_API_KEY": key, "PARCELVOY_BASE_URL": url, "PARCELVOY_API_KEY": key,
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip


def run_script(script: str, url: str, folder: Path) -> str:
    """Run it in this folder; what it printed."""
    command = f"cd {shlex.quote(str(folder))} && exec {shlex.quote(sys.executable)} -c {shlex.quote(script)}"
    with program(["bash", "-c", command], env=surroundings(url)) as running:
        assert 0 == running.wait(60.0), running.output
    return running.output


@pytest.mark.parametrize(
    "script",
    [one for one in SCRIPTS if not any(mark in one for mark in SHOWN_BELOW)],
    ids=lambda code: re.findall(r"\w+", code)[-40:][0],
)
def test_each_script_runs_as_written(script: str, emulator_url: str, tmp_path: Path) -> None:
    assert "Traceback" not in run_script(script, emulator_url, tmp_path)


def test_the_script_with_redis_delivers_what_waits_there(emulator_url: str, redis_url: str, tmp_path: Path) -> None:
    script = next(code for code in SCRIPTS if IN_REDIS in code).replace(IN_REDIS, redis_url)

    outputs = [run_script(script, emulator_url, tmp_path) for _ in range(2)]

    assert ["1 accepted = 1 delivered", "2 accepted = 2 delivered"] == [output[:24] for output in outputs]


def test_the_redis_user_of_the_readme_may_do_what_is_needed(emulator_url: str, own_redis: Any, tmp_path: Path) -> None:
    user = re.search(r"^user (pods on >PASSWORD .*)$", README, re.MULTILINE)
    assert user is not None
    server = own_redis(users=[user[1]])
    url = server.url_of(0, user="pods", password="PASSWORD") + "?name=shop"
    script = next(code for code in SCRIPTS if IN_REDIS in code).replace(IN_REDIS, url)

    assert "1 accepted = 1 delivered" in run_script(script, emulator_url, tmp_path)


def test_the_script_with_a_file_delivers_what_waits_there(emulator_url: str, tmp_path: Path) -> None:
    script = next(code for code in SCRIPTS if "sqlite:///" in code)

    outputs = [run_script(script, emulator_url, tmp_path) for _ in range(2)]

    assert ["1 accepted = 1 delivered", "2 accepted = 2 delivered"] == [output[:24] for output in outputs]
    assert (tmp_path / "userpilot.db").is_file()


def test_the_script_without_a_framework_delivers_what_it_says(emulator_url: str) -> None:
    script = next(code for code in SCRIPTS if "receipt" in code)

    with python("-c", script, env=surroundings(emulator_url)) as running:
        assert 0 == running.wait(60.0), running.output

    assert "2 accepted = 2 delivered" in running.output
    assert "acme" == httpx.get(f"{emulator_url}/__emulator__/users/u1").json()["company_id"]


def test_the_script_without_a_loop_delivers_what_it_says(emulator_url: str) -> None:
    script = next(code for code in SCRIPTS if "with blocking(" in code)

    with python("-c", script, env=surroundings(emulator_url)) as running:
        assert 0 == running.wait(60.0), running.output

    assert "delivered\n2 accepted = 2 delivered" in running.output


def test_the_script_that_imports_uploads_what_it_says(emulator_url: str, tmp_path: Path) -> None:
    script = next(code for code in SCRIPTS if "import_file" in code)

    output = run_script(script, emulator_url, tmp_path)

    assert 2 == output.count("2 uploaded in 1 file"), output
    events = httpx.get(f"{emulator_url}/__emulator__/events").json()["items"]
    assert [1732957200.0] * 2 == [event["occurred_at"] for event in events]


def test_the_script_with_a_late_event_imports_it(emulator_url: str) -> None:
    script = next(code for code in SCRIPTS if "when_late" in code)

    with python("-c", script, env=surroundings(emulator_url)) as running:
        assert 0 == running.wait(60.0), running.output

    assert "import realtime {'realtime': 1, 'import': 2}" in running.output
    events = httpx.get(f"{emulator_url}/__emulator__/events").json()["items"]
    (late,) = [event for event in events if event["via"] == "import"]
    assert 86_390.0 < late["stamp"] - late["occurred_at"] < 86_460.0
    assert {"plan": "pro"} == httpx.get(f"{emulator_url}/__emulator__/users/u4").json()["properties"]


def test_parcelvoy_has_what_the_script_for_it_says(emulator_url: str) -> None:
    script = next(code for code in SCRIPTS if "ParcelvoyClient" in code)

    with python("-c", script, env=surroundings(emulator_url)) as running:
        assert 0 == running.wait(60.0), running.output

    assert "5 accepted = 5 delivered" in running.output
    user = httpx.get(f"{emulator_url}/__emulator__/parcelvoy/users/browser-7").json()
    assert ("u1", {"plan": "pro"}, ["5e356e66"]) == (user["external_id"], user["data"], user["devices"])


APPLICATIONS = ["fastapi_app.py", "aiohttp_app.py", "foreign/suite_readme.py"]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_applications_are_the_ones_that_the_tests_run(name: str) -> None:
    assert (ROOT / "tests" / "processes" / "apps" / name).read_text(encoding="utf-8") in PYTHON


def test_no_python_block_is_left_out() -> None:
    assert len(PYTHON) == len(SCRIPTS) + len(APPLICATIONS)


def run(command: str) -> str:
    """What the command says here; that there is such a program, and that it ends well, is shown elsewhere."""
    name, *words = shlex.split(command)
    result = click.testing.CliRunner().invoke(cli, words)
    assert ("userpilot-async", 0) == (name, result.exit_code), result.output
    return result.output


def test_every_command_of_the_readme_runs_as_written(
    emulator_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, value in surroundings(emulator_url).items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "calls.ndjson").write_text(CALLS, encoding="utf-8")
    (tmp_path / "people.ndjson").write_text(PEOPLE, encoding="utf-8")
    (tmp_path / "history.ndjson").write_text(HISTORY, encoding="utf-8")
    (tmp_path / "segment.ndjson").write_text(SEGMENT, encoding="utf-8")
    run_script(next(code for code in SCRIPTS if "sqlite:///" in code), emulator_url, tmp_path)
    users = {"users": [{"user_id": "u7"}]}
    headers = {"Authorization": "Token key-of-the-readme", "X-API-Version": "2020-09-22"}
    job_id = httpx.post(f"{emulator_url}/v1/users/bulk_identify", json=users, headers=headers).json()["job_id"]

    commands = [line for line in CONSOLE if "emulate" not in line and not line.startswith("export ")]
    outputs = {command: run(command.replace("JOB_ID", job_id)) for command in commands}

    names = ["outbox"] * 4 + ["import"] * 4 + ["check", "send", "jobs", "jobs", "send"]
    assert names == [command.split()[1] for command in commands]
    assert "3 accepted" in outputs["userpilot-async send calls.ndjson"]
    assert "4 accepted" in outputs["userpilot-async send people.ndjson --to parcelvoy"]
    assert job_id in outputs["userpilot-async jobs"].replace("\n", "")
    assert "5 rows uploaded in 1 file" in outputs["userpilot-async import history.ndjson"]
    users = {name: httpx.get(f"{emulator_url}/__emulator__/users/{name}").json() for name in ("u1", "u2")}
    assert {"plan": "pro", "seats": 3} == users["u1"]["properties"]
    assert "globex" == users["u2"]["company_id"]
    assert 1 == len(list((tmp_path / "segment.ndjson.upload").iterdir()))


def test_the_rows_of_the_readme_are_import_rows() -> None:
    rows = [checked(json.loads(line)) for line in HISTORY.splitlines()]

    assert ["identify_company", "identify_user", "page_view", "track", "identify_user"] == [
        row["event_type"] for row in rows
    ]


def test_the_calls_of_the_readme_are_calls() -> None:
    assert ["identify", "identify_company", "track"] == [json.loads(line)["type"] for line in CALLS.splitlines()]
    assert ["track", "alias", "identify", "device"] == [json.loads(line)["type"] for line in PEOPLE.splitlines()]


def test_the_emulator_starts_as_the_readme_says() -> None:
    command = next(line for line in CONSOLE if "emulate" in line)
    words = ["0" if word == "8080" else word for word in shlex.split(command)][1:]

    with python("-m", "userpilot_async", *words, env={"PYTHONPATH": str(ROOT)}) as running:
        url = running.wait_for_line(r"http://\S+").group()

        assert 200 == httpx.get(f"{url}/__emulator__/health").status_code


def test_the_folders_of_the_tower_are_the_folders_there_are() -> None:
    tower = next(code for language, code in BLOCKS if not language and "_schedule/" in code)

    drawn = set(re.findall(r"(?m)(?<![/\w])(_?[a-z]\w*)(?:/| {2,}[A-Z]\w+Client| {2,}everything)", tower))

    package = ROOT / "userpilot_async"
    there = {path.parent.name for path in package.glob("*/__init__.py")} | {
        path.stem for path in package.glob("_[a-z]*.py")
    }
    assert drawn == there
