"""Printing: all output of the command line goes through here, so that no text of others can steer a terminal.

Results go to stdout, all else to stderr. JSON says exactly what there is: in ASCII, with all else as escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._errors.printable import printable

_NOT_ASCII = re.compile("[^ -~]")  # DEL, too

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
    """Make error messages printable: they quote options, paths, and texts of a server or a file."""
    try:
        yield
    except click.MissingParameter:
        raise  # our own names, and lists of them, on several lines
    except click.ClickException as error:
        words = error.format_message
        error.format_message = lambda: printable(words())  # type: ignore[method-assign]  # of this one alone
        raise
