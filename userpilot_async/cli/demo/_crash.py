"""`userpilot-async demo --crash`: a sender is killed in mid-flight, again and again, and nothing is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from .._emulate import emulator_process, records
from .._exits import Exit, Failed
from .._outbox_place import admin_of_file
from .._progress import Progress
from .._report import account_counts, account_text
from . import _app
from ._oracle import Judgement, expected, judge, shown
from ._processes import Moment, Process, living

if TYPE_CHECKING:
    from ..._outbox.admin import Inspection

KILLS = 4
MORE = 200  # calls that each life accepts, and
PROGRESS = 5  # that it delivers, at least, before it is killed
LATENCY = 0.05  # seconds until the emulator answers: so that requests are under way at any moment
PATIENCE = 60.0  # seconds for one life; they take some three


@attrs.frozen
class Death:
    """What a killed process left behind."""

    acknowledged: int
    """Calls that it had been told were accepted, of all lives."""
    accepted: int
    """Those that are in the account of the file."""
    waiting: int
    under_way: int
    """Requests of which nobody knows whether they have reached the server."""

    @property
    def proves(self) -> bool:
        """It was killed in mid-flight, and nothing that it had accepted is missing."""
        return bool(self.waiting and self.under_way and self.acknowledged <= self.accepted)


@attrs.frozen
class CrashReport:
    """How it went."""

    deaths: list[Death]
    account: dict[str, int]
    """Of the file, at the end."""
    valid: int
    """Calls in the sample."""
    possible_duplicates: int
    """As all lives together have reported."""
    judgement: Judgement
    elapsed: float

    @property
    def exit_code(self) -> Exit:
        """Fine is: killed as often as promised, in mid-flight, and everything has arrived all the same."""
        held = self.judgement
        lost = self.account["dead"] + self.account["dropped"] + self.account["pending"]
        arrived = held.fine_but_for(self.possible_duplicates)
        killed = len(self.deaths) == KILLS and all(death.proves for death in self.deaths)
        return Exit.FINE if killed and arrived and not lost and self.account["accepted"] == self.valid else Exit.LOST

    def as_text(self) -> list[str]:
        """The report; the conservation law first."""
        fewest = min((death.waiting for death in self.deaths), default=0)
        under_way = sum(death.under_way for death in self.deaths)
        times = f"killed {len(self.deaths)} times" if len(self.deaths) != 1 else "killed once"
        return [
            account_text(self.account),
            f"{times}, with {fewest:,} calls or more waiting, and {under_way} requests under way in all",
            f"calls in the sample: {self.valid:,}; possible duplicates: {self.possible_duplicates:,}",
            str(self.judgement),
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "exit_code": int(self.exit_code),
            "elapsed": round(self.elapsed, 3),
            "deaths": [attrs.asdict(death) for death in self.deaths],
            **self.account,
            "calls": self.valid,
            "possible_duplicates": self.possible_duplicates,
            "emulator": attrs.asdict(self.judgement),
        }


async def perform(sample: Path, progress: Progress) -> CrashReport:
    """Start the emulator; accept and send, be killed, and again; compare. Raises `Failed` if that cannot be."""
    started = anyio.current_time()
    with tempfile.TemporaryDirectory(prefix="userpilot-async-") as directory:
        path = Path(directory, "userpilot.db")
        outbox = admin_of_file(path)
        async with emulator_process("--latency", str(LATENCY)) as url:
            progress.say(f"emulator on {url}; calls wait in {path}")
            deaths: list[Death] = []
            duplicates = 0
            while True:
                async with living(_app, url, str(path), str(sample)) as life:
                    last = await _watch(life, None if len(deaths) == KILLS else MORE * (len(deaths) + 1))
                duplicates += last["possible_duplicates"]
                seen: Inspection = outbox.inspect()
                if last["done"]:
                    break
                death = Death(last["accepted"], seen.account.accepted, seen.account.waiting, seen.under_way)
                deaths.append(death)
                progress.say(_obituary(len(deaths), life.pid, death, seen))
            progress.say(f"process {life.pid} went on to the end; asking the emulator what it holds")
            lines = _app.lines_of(sample)
            should = expected(lines)
            held = shown(*[await records(url, name) for name in ("users", "companies", "events")])
    return CrashReport(
        deaths=deaths,
        account=account_counts(seen.account),
        valid=len(lines) - len(should.refused),
        possible_duplicates=duplicates,
        judgement=judge(should, held),
        elapsed=anyio.current_time() - started,
    )


def _obituary(number: int, pid: int, death: Death, seen: Inspection) -> str:
    left = f"{death.waiting:,} calls wait in the file, {death.under_way} requests were under way"
    return (
        f"{number}. killed process {pid} (SIGKILL): {death.accepted:,} calls had been accepted, "
        f"{seen.account.delivered:,} delivered; {left}"
    )


async def _watch(life: Process, enough: int | None) -> Moment:
    """The moment in which to kill it: so many calls accepted, some delivered, others on their way; or its end."""
    before = -1  # delivered at the first look
    with anyio.move_on_after(PATIENCE):
        while (moment := await life.moment()) is not None:
            before = moment["delivered"] if before < 0 else before
            ripe = enough is not None and moment["accepted"] >= enough and moment["pending"]
            if moment["done"] or (ripe and moment["in_flight"] and moment["delivered"] >= before + PROGRESS):
                return moment
    raise Failed("the process that was to be killed ended by itself, or kept silent")
