"""Every block of code in the README and the guides runs, against an emulator in this process."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import itertools
import logging
import os
import re
import shlex
import subprocess
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import click.testing
import httpx
import pytest

from tests.harness.documents import ALL, BLOCKS, PAGES, ROOT, SCRIPTS, Block, script
from userpilot_async.cli import cli

KEY = "key-of-the-guides"
LOGGERS = ("", "httpx", "userpilot_async")
ON_A_SERVER = ("redis://", "postgresql://")  # in `test_documents.py`, with one
APPS = ROOT / "tests" / "processes" / "apps"
SOURCES = {  # applications that other tests run under their servers, or by their own runners
    "fastapi.md": APPS / "fastapi_app.py",
    "README.md": APPS / "fastapi_app.py",
    "aiohttp.md": APPS / "aiohttp_app.py",
}
LANGUAGES = {"python", "console", "bash", "csv", "json", "toml", "yaml", "dockerfile", "sql", "text", ""}


@pytest.fixture
def guided(emulator_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an emulator, with which a reader's folder and environment are set up."""
    monkeypatch.chdir(tmp_path)
    for name in ("USERPILOT", "PARCELVOY"):
        monkeypatch.setenv(f"{name}_BASE_URL", emulator_url)
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    return emulator_url


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Undo what a script does to logging, and to the modules that it finds."""
    kept = [(logging.getLogger(name), logging.getLogger(name).level) for name in LOGGERS]
    handlers, modules = logging.getLogger().handlers[:], dict(sys.modules)
    try:
        yield
    finally:
        logging.getLogger().handlers[:] = handlers
        for logger, level in kept:
            logger.setLevel(level)
        sys.modules.clear()
        sys.modules.update(modules)


def run(block: Block) -> str:
    """Run the script as a program of its own would be; what it printed. Raises what it raises."""
    output, space = io.StringIO(), {"__name__": "__main__"}
    with as_it_was(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        exec(compile(block.code, block.place, "exec"), space)
    return output.getvalue()


def at(url: str, path: str) -> Any:
    return httpx.get(f"{url}/__emulator__/{path}").raise_for_status().json()


# ── scripts ──


SAID = {
    ("scripts", "with blocking("): "delivered\n2 accepted = 2 delivered",
    ("scripts", "print(receipt.status)", "asyncio.run("): "2 accepted = 2 delivered",
    ("scripts", "to_thread"): "in a thread: delivered",
    ("calls", "identify_company"): "4 accepted = 4 delivered",
    ("calls", "on_dead"): "{'invalid': 1}",
    ("errors", "DeliveryError"): "user_id must not be empty or blank\ndelivered None\n",
    ("parcelvoy", "ParcelvoyClient"): "5 accepted = 5 delivered",
    ("logging", "metrics"): "userpilot_delivered_total 1",
    ("testing", "Emulator()", "asyncio.run("): "['report_exported']",
    ("durability", "sqlite:///webhooks.db"): "True 2",
    ("api", "bulk_identify_users"): "100 rows completed\n404",
}
"""What is printed by scripts of guides; each is found by words in it."""
TESTED = [
    ("imports", "import_file"),
    ("backlog", "when_late"),
    ("durability", "sqlite:///userpilot.db"),
    ("privacy", "delete_users"),
]


def test_every_other_script_runs_as_written(guided: str) -> None:
    """One test for all of them: a push takes a share of a table, and each of these is wanted."""
    failed: dict[str, str] = {}
    tested = [script(*place) for place in (*SAID, *TESTED)]
    for block in SCRIPTS:
        if block in tested or any(one in block.code for one in ON_A_SERVER):
            continue
        try:
            output = run(block)
        except Exception:
            failed[block.place] = traceback.format_exc()
        else:
            if "Traceback" in output or "dropped on close" in output:
                failed[block.place] = output

    assert {} == failed
    assert 8 <= len(SCRIPTS) - len(tested)


def test_scripts_deliver_what_they_say(guided: str) -> None:
    printed = {place: run(script(*place)) for place in SAID}

    assert {} == {place: output for place, output in printed.items() if SAID[place] not in output}
    assert "acme" == at(guided, "users/u1")["company_id"]
    known = at(guided, "parcelvoy/users/browser-7")
    assert ("u1", {"plan": "pro"}, ["5e356e66"]) == (known["external_id"], known["data"], known["devices"])


def test_the_script_that_deletes_a_user_waits_for_the_servers_job(guided: str) -> None:
    assert "delivered\n" == run(script("privacy", "delete_users"))
    assert 404 == httpx.get(f"{guided}/__emulator__/users/u1").status_code


def test_the_script_that_imports_uploads_what_it_says(guided: str) -> None:
    output = run(script("imports", "import_file"))

    assert 2 == output.count("2 uploaded in 1 file"), output
    assert [1732957200.0] * 2 == [event["occurred_at"] for event in at(guided, "events")["items"]]


def test_the_script_with_a_late_event_imports_it(guided: str) -> None:
    output = run(script("backlog", "when_late"))

    assert "import realtime {'realtime': 1, 'import': 2}" in output
    (late,) = [event for event in at(guided, "events")["items"] if event["via"] == "import"]
    assert 86_390.0 < late["stamp"] - late["occurred_at"] < 86_460.0
    assert {"plan": "pro"} == at(guided, "users/u4")["properties"]


def test_the_script_with_a_file_goes_on_where_the_last_one_stopped(guided: str) -> None:
    outputs = [run(script("durability", "sqlite:///userpilot.db")) for _ in range(2)]

    assert ["1 accepted = 1 delivered", "2 accepted = 2 delivered"] == [output[:24] for output in outputs]


# ── applications ──


def module(block: Block, name: str, **known: types.ModuleType) -> types.ModuleType:
    """The block as a module, which finds those that are known; to be used within `as_it_was`."""
    sys.modules.update({name.replace("_", "."): one for name, one in known.items()})
    made = types.ModuleType(name)
    exec(compile(block.code, block.place, "exec"), made.__dict__)
    return made


def named(page: str) -> dict[str, Block]:
    return {block.name: block for block in PAGES[page].blocks if block.name}


def test_the_applications_are_the_ones_that_other_tests_run() -> None:
    for page, source in SOURCES.items():
        assert source.read_text(encoding="utf-8") in [block.code for block in BLOCKS if block.page == page], page


def test_the_tests_of_the_guide_pass_and_fail_when_a_call_is_lost(tmp_path: Path) -> None:
    for name, block in named("testing").items():
        (tmp_path / name).write_text(block.code)
    plugins = ("-p", "userpilot_async.testing.pytest_plugin", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "."]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}

    well = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    shop = tmp_path / "shop.py"
    shop.write_text(shop.read_text().replace('{"amount": amount}', '{"amount": float("nan")}'))
    broken = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert "2 passed" in well.stdout, well.stdout
    assert "2 failed" in broken.stdout, broken.stdout


@pytest.mark.filterwarnings("ignore:Using .httpx. with")  # of starlette's, about its own choice
def test_plain_functions_of_fastapi_make_calls(guided: str) -> None:
    from starlette.testclient import TestClient

    (block,) = [one for one in PAGES["fastapi"].blocks if "BackgroundTasks" in one.code]
    with as_it_was(), TestClient(module(block, "app").app) as visitor:
        assert 200 == visitor.post("/users/u1/plan/pro").status_code

    assert {"plan": "pro"} == at(guided, "users/u1")["properties"]
    assert ["plan_changed"] == [event["event_name"] for event in at(guided, "events")["items"]]


def stand_in(name: str, **members: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(members)
    return made


def test_gunicorns_hooks_open_and_close_the_client_of_djangos_views(
    guided: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a stand-in for Django; `nox -s foreign` has the real one."""
    files = named("django")
    with as_it_was():
        tracking = module(files["tracking.py"], "tracking")
        config = module(files["gunicorn.conf.py"], "config", tracking=tracking)
        http = stand_in("django.http", HttpResponse=lambda status: status)
        views = module(files["views.py"], "views", tracking=tracking, django_http=http)
        config.post_fork(None, None)
        assert 204 == views.export(None, "u1")
        config.worker_exit(None, None)

    assert "1 accepted = 1 delivered" in capsys.readouterr().out
    assert ["report_exported"] == [event["event_name"] for event in at(guided, "events")["items"]]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_the_lifespan_of_an_asgi_server_opens_and_closes_djangos_client(
    guided: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a stand-in for Django; `start()` is for asyncio, which is what Django has."""
    sent: list[str] = []
    with as_it_was():

        async def django(scope: Any, receive: Any, send: Any) -> None:
            sent.append(scope["type"])
            asgi.userpilot.track_nowait("u1", "report_exported")

        core = stand_in("django.core.asgi", get_asgi_application=lambda: django)
        asgi = module(named("django")["asgi.py"], "asgi", django_core_asgi=core)

        async def receive() -> dict[str, str]:
            if sent:
                await asgi.application({"type": "http"}, None, None)
            return {"type": "lifespan.shutdown" if sent else "lifespan.startup"}

        async def send(message: dict[str, str]) -> None:
            sent.append(message["type"])

        await asgi.application({"type": "lifespan"}, receive, send)

    assert ["lifespan.startup.complete", "http", "lifespan.shutdown.complete"] == sent
    assert "1 accepted = 1 delivered" in capsys.readouterr().out


def test_the_tasks_of_celery_put_into_a_file_and_another_process_sends(guided: str) -> None:
    """With a stand-in for Celery; `nox -s foreign` has the real one."""
    handlers: dict[str, Callable[..., None]] = {}

    class Signal:
        def __init__(self, name: str) -> None:
            self.name = name

        def connect(self, handler: Callable[..., None]) -> Callable[..., None]:
            handlers[self.name] = handler
            return handler

    class Celery:
        def __init__(self, name: str, broker: str) -> None:
            self.task = lambda function: function

    names = ("worker_process_init", "worker_process_shutdown")
    signals = stand_in("celery.signals", **{name: Signal(name) for name in names})
    with as_it_was():
        block = named("celery")["tasks.py"]
        tasks = module(block, "tasks", celery=stand_in("celery", Celery=Celery), celery_signals=signals)
        handlers["worker_process_init"](sender=None)
        tasks.export_report("u1")
        handlers["worker_process_shutdown"](sender=None)

    assert [] == at(guided, "events")["items"], "sender=false: nothing is sent from there"
    assert "1 accepted = 1 delivered" in invoke("userpilot-async drain --outbox userpilot.db --once")
    assert ["report_exported"] == [event["event_name"] for event in at(guided, "events")["items"]]


# ── commands ──


def invoke(command: str) -> str:
    """What the command says here; that there is such a program, and that it ends well, is shown elsewhere."""
    name, *words = shlex.split(command)
    result = click.testing.CliRunner().invoke(cli, words)
    assert ("userpilot-async", 0) == (name, result.exit_code), f"{command}: {result.output} {result.exception!r}"
    return result.output


def test_every_command_in_a_console_runs_as_written(
    guided: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: dict[str, str] = {}
    job_id = ""
    for page in ALL:
        (folder := tmp_path / page.name.removesuffix(".md")).mkdir()
        monkeypatch.chdir(folder)
        for block in page.blocks:
            if block.language in ("json", "csv", "toml"):
                (folder / block.name).write_text(block.code, encoding="utf-8")
        commands = [line for line in page.commands if " emulate" not in line and not line.startswith("export ")]
        if any("userpilot.db" in command for command in commands):
            run(script("durability", "sqlite:///userpilot.db"))
        headers = {"Authorization": f"Token {KEY}", "X-API-Version": "2020-09-22"}
        rows = {"users": [{"user_id": "u7"}]}
        if any("JOB_ID" in command for command in commands):
            answer = httpx.post(f"{guided}/v1/users/bulk_identify", json=rows, headers=headers).raise_for_status()
            job_id = answer.json()["job_id"]
        outputs |= {command: invoke(command.replace("JOB_ID", job_id)) for command in commands} if commands else {}

    assert 13 <= len(outputs)
    assert "4 accepted" in outputs["userpilot-async send calls.ndjson"]
    assert "4 accepted" in outputs["userpilot-async send people.ndjson --to parcelvoy"]
    assert job_id in outputs["userpilot-async jobs"].replace("\n", "")
    assert "5 rows uploaded in 1 file" in outputs["userpilot-async import history.ndjson"]
    assert 1 == len(list((tmp_path / "imports" / "segment.ndjson.upload").iterdir()))
    assert "globex" == at(guided, "users/u2")["company_id"]


@pytest.mark.parametrize("topic", ["exports", "anonymous"])
def test_what_a_command_is_said_to_print_is_what_it_prints(
    topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a command's output stands below it: with the lines of the page, and without a server."""
    monkeypatch.chdir(tmp_path)
    blocks = PAGES[topic].blocks
    for block in blocks:
        if block.name:
            (tmp_path / block.name).write_text(block.code, encoding="utf-8")
    pairs = [
        (block, after) for block, after in itertools.pairwise(blocks)
        if block.language == "console" and after.language == "text"
    ]  # fmt: skip

    assert 2 <= len(pairs)
    for block, after in pairs:
        printed = invoke(block.code.removeprefix("$ ").strip())
        assert re.sub(r"in \d+ s\b", "in 0 s", printed) == after.code, block.place


def test_every_command_in_a_shell_is_one_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their words are parsed, and nothing is run: demos take half a minute, and have tests of their own."""
    monkeypatch.chdir(tmp_path)
    lines = [line for block in BLOCKS if block.language == "bash" for line in block.code.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("userpilot-async ")]
    sessions = set(re.findall(r"nox -s (\w+)", "\n".join([*lines, *(page.prose for page in ALL)])))
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")

    for name, *words in commands:
        for word in words:
            if word.endswith((".ndjson", ".gz")):
                (tmp_path / word).touch()
        parse(cli, name, [word for word in words if word != "&"])
    assert 8 <= len(commands)
    assert set() == {session for session in sessions if f"\ndef {session}(" not in noxfile}
    assert "pip install nox && nox" in "\n".join(lines), "what `.ci/run` runs on a push"


def parse(command: click.Command, name: str, words: list[str]) -> None:
    """Parse the words as click does before it runs a command. Raises `click.UsageError`."""
    with contextlib.suppress(click.exceptions.Exit), command.make_context(name, list(words)) as context:
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            if rest:
                inner, found, left = command.resolve_command(context, rest)
                assert found is not None
                parse(found, inner or "", left)


# ── nothing is left out ──


def test_no_block_is_left_out() -> None:
    """Each is a script, an application, a file for a command, a command, or a picture."""
    applications = [block for block in BLOCKS if block.language == "python" and not block.is_script]
    run_here = {block for page in ("django", "celery", "testing") for block in named(page).values()}
    run_here |= {*named("transactions").values()}  # with a server, in `test_blocks_transactions.py`, and with Django's
    elsewhere = {path.read_text(encoding="utf-8") for path in SOURCES.values()}
    left = [one for one in applications if one not in run_here and one.code not in elsewhere]

    assert ["BackgroundTasks" in one.code for one in left] == [True]
    assert {"csv", "json", "toml"} == {block.language for block in BLOCKS if block.name and block.language != "python"}
    assert set() == {block.language for block in BLOCKS} - LANGUAGES


def test_what_blocks_import_from_us_is_there() -> None:
    """Also those of frameworks that are not installed here."""
    for block in BLOCKS:
        if block.language == "python":
            for node in ast.walk(ast.parse(block.code)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("userpilot_async"):
                    there = importlib.import_module(node.module or "")
                    assert all(hasattr(there, alias.name) for alias in node.names), block.place
