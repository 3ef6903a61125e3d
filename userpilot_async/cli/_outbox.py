"""`userpilot-async outbox`: what waits in a durable outbox, what was lost, and what can be done about that."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import click
from rich.console import Console

from ._exits import Failed, NotPossible
from ._jobs import WIDE, printable
from ._outbox_words import as_dict, as_text, erased_text, line_of_call, sender_text, table
from ._recipients import recipient_at
from ._report import calls_text, encoded, waiting_text
from ._server import Server, json_option, talks_to_server, to_option


def sqlite_package(module: str) -> ModuleType:
    """A module of `userpilot_async.sqlite`; ends the command where there can be none. Not loaded for nothing."""
    try:
        return import_module(f"..sqlite.{module}", __package__)
    except ImportError as exc:
        raise NotPossible(str(exc)) from None


class OutboxFile(click.Path):
    """The path of an outbox that exists: as it is, or as a URL."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click wants it."""
        if isinstance(value, str) and "://" in value:
            if not value.startswith("sqlite://"):
                self.fail("only an outbox on disk can be looked at: its path, or sqlite:///path", param, ctx)
            try:
                value = sqlite_package("_outbox").SQLiteOutbox.from_url(value).path
            except ValueError as exc:
                self.fail(str(exc), param, ctx)
        return super().convert(value, param, ctx)


class Outboxes(click.Group):
    """A group in which a file that is no command's name is to be shown."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it."""
        first = next((one for one in args if not one.startswith("-")), None)
        if first is not None and first not in self.commands:
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """With the short form."""
        formatter.write_usage(ctx.command_path, "FILE [--json]")
        formatter.write_usage(ctx.command_path, "COMMAND FILE [OPTIONS]", prefix="       ")


file_argument = click.argument("path", metavar="FILE", type=OutboxFile())
reason_option = click.option("--reason", "reasons", multiple=True, metavar="REASON",
                             help="Only those lost for this reason; may be repeated.")  # fmt: skip


@click.group(cls=Outboxes, name="outbox")
def outbox() -> None:
    """Show what waits in FILE, an outbox on disk (a path, or sqlite:///path): how much, since when, and who sends it.

    Works beside the processes that use the file, and without any.
    """


# ── show ──


@outbox.command()
@file_argument
@json_option
def show(path: Path, as_json: bool) -> None:
    """Show what waits in FILE; the same as `outbox FILE`."""
    seen, now = sqlite_package("_inspect").look(path), time.time()
    click.echo(encoded(as_dict(seen, now)) if as_json else "\n".join(as_text(seen, now)))


# ── dead ──


@outbox.command()
@file_argument
@reason_option
@click.option("--json", "as_json", is_flag=True, help="Print the calls, one a line, as `send` reads them.")
def dead(path: Path, reasons: tuple[str, ...], as_json: bool) -> None:
    """List the dead and dropped calls that are kept in FILE: whose they are, not what they say."""
    inspect = sqlite_package("_inspect")
    destination, lost = inspect.lost(path, reasons)
    if as_json:
        unreadable = 0
        for one in lost:
            line = line_of_call(inspect.server_of(destination or ""), one)
            if line is not None:
                click.echo(line)
            unreadable += line is None
        if unreadable:
            click.echo(f"{calls_text(unreadable)} cannot be written as lines: damaged, or of an unknown kind", err=True)
        return
    if not lost:
        click.echo("no dead or dropped calls are kept" + (" for these reasons" if reasons else ""))
        return
    console = Console()
    console.width = max(console.width, WIDE)
    console.print(table(lost))


# ── retry ──


@outbox.command()
@file_argument
@reason_option
@click.option("--id", "ids", multiple=True, type=click.IntRange(min=0), metavar="ID",
              help="Only this call, as `outbox dead` lists it; may be repeated.")  # fmt: skip
@json_option
def retry(path: Path, reasons: tuple[str, ...], ids: tuple[int, ...], as_json: bool) -> None:
    """Put dead and dropped calls of FILE back in line, behind all that wait.

    They are accepted once more, under new ids, and keep their order and the time at which they were accepted first:
    one that is older than a sender's `max_age` (a day) expires again.
    """
    inspect = sqlite_package("_inspect")
    done = inspect.retry(path, reasons, ids)
    sender = inspect.holder(path)
    if as_json:
        first = done.first_id if done.calls else None
        missing = list(done.missing)
        click.echo(encoded({"retried": done.calls, "first_id": first, "damaged": done.damaged, "missing": missing}))
    elif done.calls:
        again = f"{waiting_text(done.calls)} again, as {done.first_id}"
        click.echo(again + (f" to {done.first_id + done.calls - 1}" if done.calls > 1 else ""))
        click.echo(f"sender: {sender_text(sender, time.time())}")
    elif not done.damaged and not done.missing:
        click.echo("there is nothing to put back")
    if done.damaged:
        click.echo(f"not put back: {calls_text(done.damaged)} whose rows are damaged", err=True)
    if done.missing:
        raise Failed(f"not kept, so not put back: {', '.join(map(str, done.missing))}")


# ── purge ──


@outbox.command()
@file_argument
@click.option("--user", metavar="ID", help="A Userpilot user; at Parcelvoy, an external_id or anonymous_id.")
@click.option("--company", metavar="ID", help="A company, also where identifies of users name it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(path: Path, user: str | None, company: str | None, yes: bool, as_json: bool) -> None:
    """Erase a person, or a company, everywhere in FILE, also from what SQLite leaves in free pages and in its log.

    Their waiting calls are dropped, reason `purged`. What is said of them in the properties of others stays. All who
    use the file wait meanwhile: some seconds if it is large.
    """
    if (user is None) == (company is None):
        raise click.UsageError("say who is meant: either --user ID or --company ID")
    erasing, inspect = sqlite_package("_purge"), sqlite_package("_inspect")
    whose = erasing.Whose("user", user) if user is not None else erasing.Whose("company", company)
    if not yes:
        click.echo("\n".join(erased_text(erasing.purge(path, whose, really=False))), err=True)
        click.confirm("Erase?", abort=True, err=True)
    erased, sender, left = erasing.purge(path, whose), inspect.holder(path), inspect.quarantined(path)
    if as_json:
        known_as = sorted(erased.known_as)
        found = {**attrs.asdict(erased), "known_as": known_as, "sender_live": sender is not None, "quarantined": left}
        click.echo(encoded(found))
    else:
        click.echo("\n".join(erased_text(erased)))
    if sender is not None:
        click.echo(f"{sender} sends: what it had taken into its memory may still go out", err=True)
    if left:
        click.echo(f"quarantined files are not touched: {', '.join(map(printable, left))}", err=True)


# ── rebind ──


@outbox.command()
@file_argument
@to_option
@json_option
@talks_to_server
def rebind(server: Server, path: Path, to: str, as_json: bool) -> None:
    """Give FILE to another API key or server; its calls go there from now on.

    Nobody may be sending from it. Processes that only put go on doing so: end them too, if the account is another.
    """
    client = recipient_at(server, to, "memory://").client
    destination = f"{client._destination.name} at {client._connection.base_url}"  # as `Door` says it to an outbox
    done = sqlite_package("_inspect").rebind(path, destination, client._connection.keys.fingerprint)
    if as_json:
        click.echo(encoded({"before": done.before, "now": destination, "waiting": done.waiting}))
    elif done.before == destination:
        click.echo(f"{path}: {waiting_text(done.waiting)} for {destination}, now with this API key")
    else:
        click.echo(f"{path}: {waiting_text(done.waiting)} for {destination} now, before for {done.before or 'nobody'}")
