"""A body as names and types: what it looks like, without what it says.

Of values, only those are shown that come from a vendor's own list of words: statuses, types and error codes. Total on
whatever JSON a server may send.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._terms import Answered

MOST_FIELDS = 40  # of an object that are shown
DEEPEST = 5  # levels of objects and arrays that are shown
LONGEST = 2_000  # characters of a shape
_SCALARS = {type(None): "null", bool: "boolean", int: "integer", float: "number"}
_WORDS = {"status", "type", "error_code", "event_type", "state"}  # fields whose values are the vendor's own
_WORD = re.compile(r"[A-Za-z][A-Za-z_ -]{0,39}")
_NAME = re.compile(r"[A-Za-z_$@][A-Za-z_$.-]{0,39}[0-9]{0,2}")  # a field's name, but no id
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")


def shape(value: Any, name: str = "") -> str:
    """The shape of decoded JSON, such as ``{job_id: string, status: "queued", total_rows: integer}``.

    ``name`` is that of the field which has it, if there is one.
    """
    text = _shape(value, name, 0)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _shape(value: Any, name: str, depth: int) -> str:
    if isinstance(value, str):
        return _text(value, name)
    if isinstance(value, (dict, list)) and depth >= DEEPEST:
        return "…"
    if isinstance(value, dict):
        fields = [f"{field_name(key)}: {_shape(inner, str(key), depth + 1)}" for key, inner in value.items()]
        return "{" + ", ".join(fields[:MOST_FIELDS] + (["…"] if len(fields) > MOST_FIELDS else [])) + "}"
    if isinstance(value, list):
        return f"[{len(value)} × {_shape(value[0], name, depth + 1)}]" if value else "[]"
    return _SCALARS.get(type(value), "unknown")


def field_name(key: object) -> str:
    """The name of a field, if it is one that a program chooses; else a word in its place, as it may be an id."""
    text = str(key)
    return text if _NAME.fullmatch(text) else "(a name)"


def _text(value: str, name: str) -> str:
    if name in _WORDS and _WORD.fullmatch(value):
        return f'"{value}"'
    if not value:
        return "empty string"
    if value.isascii() and value.isdecimal():
        return "string of digits"
    if _TIME.fullmatch(value):
        return "string with a time"
    if value.startswith(("http://", "https://", "/")):
        return "string with a path or URL"
    words = len(value.split())
    return "string" if words < 2 else f"string of {words} words"


def content_type(headers: Mapping[str, str]) -> str:
    """The type of a body, without its parameters; nothing if there is none, or it is no such thing."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind if re.fullmatch(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,40}", kind) else ""


def header_names(headers: Mapping[str, str]) -> list[str]:
    """The names of the headers in order, but for those that are no plain name."""
    return sorted(name for name in headers if re.fullmatch(r"[a-z][a-z-]{0,39}", name))


def number_in(headers: Mapping[str, str], name: str) -> int | None:
    """The whole number that a header has; ``None`` if it has none."""
    text = headers.get(name, "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


def answer_text(seen: Answered) -> str:
    """The answer in a few words: its status, its type, and the shape of its body."""
    if seen.status is None:
        return f"no answer ({seen.detail})"
    code = f" {shape(seen.error_code, 'error_code')}" if seen.error_code else ""
    kind = content_type(seen.headers)
    if not seen.size:
        return f"{seen.status}{code}, no body"
    if seen.body is None:
        return f"{seen.status}{code}, {kind or 'a body without a type'} that is no JSON"
    return f"{seen.status}{code}, {shape(seen.body)}"
