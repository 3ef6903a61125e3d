"""`userpilot-async docs`: the list of guides, one of them in a terminal and in a pipe, and a word that is none."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import click.testing
import pytest
from rich.console import Console

from tests.harness.documents import PAGES
from tests.harness.processes import REPOSITORY
from userpilot_async.cli import cli
from userpilot_async.cli._docs import show_guide, show_topics
from userpilot_async.guides import TOPICS, guide, summary


def docs(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["docs", *words])


def shown(topic: str, width: int = 80) -> str:
    """The guide as a terminal of this width has it, without colours."""
    output = io.StringIO()
    show_guide(topic, Console(file=output, width=width, force_terminal=True, color_system=None))
    return output.getvalue()


def test_the_list_has_a_line_for_each_guide_at_80_columns() -> None:
    output = io.StringIO()
    show_topics(Console(file=output, width=80))

    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert [f"{topic:<13} {summary(topic).replace('`', '')}" for topic in TOPICS] == lines[: len(TOPICS)]
    assert ["", "userpilot-async docs TOPIC shows one."] == lines[len(TOPICS) :]
    assert 0 == docs().exit_code


def test_in_a_pipe_it_is_the_markdown() -> None:
    result = docs("errors")

    assert (0, guide("errors")) == (result.exit_code, result.output)


def words(text: str) -> set[str]:
    return {word.strip("`*|.,:;()[]#<>") for word in text.split()} - {""}


def test_in_a_terminal_nothing_of_a_guide_is_left_out_or_wider_than_it() -> None:
    """But the heading of the first column, where a table is laid out as a list."""
    for topic, page in PAGES.items():
        output = shown(topic)
        missing = {word for word in words(page.prose) if word.isalpha()} - words(output) - {"what"}
        folded = "".join(output.split())  # a word in a narrow column may go on in the next line

        assert 80 >= max(map(len, output.splitlines())), topic
        assert set() == {word for word in missing if word not in folded}, topic
        assert "](" not in output
        assert "```" not in output


def test_links_are_names_of_guides() -> None:
    assert "an outbox (docs durability)" in " ".join(shown("errors", 200).split()).replace("use an", "an")
    assert "(https://semver.org)" in shown("versions", 200)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("kubernets", "there is no guide 'kubernets'; perhaps `userpilot-async docs deployment`\n"),
        ("test", "`userpilot-async docs testing`"),
        ("xyzzy", "there is no guide 'xyzzy'; `userpilot-async docs` lists them\n"),
        ("../cli/_docs", "lists them\n"),
    ],
)
def test_a_word_that_is_no_guide_is_one_friendly_line(word: str, says: str) -> None:
    result = docs(word)

    assert 2 == result.exit_code
    assert says in result.stderr
    assert 1 == result.stderr.count("\n")
    assert "" == result.stdout


def test_it_lays_a_guide_out_in_a_real_terminal() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "userpilot_async", "docs", "backlog"]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80", "TERM": "xterm-256color"}
    with os.fdopen(ours, "rb", buffering=0) as reader:
        subprocess.run(command, stdout=theirs, env=env, check=True, timeout=30)
        os.close(theirs)
        output = b""
        try:
            while chunk := reader.read(65_536):
                output += chunk
        except OSError:  # Linux says so at the end
            pass

    assert "Draining a backlog" in output.decode()
    assert b"\x1b[" in output
    assert b"# Draining" not in output
