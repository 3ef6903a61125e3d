"""`userpilot-async drain`: a process that only sends, for installations whose other processes only put calls."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import quote

import click

from .._errors.tree import OutboxError
from .._outbox.protocol import Outbox
from .._outbox.url import may_be_url, outbox_at
from .._runtime.environment import given
from ..sqlite import SQLiteOutbox
from ._console import echo, stderr
from ._delivery import Delivery
from ._delivery_text import as_dict, as_text
from ._outbox_place import NO_FILE, VARIABLES
from ._progress import Progress
from ._recipients import recipient_at
from ._run import run_command
from ._server import Server, json_option, late_option, talks_to_server, to_option
from ._source import Rejections

if TYPE_CHECKING:
    from .._outbox.remote import RemoteOutbox

PAUSE = 10.0  # seconds between two plain lines, and only if there is news: this log is written for weeks


@click.command(short_help="Send the calls that wait in an outbox.")
@click.option(
    "--outbox",
    "place",
    metavar="OUTBOX",
    help="A path, sqlite:///path, redis://host/0 or postgresql://host/db. [USERPILOT_OUTBOX, PARCELVOY_OUTBOX]",
)
@to_option
@click.option("--once", is_flag=True, help="End when nothing is left. Default: go on until SIGTERM or Ctrl-C.")
@late_option
@json_option
@talks_to_server
def drain(server: Server, place: str | None, to: str, once: bool, late_after: float | None, as_json: bool) -> None:
    """Send the calls that wait in an outbox on disk, in Redis or PostgreSQL, and those that others put there.

    One process at a time sends from an outbox. While another one sends, this one stands by; it takes over when that one
    ends. It also sends if the URL has sender=false, which is for processes that only put calls. While a server does not
    answer, it waits and says so.

    SIGTERM or Ctrl-C ends it with exit code 0, after up to 10 seconds of sending; the rest waits in the outbox. With
    --once, a server that cannot be reached or refuses the key ends it, as it ends `send`.
    """
    place, called = given(place or None, "--outbox", VARIABLES[to])
    outbox = outbox_there(place, called)
    if outbox is None or not outbox.durable:
        forms = "sqlite:///path, redis://host/0, postgresql://host/database"
        raise click.UsageError(f"--outbox is missing: give the file to drain, or a URL ({forms})")
    # The environment may have the URL of those that only put.
    outbox = cast("Deployed", outbox).that_sends()
    if isinstance(outbox, SQLiteOutbox) and not outbox.path.exists():
        echo(f"{outbox.path} does not exist yet and is created now: check the name", err=True)
    if not isinstance(outbox, SQLiteOutbox):
        _probe(cast("RemoteOutbox", outbox))
    progress = Progress(stderr(), PAUSE, only_news=True)
    delivery = Delivery(recipient_at(server, to, outbox, late_after), None, progress, Rejections(), endless=not once)
    run_command(delivery, as_json=as_json, text=partial(as_text, delivery), fields=partial(as_dict, delivery))


class Deployed(Outbox, Protocol):
    """A durable outbox, which other processes have open, too."""

    def that_sends(self) -> Outbox:
        """A copy of this outbox, not open, for a process that may send."""
        ...


def _probe(outbox: RemoteOutbox) -> None:
    """Warn about an outbox that cannot be inspected: a wrong name would be taken for a new, empty one."""
    try:
        outbox.admin().inspect()
    except OutboxError as error:
        echo(f"{error}; drain goes on and waits for it", err=True)


def outbox_there(place: str | None, called: str = "--outbox") -> Outbox | None:
    """The outbox at a URL or in a file; raises `click.UsageError`. ``None``: as the environment says."""
    if not place:
        return None
    if re.fullmatch(r"[\w.-]+:\d+(/\d*)?", place):
        raise click.UsageError(f"{place} is no file; in Redis it is redis://{place}")
    if "://" not in place and may_be_url(place) and not os.path.exists(place):
        raise click.UsageError(f"{called}: {NO_FILE}")
    try:
        return outbox_at(place if "://" in place else f"sqlite:///{quote(place)}", called)
    except (ValueError, ImportError) as exc:
        raise click.UsageError(str(exc)) from exc
