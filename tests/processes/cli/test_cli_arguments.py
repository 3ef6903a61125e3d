from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import click.testing
import pytest

from tests.harness.processes import REPOSITORY
from userpilot_async import __version__
from userpilot_async.cli import cli
from userpilot_async.cli._exits import Exit
from userpilot_async.cli._server import Server

MISSING = "import sys; sys.modules[{package!r}] = None; sys.argv = ['userpilot-async', *{arguments!r}]; {run}"
Invoke = Callable[..., click.testing.Result]
RUN = "from userpilot_async.__main__ import main; main()"


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    for name in ("API_KEY", "BASE_URL", "REGION", "OUTBOX"):
        monkeypatch.delenv(f"USERPILOT_{name}", raising=False)
        monkeypatch.delenv(f"PARCELVOY_{name}", raising=False)

    def invoke(*arguments: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(cli, arguments)

    return invoke


def without(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = MISSING.format(package=package, arguments=arguments, run=RUN)
    return subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False
    )


def test_help_documents_every_exit_code(invoke: Invoke) -> None:
    shown = invoke("--help").output

    assert [code for code in Exit if f"  {code.value} " not in shown] == []


@pytest.mark.parametrize(
    "command",
    [(), ("demo",), ("send",), ("jobs",), ("jobs", "watch"), ("check",), ("emulate",),
     ("outbox",), ("outbox", "show"), ("outbox", "dead"), ("outbox", "retry"), ("outbox", "purge"),
     ("outbox", "rebind"), ("drain",), ("import",)],
)  # fmt: skip
def test_every_command_has_help(invoke: Invoke, command: tuple[str, ...]) -> None:
    if command == ("jobs", "watch"):
        command = ("jobs", "--api-key", "K", "watch")

    result = invoke(*command, "--help")

    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_version_is_the_packages(invoke: Invoke) -> None:
    assert invoke("--version").output.split()[-1] == __version__


@pytest.mark.parametrize("command", [["check"], ["jobs"], ["jobs", "watch", "id"], ["send", "-"]])
def test_a_missing_key_is_wrong_usage(invoke: Invoke, command: list[str]) -> None:
    result = invoke(*command)

    assert result.exit_code == Exit.USAGE
    assert "the API key is missing: set " in result.output


def test_a_key_that_cannot_be_one_is_not_echoed(invoke: Invoke) -> None:
    result = invoke("check", "--api-key", "SECRET with spaces")

    assert result.exit_code == Exit.USAGE
    assert "SECRET" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--api-key", "K", "--base-url", "http://example.com"],
        ["check", "--api-key", "K", "--region", "mars"],
        ["send", "--api-key", "K", "there-is-no-such-file"],
        ["send", "--api-key", "K", "--timeout", "-1", "-"],
        ["send", "--api-key", "K", "--to", "elsewhere", "-"],
        ["send", "--api-key", "K", "--to", "parcelvoy", "--base-url", "http://example.com", "-"],
        ["emulate", "--speed", "0"],
        ["emulate", "--port", "70000"],
    ],
)
def test_wrong_usage_is_told_apart_from_failure(invoke: Invoke, arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == Exit.USAGE


def test_a_server_shows_no_key() -> None:
    assert "SECRET" not in repr(Server(api_key="SECRET"))


def test_options_of_watch_win_over_those_of_jobs() -> None:
    outer, inner = Server("outer", "eu", "https://outer"), Server("inner")

    assert Server("inner", "eu", "https://outer") == inner.over(outer)


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_its_packages_the_command_line_says_what_to_install(package: str) -> None:
    result = without(package, "--help")

    assert result.returncode == Exit.USAGE
    assert 'pip install "userpilot-async[cli]"' in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("package", ["python_multipart", "starlette", "uvicorn"])
@pytest.mark.parametrize("command", ["emulate", "demo"])
def test_without_its_packages_the_emulator_says_what_to_install(package: str, command: str) -> None:
    result = without(package, command)

    assert result.returncode == Exit.USAGE
    assert 'pip install "userpilot-async[emulator]"' in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [["send", "-"], ["jobs"], ["check"], ["send", "--to", "parcelvoy", "-"]])
def test_a_command_that_would_send_nothing_says_so_instead(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """`USERPILOT_DISABLED=1` in CI must not make a nightly import end with 0 and no data."""
    variable = "PARCELVOY_DISABLED" if "parcelvoy" in command else "USERPILOT_DISABLED"
    monkeypatch.setenv(variable, "1")

    result = invoke(*command)

    assert Exit.USAGE == result.exit_code
    assert f"{variable}=1 switches the client off" in result.output
