"""The command line: `cli` is the click group that `userpilot-async` runs."""

from __future__ import annotations

from typing import Any

import click

from .._errors import OutboxError
from .._version import __version__
from ._check import check
from ._console import printable_errors, say
from ._demo import demo
from ._drain import drain
from ._emulate import emulate
from ._exits import Exit, Failed
from ._import import import_
from ._jobs import jobs
from ._outbox import outbox
from ._send import send

__all__ = ["cli"]


class Commands(click.Group):
    """A group that ends with 130 when it is interrupted, where click says 1, and whose errors can be printed."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:  # Any: as click's own takes them
        with printable_errors():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:  # Any: whatever click's own returns
        with printable_errors():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                say("interrupted", err=True)
                ctx.exit(Exit.INTERRUPTED)
            except OutboxError as exc:
                raise Failed(str(exc)) from exc


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Exit codes:
  0    fine; everything was delivered
  1    something was lost, rejected, missing, or not delivered in time; or an outbox cannot be used
  2    wrong usage, or a package is missing
  3    the server cannot be reached, or is of another kind
  4    the server refused the API key, or takes no imports from this account
  130  interrupted""",
)
@click.version_option(__version__, prog_name="userpilot-async")
def cli() -> None:
    """Userpilot from the command line: send calls, import history, watch jobs, or try it all without an account.

    The server and the key come from USERPILOT_API_KEY, USERPILOT_REGION and USERPILOT_BASE_URL, or from options; for
    `send --to parcelvoy`, from PARCELVOY_API_KEY and PARCELVOY_BASE_URL.
    With --json, stdout carries one JSON object and nothing else.
    """


cli.add_command(demo)
cli.add_command(send)
cli.add_command(import_)
cli.add_command(outbox)
cli.add_command(drain)
cli.add_command(jobs)
cli.add_command(check)
cli.add_command(emulate)
