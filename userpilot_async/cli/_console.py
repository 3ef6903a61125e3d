"""Printing: all output of the command line goes through here, so that no text of others can steer a terminal.

Results go to stdout, all else to stderr. JSON says exactly what there is: in ASCII, with all else as escapes.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._errors.printable import printable
from ._exits import Failed

_PLAIN = (
    (re.compile(r"is not a valid integer( range)?"), "is no whole number"),
    (re.compile(r"is not a valid float( range)?"), "is no number"),
    (re.compile(r"is not in the range (\S+)<=x<=(\S+)\."), r"is not from \1 to \2."),
    (re.compile(r"is not in the range x>=(\S+)\."), r"is less than \1."),
    (re.compile(r"is not in the range x>(\S+)\."), r"is not more than \1."),
    (re.compile(r"\s*\n\s*"), " "),  # the choices of a parameter stand on lines of their own
)  # what click says, and how people say it, on one line
_NOT_ASCII = re.compile("[^ -~]")  # DEL, too

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of a stdout that takes no more, such as a file on a full disk; click knows a closed pipe (EPIPE) itself."""

WIDE = 200  # characters; a narrower terminal breaks the lines itself, so that an id can be copied whole


def echo(*lines: str, err: bool = False) -> None:
    """Print each text on a line of its own."""
    click.echo("\n".join(map(printable, lines)), err=err)


def echo_json(fields: dict[str, Any]) -> None:
    """Print one JSON object, indented, in ASCII."""
    click.echo(json.dumps(fields, indent=2))


def echo_json_line(line: str) -> None:
    """Print a line that is JSON already, with what is not ASCII as escapes."""
    click.echo(_NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], line))


def echo_table(table: Table) -> None:
    """Print a table whose cells are `cell`."""
    console = Console()
    console.width = max(console.width, WIDE)
    console.print(table)


def cell(text: object, style: str = "") -> Text:
    """A text within a table, or above one: none of it is markup."""
    return Text(printable(str(text)), style=style)


def stdout() -> Console:
    """Where long texts go, laid out for the width of the terminal, if it is one."""
    return Console(highlight=False)


def stderr() -> Console:
    """Where progress goes, so that stdout is for results."""
    return Console(stderr=True, highlight=False)


@contextmanager
def printable_errors() -> Iterator[None]:
    """Make error messages printable: they quote options, paths, and texts of a server or a file.

    Those of wrong usage become one line.
    """
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # shows the help
    except click.ClickException as error:
        words = error.format_message
        error.format_message = lambda: printable(words())  # type: ignore[method-assign]  # of this one alone
        if isinstance(error, click.UsageError):
            error.show = partial(_show_wrong_usage, error, words)  # type: ignore[method-assign]  # of this one alone
        raise


@contextmanager
def full_outputs() -> Iterator[None]:
    """End the command with 1 and a sentence where stdout takes no more. What names a file of its own is passed on."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        raise Failed(f"the output cannot be written: {error.strerror}") from error


def _show_wrong_usage(error: click.UsageError, words: Callable[[], str], file: object = None) -> None:
    """Print what is wrong, and where to read what is right, as one line on stderr, where click prints four."""
    sentence = printable(_in_plain_words(words()))
    if error.ctx is not None:
        stop = "" if sentence.endswith((".", "?", "!")) else "."
        sentence = f"{sentence}{stop} See: {error.ctx.command_path} --help"
    click.echo(f"Error: {sentence}", err=True)


def _in_plain_words(words: str) -> str:
    for of_click, plain in _PLAIN:
        words = of_click.sub(plain, words)
    return words.strip()
