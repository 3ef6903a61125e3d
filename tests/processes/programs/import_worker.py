"""A process that imports a file, and is killed at it.

python -m tests.processes.programs.import_worker URL FILE ROWS_PER_FILE [BACKEND [TOOL]]

Of the export of a TOOL, anonymous people are joined with whom they became.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio

from userpilot_async import UserpilotAPI
from userpilot_async.imports import AlreadyImported, Conversion, ImportProgress, import_file


def say(what: str, value: object) -> None:
    """To the test, on stdout, in one piece."""
    os.write(1, f"SAID {what} {json.dumps(value)}\n".encode())


async def run(url: str, path: Path, max_rows: int, tool: str | None) -> None:
    conversion = None if tool is None else Conversion(tool, anonymous="join")

    def show(progress: ImportProgress) -> None:
        say("uploaded", progress.uploaded)
        if progress.waiting_for is not None:
            say("waiting", progress.waiting_for)

    async with UserpilotAPI("KEY", base_url=url) as api:
        try:
            report = await import_file(api, path, converted_from=conversion, max_rows=max_rows, on_progress=show)
        except AlreadyImported as done:  # killed after its last transaction
            report = done.report
    for name in ("read", "valid", "refused", "uploaded", "completed", "complete", "possible_duplicates"):
        say(name, getattr(report, name))


if __name__ == "__main__":
    url, path, max_rows, *more = sys.argv[1:]
    backend, tool = (more[0] if more else "asyncio"), (more[1] if len(more) > 1 else None)
    anyio.run(run, url, Path(path), int(max_rows), tool, backend=backend)
