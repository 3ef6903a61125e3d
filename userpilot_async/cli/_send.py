"""`userpilot-async send`: a file of calls, delivered."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import click

from ._console import stderr
from ._delivery import Delivery
from ._delivery_text import as_dict, as_text
from ._drain import outbox_there
from ._exits import NotPossible
from ._progress import Progress
from ._recipients import recipient_at
from ._run import run_command
from ._server import Seconds, Server, json_option, late_option, talks_to_server, to_option
from ._source import Rejections, Source, Unreadable


@click.command(short_help="Send calls from a file or stdin.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True))
@to_option
@click.option("--outbox", "place", metavar="FILE", help="An outbox (a path, or a URL of any kind) in which"
              " the calls wait, and undelivered ones stay. Default: memory. [USERPILOT_OUTBOX]")  # fmt: skip
@click.option("--strict", is_flag=True, help="Stop at the first bad line; the lines before it are delivered.")
@click.option("--timeout", type=Seconds(min=0), metavar="SECONDS", help="Limit of the whole run. Default: none.")
@late_option
@json_option
@talks_to_server
def send(
    server: Server, file: str, to: str, place: str | None, strict: bool, timeout: float | None,
    late_after: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Send the calls in FILE (- is stdin; .gz is unpacked), one JSON object a line, and wait until all are delivered.

    \b
    {"type": "identify", "user_id": "u1", "metadata": {"plan": "pro"}, "company": {"id": "acme"}}
    {"type": "identify_company", "company_id": "acme", "metadata": {"seats": 20}}
    {"type": "track", "user_id": "u1", "event_name": "Report Exported", "metadata": {"format": "csv"}}

    Each may have a "dedupe", such as a webhook's id: a later line with the same one is no call, for seven days.

    With --to parcelvoy, where a person has an external_id, an anonymous_id, or both:

    \b
    {"type": "identify", "external_id": "u1", "email": "ann@example.com", "data": {"plan": "pro"}}
    {"type": "alias", "anonymous_id": "a1", "external_id": "u1"}
    {"type": "device", "device_id": "d1", "external_id": "u1", "os": "iOS", "model": "iPad", "app_build": "7", "app_version": "1.2"}
    {"type": "track", "name": "Report Exported", "external_id": "u1", "data": {"format": "csv"}}

    With --outbox, the report counts all calls that waited or came in meanwhile, also those of other processes.

    A bad line is reported on stderr with its number and the reason, never its values, and skipped.
    Ctrl-C, SIGTERM, or the end of the terminal stops the reading; lines that were read are delivered for up to 10
    seconds. A second signal stops at once.
    """  # noqa: E501  # a line that is to be copied stays one
    recipient = recipient_at(server, to, outbox_there(place), late_after)
    try:
        opened = Source(file)
    except Unreadable as exc:
        raise NotPossible(str(exc)) from None
    with opened as source:
        progress = Progress(stderr())
        delivery = Delivery(recipient, source, progress, Rejections(progress.print), strict=strict, timeout=timeout)
        text = partial(_text_of, delivery)
        run_command(delivery, as_json=as_json, text=text, fields=partial(as_dict, delivery))


def _text_of(delivery: Delivery) -> Iterable[str]:
    """The report; nothing where the delivery failed before its first call."""
    began = delivery.report.statistics.accepted or delivery.trouble is None
    return as_text(delivery) if began else ()
