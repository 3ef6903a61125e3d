"""The command `userpilot-async emulate`, which `python -m userpilot_async.emulator` runs, too."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EADDRINUSE, ENOSPC
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from userpilot_async.emulator._emulator import Emulator
from userpilot_async.emulator._persistence import StateFile, Unusable
from userpilot_async.emulator._printer import LinePrinter
from userpilot_async.emulator._serve import serve
from userpilot_async.emulator._summary import plain, request_line
from userpilot_async.emulator._traffic import Exchange

FOR_PROGRAMS = {"port": 0, "verbose": False}
"""Defaults of `python -m`: programs start several of them, and read no more than the first line."""


class StateUnusable(click.ClickException):
    """The file of `--persist` cannot be read or written."""

    exit_code = 3


class CannotListen(click.ClickException):
    """The address cannot be bound."""

    exit_code = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True,
              help="Port to listen on; 0 takes a free one.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="Speed of jobs, as a multiple of the vendor's.")  # fmt: skip
@click.option("--api-key", multiple=True, metavar="KEY", help="Accept this key only; may be repeated. Default: any.")
@click.option("--account-per-key/--one-account", default=True, show_default=True,
              help="Give each key an account of its own, or let all keys share one.")  # fmt: skip
@click.option("--rate-limit", type=click.IntRange(min=1), default=600, show_default=True,
              help="A key's identify calls, and its track calls, a minute.")  # fmt: skip
@click.option("--latency", type=click.FloatRange(min=0), default=0.0, show_default=True,
              help="Seconds by which every answer is delayed.")  # fmt: skip
@click.option("--no-imports", is_flag=True, help="Refuse imports, as for a plan without them.")
@click.option("--allow-host", multiple=True, metavar="NAME",
              help="Answer requests for this host, too, such as a container's name; may be repeated.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Refuse with 422 what a Parcelvoy server answers with 204 and loses.")
@click.option("--seed", type=int, metavar="NUMBER", help="Repeat the chance of faults with a probability.")
@click.option("--persist", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Begin with the state in this file, and write it there now and then, and at the end.")  # fmt: skip
@click.option("--verbose/--quiet", default=True, show_default=True,
              help="Print a line for each request, and how to send here.")  # fmt: skip
def emulate(**options: Any) -> None:  # Any: as click hands them over
    """Serve an emulator of Userpilot's realtime API, and of Parcelvoy's client API, until Ctrl-C.

    A browser at its address shows what it received, as it comes in: users, companies, events, requests, jobs; and
    makes it fail. Programs read the same under /__emulator__/.

    It answers requests for localhost, and for the address that it listens on; and changes nothing for web pages of
    another origin.
    """
    run(SimpleNamespace(**options))


def run(options: SimpleNamespace) -> None:
    """Serve until a signal. Raises click's UsageError for what cannot be, and CannotListen."""
    colours = sys.stdout is not None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    with printing() as printer:

        def print_line(exchange: Exchange) -> None:
            printer.print(request_line(exchange, colours=colours))

        if not options.host:  # "" is every address of this machine: nobody who leaves it empty means that
            raise click.UsageError("--host must not be empty; every address of this machine is 0.0.0.0")
        try:
            emulator = made(options, on_exchange=print_line if options.verbose else None)
        except ValueError as exc:
            raise click.UsageError(str(exc)) from None
        file = StateFile(options.persist) if options.persist else None
        try:
            asyncio.run(_serve(emulator, options, file))
        except Unusable as exc:
            raise StateUnusable(plain(str(exc))) from exc
        except OSError as exc:
            if exc.errno == ENOSPC:  # of stdout, where the address is printed: no socket needs space
                raise
            where = f"{plain(options.host)}:{options.port}"
            why = "the port is in use; choose another with --port" if exc.errno == EADDRINUSE else exc.strerror or exc
            raise CannotListen(f"cannot listen on {where}: {why}") from exc


async def _serve(emulator: Emulator, options: SimpleNamespace, file: StateFile | None) -> None:
    """Serve, and keep the state in the file if there is one. Raises OSError, and `Unusable` before it listens."""
    if file is None:
        await serve(emulator, options.host, options.port, lambda url: announce(url, options))
        return
    file.load(emulator)
    file.save(emulator)  # if that is not possible it is said now, and not at the end
    keeping = asyncio.create_task(file.keep(emulator, lambda said: click.echo(plain(said), err=True)))
    try:
        await serve(emulator, options.host, options.port, lambda url: announce(url, options))
    finally:
        keeping.cancel()
        file.save(emulator)


def made(options: SimpleNamespace, **more: Any) -> Emulator:  # Any: arguments of Emulator
    """The emulator that these options describe; raises ValueError for what cannot be."""
    return Emulator(
        api_keys=options.api_key or None,
        speed=options.speed,
        rate_limit=options.rate_limit,
        latency=options.latency,
        imports_enabled=not options.no_imports,
        allow_hosts=options.allow_host,
        strict=options.strict,
        seed=options.seed,
        account_per_key=options.account_per_key,
        **more,
    )


def announce(url: str, options: SimpleNamespace) -> None:
    """Print where it listens, and how to send there."""
    click.echo(f"listening on {url}")
    if options.verbose:
        key = "<the key you gave>" if options.api_key else "anything"
        click.echo(f"  export USERPILOT_BASE_URL={url} USERPILOT_API_KEY={key}", err=True)
        click.echo(f"  export PARCELVOY_BASE_URL={url} PARCELVOY_API_KEY={key}", err=True)
        click.echo(f"  open {url} in a browser to see what is received; Ctrl-C ends it", err=True)


def arguments(words: Sequence[str] | None = None) -> SimpleNamespace:
    """The options of a command line, with the defaults for programs; raises click's exceptions for a wrong one."""
    given = list(sys.argv[1:] if words is None else words)
    with emulate.make_context("python -m userpilot_async.emulator", given, default_map=dict(FOR_PROGRAMS)) as context:
        return SimpleNamespace(**context.params)


class _Echo:
    """Printing in place: for a stdout that is no file of the system's, as in tests of the command line."""

    @staticmethod
    def print(line: str) -> None:
        click.echo(line)


@contextmanager
def printing() -> Iterator[LinePrinter | _Echo]:
    """A printer to stdout, which is closed at the end."""
    if sys.stdout is None:  # it was closed before the start, as by `>&-`
        yield _Echo()
        return
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # what is captured has no descriptor: io.UnsupportedOperation
        yield _Echo()
        return
    sys.stdout.flush()
    printer = LinePrinter(descriptor)
    try:
        yield printer
    finally:
        printer.close()
