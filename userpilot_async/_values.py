"""What a value may be: the checks at the call.

Everything that passes here can go over the wire as it is; the server will not refuse it for its shape. Limits:
docs.userpilot.com, "Identify users" and "Track events", read 2026-10; the integer range is RFC 8259, section 6.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from json import encoder
from typing import Any, cast
from uuid import UUID

from ._errors import InvalidCall

Value = str | int | float | bool | None
"""What the wire carries as a property."""

Convertible = Value | datetime | date | Decimal | UUID | Enum
"""What a caller may give: a `Value`, or something with one obvious form as a `Value`."""

MAX_PROPERTIES = 500
MAX_NAME = 255  # characters
MAX_VALUE = 65_535  # characters
PER_PROPERTY = 40  # bytes that a property takes beside the characters of its name and string value, roughly
MAX_EVENT_METADATA = 10 * 1024  # bytes of JSON
MAX_INTEGER = 2**53 - 1  # what every JSON reader holds exactly


def _encoder() -> Callable[[object], str]:
    """JSON without white space, NaN, or a look out for cycles: what comes here has been checked.

    `json.JSONEncoder.encode` builds this C encoder anew on each call, which takes nearly half of its time for an
    event of six properties: 2.7 µs against 1.5 (Python 3.11, 2 cores, 2026-11). Without it (PyPy) it serves as is.
    """
    options = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:  # pragma: no cover
        return options.encode
    chunks = make(None, options.default, encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(chunks(value, 0))


encode_json = _encoder()
encode_text: Callable[[str], str] = encoder.encode_basestring


def checked_id(value: object, field: str, most: int = MAX_VALUE) -> str:
    """A non-blank string of at most so many characters, or `InvalidCall`."""
    if not isinstance(value, str):
        raise InvalidCall(field, f"must be str, not {type(value).__name__}")
    if not value or value.isspace():
        raise InvalidCall(field, "must not be empty or blank")
    if len(value) > most:
        raise InvalidCall(field, f"has {len(value):,} characters; the limit is {most:,}")
    check_encodable(value, field)
    return str.__str__(value)  # str() of a str that is an Enum is its name


def checked_user_id(value: object) -> str:
    """`checked_id` for a user."""
    return checked_id(value, "user_id")


def checked_company_id(value: object) -> str:
    """`checked_id` for a company."""
    return checked_id(value, "company_id")


def checked_event_name(value: object) -> str:
    """A non-blank string of at most 255 characters, or `InvalidCall`."""
    return checked_id(value, "event_name", MAX_NAME)


def checked_time(value: object) -> datetime | None:
    """An aware datetime in UTC, or ``None``; a naive one is `InvalidCall`, because its zone would be a guess."""
    return None if value is None else checked_moment(value)


def checked_moment(value: object) -> datetime:
    """`checked_time` for a time that is there."""
    if not isinstance(value, datetime):
        raise InvalidCall("occurred_at", f"must be an aware datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise InvalidCall("occurred_at", "must be an aware datetime: this one has no time zone")
    return _in_utc(value, "occurred_at")


def checked_metadata(metadata: Mapping[str, Convertible] | None, field: str = "metadata") -> dict[str, Value]:
    """A copy of the properties with every value in its wire form; raises `InvalidCall`."""
    if metadata is None:
        return {}
    properties = plain(metadata, field)
    for name, value in properties.items():
        if not name.isascii() or (type(value) is str and not value.isascii()):
            check_encodable(name, f"a name in {field}")
            if type(value) is str:
                check_encodable(value, f"{field}[{quoted(name)}]")
    return properties.copy() if properties is metadata else properties


def measured(metadata: Mapping[str, Convertible] | None) -> tuple[dict[str, Value], int]:
    """`checked_metadata` and `size_of` in one pass, where everything is plain and ASCII: the hot path of identify."""
    if type(metadata) is dict and len(metadata) <= MAX_PROPERTIES:
        size = PER_PROPERTY * (len(metadata) + 1)
        for name, value in metadata.items():
            kind = type(value)
            if type(name) is not str or not 0 < len(name) <= MAX_NAME or not name.isascii():
                break
            size += len(name)
            if kind is str:
                if len(value) > MAX_VALUE or not value.isascii():
                    break
                size += len(value)
            elif kind is int:
                if not -MAX_INTEGER <= value <= MAX_INTEGER:
                    break
            elif kind is float:
                if value - value != 0.0:
                    break
            elif kind is not bool and value is not None:
                break
        else:
            return cast("dict[str, Value]", metadata.copy()), size
    properties = checked_metadata(metadata)
    return properties, size_of(properties)


def size_of(metadata: Mapping[str, Any]) -> int:
    """About how many bytes these properties take as JSON: encoding them to know would cost as much as the rest."""
    size = PER_PROPERTY * (len(metadata) + 1)
    for name, value in metadata.items():
        size += len(name) if name.isascii() else len(name.encode())
        kind = type(value)
        if kind is str:
            size += len(value) if value.isascii() else len(value.encode())
        elif kind is dict or kind is list:  # where values may be nested
            size += len(encode_json(value).encode())
    return size


def checked_event_metadata(metadata: Mapping[str, Convertible] | None) -> dict[str, Value]:
    """As `checked_metadata`, and at most 10 KB of JSON."""
    properties = checked_metadata(metadata)
    checked_event_size(properties)
    return properties


def checked_event_size(properties: Mapping[str, Value]) -> None:
    """Raise `InvalidCall` for event metadata over 10 KB of JSON."""
    size = len(encode_json(properties).encode())
    if size > MAX_EVENT_METADATA:
        raise InvalidCall("metadata", f"is {size:,} bytes of JSON; the limit for an event is {MAX_EVENT_METADATA:,}")


def checked_company(company: Mapping[str, Convertible] | None) -> dict[str, Value] | None:
    """``{"id": …, **properties}``; takes ``id`` or ``company_id``, because the sources name it both ways."""
    if company is None:
        return None
    if not isinstance(company, Mapping):
        raise InvalidCall("company", f"must be a mapping with an 'id', not {type(company).__name__}")
    properties: dict[str, Convertible] = dict(company)
    given = [properties.pop(name) for name in ("id", "company_id") if name in properties]
    if not given:
        raise InvalidCall("company['id']", "is missing: a company needs its id")
    ids = {checked_id(value, "company['id']") for value in given}
    if len(ids) > 1:
        raise InvalidCall("company['id']", "and company['company_id'] differ")
    return {"id": ids.pop(), **checked_metadata(properties, "company")}


def plain(metadata: Mapping[str, Convertible], field: str) -> dict[str, Value]:
    """The same dict if all of it is plain already, else a converted copy; raises `InvalidCall`.

    The caller copies if it keeps the result. Lone surrogates are not looked for here: encoding finds them.
    """
    if type(metadata) is dict and len(metadata) <= MAX_PROPERTIES:
        for name, value in metadata.items():
            kind = type(value)
            if type(name) is not str or not 0 < len(name) <= MAX_NAME:
                break
            if kind is str:
                if len(value) > MAX_VALUE:
                    break
            elif kind is int:
                if not -MAX_INTEGER <= value <= MAX_INTEGER:
                    break
            elif kind is float:
                if value - value != 0.0:  # NaN and Infinity fail this
                    break
            elif kind is not bool and value is not None:
                break
        else:
            return cast("dict[str, Value]", metadata)
    return _converted(metadata, field)


def _converted(metadata: Mapping[str, Convertible], field: str) -> dict[str, Value]:
    if not isinstance(metadata, Mapping):
        raise InvalidCall(field, f"must be a mapping of properties, not {type(metadata).__name__}")
    if len(metadata) > MAX_PROPERTIES:
        raise InvalidCall(field, f"has {len(metadata):,} properties; the limit is {MAX_PROPERTIES}")
    properties: dict[str, Value] = {}
    for name, value in metadata.items():
        if not isinstance(name, str):
            raise InvalidCall(field, f"has a name of type {type(name).__name__}; names must be str")
        if not name:
            raise InvalidCall(field, "has an empty name")
        if len(name) > MAX_NAME:
            raise InvalidCall(field, f"has a name of {len(name):,} characters; the limit is {MAX_NAME}")
        properties[str.__str__(name)] = converted_value(value, f"{field}[{quoted(name)}]")
    return properties


def converted_value(
    value: object, field: str, allowed: str = "str, int, float, bool or None", most: int | None = MAX_VALUE
) -> Value:
    """The value in its wire form; `InvalidCall` for one that has none, or a text of more characters than ``most``."""
    if isinstance(value, Enum):
        value = value.value
        if isinstance(value, Enum):
            raise InvalidCall(field, "is an Enum of an Enum")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if most is not None and len(value) > most:
            raise InvalidCall(field, f"has {len(value):,} characters; the limit is {most:,}")
        return str.__str__(value)
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise InvalidCall(field, "is an int beyond ±(2**53 - 1), which JSON readers round; send it as str")
        return int(value)
    if isinstance(value, float):
        if value - value != 0.0:
            raise InvalidCall(field, "is a float that is not finite; JSON has no NaN or Infinity")
        return float(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidCall(field, "is a naive datetime: give it a time zone")
        return iso_utc(_in_utc(value, field))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise InvalidCall(field, "is a Decimal that is not finite")
        return converted_value(str(value), field, allowed, most)
    if isinstance(value, UUID):
        return str(value)
    raise InvalidCall(field, f"must be {allowed}, not {type(value).__name__}")


def iso_utc(moment: datetime) -> str:
    """ISO 8601 in UTC with a ``Z``, as the vendor's samples have it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _in_utc(moment: datetime, field: str) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise InvalidCall(field, "is a datetime outside the years 1 to 9999 in UTC") from exc


def parsed_time(text: str, field: str = "occurred_at") -> datetime:
    """A time written in ISO 8601; `InvalidCall` otherwise."""
    try:  # Python 3.10's fromisoformat knows no "Z"
        return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    except ValueError:  # its text holds the value
        raise InvalidCall(field, "must be ISO 8601") from None


def check_encodable(text: str, field: str) -> None:
    """Raise `InvalidCall` for a text that UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidCall(field, "has a lone surrogate, which UTF-8 cannot carry") from None


def surrogate_in(ids: Mapping[str, str], properties: Mapping[str, Value], field: str) -> InvalidCall:
    """Which of them UTF-8 cannot carry: raised or returned, after the encoder has failed."""
    for name, text in ids.items():
        if not text.isascii():
            check_encodable(text, name)
    checked_metadata(cast("Mapping[str, Convertible]", properties), field)
    return InvalidCall(field, "has a lone surrogate, which UTF-8 cannot carry")  # pragma: no cover


def quoted(name: str) -> str:
    """A property's name for a message: shortened, and printable."""
    return ascii(name if len(name) <= 40 else name[:37] + "...")
