"""The help of the command line at 80 columns, and what completes it."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from userpilot_async.cli import cli
from userpilot_async.cli._console import full_outputs
from userpilot_async.emulator._command import StateUnusable, arguments, run

WIDTH = 80


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands below a group, with the words that lead to them."""
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize("path", [path for path in COMMANDS if path], ids=" ".join)
def test_a_summary_is_whole_and_short(path: tuple[str, ...]) -> None:
    summary = COMMANDS[path].get_short_help_str(limit=1_000)

    assert 10 <= len(summary) <= 50
    assert summary.endswith(".")


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "userpilot-async")
def test_help_fits_into_80_columns_but_for_what_is_to_be_copied(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"], terminal_width=WIDTH, max_content_width=WIDTH)

    assert 0 == result.exit_code
    wide = [line for line in result.output.splitlines() if len(line) > WIDTH]
    assert [] == [line for line in wide if not line.lstrip().startswith(("{", "userpilot-async "))]
    assert "..." not in result.output.partition("Commands:")[2]


# ── wrong usage ──


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "userpilot-async")
def test_a_mistyped_option_is_one_line_that_names_the_help_of_the_command(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--xyzzy"], prog_name="userpilot-async")

    command = " ".join(["userpilot-async", *path])
    assert 2 == result.exit_code
    words = result.stderr.replace("'", "").replace("option:", "option")  # newer clicks word it otherwise than 8.3
    assert f"Error: No such option --xyzzy. See: {command} --help\n" == words


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("sned", "No such command 'sned'. Did you mean 'send'? See: userpilot-async --help"),
        ("send", "Missing argument 'FILE'. See: userpilot-async send --help"),
        ("completion", "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish. See: "),
        ("send --timeout x -", "Invalid value for '--timeout': 'x' is no number. See: userpilot-async send --help"),
        ("send --timeout nan -", "Invalid value for '--timeout': 'nan' is no number. See: userpilot-async send --help"),
        ("send --late-after inf -", "Invalid value for '--late-after': 'inf' is no number. See: userpilot-async send"),
        ("drain --late-after nan", "Invalid value for '--late-after': 'nan' is no number. See: userpilot-async drain"),
        ("jobs watch x --timeout nan", "Invalid value for '--timeout': 'nan' is no number. See: userpilot-async jobs"),
        ("emulate --speed inf", "speed must be a number, more than 0. See: userpilot-async emulate --help"),
        ("emulate --latency nan", "latency must be a number of seconds, 0 or more. See: userpilot-async emulate"),
        ("emulate --api-key=", "an API key must not be empty. See: userpilot-async emulate --help"),
        ("emulate --host=", "--host must not be empty; every address of this machine is 0.0.0.0. See: userpilot-async"),
        ("ui --port x", "Invalid value for '--port': 'x' is no whole number. See: userpilot-async ui --help"),
        ("ui --port 70000", "Invalid value for '--port': 70000 is not from 0 to 65535. See: userpilot-async ui --help"),
        ("send \x1b[31m", "Invalid value for 'FILE': File '\\x1b[31m' does not exist. See: "),
        ("ui --host 1.2.3.4 pyproject.toml", "--host must be a loopback address; from another machine, come by"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_sentence(words: str, sentence: str) -> None:
    result = CliRunner().invoke(cli, words.split(), prog_name="userpilot-async")

    assert (2, 1) == (result.exit_code, len(result.stderr.splitlines()))
    assert result.stderr.startswith(f"Error: {sentence}")


class Full(io.StringIO):
    """A stdout on a full disk."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("words", ["docs", "completion zsh", "--version", "--help", "emulate --port 0"])
def test_a_stdout_that_takes_no_more_ends_a_command_with_a_sentence(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(SystemExit) as ended:
        cli(words.split(), prog_name="userpilot-async")

    assert 1 == ended.value.code
    assert "Error: the output cannot be written: No space left on device\n" == capsys.readouterr().err


def test_the_emulator_needs_no_stdout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was closed before the start, as by `>&-`, and the command got as far as its file."""
    monkeypatch.setattr(sys, "stdout", None)
    (tmp_path / "state").write_text("no state")

    with pytest.raises(StateUnusable):
        run(arguments(["--persist", str(tmp_path / "state")]))


def test_an_error_of_a_named_file_is_not_one_of_stdout() -> None:
    with pytest.raises(OSError, match="elsewhere"), full_outputs():
        raise OSError(errno.ENOSPC, "full", "elsewhere")


def test_without_any_word_the_help_is_shown() -> None:
    assert "Commands:" in CliRunner().invoke(cli, []).output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_that_it_can_read(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell], prog_name="userpilot-async")

    assert 0 == result.exit_code
    assert "_USERPILOT_ASYNC_COMPLETE" in result.output
    if shutil.which(shell):
        assert 0 == subprocess.run([shell, "-n"], input=result.output, text=True, check=False).returncode


def test_commands_are_completed() -> None:
    words = {"COMP_WORDS": "userpilot-async em", "COMP_CWORD": "1", "_USERPILOT_ASYNC_COMPLETE": "bash_complete"}
    result = CliRunner().invoke(cli, [], prog_name="userpilot-async", env=words)

    assert "emulate" in result.output
