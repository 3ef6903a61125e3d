"""`userpilot-async docs`: the guides, listed, and one of them in the terminal."""

from __future__ import annotations

import re

import click
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, Markdown, TableElement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..guides import TOPICS, guide, near, summary
from ._console import cell, echo, stdout
from ._exits import NotPossible

WIDEST = 100  # characters: longer lines of prose are hard to read
MOST_COLUMNS = 4  # of a table that is laid out as one
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
PAGE = re.compile(r"(\w+)\.md(?:#[\w-]+)?|#[\w-]+")


class LeftHeading(Heading):
    """A heading at the left: rich's own are centred or in a box, by its version."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class WholeTable(TableElement):
    """A table of which nothing is cut off: rich's own leaves out what does not fit into a column.

    With many columns it is a list, in which each row has its cells below each other, with their headings.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head = [] if self.header is None or self.header.row is None else self.header.row.cells
        headings = [cell.content for cell in head]
        rows = [] if self.body is None else [[cell.content for cell in row.cells] for row in self.body.rows]
        yield _as_table(headings, rows) if len(headings) <= MOST_COLUMNS else _as_list(headings, rows)


class Page(Markdown):
    """The Markdown of a guide, with headings at the left and whole tables."""

    elements = {  # noqa: RUF012  # as rich has it
        **Markdown.elements, "heading_open": LeftHeading, "table_open": WholeTable,
    }  # fmt: skip


@click.command(short_help="List the guides, or show one.")
@click.argument("topic", required=False)
def docs(topic: str | None) -> None:
    """List the guides, or show the one about TOPIC, as in `userpilot-async docs fastapi`.

    Into a pipe or a file it goes as Markdown.
    """
    if topic is None:
        show_topics(stdout())
    elif topic in TOPICS:
        show_guide(topic, stdout())
    else:
        raise NotPossible(no_such_guide(topic))


def show_topics(console: Console) -> None:
    """Print a line for each guide: its name, and what it is about."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for topic in TOPICS:
        table.add_row(cell(topic), cell(summary(topic).replace("`", "")))
    console.print(table, "", "userpilot-async docs TOPIC shows one.", sep="\n")


def show_guide(topic: str, console: Console) -> None:
    """Print a guide: laid out in a terminal, else the Markdown as it is."""
    if not console.is_terminal:
        echo(*guide(topic).splitlines())
        return
    console.width = min(console.width, WIDEST)
    console.print(Page(LINK.sub(_as_words, guide(topic)), code_theme="ansi_dark", hyperlinks=False))


def no_such_guide(topic: str) -> str:
    """The sentence about a topic that no guide has, with those that may be meant."""
    alike = near(topic)
    if alike:
        return f"there is no guide {topic!r}; perhaps {' or '.join(f'`userpilot-async docs {name}`' for name in alike)}"
    return f"there is no guide {topic!r}; `userpilot-async docs` lists them"


def _as_table(headings: list[Text], rows: list[list[Text]]) -> Table:
    names = any(heading.plain for heading in headings)
    table = Table(box=box.SIMPLE if names else None, pad_edge=False, show_header=names, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _as_list(headings: list[Text], rows: list[list[Text]]) -> Padding:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", overflow="fold", ratio=1)
    table.add_column(overflow="fold", ratio=2)
    for number, row in enumerate(rows):
        if number:
            table.add_row()
        table.add_row(row[0])
        for heading, text in zip(headings[1:], row[1:], strict=False):
            if text.plain not in ("", "–"):
                table.add_row(cell(f"  {heading.plain}", "not bold"), text)
    return Padding(table, (1, 0))


def _as_words(link: re.Match[str]) -> str:
    """A link as a terminal can use it: the name of another guide, where the words do not have it; or the address."""
    words, target = link[1], link[2]
    page = PAGE.fullmatch(target)
    if page is None:
        return f"{words} ({target})"
    if page[1] is None or page[1] not in TOPICS or page[1] in words.lower():
        return f"*{words}*"
    return f"*{words}* (docs {page[1]})"
