"""`userpilot-async jobs`: what the server is working off."""

from __future__ import annotations

from typing import Any

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from .._api import UserpilotAPI
from .._jobs import Job
from ._progress import job_words, stderr
from ._report import encoded
from ._server import Server, ask, json_option, talks_to_server

WIDE = 200  # characters; a narrower terminal breaks the lines itself, so that an id can be copied whole


@click.group(invoke_without_command=True)
@json_option
@talks_to_server
@click.pass_context
def jobs(ctx: click.Context, server: Server, as_json: bool) -> None:
    """List the background jobs; `jobs watch ID` waits for one."""
    ctx.obj = server
    if ctx.invoked_subcommand is not None:
        return
    listed = ask(server.api(), UserpilotAPI.jobs)
    if as_json:
        click.echo(encoded({"jobs": [as_dict(job) for job in listed]}))
        return
    console = Console()
    console.width = max(console.width, WIDE)
    console.print(table(listed) if listed else "no background jobs")


@jobs.command()
@click.argument("job_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up waiting. Default: never.")
@json_option
@talks_to_server
@click.pass_obj
def watch(outer: Server, server: Server, job_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait for the job ID. Ends with 1 if it fails, or has not ended in time."""
    api = server.over(outer).api()
    with Watch() as seen:
        job = ask(api, lambda api: api.wait_for_job(job_id, timeout=timeout, on_progress=seen.show))
    click.echo(encoded(as_dict(job)) if as_json else f"{printable(job.job_id)}: {job_words(job)}")


class Watch:
    """Shows a job on stderr: a bar on a terminal, else a line for each change."""

    def __init__(self) -> None:
        self._console = stderr()
        self._last = ""
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._bar = self._bars.add_task("waiting", total=None)

    def __enter__(self) -> Watch:
        self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bars.stop()

    def show(self, job: Job) -> None:
        """For `on_progress`."""
        done, total = job.completed_rows or 0, job.total_rows
        self._bars.update(self._bar, description=job.status.value, completed=done, total=total, refresh=True)
        if self._bars.disable and job_words(job) != self._last:
            self._last = job_words(job)
            self._console.print(Text(self._last))


def table(listed: list[Job]) -> Table:
    """The jobs as the server sorted them, newest first. The file's name is in the JSON only."""
    shown = Table(box=None, pad_edge=False)
    for name in ("status", "type", "rows", "submitted", "job"):
        shown.add_column(name, no_wrap=True, justify="right" if name == "rows" else "left")
    for job in listed:
        rows = "" if job.total_rows is None else f"{job.completed_rows or 0:,} / {job.total_rows:,}"
        cells = (job.status.value, job.type, rows, job.submitted_at or job.start_time, job.job_id)
        shown.add_row(*(Text(printable(cell or "")) for cell in cells))
    return shown


def printable(text: str) -> str:
    """A stranger's text without what a terminal would obey."""
    return "".join(c if c.isprintable() else "�" for c in text)


def as_dict(job: Job) -> dict[str, Any]:
    """For JSON."""
    return {**attrs.asdict(job), "status": job.status.value}
