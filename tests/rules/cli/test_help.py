"""The help of the command line at 80 columns, and what completes it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from userpilot_async.cli import cli

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
