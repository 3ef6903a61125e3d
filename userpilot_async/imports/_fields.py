"""Checks of one field of an import row: the source, a text, a size of a screen, the metadata.

Each takes what a caller or a file has given and gives what goes into the upload, or raises `InvalidCall` with the field
and the rule. Ids, event names and moments have theirs in `_calls.values` and `_timestamps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from .._calls.values import (
    MAX_EVENT_METADATA,
    MAX_INTEGER,
    MAX_VALUE,
    Value,
    check_encodable,
    checked_event_size,
    measured,
)
from .._errors.foreign import is_a, must_be
from .._errors.tree import InvalidCall

Source = Literal[
    "web-client", "backend-http", "backend-hubspot", "backend-salesforce", "backend-segment", "backend-http-import"
]
"""Where a row was recorded. Only a browser is asked for more: `web-client` needs the page and the user agent."""

SOURCES: tuple[Source, ...] = get_args(Source)
DEFAULT_SOURCE: Source = "backend-http-import"
_SOURCES: dict[str, Source] = {source: source for source in SOURCES}

_ESCAPED = 6  # bytes of JSON that a character takes at most, where all are ASCII: \u0000


def checked_source(value: object) -> Source:
    """The source that a text names, one of `SOURCES`; raises `InvalidCall` for another."""
    if is_a(value, str):
        source = _SOURCES.get(str.__str__(value))
        if source is not None:
            return source
        raise InvalidCall("source", f"must be one of {', '.join(SOURCES)}")
    raise InvalidCall("source", must_be("str", value))


def text_check(field: str) -> Callable[[Any], str]:
    """Make the check of ``field`` for a text that the vendor sets no limit to: it is given that of a property."""

    def text(value: Any) -> str:
        if type(value) is str and len(value) <= MAX_VALUE and value.isascii():
            return value
        if not is_a(value, str):
            raise InvalidCall(field, must_be("str", value))
        if len(value) > MAX_VALUE:
            raise InvalidCall(field, f"has {len(value):,} characters; the limit is {MAX_VALUE:,}")
        text = str.__str__(value)
        check_encodable(text, field)
        return text

    return text


def pixels_check(field: str) -> Callable[[Any], int]:
    """Make the check of ``field`` for a size of a screen; digits in a text are one, for a CSV file has no numbers."""

    def pixels(value: Any) -> int:
        if type(value) is int and 0 <= value <= MAX_INTEGER:
            return value
        if is_a(value, str):
            value = str.__str__(value)
            # int() knows other scripts' digits, and refuses very long texts with an error of its own.
            if value.isascii() and value.isdigit() and len(value) < len(str(MAX_INTEGER)):
                return int(value)
            raise InvalidCall(field, "must be a whole number of pixels")
        if not is_a(value, int) or type(value) is bool:
            raise InvalidCall(field, must_be("int, or a str of digits", value))
        number = int(value)
        if not 0 <= value <= MAX_INTEGER or not 0 <= number <= MAX_INTEGER:
            raise InvalidCall(field, f"must be from 0 to {MAX_INTEGER}")
        return number

    return pixels


def user_properties(value: Any) -> dict[str, Value]:
    """The properties of a user or a company, by the rules of the realtime endpoints.

    A converter that could make none has put the `InvalidCall` there, which is raised here: its line may have good rows.
    """
    if type(value) is InvalidCall:
        raise value
    return measured(value)[0]


def event_properties(value: Any) -> dict[str, Value]:
    """The properties of an event, as in `checked_event_metadata`; measured as JSON only where they may be too large."""
    if type(value) is InvalidCall:
        raise value
    properties, size = measured(value)
    if size * _ESCAPED > MAX_EVENT_METADATA:
        checked_event_size(properties)
    return properties
