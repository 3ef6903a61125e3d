"""``python -m benchmarks``: the table of what the client costs, beside its peers."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import ModuleType

from benchmarks import (
    backlog,
    bulk_cpu,
    disk,
    drain_rate,
    durable_calls,
    durable_stall,
    durable_start,
    import_dry_run,
    import_memory,
    import_rows,
    import_time,
    loop_stall,
    merged_cpu,
    pacing,
    parcelvoy_arrays,
    postgres_calls,
    postgres_dead_rows,
    postgres_drain,
    postgres_within,
    realtime_cpu,
    redis_calls,
    redis_drain,
    sample_requests,
    threads,
    track_cost,
    waiting_memory,
    web_endpoint,
)  # fmt: skip
from benchmarks.fresh import ROOT
from benchmarks.results import HEADINGS, Row

ROWS: list[ModuleType] = [
    track_cost, threads, loop_stall, web_endpoint, waiting_memory, bulk_cpu, merged_cpu, drain_rate, realtime_cpu,
    pacing, sample_requests, parcelvoy_arrays, import_time, durable_calls, durable_stall, durable_start, import_rows,
    import_dry_run, import_memory, backlog, redis_calls, redis_drain, postgres_within, postgres_calls, postgres_drain,
    postgres_dead_rows,
]  # fmt: skip
PEERS = (
    "httpx", "posthog", "snowplow-tracker", "segment-analytics-python", "mixpanel", "fastapi", "uvicorn",
    "persist-queue", "litequeue", "psycopg", "procrastinate",
)  # fmt: skip


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    names = [module.NAME for module in ROWS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about ten minutes instead of forty")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--directory", type=Path, metavar="PATH", help="for the files of the durable subjects")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here, too")
    return parser.parse_args(argv)


def machine() -> dict[str, str]:
    """Where and of what these figures are."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    installed = {one.name.lower(): one.version for one in metadata.distributions()}
    versions = [f"{name} {installed.get(name, 'not installed')}" for name in PEERS]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} × {model or platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "commit": commit.stdout.strip() or "unknown",
        "disk": disk.described(),
        "versions": ", ".join((*versions, f"SQLite {sqlite3.sqlite_version}")),
    }


def show(header: dict[str, str], rows: Sequence[Row]) -> None:
    for name, text in header.items():
        print(f"{name}: {text}")
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        for row in rows:
            print(" | ".join(row.cells()))
    else:
        table = Table(*HEADINGS)
        for row in rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row.cells()))
        Console(width=None if sys.stdout.isatty() else 160).print(table)
    for row in rows:
        print(f"\n{row.name}: {row.what}")
        for note in row.notes:
            print(f"  {note}")


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.directory is not None:
        disk.use(options.directory)
    header = machine()
    rows: list[Row] = []
    for module in ROWS:
        if options.only is None or module.NAME in options.only:
            print(f"{module.NAME} …", file=sys.stderr, flush=True)
            measured = module.run(options.quick)
            rows += [measured] if isinstance(measured, Row) else measured
    show(header, rows)
    if options.json is not None:
        content = {"header": header, "rows": [row.as_dict() for row in rows]}
        options.json.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
