"""No text of others steers a terminal, and none makes a line look like another: in messages, logs, and on a screen."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import userpilot_async
from userpilot_async import InvalidCall, JobFailed, OutboxError, Rejected, Unavailable, UserpilotError
from userpilot_async._errors.printable import JOINERS, printable
from userpilot_async._runtime.log import log
from userpilot_async.imports import AlreadyImported, ImportReport, InvalidRow, JournalError

ROOT = Path(userpilot_async.__file__).parent
OURS = [file for file in ROOT.rglob("*.py") if "emulator" not in file.relative_to(ROOT).parts]  # it shares no code
SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
HOSTILE = "a\x1b[31m\x9b2J\r\n\u202e\u2066\u2028\x07\x7f\udc9b\u200b\u00adz"


@given(st.text(st.characters(codec=None)))
def test_what_comes_out_is_one_printable_line_and_says_what_came_in(text):
    shown = printable(text)

    stays = [one for one in shown if not one.isprintable()]
    assert all(one in JOINERS or one in SPACES for one in stays)
    assert 1 >= len(shown.splitlines())
    assert text == shown or not text.isprintable()
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße, 東京 \U0001f600", "Grüße, 東京 \U0001f600"),
        ("\u5c71\u3000\u592a\u90ce, 5\u202f%, \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),
        ("", ""),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udc9b.ndjson", r"\udc9b.ndjson"),
        ("\U000e0041", r"\U000e0041"),
        ("[red]", "[red]"),
    ],
)
def test_what_is_not_to_be_printed_is_written_out(text, shown):
    assert (text if shown is None else shown) == printable(text)


def test_something_else_may_stand_instead():
    assert "a b" == printable("a\x1bb", " ")


@pytest.mark.parametrize(
    "error",
    [
        UserpilotError(HOSTILE),
        OutboxError(f"{HOSTILE} cannot be opened"),
        InvalidCall(HOSTILE, HOSTILE),
        Rejected(400, HOSTILE, error_code=HOSTILE, request_id=HOSTILE),
        Unavailable(HOSTILE, request_id=HOSTILE),
        JobFailed(HOSTILE),
        JournalError(HOSTILE),
        AlreadyImported(HOSTILE, ImportReport()),
        InvalidRow(1, HOSTILE, HOSTILE),
    ],
)
def test_the_text_of_an_error_is_printable(error):
    assert str(error).isprintable()
    assert r"\x1b[31m" in str(error)


def kinds_of(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for one in kind.__subclasses__():
        yield one
        yield from kinds_of(one)


def test_no_error_has_a_way_of_its_own_to_show_itself():
    assert [] == [kind for kind in kinds_of(UserpilotError) if "__str__" in vars(kind)]


def test_a_log_line_is_one_printable_line(caplog):
    log(logging.ERROR, f"{HOSTILE} cannot be opened")

    assert caplog.messages[0].isprintable()


# ── nothing is printed or logged beside ──


def calls(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_one_module_prints():
    """Besides, one tells its parent process in JSON what it does, and one says what to install before it has any."""
    prints = {
        "print", "click.echo", "click.secho", "rich.print", "Console", "Text", "sys.stdout.write", "sys.stderr.write",
    }  # fmt: skip
    borrowed = {
        file.name
        for file in OURS
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "click"
        if {"echo", "secho"} & {alias.name for alias in node.names}
    }

    assert {"_console.py", "_app.py", "__main__.py"} == {file.name for file in OURS if prints & set(calls(file))}
    assert borrowed <= {"_console.py"}


def test_one_module_writes_to_the_log():
    levels = {f"logger.{level}" for level in ("debug", "info", "warning", "error", "exception", "critical", "log")}

    assert {"log.py"} == {file.name for file in OURS if levels & set(calls(file))}
