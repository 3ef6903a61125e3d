"""`userpilot-async outbox`: what waits in a durable outbox, what was lost, and what can be done about that."""

from __future__ import annotations

from typing import Any

import attrs
import click

from .._outbox.admin import OutboxAdmin, Selection, Subject, server_of
from .._outbox.owner import Claim
from .._runtime.environment import variable
from ._console import echo, echo_json, echo_json_line, echo_table
from ._exits import Failed
from ._outbox_place import VARIABLES, OutboxPlace, place_given
from ._outbox_text import as_dict, as_text, erased_text, line_of_call, sender_text, table
from ._recipients import recipient_at
from ._server import Server, json_option, talks_to_server, to_option
from ._text import calls_text, waiting_text


class Outboxes(click.Group):
    """A group in which an outbox, which is no command's name, is to be shown."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command `show` in front of an outbox that is given without a command."""
        first = next((one for one in args if not one.startswith("-")), None)
        asks_for_help = any(one in ctx.help_option_names for one in args)
        in_environment = not asks_for_help and any(variable(name) for name in VARIABLES.values())
        if first not in self.commands and (first is not None or in_environment):
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both forms: with a command, and without one."""
        formatter.write_usage(ctx.command_path, "OUTBOX [--json]")
        formatter.write_usage(ctx.command_path, "COMMAND OUTBOX [OPTIONS]", prefix="       ")


outbox_argument = click.argument("given", metavar="[OUTBOX]", type=OutboxPlace(), required=False)
reason_option = click.option("--reason", "reasons", multiple=True, metavar="REASON",
                             help="Only those lost for this reason; may be repeated.")  # fmt: skip


@click.group(cls=Outboxes, name="outbox", short_help="Show, retry and purge what an outbox has.")
def outbox() -> None:
    """Show how many calls wait in an OUTBOX, since when, and which process sends them.

    OUTBOX is a path or sqlite:///path for one on disk, or the URL of one in Redis, redis://host:6379/0?name=x, or in
    PostgreSQL, postgresql://host/database?name=x. The default is USERPILOT_OUTBOX or PARCELVOY_OUTBOX, which is better
    for a URL with a password, since `ps` shows arguments. The commands work while other processes use the outbox, and
    without any.
    """


# ── show ──


@outbox.command(short_help="Show what waits.")
@outbox_argument
@json_option
def show(given: OutboxAdmin | None, as_json: bool) -> None:
    """Show what waits in OUTBOX; the same as `outbox OUTBOX`."""
    seen = place_given(given).inspect()
    if as_json:
        echo_json(as_dict(seen))
    else:
        echo(*as_text(seen))


# ── dead ──


@outbox.command(short_help="List the lost calls that are kept.")
@outbox_argument
@reason_option
@click.option("--json", "as_json", is_flag=True, help="Print the calls, one a line, as `send` reads them.")
def dead(given: OutboxAdmin | None, reasons: tuple[str, ...], as_json: bool) -> None:
    """List the dead and dropped calls that are kept in OUTBOX, without their properties."""
    found = place_given(given).dead_letters(Selection(reasons))
    lost = found.kept
    if as_json:
        unreadable = 0
        for one in lost:
            line = line_of_call(server_of(found.destination or ""), one.call)
            if line is not None:
                echo_json_line(line)
            unreadable += line is None
        if unreadable:
            echo(f"{calls_text(unreadable)} cannot be written as lines: damaged, or of an unknown kind", err=True)
        return
    if not lost:
        echo("no dead or dropped calls are kept" + (" for these reasons" if reasons else ""))
        return
    echo_table(table(lost))


# ── retry ──


@outbox.command(short_help="Put lost calls back into the queue.")
@outbox_argument
@reason_option
@click.option("--id", "ids", multiple=True, type=click.IntRange(min=0), metavar="ID",
              help="Only this call, as `outbox dead` lists it; may be repeated.")  # fmt: skip
@json_option
def retry(given: OutboxAdmin | None, reasons: tuple[str, ...], ids: tuple[int, ...], as_json: bool) -> None:
    """Put dead and dropped calls of OUTBOX back into the queue, behind all that wait.

    They are accepted again under new ids. They keep their order and the time of their first acceptance: a call that is
    older than a sender's `max_age` (a day) expires again.
    """
    place = place_given(given)
    done, sender = place.retry(Selection(reasons, ids)), place.holder()
    if as_json:
        first = done.ids[0][0] if done.calls else None
        missing = list(done.missing)
        echo_json({"retried": done.calls, "first_id": first, "damaged": done.damaged, "missing": missing})
    elif done.calls:
        stretches = (f"{first} to {last}" if last > first else f"{first}" for first, last in done.ids)
        echo(f"{waiting_text(done.calls)} again, as {', '.join(stretches)}")
        echo(f"sender: {sender_text(sender)}")
    elif not done.damaged and not done.missing:
        echo("there is nothing to put back")
    if done.damaged:
        echo(f"not put back: {calls_text(done.damaged)} whose rows are damaged", err=True)
    if done.missing:
        raise Failed(f"not kept, so not put back: {', '.join(map(str, done.missing))}")


# ── purge ──


@outbox.command(short_help="Erase a person or a company.")
@outbox_argument
@click.option("--user", metavar="ID", help="A Userpilot user; at Parcelvoy, an external_id or anonymous_id.")
@click.option("--company", metavar="ID", help="A company, also where identifies of users name it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(given: OutboxAdmin | None, user: str | None, company: str | None, yes: bool, as_json: bool) -> None:
    """Erase a person, or a company, everywhere in OUTBOX; on disk also from SQLite's free pages and its log.

    Waiting calls of the person or company are dropped, reason `purged`. Mentions in the properties of others stay. All
    processes that use a file wait meanwhile: some seconds if it is large.

    Calls in Redis cannot be changed: identifies of users that name the company stay as they are, and are counted.
    Erased data stays in AOF, snapshots and replicas' files until Redis writes those anew; in PostgreSQL, until it
    vacuums, and in its log, replicas and backups.
    """
    if (user is None) == (company is None):
        raise click.UsageError("name one of them: --user ID or --company ID")
    place = place_given(given)
    whose = Subject("user", user) if user is not None else Subject("company", company or "")
    if not yes:
        echo(*erased_text(place.purge(whose, really=False), place.kind), err=True)
        click.confirm("Erase?", abort=True, err=True)
    erased, sender = place.purge(whose), place.holder()
    if as_json:
        found = {**attrs.asdict(erased), "known_as": sorted(erased.known_as), "sender_live": sender is not None}
        echo_json(found)
    else:
        echo(*erased_text(erased, place.kind))
    if sender is not None:
        echo(f"{sender} sends: calls that it has in memory may still be sent", err=True)
    if erased.quarantined:
        echo(f"quarantined files are not touched: {', '.join(erased.quarantined)}", err=True)


# ── rebind ──


@outbox.command(short_help="Give it to another key or server.")
@outbox_argument
@to_option
@json_option
@talks_to_server
def rebind(server: Server, given: OutboxAdmin | None, to: str, as_json: bool) -> None:
    """Give OUTBOX to another API key or server; its calls go there from now on.

    No process may be sending from it. Processes that only put calls go on: stop them too if the new key is for another
    account.
    """
    place = place_given(given, to)
    client = recipient_at(server, to, "memory://").client
    destination = f"{client._destination.name} at {client._connection.base_url}"  # as `DeliveryClient` has it
    done = place.rebind(Claim(destination, client._connection.keys.fingerprint))
    if as_json:
        echo_json({"before": done.before, "now": destination, "waiting": done.waiting})
    elif done.before == destination:
        echo(f"{place.place}: {waiting_text(done.waiting)} for {destination}, now with this API key")
    else:
        before = done.before or "no server"
        echo(f"{place.place}: {waiting_text(done.waiting)} for {destination} now, before for {before}")


# ── migrate ──


@outbox.command(short_help="Make its tables in PostgreSQL.")
@outbox_argument
@click.option("--sql", "only_shown", is_flag=True, help="Print the statements, and run none of them.")
def migrate(given: OutboxAdmin | None, only_shown: bool) -> None:
    """Make the tables of OUTBOX in PostgreSQL, or bring them to this version: once, before any client opens it.

    The role of the URL needs the right to create tables. Clients need none but SELECT, INSERT, UPDATE and DELETE on
    these afterwards; roles that only put calls in their own transactions, INSERT on the one that ends in _inbox.
    """
    place: Any = place_given(given)  # of these, only PostgreSQL's has tables to be made
    if place.kind != "postgres":
        raise click.UsageError(
            "only an outbox in PostgreSQL has to be made: a file, or Redis, is one when it is opened"
        )
    if only_shown:
        statements = place.plan()
        whole = "".join(f"{one};\n" for one in ("BEGIN", *statements, "COMMIT")) if statements else "-- nothing to do"
        echo(*whole.splitlines())  # a line at a time: what would break one is escaped
        return
    made = place.migrate()
    echo(f"{place.place}: {'the tables are made' if made else 'nothing to do, the tables are of this version'}")
