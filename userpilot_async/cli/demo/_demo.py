"""`userpilot-async demo`: 20,550 calls are sent to an emulator, and its contents are compared afterwards."""

from __future__ import annotations

import gzip
from importlib import resources
from pathlib import Path
from typing import Any

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
from . import _crash, _pods
from ._oracle import Judgement, expected, judge, shown
from ._redis_server import redis_program

BURST = 300  # no other process spends from this limit; 550 events would take 45 s with the default of 100
NEXT = (
    "",
    "Next:",
    "  userpilot-async demo --crash   the sender is killed four times, and nothing is lost",
    "  userpilot-async emulate        an emulator to develop against",
    "  userpilot-async docs fastapi   how to use it in an application",
)
PATIENCE = 120.0  # seconds: four times what it takes on a slow laptop


@click.command(short_help="See 20,550 calls arrive at an emulator.")
@click.option("--crash", is_flag=True, help="Kill the sender in mid-flight, four times, and lose nothing.")
@click.option("--pods", type=click.IntRange(1, 8), metavar="N",
              help="Let N processes put calls into Redis; the one that sends is killed.")  # fmt: skip
@json_option
def demo(as_json: bool, crash: bool, pods: int | None) -> None:
    """Send 20,550 invented calls to an emulator on this machine, and prove that all of them arrived. Half a minute.

    20,000 identifies of 2,000 users in 50 companies, 550 events and 12 bad lines, in `sample.ndjson.gz` of this
    package. Afterwards the emulator is compared with a second, plain reading of the file. No account, no network.

    With --crash, 1,200 lines of it go through an outbox on disk, in a temporary directory, and the process that accepts
    and sends them is killed (SIGKILL) with calls waiting and requests under way, and started again, four times.

    With --pods 3, three processes put those 1,200 lines into an outbox in Redis, a server started for this; of two
    that may send, one does, and is killed half-way; the other one takes over, with what is left of the rate limit.
    """
    if crash and pods:
        raise click.UsageError("--crash and --pods exclude each other")
    emulator_package()
    program = redis_program() if pods else ""
    with resources.as_file(resources.files("userpilot_async.cli") / "sample.ndjson.gz") as sample:
        if crash or pods:
            report: _crash.CrashReport | _pods.FailoverReport
            if pods:
                report = anyio.run(_pods.perform, sample, pods, program, Progress(stderr()))
            else:
                report = anyio.run(_crash.perform, sample, Progress(stderr()))
            if as_json:
                echo_json(report.as_dict())
            else:
                echo(*report.as_text())
            click.get_current_context().exit(report.exit_code)
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
