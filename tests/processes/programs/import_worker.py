"""A process that imports a file, and is killed at it.

python -m tests.processes.programs.import_worker URL FILE ROWS_PER_FILE [BACKEND [file|files|stream]]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio

from userpilot_async import UserpilotAPI
from userpilot_async.imports import (
    AlreadyImported,
    Conversion,
    ImportProgress,
    ImportReport,
    import_file,
    import_stream,
    mapping_from,
)


def say(what: str, value: object) -> None:
    """To the test, on stdout, in one piece."""
    os.write(1, f"SAID {what} {json.dumps(value)}\n".encode())


MAPPED = Conversion(mapping=mapping_from({"properties": {"rename": {"p0": "q0"}, "constant": {"mapped": True}}}))


async def imported(api: UserpilotAPI, path: Path, how: str, **options: Any) -> ImportReport:
    """Import the file, or all that are beside it, or what is in it as a stream whose rows are mapped."""
    if how == "stream":
        journal = path.with_name("stream.import")
        with path.open("rb", buffering=0) as stream:
            return await import_stream(api, stream, journal=journal, converted_from=MAPPED, **options)
    return await import_file(api, sorted(path.parent.glob("part????.ndjson")) if how == "files" else path, **options)


async def run(url: str, path: Path, max_rows: int, how: str) -> None:
    def show(progress: ImportProgress) -> None:
        say("uploaded", progress.uploaded)

    async with UserpilotAPI("KEY", base_url=url) as api:
        try:
            report = await imported(api, path, how, max_rows=max_rows, on_progress=show)
        except AlreadyImported as done:  # killed after its last transaction
            report = done.report
    for name in ("read", "valid", "refused", "uploaded", "completed", "complete", "possible_duplicates"):
        say(name, getattr(report, name))


if __name__ == "__main__":
    backend, how = [*sys.argv[4:], *["asyncio", "file"][len(sys.argv[4:]) :]]
    anyio.run(run, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), how, backend=backend)
