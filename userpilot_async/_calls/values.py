"""Values that properties may have: the checks at the call.

Everything that passes here can go over the wire as it is; the server will not refuse it for its shape. Limits:
docs.userpilot.com, "Identify users" and "Track events", read 2026-10; the integer range is RFC 8259, section 6.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from json import encoder
from typing import Any, cast
from uuid import UUID

from .._errors.foreign import beside, is_a, items_of, must_be, raised
from .._errors.tree import InvalidCall
from .times import checked_moment as checked_moment
from .times import checked_time as checked_time
from .times import in_utc
from .times import iso_utc as iso_utc
from .times import parsed_time as parsed_time

Value = str | int | float | bool | None
"""A value that the wire carries as a property."""

Convertible = Value | datetime | date | Decimal | UUID | Enum
"""A value that a caller may give: a `Value`, or something with one obvious form as a `Value`."""

TAKEN = "str, int, float, bool, None, datetime, date, Decimal, UUID or Enum"
"""Names of the types of a `Value`, for messages."""

MAX_PROPERTIES = 500
MAX_NAME = 255  # characters
MAX_VALUE = 65_535  # characters
PER_PROPERTY = 40  # bytes that a property takes beside the characters of its name and string value, roughly
MAX_EVENT_METADATA = 10 * 1024  # bytes of JSON
MAX_INTEGER = 2**53 - 1  # what every JSON reader holds exactly


def _encoder() -> Callable[[object], str]:
    """JSON without white space, NaN, or a search for cycles: what comes here has been checked.

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
    if type(value) is str and 0 < len(value) <= most and value.isascii() and not value.isspace():  # nearly all
        return value
    if not is_a(value, str):
        raise InvalidCall(field, must_be("str", value))
    text = value if type(value) is str else _own_text(value, field)
    if not text or text.isspace():
        raise InvalidCall(field, "must not be empty or blank")
    if len(text) > most:
        raise InvalidCall(field, f"has {len(text):,} characters; the limit is {most:,}")
    check_encodable(text, field)
    return text


def _own_text(value: str, field: str) -> str:
    """The text of an instance of a subclass; not by `str`, which makes a name of an Enum."""
    try:
        # One that says another length, or none, stands for a text that it has not got.
        text = str.__str__(value)
        if len(value) != len(text):
            raise InvalidCall(field, "is a str whose length is not that of its text")
    except InvalidCall:
        raise
    except Exception as error:  # of its own methods
        raise raised(field, error) from None
    return text


def checked_user_id(value: object) -> str:
    """The id of a user, checked by `checked_id`."""
    return checked_id(value, "user_id")


def checked_company_id(value: object) -> str:
    """The id of a company, checked by `checked_id`."""
    return checked_id(value, "company_id")


def checked_event_name(value: object) -> str:
    """A non-blank string of at most 255 characters, or `InvalidCall`."""
    return checked_id(value, "event_name", MAX_NAME)


def checked_metadata(metadata: Mapping[str, Convertible] | None, field: str = "metadata") -> dict[str, Value]:
    """A copy of the properties with every value in its wire form; raises `InvalidCall`."""
    if metadata is None:
        return {}
    properties = plain(metadata, field)
    if properties is metadata:  # before it is read again: another thread may change it
        properties = properties.copy()
    for name, value in properties.items():
        if not name.isascii() or (type(value) is str and not value.isascii()):
            check_encodable(name, f"a name in {field}")
            if type(value) is str:
                check_encodable(value, f"{field}[{quoted(name)}]")
    return properties


def measured(metadata: Mapping[str, Convertible] | None) -> tuple[dict[str, Value], int]:
    """`checked_metadata` and `size_of` in one pass, where everything is plain and ASCII: the hot path of identify."""
    try:
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
    except RuntimeError as error:  # another thread changes it
        raise raised("metadata", error) from None
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
    try:
        if not isinstance(company, Mapping):
            raise InvalidCall("company", must_be("a mapping with an 'id'", company))
        properties: dict[str, Convertible] = dict(items_of(company))
        given = [properties.pop(name) for name in ("id", "company_id") if name in properties]
    except InvalidCall:
        raise
    except Exception as error:  # of the mapping's own methods, or its names'
        raise raised("company", error) from None
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
    try:
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
    except InvalidCall:
        raise
    except Exception as error:  # of the mapping's own methods; or another thread changes it
        raise raised(field, error) from None


def _converted(metadata: Mapping[str, Convertible], field: str) -> dict[str, Value]:
    if not isinstance(metadata, Mapping):
        raise InvalidCall(field, must_be("a mapping of properties", metadata))
    if len(metadata) > MAX_PROPERTIES:
        raise InvalidCall(field, f"has {len(metadata):,} properties; the limit is {MAX_PROPERTIES}")
    properties: dict[str, Value] = {}
    for name, value in items_of(metadata):
        text = checked_name(name, field)
        if not text:
            raise InvalidCall(field, "has an empty name")
        if len(text) > MAX_NAME:
            raise InvalidCall(field, f"has a name of {len(text):,} characters; the limit is {MAX_NAME}")
        properties[text] = converted_value(value, f"{field}[{quoted(text)}]")
    return properties


def checked_name(name: object, field: str) -> str:
    """The name of a property as it is; `InvalidCall` if it is none."""
    if not is_a(name, str):
        raise InvalidCall(field, f"has a name of type {beside('str', name)}; names must be str")
    return name if type(name) is str else _own_text(name, f"a name in {field}")


def converted_value(value: object, field: str, allowed: str = TAKEN, most: int | None = MAX_VALUE) -> Value:
    """The value in its wire form; `InvalidCall` for one that has none, or a text of more characters than ``most``."""
    try:
        return _wire_form(value, field, allowed, most)
    except InvalidCall:
        raise
    except Exception as error:  # of the value's own methods
        raise raised(field, error) from None


def _wire_form(value: object, field: str, allowed: str, most: int | None) -> Value:
    if is_a(value, Enum):
        value = value.value
        if is_a(value, Enum):
            raise InvalidCall(field, "is an Enum of an Enum")
    if value is None or type(value) is bool:
        return value
    if is_a(value, str):
        return _short_enough(_own_text(value, field), field, most)
    if is_a(value, int):
        number = int(value)
        # Both, because a subclass may compare otherwise than the number that it is turned into.
        if not (-MAX_INTEGER <= value <= MAX_INTEGER and -MAX_INTEGER <= number <= MAX_INTEGER):
            raise InvalidCall(field, "is an int beyond ±(2**53 - 1), which JSON readers round; send it as str")
        return number
    if is_a(value, float):
        real = float(value)
        if value - value != 0.0 or real - real != 0.0:
            raise InvalidCall(field, "is a float that is not finite; JSON has no NaN or Infinity")
        return real
    if is_a(value, datetime):
        return iso_utc(in_utc(value, field))
    if is_a(value, date):
        return _short_enough(str.__str__(value.isoformat()), field, most)
    if is_a(value, Decimal):
        if not value.is_finite():
            raise InvalidCall(field, "is a Decimal that is not finite")
        return _short_enough(str.__str__(str(value)), field, most)
    if is_a(value, UUID):
        return _short_enough(str.__str__(str(value)), field, most)
    raise InvalidCall(field, must_be(allowed, value))


def _short_enough(text: str, field: str, most: int | None) -> str:
    if most is not None and len(text) > most:
        raise InvalidCall(field, f"has {len(text):,} characters; the limit is {most:,}")
    return text


def check_encodable(text: str, field: str) -> None:
    """Raise `InvalidCall` for a text that UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidCall(field, "has a lone surrogate, which UTF-8 cannot carry") from None


def surrogate_in(ids: Mapping[str, str], properties: Mapping[str, Value], field: str) -> InvalidCall:
    """The parts that UTF-8 cannot carry: raised or returned, after the encoder has failed."""
    for name, text in ids.items():
        if not text.isascii():
            check_encodable(text, name)
    checked_metadata(cast("Mapping[str, Convertible]", properties), field)
    return InvalidCall(field, "has a lone surrogate, which UTF-8 cannot carry")  # pragma: no cover


def quoted(name: str) -> str:
    """A property's name for a message: shortened, and printable."""
    name = str.__str__(name)  # an instance of a subclass may have a `repr` of its own
    return ascii(name if len(name) <= 40 else name[:37] + "...")
