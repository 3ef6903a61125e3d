"""Calls as lines of NDJSON: one JSON object each, whose ``type`` says which call it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from .._errors.tree import InvalidCall
from .values import encode_json, parsed_time, quoted

C = TypeVar("C")


def line_of(call: Any) -> bytes:
    """A call as a line of JSON, without its newline. `Any` is a call of whatever destination: it has ``as_dict``."""
    return encode_json(call.as_dict()).encode()


def object_on(line: bytes | str) -> dict[str, Any]:
    """The JSON object on a line; `InvalidCall` with the field ``"line"`` if there is none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise InvalidCall("line", "is not JSON") from exc
    if not isinstance(fields, dict):
        raise InvalidCall("line", f"must be a JSON object, not {type(fields).__name__}")
    return fields


def call_of(fields: Mapping[str, Any], types: Mapping[str, type[C]]) -> C:
    """The call that these fields describe; ``types`` are the calls there are, by their ``type``.

    Raises `InvalidCall`, naming the field.
    """
    given = dict(fields)
    kind = given.pop("type", None)
    make = types.get(kind) if isinstance(kind, str) else None
    if make is None:
        *others, last = (f'"{name}"' for name in types)
        raise InvalidCall("type", f"must be {', '.join(others)} or {last}")
    arguments: dict[str, Any] = {}
    for field in attrs.fields(make):  # type: ignore[arg-type]  # they are attrs classes
        if field.name in given:
            arguments[field.name] = given.pop(field.name)
        elif field.default is attrs.NOTHING:
            raise InvalidCall(field.name, "is missing")
    for name in given:
        raise InvalidCall(quoted(name), f"is no field of {kind}")
    if isinstance(arguments.get("occurred_at"), str):
        arguments["occurred_at"] = parsed_time(arguments["occurred_at"])
    return make(**arguments)
