"""A process that imports a file, and is killed at it.

python -m tests.processes.programs.import_worker URL FILE ROWS_PER_FILE [BACKEND [file|files|stream [TOOL]]]

Of the export of a TOOL, anonymous people are joined with whom they became.
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


RULES = {"properties": {"rename": {"p0": "q0"}, "constant": {"mapped": True}}}


async def imported(api: UserpilotAPI, path: Path, how: str, tool: str | None, **options: Any) -> ImportReport:
    """Import the file, or all that are beside it, or what is in it as a stream whose rows are mapped."""
    if how == "stream":
        journal, mapped = path.with_name("stream.import"), Conversion(tool, mapping=mapping_from(RULES))
        with path.open("rb", buffering=0) as stream:
            return await import_stream(api, stream, journal=journal, converted_from=mapped, **options)
    paths = sorted(path.parent.glob("part????.ndjson")) if how == "files" else path
    conversion = None if tool is None else Conversion(tool, anonymous="join")
    return await import_file(api, paths, converted_from=conversion, **options)


async def run(url: str, path: Path, max_rows: int, how: str, tool: str | None) -> None:
    def show(progress: ImportProgress) -> None:
        say("uploaded", progress.uploaded)
        if progress.waiting_for is not None:
            say("waiting", progress.waiting_for)

    async with UserpilotAPI("KEY", base_url=url) as api:
        try:
            report = await imported(api, path, how, tool, max_rows=max_rows, on_progress=show)
        except AlreadyImported as done:  # killed after its last transaction
            report = done.report
    for name in ("read", "valid", "refused", "uploaded", "completed", "complete", "possible_duplicates"):
        say(name, getattr(report, name))


if __name__ == "__main__":
    url, path, max_rows, *more = sys.argv[1:]
    backend, how, tool = [*more, *["asyncio", "file", None][len(more) :]]
    anyio.run(run, url, Path(path), int(max_rows), how, tool, backend=backend)
