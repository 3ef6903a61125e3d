"""The command line: `cli` is the click group that `userpilot-async` runs.

One module is one command: `_send`, `_drain`, `_import`, `_outbox`, `_jobs`, `_check`, `_emulate`, `_docs`,
`_completion`, and `demo/`. It has the command's options and help, and hands the work to one of two runs
(`check --live` and `ui` have rooms of their own, `live/` and `ui/`):

    _send, _drain, demo ──▶ _delivery    a client over a file, over stdin, or over what its outbox has
    _import             ──▶ _importing   files of history, one after the other, through the Import API

`_run` is the loop of both: signals, the report, the exit code. `_recipients` has what differs between the servers that
`send` delivers to, `_server` the options for a server and its key, `_outbox_place` those for an outbox, `_source` the
lines of a file or of stdin, `_progress` the live table. Modules named `_text` turn values into sentences and into JSON,
and know neither click nor the terminal. `_console` is the only one that prints: it escapes whatever a terminal would
obey. `_exits` has the exit codes, and the exceptions that end a command with one of them.

Results go to stdout, everything else to stderr. `__main__` calls `cli`; nothing else imports this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from .._errors.tree import OutboxError
from .._outbox.url import may_be_url
from .._runtime.version import __version__
from ._check import check
from ._completion import completion
from ._console import echo, full_outputs, printable_errors
from ._docs import docs
from ._drain import drain
from ._emulate import emulate
from ._exits import Exit, Failed
from ._import import import_
from ._jobs import jobs
from ._outbox import outbox
from ._send import send
from .demo._demo import demo
from .ui._ui import ui

__all__ = ["cli"]


WORDS = "userpilot_async.words"  # of the command line; an error message may quote them
SECRET = re.compile("@|%40|pass", re.IGNORECASE)


class Commands(click.Group):
    """A group that ends with 130 when it is interrupted, where click says 1.

    Its errors can be printed, and quote no URL that may have a password.
    """

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> click.Context:
        """Make the context as click does, and keep the words of the command line for error messages."""
        words = tuple(args)  # click takes them off one by one
        with printable_errors(), _without_urls(words), full_outputs():
            ctx = super().make_context(info_name, args, *rest, **more)
        ctx.meta[WORDS] = words
        return ctx

    def invoke(self, ctx: click.Context) -> Any:  # Any: as click's own
        with printable_errors(), _without_urls(ctx.meta[WORDS]), full_outputs():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                echo("interrupted", err=True)
                ctx.exit(Exit.INTERRUPTED)
            except OutboxError as exc:
                raise Failed(str(exc)) from exc


@contextmanager
def _without_urls(words: Sequence[str]) -> Iterator[None]:
    """Take URLs that may have a password out of the message of a usage error, which quotes mistyped words."""
    try:
        yield
    except click.UsageError as error:
        message = error.message
        for word in words:
            for part in (word, word.partition("=")[2]):
                if may_be_url(part) and SECRET.search(part):
                    message = message.replace(part, "(a URL)").replace(repr(part)[1:-1], "(a URL)")
        error.message = message  # type: ignore[misc]  # final for click, whose errors differ in what else they have
        raise


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Exit codes:
  0    fine; everything was delivered
  1    something was lost, rejected, missing or not delivered in time, or an
       outbox cannot be used
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
cli.add_command(ui)
cli.add_command(drain)
cli.add_command(jobs)
cli.add_command(check)
cli.add_command(emulate)
cli.add_command(docs)
cli.add_command(completion)
