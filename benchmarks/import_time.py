"""How long the import takes, beside that of httpx, which it contains."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.fresh import ROOT
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.subjects import FLOOR, OURS, POSTHOG

NAME = "import_time"
GOAL = 1.2  # times `import httpx`
MODULES = {OURS: "userpilot_async", POSTHOG: "posthog", FLOOR: "httpx"}


def import_once(subject: str) -> Figures:
    """Milliseconds in a new interpreter."""
    code = f"from time import perf_counter as now; start = now(); import {MODULES[subject]}; print(now() - start)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {"import": float(done.stdout) * 1_000}


def run(quick: bool) -> Row:
    for subject in MODULES:
        import_once(subject)  # writes the bytecode
    results = interleaved(MODULES, 15 if quick else 31, import_once)
    figures = column(results, "import")
    ratio = figures[OURS] / figures[FLOOR]
    return Row(
        name=NAME,
        what="import",
        unit="ms",
        goal=f"≤ {GOAL} × import httpx",
        met=ratio <= GOAL,
        figures=figures,
        notes=(f"{ratio:.2f} × import httpx (the floor)",),
    )
