"""What a value may be, and that nothing is said of one that may not but its place, its type and its limit."""

from __future__ import annotations

import json
import traceback
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntFlag
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.examples.strategies import (
    BLANK,
    NO_TEXTS,
    SENT_AS,
    Count,
    Plan,
    Share,
    Shouted,
    UserId,
    company_properties,
    ids,
    properties,
)
from userpilot_async import Identify, IdentifyCompany, InvalidCall, Track
from userpilot_async._calls.values import (
    TAKEN,
    checked_company,
    checked_event_metadata,
    checked_metadata,
    checked_time,
    encode_json,
)
from userpilot_async._userpilot.calls import track_body
from userpilot_async.emulator import Emulator

LARGEST = 2**53 - 1


def refusal(call: Callable[[], object]) -> InvalidCall:
    """The error that this call raises."""
    with pytest.raises(InvalidCall) as caught:
        call()
    return caught.value


def refusal_of(value: object) -> InvalidCall:
    """The error that this value raises as a property."""
    return refusal(lambda: checked_metadata({"plan": value}))


# ── ids and names ──

ID_TAKERS = {
    "user_id": [lambda given: Track(given, "e"), Identify, lambda given: track_body(given, "e", None)],
    "company_id": [IdentifyCompany],
    "event_name": [lambda given: Track("u", given), lambda given: track_body("u", given, None)],
    "company['id']": [
        lambda given: Identify("u", company={"id": given}),
        lambda given: Identify("u", company={"company_id": given}),
    ],
}
TAKERS = [
    pytest.param(field, take, id=f"{field}-{at}")
    for field, takers in ID_TAKERS.items()
    for at, take in enumerate(takers)
]


@pytest.mark.parametrize(("field", "take"), TAKERS)
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "must be str, not NoneType"),
        *NO_TEXTS,
        *BLANK,
    ],
    ids=repr,
)
def test_an_id_or_a_name_must_be_a_string_with_something_in_it(field, take, given, reason):
    error = refusal(lambda: take(given))

    assert (field, reason) == (error.field, error.reason)


@pytest.mark.parametrize(("field", "take"), [taker for taker in TAKERS if not str(taker.id).startswith("event_name")])
def test_an_id_has_at_most_65535_characters(field, take):
    take("x" * 65_535)
    error = refusal(lambda: take("x" * 65_536))

    assert f"{field} has 65,536 characters; the limit is 65,535" == str(error)


@pytest.mark.parametrize("take", ID_TAKERS["event_name"])
def test_an_event_name_has_at_most_255_characters(take):
    take("x" * 255)
    error = refusal(lambda: take("x" * 256))

    assert "event_name has 256 characters; the limit is 255" == str(error)


@pytest.mark.parametrize("given", ["u 1", "u\x00", "\U0001f600", "مستخدم", "u\n1", "1", "../..", "x" * 10_240])
def test_an_id_may_look_like_anything(given):
    assert given == Track(given, "e").user_id


def test_an_id_of_a_str_subclass_becomes_a_plain_str():
    assert str is type(Track(Shouted("u1"), "e").user_id)


@pytest.mark.parametrize(
    "said",
    [
        lambda: Track(UserId.FIRST, "e").user_id,
        lambda: Track("u", UserId.FIRST).event_name,
        lambda: json.loads(track_body(UserId.FIRST, "e", None))["user_id"],
        lambda: Identify(UserId.FIRST).user_id,
        lambda: Identify("u", company={"id": UserId.FIRST}).company["id"],
        lambda: next(iter(checked_metadata({UserId.FIRST: 1}))),
    ],
    ids=["user_id", "event_name", "track_body", "identify", "company", "property name"],
)
def test_an_id_given_as_a_str_enum_is_its_value(said):
    """`class Event(str, Enum)` is how applications keep their event names."""
    assert "u1" == said()


# ── the mapping itself ──


@pytest.mark.parametrize(
    "given", [0, 1, "", "plan", b"", [], [("plan", 1)], (), False, object()], ids=lambda given: repr(given)[:9]
)
@pytest.mark.parametrize("take", [checked_metadata, lambda given: json.loads(track_body("u", "e", given))])
def test_metadata_that_is_no_mapping_is_refused_even_if_it_is_empty(take, given):
    error = refusal(lambda: take(given))

    assert ("metadata", f"must be a mapping of properties, not {type(given).__name__}") == (error.field, error.reason)


@pytest.mark.parametrize("given", [None, {}, MappingProxyType({}), OrderedDict()], ids=repr)
def test_no_metadata_is_an_empty_dict(given):
    assert {} == checked_metadata(given)


@pytest.mark.parametrize("given", [MappingProxyType({"a": 1}), OrderedDict(a=1)], ids=repr)
def test_any_mapping_will_do(given):
    assert {"a": 1} == checked_metadata(given)


def test_500_properties_are_taken_and_501_are_not():
    checked_metadata(dict.fromkeys(map(str, range(500))))
    error = refusal(lambda: checked_metadata(dict.fromkeys(map(str, range(501)))))

    assert "metadata has 501 properties; the limit is 500" == str(error)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (1, "has a name of type int; names must be str"),
        (None, "has a name of type NoneType; names must be str"),
        (b"plan", "has a name of type bytes; names must be str"),
        (("a", "b"), "has a name of type tuple; names must be str"),
        ("", "has an empty name"),
        ("x" * 256, "has a name of 256 characters; the limit is 255"),
    ],
    ids=lambda given: repr(given)[:20],
)
def test_a_property_name_is_a_string_of_1_to_255_characters(name, reason):
    checked_metadata({"x" * 255: 1})
    error = refusal(lambda: checked_metadata({name: 1}))

    assert ("metadata", reason) == (error.field, error.reason)


def test_names_that_would_collide_as_strings_are_refused():
    error = refusal(lambda: checked_metadata({1: "a", "1": "b"}))

    assert "has a name of type int; names must be str" == error.reason


def test_a_name_with_a_lone_surrogate_is_refused():
    error = refusal(lambda: checked_metadata({"pl\ud800an": 1}))

    assert "a name in metadata has a lone surrogate, which UTF-8 cannot carry" == str(error)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("plan", "metadata['plan']"),
        ("l\nog", r"metadata['l\nog']"),
        ("\u202eplan", r"metadata['\u202eplan']"),
        ("n" * 41, f"metadata['{'n' * 37}...']"),
    ],
)
def test_the_field_named_in_an_error_is_short_and_printable(name, field):
    assert field == refusal(lambda: checked_metadata({name: []})).field


# ── values ──


@pytest.mark.parametrize(
    "given", [LARGEST, -LARGEST, 0, 1.5, 1e300, "", True, False, None, "\x00", "\U0001f600", "שלום"], ids=repr
)
def test_a_plain_value_is_sent_as_it_is(given):
    taken = checked_metadata({"plan": given})["plan"]

    assert (type(given), given) == (type(taken), taken)


def test_minus_zero_keeps_its_sign():
    assert "-0.0" == encode_json(checked_metadata({"n": -0.0})["n"])


IN_NEPAL = timezone(timedelta(hours=5, minutes=45))


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), "2026-01-02T03:04:05.000678Z"),
        (datetime(2026, 1, 1, 3, 0, tzinfo=IN_NEPAL), "2025-12-31T21:15:00Z"),
        (Decimal("1E+3"), "1E+3"),
        (IntFlag("Right", "READ WRITE").WRITE, 2),
        (Enum("Start", {"AT": date(2026, 1, 2)}).AT, "2026-01-02"),
        *SENT_AS,
    ],
    ids=repr,
)
def test_a_value_with_one_obvious_form_is_converted(given, sent):
    taken = checked_metadata({"plan": given})["plan"]

    assert (type(sent), sent) == (type(taken), taken)


def test_a_strenum_is_its_value():
    from enum import StrEnum

    assert {"plan": "pro"} == checked_metadata({"plan": StrEnum("Tier", {"PRO": "pro"}).PRO})


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "given",
    [
        [], ["a"], (), {}, {"a": 1}, {1}, frozenset(), b"a", bytearray(b"a"), object(), object, 1j, Fraction(1, 2),
        time(1, 2), timedelta(1), len, _cycle(), pytest.param(_deep(), id="deep"), Enum("Bad", {"A": []}).A,
    ],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_a_value_that_is_no_primitive_is_refused_by_its_type(given):
    error = refusal_of(given)

    unwrapped = given.value if isinstance(given, Enum) else given
    assert "metadata['plan']" == error.field
    assert f"must be {TAKEN}, not {type(unwrapped).__name__}" == error.reason


@pytest.mark.parametrize("given", [2**53, -(2**53), 2**70, Count(2**53), Enum("Big", {"A": 2**53}).A], ids=repr)
def test_an_integer_that_json_readers_round_is_refused(given):
    assert "is an int beyond ±(2**53 - 1), which JSON readers round; send it as str" == refusal_of(given).reason


@pytest.mark.parametrize("given", [float("nan"), float("inf"), float("-inf"), Share("nan")])
def test_a_float_that_json_cannot_say_is_refused(given):
    assert "is a float that is not finite; JSON has no NaN or Infinity" == refusal_of(given).reason


@pytest.mark.parametrize("given", [Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity")])
def test_a_decimal_that_is_not_finite_is_refused(given):
    assert "is a Decimal that is not finite" == refusal_of(given).reason


def test_an_enum_of_an_enum_is_refused():
    assert "is an Enum of an Enum" == refusal_of(Enum("Outer", {"A": Plan.FREE}).A).reason


def test_a_naive_datetime_is_refused_because_its_zone_would_be_a_guess():
    assert "is a naive datetime: give it a time zone" == refusal_of(datetime(2026, 1, 2)).reason


@pytest.mark.parametrize(
    "given",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_a_datetime_that_has_no_utc_form_is_refused(given):
    assert "is a datetime outside the years 1 to 9999 in UTC" == refusal_of(given).reason


@pytest.mark.parametrize("make", [str, Shouted])
def test_a_value_has_at_most_65535_characters(make):
    checked_metadata({"plan": make("x" * 65_535)})

    assert "has 65,536 characters; the limit is 65,535" == refusal_of(make("x" * 65_536)).reason


def test_a_string_of_a_megabyte_is_refused():
    assert "has 1,000,000 characters; the limit is 65,535" == refusal_of("x" * 1_000_000).reason


def test_a_decimal_of_more_than_65535_digits_is_refused():
    assert "metadata['plan']" == refusal_of(Decimal("1" * 65_536)).field


@pytest.mark.parametrize("given", ["\ud800", "a\udfffb", Shouted("\ud800"), Enum("Half", {"A": "\ud800"}).A], ids=ascii)
def test_a_value_with_a_lone_surrogate_is_refused(given):
    assert "has a lone surrogate, which UTF-8 cannot carry" == refusal_of(given).reason


class Safe(str):
    """Says itself when asked for its string, as Django's SafeString does."""

    def __str__(self) -> str:
        return self


def test_a_lone_surrogate_is_found_in_a_str_subclass_that_says_itself():
    """What gets through here breaks the encoder later, in the sender's task."""
    assert "has a lone surrogate, which UTF-8 cannot carry" == refusal_of(Safe("\ud800")).reason


def test_a_str_subclass_that_says_itself_becomes_a_plain_str():
    assert str is type(checked_metadata({"plan": Safe("pro")})["plan"])


# ── events ──


@pytest.mark.parametrize("take", [checked_event_metadata, lambda given: track_body("u", "e", given)])
@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_event_metadata_has_at_most_10_kb_of_json(take, letter):
    room = 10_240 - len('{"a":""}')
    fits = letter * (room // len(letter.encode()))
    fits += "x" * (room - len(fits.encode()))
    take({"a": fits})
    error = refusal(lambda: take({"a": fits + "x"}))

    assert "metadata is 10,241 bytes of JSON; the limit for an event is 10,240" == str(error)


def test_the_metadata_of_a_user_may_be_longer_than_that_of_an_event():
    assert 30_000 == len(Identify("u", {"a": "x" * 30_000}).metadata["a"])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (datetime(2026, 1, 2), "must be an aware datetime: this one has no time zone"),
        ("2026-01-02T00:00:00Z", "must be an aware datetime, not str"),
        (1_600_854_600, "must be an aware datetime, not int"),
        (date(2026, 1, 2), "must be an aware datetime, not date"),
        (datetime(1, 1, 1, tzinfo=IN_NEPAL), "is a datetime outside the years 1 to 9999 in UTC"),
    ],
    ids=repr,
)
def test_the_time_of_an_event_is_an_aware_datetime(given, reason):
    error = refusal(lambda: Track("u", "e", occurred_at=given))

    assert ("occurred_at", reason) == (error.field, error.reason)


def test_the_time_of_an_event_is_kept_in_utc():
    taken = checked_time(datetime(2026, 1, 1, 3, 0, tzinfo=IN_NEPAL))

    assert (datetime(2025, 12, 31, 21, 15), UTC) == (taken.replace(tzinfo=None), taken.tzinfo)


# ── companies ──


@pytest.mark.parametrize(
    "given",
    [{"id": "acme"}, {"company_id": "acme"}, {"id": "acme", "company_id": "acme"}, {"id": Shouted("acme")}],
    ids=repr,
)
def test_a_company_is_named_by_id_or_by_company_id(given):
    assert {"id": "acme", "name": "Acme"} == checked_company({**given, "name": "Acme"})


def test_a_company_with_two_different_ids_is_refused():
    error = refusal(lambda: checked_company({"id": "acme", "company_id": "initech"}))

    assert "company['id'] and company['company_id'] differ" == str(error)


@pytest.mark.parametrize("given", [{}, {"name": "Acme"}], ids=repr)
def test_a_company_without_its_id_is_refused(given):
    assert "company['id'] is missing: a company needs its id" == str(refusal(lambda: checked_company(given)))


@pytest.mark.parametrize("given", ["acme", ["acme"], 0, False, ""], ids=repr)
def test_a_company_that_is_no_mapping_is_refused(given):
    error = refusal(lambda: checked_company(given))

    assert f"company must be a mapping with an 'id', not {type(given).__name__}" == str(error)


def test_the_properties_of_a_company_obey_the_same_rules_as_those_of_a_user():
    assert "company['plan']" == refusal(lambda: checked_company({"id": "acme", "plan": []})).field


def test_a_company_may_have_500_properties_beside_its_id():
    full = dict.fromkeys(map(str, range(500)))
    taken = checked_company({"id": "acme", **full})
    error = refusal(lambda: checked_company({"id": "acme", **full, "one more": 1}))

    assert {"id": "acme", **full} == taken
    assert "company has 501 properties; the limit is 500" == str(error)


@given(ids, company_properties)
def test_a_checked_company_passes_the_check_again_unchanged(company_id, rest):
    taken = checked_company({"company_id": company_id, **rest})

    assert taken == checked_company(taken)


# ── what a caller does afterwards ──


@pytest.mark.parametrize(
    "make",
    [
        lambda given: Track("u", "e", given).metadata,
        lambda given: Identify("u", given).metadata,
        lambda given: IdentifyCompany("c", given).metadata,
        lambda given: Identify("u", company=given).company,
    ],
    ids=["track", "identify", "identify_company", "company"],
)
def test_the_caller_may_change_its_dict_afterwards(make):
    given = {"id": "acme", "plan": "pro"}
    kept = make(given)
    given["plan"] = "free"
    given["new"] = object()

    assert {"id": "acme", "plan": "pro"} == kept


# ── for all values ──


@given(properties)
def test_what_is_accepted_is_what_json_readers_read(given):
    taken = checked_metadata(given)
    read = json.loads(encode_json(taken))

    assert taken == read
    assert [type(value) for value in taken.values()] == [type(value) for value in read.values()]


@given(properties)
def test_what_is_accepted_passes_the_check_again_unchanged(given):
    taken = checked_metadata(given)

    assert taken == checked_metadata(taken)


def statuses(posts: list[tuple[str, bytes]]) -> list[int]:
    """What the emulator answers to these bodies."""

    async def post_all() -> list[int]:
        headers = {
            "Authorization": "Token KEY", "X-API-Version": "2020-09-22", "Content-Type": "application/json"
        }  # fmt: skip
        transport = httpx.ASGITransport(Emulator(clock=lambda: 0.0))
        async with httpx.AsyncClient(transport=transport, base_url="https://emulator", headers=headers) as client:
            return [(await client.post(path, content=body)).status_code for path, body in posts]

    return anyio.run(post_all)


def wire(**body: object) -> bytes:
    return encode_json(body).encode()


@settings(deadline=None)
@given(user_id=ids, metadata=properties, company=company_properties)
def test_what_is_accepted_is_accepted_by_the_server_too(user_id, metadata, company):
    """The emulator's rules were written from the vendor's pages, and share no code with these."""
    user, its = Identify(user_id, metadata, {"id": user_id, **company}), IdentifyCompany(user_id, metadata)
    answers = statuses(
        [
            ("/v1/identify", wire(user_id=user.user_id, metadata=user.metadata, company=user.company)),
            ("/v1/companies/identify", wire(company_id=its.company_id, metadata=its.metadata)),
            ("/v1/track", track_body(user_id, user_id, metadata)),
        ]
    )

    assert [202, 202, 202] == answers


def test_what_fills_every_limit_is_accepted_by_the_server_too():
    names = [f"{number:0>255}" for number in range(500)]
    full = checked_metadata({**dict.fromkeys(names, 2**53 - 1), names[0]: "x" * 65_535})
    event = {"a": "é" * ((10_240 - len('{"a":""}')) // 2)}
    longest_id = "x" * 65_535
    answers = statuses(
        [
            ("/v1/identify", wire(user_id=longest_id, metadata=full, company={"id": longest_id, **full})),
            ("/v1/companies/identify", wire(company_id=longest_id, metadata=full)),
            ("/v1/track", track_body(longest_id, "e" * 255, event)),
        ]
    )

    assert [202, 202, 202] == answers


# ── discretion ──


class Telltale:
    """Gives itself away wherever it is printed."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return self.secret


BAD_VALUES: list[Callable[[str], object]] = [
    lambda secret: [secret],
    lambda secret: {secret: secret},
    lambda secret: {secret},
    lambda secret: secret.encode(),
    lambda secret: secret + "\ud800",
    lambda secret: secret * 10_000,
    lambda secret: Shouted(secret * 10_000),
    lambda secret: Telltale(secret),
    lambda secret: Enum("Bad", {"A": [secret]}).A,
    lambda secret: int(secret.encode().hex(), 16),
]
BAD_CALLS: list[Callable[[object], object]] = [
    lambda value: Track("u", "e", {"plan": value}),
    lambda value: track_body("u", "e", {"plan": value}),
    lambda value: Identify("u", {"plan": value}),
    lambda value: Identify("u", company={"id": "acme", "plan": value}),
    lambda value: Identify("u", company={"id": value}),
    lambda value: Identify("u", company={"id": value, "company_id": "acme"}),
    lambda value: IdentifyCompany("acme", {"plan": value}),
    lambda value: Identify(value),
    lambda value: IdentifyCompany(value),
    lambda value: Track(value, "e"),
    lambda value: Track("u", value),
    lambda value: track_body(value, "e", None),
    lambda value: track_body("u", value, None),
    lambda value: Track("u", "e", occurred_at=value),
    lambda value: Track("u", "e", value if not isinstance(value, dict) else [value]),
]


def all_it_says(error: BaseException) -> str:
    return "".join([str(error), repr(error), repr(error.args), *traceback.format_exception(error)])


@given(
    # Letters first, so that a secret is neither blank nor a short number.
    secret=st.text("ghjkmnpqrstvwxyz", min_size=12, max_size=20),
    make=st.sampled_from(BAD_VALUES),
    call=st.sampled_from(BAD_CALLS),
)
def test_an_error_never_holds_the_value_it_is_about(secret, make, call):
    """Values are personal data; errors end in logs and error trackers."""
    value = make(secret)
    error = refusal(lambda: call(value))

    assert secret not in all_it_says(error)
    assert str(value) not in all_it_says(error)
