"""The lines of a file beside the rows that they become, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs

from ..imports._explaining import Explanation

_WIDEST = 400  # characters of a line that are shown


def as_text(path: str, found: Explanation) -> Iterator[str]:
    """The explanation of a file, line by line."""
    rest = "" if found.complete else ", and more behind them that were not read for this"
    yield f"{path}: {found.read:,} lines{rest}; nothing was sent"
    for example in found.examples:
        raw = example.raw
        yield ""
        yield f"line {example.line}: {raw if len(raw) <= _WIDEST else f'{raw[:_WIDEST]}…'}"
        yield from (f"  -> {json.dumps(row, ensure_ascii=False)}" for row in example.rows)
        if not example.rows or len(example.outcome.split(" + ")) > len(example.rows):
            yield f"  -> {example.outcome}"
        yield from (f"     {note}" for note in example.notes)
    yield ""
    yield "what went where:"
    yield from (f"  {count:,} × {about}: {outcome}" for count, about, outcome in found.table)


def as_dict(path: str, found: Explanation) -> dict[str, Any]:
    """The explanation of a file as a JSON object."""
    return {
        "file": path,
        "read": found.read,
        "complete": found.complete,
        "examples": [attrs.asdict(example) for example in found.examples],
        "table": [dict(zip(("lines", "about", "outcome"), row, strict=True)) for row in found.table],
    }
