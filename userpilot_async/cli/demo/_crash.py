"""`userpilot-async demo --crash`: a sender is killed in mid-flight four times, and nothing is lost."""

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
from .._text import account_counts, account_text
from . import _app
from ._oracle import Judgement, expected, judge, shown
from ._processes import Process, State, running

if TYPE_CHECKING:
    from ..._outbox.admin import Inspection

KILLS = 4
MORE = 200  # calls that each process accepts before it is killed
PROGRESS = 5  # calls that it delivers before, at least
LATENCY = 0.05  # seconds until the emulator answers: so that requests are under way at any moment
PATIENCE = 60.0  # seconds for one process; it takes some three


@attrs.frozen
class Death:
    """The state in which a killed process left its outbox."""

    acknowledged: int
    """Calls for which `enqueue` had returned, in all processes so far."""
    accepted: int
    """Accepted calls by the account in the file."""
    waiting: int
    under_way: int
    """Requests that may or may not have reached the server."""

    @property
    def proves(self) -> bool:
        """Whether the process was killed in mid-flight, and the file has all that it had accepted."""
        return bool(self.waiting and self.under_way and self.acknowledged <= self.accepted)


@attrs.frozen
class CrashReport:
    """The result of `demo --crash`."""

    deaths: list[Death]
    account: dict[str, int]
    """The account in the file, at the end."""
    valid: int
    """Valid calls in the sample."""
    possible_duplicates: int
    """Sum of what all processes have reported."""
    judgement: Judgement
    elapsed: float

    @property
    def exit_code(self) -> Exit:
        """`Exit.FINE` if the sender was killed four times in mid-flight, and everything has arrived all the same."""
        lost = self.account["dead"] + self.account["dropped"] + self.account["pending"]
        arrived = self.judgement.fine_but_for(self.possible_duplicates)
        killed = len(self.deaths) == KILLS and all(death.proves for death in self.deaths)
        return Exit.FINE if killed and arrived and not lost and self.account["accepted"] == self.valid else Exit.LOST

    def as_text(self) -> list[str]:
        """The report in lines, the conservation law first."""
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
        """The report as a JSON object."""
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
    """Start the emulator, kill the application four times, and compare. Raises `Failed` if a process misbehaves."""
    started = anyio.current_time()
    with tempfile.TemporaryDirectory(prefix="userpilot-async-") as directory:
        path = Path(directory, "userpilot.db")
        outbox = admin_of_file(path)
        async with emulator_process("--latency", str(LATENCY)) as url:
            progress.print(f"emulator on {url}; calls wait in {path}")
            deaths: list[Death] = []
            duplicates = 0
            while True:
                async with running(_app, url, str(path), str(sample)) as app:
                    last = await _watch(app, None if len(deaths) == KILLS else MORE * (len(deaths) + 1))
                duplicates += last["possible_duplicates"]
                seen: Inspection = outbox.inspect()
                if last["done"]:
                    break
                death = Death(last["accepted"], seen.account.accepted, seen.account.waiting, seen.under_way)
                deaths.append(death)
                progress.print(_death_text(len(deaths), app.pid, death, seen))
            progress.print(f"process {app.pid} ran to the end; comparing with the emulator")
            lines = _app.lines_of(sample)
            should = expected(lines)
            found = shown(*[await records(url, name) for name in ("users", "companies", "events")])
    return CrashReport(
        deaths=deaths,
        account=account_counts(seen.account),
        valid=len(lines) - len(should.refused),
        possible_duplicates=duplicates,
        judgement=judge(should, found),
        elapsed=anyio.current_time() - started,
    )


def _death_text(number: int, pid: int, death: Death, seen: Inspection) -> str:
    left = f"{death.waiting:,} calls wait in the file, {death.under_way} requests were under way"
    return (
        f"{number}. killed process {pid} (SIGKILL): {death.accepted:,} calls had been accepted, "
        f"{seen.account.delivered:,} delivered; {left}"
    )


async def _watch(app: Process, enough: int | None) -> State:
    """Wait until ``enough`` calls are accepted, some delivered, and others on their way; else for the app's end."""
    before = -1  # delivered in the first state
    with anyio.move_on_after(PATIENCE):
        while (state := await app.state()) is not None:
            before = state["delivered"] if before < 0 else before
            ripe = enough is not None and state["accepted"] >= enough and state["pending"]
            if state["done"] or (ripe and state["in_flight"] and state["delivered"] >= before + PROGRESS):
                return state
    raise Failed("the process that was to be killed ended by itself, or printed nothing")
