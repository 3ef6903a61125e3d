"""When something happened: aware datetimes, and ISO 8601 in text.

What a text may look like is decided here, by a pattern, and not by `datetime.fromisoformat`, which takes other forms
in each version of Python: 3.14 takes ``24:00:00``, and later ones refuse what earlier ones took (a fraction without
digits, or without a point; gh-127260, gh-152157, gh-155175, read 2026-11).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from .._errors.foreign import is_a, must_be, raised, type_name
from .._errors.tree import InvalidCall

# Compiled when a text is first read, and kept by `re`: that would be a millisecond of everybody's import time.
_ANY_FORM = r"""(?P<year>[0-9]{4}) (?P<dash>-?) (?P<month>[0-9]{2}) (?P=dash) (?P<day>[0-9]{2})
    [Tt\ ]
    (?P<hour>[0-9]{2}) (?P<colon>:?) (?P<minute>[0-9]{2})
    (?: (?P=colon) (?P<second>[0-9]{2}) (?: [.,] (?P<fraction>[0-9]{1,9}) )? )?
    \ ?
    (?P<zone> [Zz] | UTC
        | (?P<sign>[+-]) (?P<hours>[01][0-9]|2[0-3]) (?: :? (?P<minutes>[0-5][0-9]) (?: :? (?P<seconds>[0-5][0-9]) )? )?
    )?"""
_A_DATE = r"[0-9]{4}(-?)[0-9]{2}\1[0-9]{2}"


def checked_time(value: object) -> datetime | None:
    """An aware datetime in UTC, or ``None``; a naive one is `InvalidCall`, because its zone would be a guess."""
    return None if value is None else checked_moment(value)


def checked_moment(value: object) -> datetime:
    """`checked_time` for a time that is there."""
    if not is_a(value, datetime):
        raise InvalidCall("occurred_at", must_be("an aware datetime", value))
    return in_utc(value, "occurred_at", naive="must be an aware datetime: this one has no time zone")


def in_utc(
    moment: datetime,
    field: str,
    naive: str = "is a naive datetime: give it a time zone",
    outside: str = "is a datetime outside the years 1 to 9999 in UTC",
) -> datetime:
    """The same moment, of type `datetime` and in UTC; raises `InvalidCall`, ``naive`` and ``outside`` being reasons."""
    try:
        # `!=`, because pandas' NaT (Not a Time) is a datetime that equals nothing; it may not be installed.
        if type(moment) is not datetime and (moment != moment or type_name(moment).startswith("NaT")):
            raise InvalidCall(field, "is NaT, not a time: leave it out or send None")
        if moment.utcoffset() is None:
            raise InvalidCall(field, naive)
        utc = moment.astimezone(UTC)
        if type(moment) is not datetime:
            # A `pandas.Timestamp` of the year 20000 holds the truth beside the datetime that it is.
            if moment.year != datetime.year.__get__(moment):
                raise OverflowError
            utc = datetime.combine(datetime.date(utc), datetime.timetz(utc))
        if utc.tzinfo is not UTC:
            raise TypeError
    except InvalidCall:
        raise
    except OverflowError:
        raise InvalidCall(field, outside) from None
    except Exception as error:  # of its own methods, or of its time zone's
        raise raised(field, error) from None
    return utc


def iso_utc(moment: datetime) -> str:
    """ISO 8601 in UTC with a ``Z``, as the vendor's samples have it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parsed_time(text: str, field: str = "occurred_at") -> datetime:
    """A time written in ISO 8601, naive if no offset is; `InvalidCall` otherwise."""
    moment = moment_in(f"{text}T00:00" if re.fullmatch(_A_DATE, text) else text, field)
    if moment is None:
        raise InvalidCall(field, "must be ISO 8601")
    return moment


def moment_in(text: str, field: str) -> datetime | None:
    """The time written in ISO 8601: in UTC if it has an offset (or ``Z``, or ``UTC``), else naive.

    ``None`` for a text of another form. Digits beyond a microsecond are cut off. Raises `InvalidCall` for a moment that
    does not exist, such as 24:00.
    """
    found = re.fullmatch(_ANY_FORM, text, re.VERBOSE)
    if found is None:
        return None
    part = found.groupdict(default="0")
    try:
        moment = datetime(
            int(part["year"]), int(part["month"]), int(part["day"]),
            int(part["hour"]), int(part["minute"]), int(part["second"]), int(part["fraction"][:6].ljust(6, "0")),
        )  # fmt: skip
    except ValueError:  # its text holds the value
        raise InvalidCall(
            field, "names a time that does not exist: check its month, day, hour, minute and second"
        ) from None
    if found["zone"] is None:
        return moment
    east = timedelta(hours=int(part["hours"]), minutes=int(part["minutes"]), seconds=int(part["seconds"]))
    try:
        return (moment + east if part["sign"] == "-" else moment - east).replace(tzinfo=UTC)
    except OverflowError:
        raise InvalidCall(field, "lies outside the years 1 to 9999 in UTC") from None
