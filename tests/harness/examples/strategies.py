"""What a caller may say, and what they must not: as examples, and as Hypothesis draws them."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from userpilot_async import Identify, IdentifyCompany, Track

LARGEST = 2**53 - 1


class Plan(Enum):
    FREE = "free"
    LIMIT = 10
    NONE = None


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class UserId(StrEnum):
    """A text whose `str` is not what it says."""

    FIRST = "u1"


class Shouted(str):
    """A subclass of str, as template engines and secret stores hand them out."""


class Count(int):
    """A subclass of int, without methods of its own."""


class Share(float):
    """A subclass of float, as numpy's float64 is."""


NO_TEXTS: list[tuple[Any, str]] = [
    (1, "must be str, not int"),
    (True, "must be str, not bool"),
    (b"canary", "must be str, not bytes"),
    (["canary"], "must be str, not list"),
    (UUID(int=1), "must be str, not UUID"),
    ("\ud800", "has a lone surrogate, which UTF-8 cannot carry"),
    ("canary\udfff", "has a lone surrogate, which UTF-8 cannot carry"),
]
"""What never is an id or a name, and the reason that is given."""

BLANK = [(blank, "must not be empty or blank") for blank in ("", " \t\r\n", "\u2003\u00a0")]

SENT_AS: list[tuple[Any, Any]] = [
    (date(2026, 1, 2), "2026-01-02"),
    (Decimal("19.90"), "19.90"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Plan.FREE, "free"),
    (Plan.LIMIT, 10),
    (Plan.NONE, None),
    (Level.HIGH, 2),
    (UserId.FIRST, "u1"),
    (Shouted("loud"), "loud"),
    (Count(3), 3),
    (Share(0.5), 0.5),
]
"""What has one obvious form as JSON, and this form."""

text = st.text(st.characters(codec="utf-8"))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=255)
ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(lambda one: not one.isspace())
event_names = ids
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# Not the very first and last day there is: those have no UTC form.
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=offsets)

plain_values = st.one_of(
    text,
    st.integers(-LARGEST, LARGEST),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)
values = st.one_of(
    plain_values,
    moments,
    st.dates(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.sampled_from([*Plan, *Level]),
    text.map(Shouted),
    st.integers(-LARGEST, LARGEST).map(Count),
    st.floats(allow_nan=False, allow_infinity=False).map(Share),
)
properties = st.dictionaries(names, values, max_size=8)
company_properties = st.dictionaries(names.filter(lambda name: name not in ("id", "company_id")), values, max_size=4)
companies = st.builds(
    lambda name, company_id, rest: {name: company_id, **rest},
    st.sampled_from(["id", "company_id"]),
    ids,
    company_properties,
)

tracks = st.builds(Track, ids, event_names, properties, st.none() | moments)
identifies = st.builds(Identify, ids, properties, st.none() | companies)
company_identifies = st.builds(IdentifyCompany, ids, properties)
calls = tracks | identifies | company_identifies

# Anything that JSON can say, and half surrogates, which Python's reader lets through.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)

# What a careless caller passes where a str or a mapping belongs.
anything = st.one_of(
    json_values,
    values,
    st.binary(),
    st.frozensets(st.integers(), max_size=2),
    st.just(object()),
    st.just(Decimal("NaN")),
    st.datetimes(),
)
