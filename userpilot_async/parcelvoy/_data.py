"""Nested data: the checks at the call, for a wire that takes any JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from .._calls.values import MAX_INTEGER, check_encodable, checked_name, converted_value, encode_json, quoted
from .._errors.foreign import is_a, items_of, must_be, raised
from .._errors.tree import InvalidCall

TAKEN = "str, int, float, bool, None, datetime, date, Decimal, UUID, Enum, a list, a tuple or a mapping"
"""The types that a value may have, for messages."""
MAX_DEPTH = 100  # levels; readers may set a limit of their own (RFC 8259, section 9), and a cycle has none


def checked_data(data: Mapping[str, Any] | None, field: str = "data") -> dict[str, Any]:
    """Copy ``data`` deeply, with every value in its JSON form; raises `InvalidCall`, naming the way to the value."""
    return {} if data is None else _object(data, field, 1)


def encoded_data(data: Mapping[str, Any] | None, field: str = "data") -> str:
    """Write ``data`` as JSON; without a copy if there is nothing to convert. Raises `InvalidCall`.

    A lone surrogate in it raises `UnicodeEncodeError` later, when the text is encoded.
    """
    if data is None:
        return "{}"
    try:
        return encode_json(data if type(data) is dict and _is_plain(data, MAX_DEPTH) else _object(data, field, 1))
    except InvalidCall:
        raise
    except Exception as error:  # another thread changes it; or the caller has left no room on the stack
        raise raised(field, error) from None


def _is_plain(value: Any, levels: int) -> bool:
    """Whether ``value`` is an object or array that JSON can carry as it is, of so many levels at most."""
    kind = type(value)
    items = value.values() if kind is dict else value if kind is list else None
    if items is None or not levels:
        return False
    if kind is dict:
        for name in value:
            if type(name) is not str:
                return False
    for item in items:
        kind = type(item)
        if kind is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:
                return False
        elif kind is float:
            if item - item != 0.0:  # NaN and Infinity are like that
                return False
        elif kind is not str and kind is not bool and item is not None and not _is_plain(item, levels - 1):
            return False
    return True


def _object(value: Mapping[str, Any], field: str, depth: int) -> dict[str, Any]:
    copied: dict[str, Any] = {}
    try:
        if not isinstance(value, Mapping):
            raise InvalidCall(field, must_be("a mapping", value))
        for name, item in items_of(value):
            text = checked_name(name, field)
            check_encodable(text, f"a name in {field}")
            copied[text] = _value(item, f"{field}[{quoted(text)}]", depth + 1)
    except InvalidCall:
        raise
    except Exception as error:  # of the mapping's own methods
        raise raised(field, error) from None
    return copied


def _value(value: object, field: str, depth: int) -> Any:
    try:
        if is_a(value, Enum) and not is_a(value.value, Enum):
            value = value.value
        if depth > MAX_DEPTH + 1:
            start = field[: field.find("[", 60)] + "..."
            raise InvalidCall(start, f"is nested deeper than {MAX_DEPTH} levels, or holds itself")
        if isinstance(value, Mapping):
            return _object(value, field, depth)
        if is_a(value, list) or is_a(value, tuple):
            return [_value(item, f"{field}[{n}]", depth + 1) for n, item in enumerate(value)]
    except InvalidCall:
        raise
    except Exception as error:  # of the value's own methods
        raise raised(field, error) from None
    plain = converted_value(value, field, TAKEN, None)
    if isinstance(plain, str):
        check_encodable(plain, field)
    return plain
