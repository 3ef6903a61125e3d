"""`userpilot-async demo`: 20,550 calls are sent to an emulator, and its contents are compared afterwards."""

from __future__ import annotations

import gzip
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn, Protocol

import anyio
import attrs
import click

from ..._settings import Settings
from .._console import echo, echo_json, stderr
from .._delivery import Delivery
from .._delivery_text import as_dict, as_text
from .._emulate import emulator_package, emulator_process, records
from .._exits import Exit
from .._progress import Progress
from .._recipients import Userpilot
from .._server import Server, json_option
from .._source import Rejections, Source
from . import _crash, _pods, _transactions
from ._oracle import Judgement, expected, judge, shown
from ._postgres_server import postgres_programs
from ._redis_server import redis_program

BURST = 300  # no other process spends from this limit; 550 events would take 45 s with the default of 100
NEXT = (
    "",
    "Next:",
    "  userpilot-async demo --crash          the sender is killed four times, and nothing is lost",
    "  userpilot-async demo --transactions   events commit with orders in PostgreSQL",
    "  userpilot-async emulate               an emulator to develop against",
    "  userpilot-async docs fastapi          how to use it in an application",
)
PATIENCE = 120.0  # seconds: four times what it takes on a slow laptop


@click.command(short_help="See 20,550 calls arrive at an emulator.")
@click.option("--crash", is_flag=True, help="Kill the sender in mid-flight, four times, and lose nothing.")
@click.option("--pods", type=click.IntRange(1, 8), metavar="N",
              help="Let N processes put calls into Redis; the one that sends is killed.")  # fmt: skip
@click.option("--outbox", metavar="URL", help="With --pods: this empty outbox in Redis or PostgreSQL, not a new Redis.")
@click.option("--transactions", is_flag=True, help="Commit events with a shop's orders in PostgreSQL; kill two of it.")
@json_option
def demo(as_json: bool, crash: bool, pods: int | None, outbox: str | None, transactions: bool) -> None:
    """Send 20,550 invented calls to an emulator on this machine, and prove that all of them arrived. Half a minute.

    20,000 identifies of 2,000 users in 50 companies, 550 events and 12 bad lines, in `sample.ndjson.gz` of this
    package. Afterwards the emulator is compared with a second, plain reading of the file. No account, no network.

    With --crash, 1,200 lines of it go through an outbox on disk, in a temporary directory, and the process that accepts
    and sends them is killed (SIGKILL) with calls waiting and requests under way, and started again, four times.

    With --pods 3, three processes put those 1,200 lines into an outbox in Redis, a server started for this; of two
    that may send, one does, and is killed half-way; the other one takes over, with what is left of the rate limit.
    --outbox URL takes an outbox of yours instead, in which nothing was ever put: redis://… or postgresql://…

    With --transactions, four processes of a shop write orders into a PostgreSQL started for this, each in a transaction
    with an event about it; a third is rolled back. Two processes are killed, the sender among them. In the end the
    events at the emulator are compared with the table of orders.
    """
    if [crash, pods is not None, transactions].count(True) > 1:
        raise click.UsageError("--crash, --pods and --transactions exclude each other")
    if outbox is not None and pods is None:
        raise click.UsageError("--outbox needs --pods: all others start what they need")
    emulator_package()
    if transactions:
        programs = postgres_programs()
        _end_with(anyio.run(_transactions.perform, programs, Progress(stderr())), as_json)
    place = None if pods is None else _pods.Started(redis_program()) if outbox is None else _pods.given(outbox)
    with resources.as_file(resources.files("userpilot_async.cli") / "sample.ndjson.gz") as sample:
        if pods is not None and place is not None:
            _end_with(anyio.run(_pods.perform, sample, pods, place, Progress(stderr())), as_json)
        if crash:
            _end_with(anyio.run(_crash.perform, sample, Progress(stderr())), as_json)
        performance = anyio.run(perform, sample)
    delivery, judgement = performance.delivery, performance.judgement
    if as_json:
        echo_json(performance.as_dict())
    else:
        echo(*as_text(delivery), *(f"  {line}" for line in delivery.rejections.kept))
        echo(*("emulator: not compared" if judgement is None else str(judgement)).split("\n"))
        if judgement is not None and not performance.refused_alike:
            echo("emulator: the client and the plain reading rejected different lines")
        if performance.exit_code is Exit.FINE:
            echo(*NEXT)
    if delivery.trouble is not None:
        raise delivery.trouble
    click.get_current_context().exit(performance.exit_code)


class _Report(Protocol):
    """The result of one of the other demonstrations."""

    @property
    def exit_code(self) -> Exit: ...
    def as_text(self) -> list[str]: ...
    def as_dict(self) -> dict[str, Any]: ...


def _end_with(report: _Report, as_json: bool) -> NoReturn:
    """Print a report, and end the command with its verdict."""
    if as_json:
        echo_json(report.as_dict())
    else:
        echo(*report.as_text())
    click.get_current_context().exit(report.exit_code)


@attrs.frozen
class Performance:
    """The result of the plain `demo`."""

    delivery: Delivery
    judgement: Judgement | None
    """The comparison with the emulator; ``None`` if the delivery failed before."""
    refused_alike: bool
    """The client rejected exactly the lines that a plain reading rejects."""

    @property
    def exit_code(self) -> Exit:
        """The bad lines of the sample are meant to be rejected: they are no failure here."""
        delivery = self.delivery
        if delivery.interrupted or delivery.trouble is not None:
            return delivery.exit_code
        seen = delivery.report.statistics
        lost = seen.dead or seen.dropped or seen.pending
        fine = not lost and self.refused_alike and self.judgement is not None and self.judgement.fine
        return Exit.FINE if fine else Exit.LOST

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        emulator = None if self.judgement is None else {**attrs.asdict(self.judgement), "fine": self.judgement.fine}
        return {**as_dict(self.delivery), "exit_code": int(self.exit_code), "emulator": emulator}


async def perform(sample: Path) -> Performance:
    """Start the emulator, deliver the sample, compare."""
    progress = Progress(stderr())
    async with emulator_process() as url:
        progress.print(f"emulator on {url}, a process of its own; sending {sample.name}")
        server = Server(api_key="demo", region="us", base_url=url, disabled=False)
        settings = Settings(burst=BURST, when_full="wait", max_wait=None)
        userpilot = Userpilot(server.client(settings, outbox="memory://"))
        with Source(str(sample)) as source:
            delivery = Delivery(userpilot, source, progress, Rejections(), timeout=PATIENCE)
            await delivery.run()
        if delivery.interrupted or delivery.trouble is not None:
            return Performance(delivery, None, refused_alike=False)
        progress.print("comparing with the emulator")
        with gzip.open(sample) as lines:
            should = expected(lines)
        found = shown(*[await records(url, name) for name in ("users", "companies", "events")])
        alike = should.refused == [rejection.line for rejection in delivery.rejections.kept]
        return Performance(delivery, judge(should, found), alike)
