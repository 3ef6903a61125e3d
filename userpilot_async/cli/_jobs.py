"""`userpilot-async jobs`: what the server is working off."""

from __future__ import annotations

from typing import Any

import attrs
import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from .._protocol.jobs import Job, usable_job_id
from .._userpilot.api import UserpilotAPI
from ._console import cell, echo, echo_json, echo_table, stderr
from ._server import Seconds, Server, ask, json_option, talks_to_server
from ._text import job_text


@click.group(invoke_without_command=True, short_help="List background jobs, or watch one.")
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
        echo_json({"jobs": [as_dict(job) for job in listed]})
    elif listed:
        echo_table(table(listed))
    else:
        echo("no background jobs")


@jobs.command()
@click.argument("job_id", metavar="ID")
@click.option("--timeout", type=Seconds(min=0), metavar="SECONDS", help="Give up waiting. Default: never.")
@json_option
@talks_to_server
@click.pass_obj
def watch(outer: Server, server: Server, job_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait for the job ID. Ends with 1 if it fails, or has not ended in time."""
    if not usable_job_id(job_id):
        raise click.UsageError("ID is not the id of a job: those are short and printable")
    api = server.over(outer).api()
    with Watch() as seen:
        job = ask(api, lambda api: api.wait_for_job(job_id, timeout=timeout, on_progress=seen.show))
    if as_json:
        echo_json(as_dict(job))
    else:
        echo(f"{job.job_id}: {job_text(job)}")


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
        """Show the job's present state; called by `on_progress`."""
        done, total = job.completed_rows or 0, job.total_rows
        self._bars.update(self._bar, description=job.status.value, completed=done, total=total, refresh=True)
        if self._bars.disable and job_text(job) != self._last:
            self._last = job_text(job)
            self._console.print(cell(self._last))


def table(listed: list[Job]) -> Table:
    """A table of jobs, newest first, as the server sorts them. File names are in the JSON only."""
    shown = Table(box=None, pad_edge=False)
    for name in ("status", "type", "rows", "submitted", "job"):
        shown.add_column(name, no_wrap=True, justify="right" if name == "rows" else "left")
    for job in listed:
        rows = "" if job.total_rows is None else f"{job.completed_rows or 0:,} / {job.total_rows:,}"
        cells = (job.status.value, job.type, rows, job.submitted_at or job.start_time, job.job_id)
        shown.add_row(*(cell(one or "") for one in cells))
    return shown


def as_dict(job: Job) -> dict[str, Any]:
    """The job as a JSON object."""
    return {**attrs.asdict(job), "status": job.status.value}
