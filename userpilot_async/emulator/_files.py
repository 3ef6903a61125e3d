"""From bytes to rows: JSON, multipart uploads, NDJSON and CSV. Whatever cannot be read is refused with 400."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any, NoReturn

import attrs
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, create_form_parser

from userpilot_async.emulator._rules import MAX_FILE_BYTES
from userpilot_async.emulator._wire import Payload, refuse


@attrs.frozen
class Upload:
    """A file as it was sent: its name is echoed by the job it becomes."""

    filename: str
    content: bytes


def parse_json(text: bytes, details: str = "") -> Any:
    """JSON as the standard has it: no NaN, no Infinity, no half of a surrogate pair. `Any`: parsed JSON.

    A number that Python can only hold as infinity, such as 1e400, is refused, too: it could not be written out again.
    """
    try:
        # Decoded here, since `json.loads` would take bytes of UTF-16 and of half a surrogate pair, too.
        value = json.loads(text.decode(), parse_constant=_no_constant, parse_float=_finite)
        if b"\\ud" in text or b"\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:  # ValueError: bad JSON, bad UTF-8, lone surrogate, 5,000-digit integer
        raise refuse(400, "the body is not valid JSON", details) from exc
    return value


def parse_object(body: bytes) -> Payload:
    """The JSON object in `body`."""
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise refuse(400, "the body must be a JSON object")
    return payload


def parse_upload(body: bytes, content_type: str) -> Upload:
    """The part named `file` of a multipart body; 413 if it is larger than a file may be."""
    files: list[File] = []
    headers = {"Content-Type": content_type.encode("latin-1")}
    # In memory whatever the size: the default spills files over 1 MiB to disk and leaves them to be closed.
    config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}
    try:
        parser = create_form_parser(headers, lambda _: None, files.append, config=config)
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as exc:
        raise refuse(400, "the multipart body cannot be read", str(exc)) from exc
    for file in files:
        if file.field_name == b"file":
            return _upload(file)
    raise refuse(400, "a multipart field named file is required")


def parse_ndjson(content: bytes) -> list[Payload]:
    """Read one JSON object a line; blank lines are skipped."""
    rows: list[Payload] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        row = parse_json(line, details=f"line {number}")
        if not isinstance(row, dict):
            raise refuse(400, "every line must be a JSON object", f"line {number}")
        rows.append(row)
    return rows


def parse_rows(content: bytes) -> list[Payload]:
    """The rows of an import file, NDJSON or CSV; told apart by the first character, not by the name."""
    if content.lstrip()[:1] == b"{":
        return parse_ndjson(content)
    return _parse_csv(content)


def _parse_csv(content: bytes) -> list[Payload]:
    """Rows by the header line's names; an empty cell is an absent field, `metadata` holds a JSON object.

    How metadata travels in a CSV is undocumented; JSON in one cell is the only form that keeps its types.
    """
    # A cell may be as large as the file. Python's limit, 131,072 characters, is the process's: raised, never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FILE_BYTES))
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        lines = list(reader)
    except (UnicodeDecodeError, csv.Error) as exc:
        raise refuse(400, "the file is neither NDJSON nor CSV", str(exc)) from exc
    rows: list[Payload] = []
    for number, cells in enumerate(lines, start=1):
        if None in cells:  # DictReader's key for cells without a column
            raise refuse(400, "a row has more cells than the header", f"row {number}")
        row: Payload = {name: cell for name, cell in cells.items() if cell}
        if "metadata" in row:
            row["metadata"] = parse_json(row["metadata"].encode(), details=f"row {number}")
        rows.append(row)
    return rows


def _upload(file: File) -> Upload:
    if file.size > MAX_FILE_BYTES:
        raise refuse(413, f"the file has {file.size} bytes, the limit is {MAX_FILE_BYTES}")
    file.file_object.seek(0)
    return Upload((file.file_name or b"").decode("utf-8", "replace"), file.file_object.read())


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is too large a number")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
