"""A call that was admitted, the route it takes, and what endpoints of either API do with one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from userpilot_async.emulator._jobs import JobScript
from userpilot_async.emulator._rules import MAX_FILE_BYTES, MAX_REPORTED_ERRORS
from userpilot_async.emulator._store import Store
from userpilot_async.emulator._wire import USERPILOT, Answer, Api, Family, Payload, WireError, refuse

FRAMING = 64 * 1024  # bytes around the file in an upload; what it has to say of the file itself is for its endpoint


@attrs.frozen
class Call:
    """A call that was admitted: the key is good and the minute not used up."""

    method: str
    path: str  # as sent, still percent-quoted, without the query
    headers: Mapping[str, str] = attrs.field(repr=False)  # lower-case names; the key is in there
    body: bytes = attrs.field(repr=False)
    account: str  # fingerprint of the key
    now: float
    apply: bool | None = None  # what a fault says about changing the store; None for a call without fault
    script: JobScript = attrs.field(factory=JobScript)
    query: str = ""
    content: Any = None  # what the API's `read` made of the body

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@attrs.frozen
class Route:
    family: Family
    endpoint: Callable[[Store, Call], Answer]
    api: Api = USERPILOT
    max_body: int = MAX_FILE_BYTES + FRAMING
    """Bytes that are read of a body. A larger one is answered with 413, unless the API has its own `read`."""
    needs_key: bool = True


def apply_now(call: Call, write: Callable[[], None], *, status: int = 202, rows: int = 1) -> Answer:
    """Do the write, unless a fault says not to, and answer as if it were done."""
    applied = call.apply is not False
    if applied:
        write()
    return Answer(status, rows=rows, applied=applied)


def row_errors(
    rows: Sequence[Payload], errors_of: Callable[[Payload], list[WireError]], *, status: int = 400
) -> list[WireError]:
    """List what is wrong with any row, each error with its row's number. One bad row refuses the whole request."""
    errors: list[WireError] = []
    for number, row in enumerate(rows, start=1):
        found = errors_of(row) if isinstance(row, dict) else [WireError(status, "a row must be an object")]
        errors += [attrs.evolve(error, details=f"row {number} {error.details}".rstrip()) for error in found]
        if len(errors) >= MAX_REPORTED_ERRORS:
            break
    return errors


def require_content_type(call: Call, *allowed: str, status: int = 400) -> None:
    if call.content_type not in allowed:
        raise refuse(status, f"the content type must be {' or '.join(allowed)}", json.dumps(call.content_type))
