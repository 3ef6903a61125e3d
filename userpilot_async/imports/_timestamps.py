"""When a row happened: ISO 8601 as people and tools write it, in the form that goes into an upload.

Source: docs.userpilot.com, "Import event schema", read 2026-10. Its samples are ``2024-12-01T08:55:43.220396``, with a
``T`` or a space, and without an offset.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from .._calls.times import in_utc, iso_utc, moment_in
from .._errors.foreign import is_a, must_be
from .._errors.tree import InvalidCall

_EPOCH = datetime(1970, 1, 1)  # in UTC, as is all that comes of it: without a zone it is half as dear
_MILLISECONDS = 100_000_000_000  # as seconds that is the year 5138, as milliseconds 1973

# As the samples have it, or with the offset of UTC. What is written so needs no conversion, which takes ten times as
# long: most lines of most files. No hour 24, which Python takes from 3.14 on, and the vendor's reader may not.
_in_utc_already = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|\+00:00)?"
).fullmatch


def moment_text(value: object, field: str = "inserted_at") -> str:
    """A time as an upload carries it, from an aware datetime or from ISO 8601 in text; raises `InvalidCall`.

    A text without an offset is UTC and stays as it is, as one with a ``Z`` does. One with another offset is turned into
    UTC: a server that leaves offsets unread would book it hours off. Digits beyond a microsecond are cut off.
    """
    if type(value) is str and _in_utc_already(value):
        try:
            datetime.fromisoformat(value[:19])  # is there such a day, and such an hour?
        except ValueError:
            raise InvalidCall(
                field, "names a time that does not exist: check its month, day, hour, minute and second"
            ) from None
        return value[: -len("+00:00")] + "Z" if value.endswith("+00:00") else value
    return _converted(value, field)


def _converted(value: object, field: str) -> str:
    if is_a(value, datetime):
        return iso_utc(in_utc(value, field, outside="lies outside the years 1 to 9999 in UTC"))
    if not is_a(value, str):
        raise InvalidCall(field, must_be("an aware datetime, or a str with an ISO 8601 time", value))
    moment = moment_in(str.__str__(value).strip(), field)
    if moment is None:
        raise InvalidCall(field, "must be an ISO 8601 time, such as 2024-12-01T08:55:43.220396Z")
    return iso_utc(moment.replace(tzinfo=UTC))


def epoch_text(value: object, field: str = "inserted_at") -> str:
    """A time as an upload carries it, from seconds or milliseconds since 1970; raises `InvalidCall`."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidCall(field, must_be("seconds since 1970", value))
    try:
        seconds = value / 1_000 if abs(value) >= _MILLISECONDS else value
        return (_EPOCH + timedelta(seconds=seconds)).isoformat() + "Z"
    except (OverflowError, ValueError):  # the latter for NaN
        raise InvalidCall(field, "lies outside the years 1 to 9999 in UTC") from None


def order_of(moment: str) -> str:
    """A text by which times sort, from one that `moment_text` has given; with a ``Z`` it is such a time again."""
    text = f"{moment[:10]}T{moment[11:]}".removesuffix("Z")
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds_between(earlier: str, later: str) -> float:
    """Seconds between two times as `order_of` gives them."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
