"""Memory of a whole import: a file read, checked, carried forward, cut, uploaded and done, and the memory for it.

The server is in the process and takes every file at once, so that nothing but the import is measured. Ten million rows:

    python -m benchmarks.fresh benchmarks.import_memory whole '{"lines": 10000000}'
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from time import process_time

import httpx

from benchmarks.fresh import measure
from benchmarks.import_rows import most_memory, write
from benchmarks.results import Figures, Row
from benchmarks.subjects import OURS

NAME = "import_memory"
FEW = 250_000  # lines: two files are full, and a third is begun, so that all is in use that ever will be
MANY, QUICK_MANY = 1_500_000, 600_000
ALIKE = 1.15  # the memory that a long file takes, as part of what a short one does


class Server(httpx.AsyncBaseTransport):
    """Takes each file, and has done with it when it is asked."""

    def __init__(self) -> None:
        self.rows = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        job = {"job_id": "job:1", "status": "completed"}
        if request.method == "POST":
            self.rows += (await request.aread()).count(b'"event_type"')
            job["status"] = "queued"
        return httpx.Response(200, content=json.dumps(job))


async def whole(lines: int) -> Figures:
    """CPU seconds, and bytes of memory at most."""
    from userpilot_async import UserpilotAPI
    from userpilot_async.imports import import_file

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "history.ndjson")
        write(path, "rows", lines)
        server, before = Server(), process_time()
        async with UserpilotAPI("KEY", base_url="https://server", transport=server) as api:
            report = await import_file(api, path)
        if (lines, lines) != (server.rows, report.completed):
            raise RuntimeError(f"{lines} lines, {server.rows} at the server: {report}")
    return {"cpu": process_time() - before, "memory": most_memory()}


def run(quick: bool) -> Row:
    many = QUICK_MANY if quick else MANY
    short, long = measure(whole, lines=FEW), measure(whole, lines=many)
    return Row(
        name=NAME,
        what=f"memory of an import of {many:,} rows",
        unit="MB",
        goal=f"≤ {ALIKE} × that of {FEW:,}",
        met=long["memory"] <= ALIKE * short["memory"],
        figures={OURS: long["memory"] / 1e6},
        notes=(
            f"{short['memory'] / 1e6:.0f} MB for {FEW:,} rows, {long['memory'] / 1e6:.0f} MB for {many:,}",
            f"{long['cpu'] / many * 1e6:.0f} µs of CPU a row, with the journal, profiles carried forward and uploads",
        ),
    )
