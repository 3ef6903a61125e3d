"""`userpilot-async ui`: an outbox in the browser, on this machine."""

from __future__ import annotations

import asyncio
import secrets
import webbrowser
from errno import EADDRINUSE
from threading import Thread
from types import ModuleType

import click

from ..._errors.tree import OutboxError
from ..._outbox.admin import OutboxAdmin
from .._console import echo
from .._exits import Failed, NotPossible, Unreachable
from .._outbox import outbox_argument
from .._outbox_place import place_given
from ._guard import is_loopback


@click.command(short_help="Watch an outbox in the browser.")
@outbox_argument
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on; no other is taken."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8090,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--show-data", is_flag=True, help="Show ids, properties and the server's words; without it none of them "
              "leaves this process.")  # fmt: skip
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser; `ps` may show its URL, with the "
              "token.")  # fmt: skip
def ui(given: OutboxAdmin | None, host: str, port: int, show_data: bool, opens: bool) -> None:
    """Watch an OUTBOX in the browser: what waits, which process sends, what was lost; until Ctrl-C.

    OUTBOX is as for `outbox`. Dead letters can be put back, and a person be erased. The page is for this machine only,
    and needs the token in the printed URL. Ids are hidden: short names stand for them, unless --show-data is given.
    """
    if not is_loopback(host):
        raise click.UsageError("--host must be a loopback address; from another machine, come by `ssh -L`")
    admin = place_given(given)
    app, serving = _modules()
    _check(admin)
    token = secrets.token_urlsafe(24)
    console = app.Console(admin, token, shows_data=show_data)
    try:
        listener = serving.listen(host, port)
    except OSError as exc:
        why = "the port is in use; choose another with --port" if exc.errno == EADDRINUSE else exc.strerror or exc
        raise NotPossible(f"cannot listen on {host}:{port}: {why}") from exc
    url = f"{serving.url_of(listener, host)}/#{token}"

    def announce() -> None:
        echo(f"console at {url}")
        echo(f"  of {admin.place}; Ctrl-C ends it", err=True)
        if opens:
            Thread(target=_open, args=(url,), daemon=True).start()  # some browsers are waited for to their end

    with listener:
        asyncio.run(serving.serve_app(console.app, listener, announce))


def _open(url: str) -> None:
    if not webbrowser.open(url):
        echo("  no browser could be opened", err=True)


def _modules() -> tuple[ModuleType, ModuleType]:
    """The app, and what serves it; ends the command if what they need is missing."""
    try:
        from ...emulator import _serve
        from . import _app
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package == "userpilot_async":
            raise
        raise NotPossible(f'the console needs {package}: pip install "userpilot-async[emulator]"') from None
    return _app, _serve


def _check(admin: OutboxAdmin) -> None:
    """See that the outbox can be read, before a page is promised. Raises `Failed`, with the command's exit code."""
    try:
        admin.inspect()
    except OutboxError as error:
        raise _failure(admin, error) from error


def _failure(admin: OutboxAdmin, error: OutboxError) -> Failed:
    """A server that does not answer says so with a cause; a file, or an outbox of another version, is wrong usage."""
    is_away = admin.kind != "sqlite" and error.__cause__ is not None
    return Unreachable(str(error)) if is_away else NotPossible(str(error))
