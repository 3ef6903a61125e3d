"""A process that imports a file, and is killed at it.

python -m tests.processes.programs.import_worker URL FILE ROWS_PER_FILE [BACKEND]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio

from userpilot_async import UserpilotAPI
from userpilot_async.imports import AlreadyImported, ImportProgress, import_file


def say(what: str, value: object) -> None:
    """To the test, on stdout, in one piece."""
    os.write(1, f"SAID {what} {json.dumps(value)}\n".encode())


async def run(url: str, path: Path, max_rows: int) -> None:
    def show(progress: ImportProgress) -> None:
        say("uploaded", progress.uploaded)

    async with UserpilotAPI("KEY", base_url=url) as api:
        try:
            report = await import_file(api, path, max_rows=max_rows, on_progress=show)
        except AlreadyImported as done:  # killed after its last transaction
            report = done.report
    for name in ("read", "valid", "refused", "uploaded", "completed", "complete", "possible_duplicates"):
        say(name, getattr(report, name))


if __name__ == "__main__":
    anyio.run(run, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), backend=(sys.argv[4:] or ["asyncio"])[0])
