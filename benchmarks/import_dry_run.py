"""The cost of a whole dry run of an import, beside the bare round trip of its lines through JSON.

All of an import is in it but the sending: the fingerprint, reading, converting, checking, profiles carried forward in
the order of their times, the journal, and the files that would be uploaded.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from time import process_time

from benchmarks.fresh import measure
from benchmarks.import_rows import floor, most_memory, write
from benchmarks.results import Figures, Row
from benchmarks.subjects import FLOOR, OURS

NAME = "import_dry_run"
KINDS = ("segment", "posthog", "amplitude")
LINES, QUICK_LINES = 200_000, 50_000  # of each file
LONG, QUICK_LONG = 2_000_000, 500_000  # lines of the file whose memory is compared with that of a tenth
ROUNDS, QUICK_ROUNDS = 3, 2
GOALS = {5_000: 4.0, 200_000: 6.0}  # by users: times json.loads and json.dumps of the same lines
ALIKE = 1.15  # the memory that the long file takes, as part of what a tenth of it does


async def dry_run(path: str, kind: str) -> Figures:
    """CPU seconds, and bytes of memory at most."""
    from userpilot_async.imports import import_file

    with tempfile.TemporaryDirectory() as directory:
        before = process_time()
        report = await import_file(None, path, converted_from=kind, dry_run=directory)
        cpu = process_time() - before
    if report.refused or not report.complete:
        raise RuntimeError(f"{kind}: {report}")
    return {"cpu": cpu, "memory": most_memory(), "rows": report.valid, "late": report.out_of_order}


async def beside_the_floor(path: str, kind: str, rounds: int) -> Figures:
    """CPU seconds of the dry run and of the floor: the best of so many rounds, by turns in one process."""
    ours: list[float] = []
    bare: list[float] = []
    found: Figures = {}
    for _ in range(rounds):
        gc.collect()
        bare.append(floor(path, kind)["cpu"])
        gc.collect()
        found = await dry_run(path, kind)
        ours.append(found["cpu"])
    return {**found, OURS: min(ours), FLOOR: min(bare)}


def run(quick: bool) -> Row:
    lines, rounds = (QUICK_LINES, QUICK_ROUNDS) if quick else (LINES, ROUNDS)
    found: dict[tuple[str, int], Figures] = {}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "export.ndjson")
        for kind in KINDS:
            for users in GOALS:
                write(path, kind, lines, users)
                found[kind, users] = measure(beside_the_floor, path=str(path), kind=kind, rounds=rounds)
        long = QUICK_LONG if quick else LONG
        memory = {}
        for many in (long // 10, long):
            write(path, KINDS[0], many, max(GOALS))
            memory[many] = measure(dry_run, path=str(path), kind=KINDS[0])["memory"]
    ratios = {one: figures[OURS] / figures[FLOOR] for one, figures in found.items()}
    growth = memory[long] / memory[long // 10]
    micro = {subject: found[KINDS[0], min(GOALS)][subject] / lines * 1e6 for subject in (OURS, FLOOR)}
    return Row(
        name=NAME,
        what="a line of another tool's export in a dry run of its import",
        unit="µs of CPU",
        goal=" and ".join(f"≤ {goal:.0f} × JSON for {users:,} users" for users, goal in GOALS.items()),
        met=all(ratio <= GOALS[users] for (_, users), ratio in ratios.items()) and growth <= ALIKE,
        figures=micro,
        notes=(
            *(
                f"{kind}, {users:,} users: {ratios[kind, users]:.2f} × json.loads and json.dumps of its lines, "
                f"{found[kind, users]['rows'] / lines:.2f} rows a line"
                for kind, users in found
            ),
            *(f"memory for {many:,} lines of {KINDS[0]}: {most / 1e6:.0f} MB" for many, most in memory.items()),
        ),
    )
