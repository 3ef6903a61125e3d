"""Making a request of the schedule's, from its rows or its body to the server's verdict."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import anyio.lowlevel

from .._calls.rows import MAX_FILE_BYTES, last_call_in_file
from .._protocol.jobs import quoted_job_id
from .._protocol.verdict import Meaning, Verdict
from .._schedule.routes.route import Request
from .._schedule.takeover import RequestNote
from .reporting import Reporting

if TYPE_CHECKING:
    from .connection import Connection

ENCODE = 100  # lines encoded in one go: 0.4 ms of the application's loop


def note_of(request: Request) -> RequestNote:
    """The request as the outbox notes it down, for a sender that may have to take over."""
    note = RequestNote(request.endpoint.budget, request.carried(), in_rows=request.in_rows)
    if request.step is not None:
        note.filename, note.kind = request.step.batch.filename, request.step.batch.kind
        last_calls = map(last_call_in_file, request.rows)
        note.last_calls = [call_id for call_id in last_calls if call_id is not None]
        note.filed = request.filed()
    return note


async def exchange(connection: Connection, request: Request, reporting: Reporting) -> Verdict:
    """Make the request, and give what came of it; never raises for what a network or a server may do."""
    to, path = request.endpoint, request.endpoint.path
    if request.rows:
        body = await _encoded(request)
        if len(body) > MAX_FILE_BYTES and len(request.rows) > 1:
            return Verdict(Meaning.TOO_LARGE, detail="the file is larger than the server takes")
        if reporting.detailed:
            reporting.file(request, len(body))
        filename = None if request.array else request.filename
        return await connection.exchange(to.name, to.method, path, body, filename=filename)
    if request.job_id:
        path = path.format(job_id=quoted_job_id(request.job_id))
    if request.query:
        path = f"{path}?{request.query}"
    return await connection.exchange(to.name, to.method, path, request.body or None, promises=to.promises)


async def _encoded(request: Request) -> bytes:
    """The request's file, made in slices so that 10,000 rows do not stop the loop for 40 ms."""
    slices: list[bytes] = []
    between = b"," if request.array else b""  # a newline before it is white space to JSON
    while lines := between.join(islice(request.lines, ENCODE)):
        slices.append(lines)
        await anyio.lowlevel.checkpoint()
    body = between.join(slices)
    return b'{"%s":[%s]}' % (request.array.encode(), body) if request.array else body
