"""Parcelvoy's four calls as values: what each field may hold, and there and back as a line of a file."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import (
    BLANK,
    NO_TEXTS,
    Shouted,
    UserId,
    json_values,
    moments,
    plain_values,
    text,
    values,
)
from userpilot_async import InvalidCall, UserpilotError
from userpilot_async._calls.ndjson import line_of
from userpilot_async.parcelvoy import CLEAR, Alias, Device, Identify, Track, from_line
from userpilot_async.parcelvoy._destination import call_of, checked_call

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAR_WEST = timezone(timedelta(hours=-12))
REQUIRED = {"os": "iOS 16.3", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}


def refusal(make: Any, *arguments: Any, **fields: Any) -> tuple[str, str]:
    """Field and reason of the error that a call with these arguments is."""
    with pytest.raises(InvalidCall) as caught:
        make(*arguments, **fields)
    return caught.value.field, caught.value.reason


# ── texts ──

IDENTIFY_TEXTS = {"external_id": 255, "anonymous_id": 255, "email": 255, "phone": 64, "locale": 255, "dedupe": 255}
ALIAS_TEXTS = {"external_id": 255, "anonymous_id": 255, "dedupe": 255}
DEVICE_TEXTS = dict.fromkeys(
    [
        "device_id",
        "external_id",
        "anonymous_id",
        "os",
        "model",
        "app_build",
        "app_version",
        "token",
        "os_version",
        "dedupe",
    ],
    255,
)
TRACK_TEXTS = dict.fromkeys(["name", "external_id", "anonymous_id", "dedupe"], 255)

MAY_BE_EMPTY = {"token", "os_version"}
MAY_BE_CLEARED = {"email", "phone", "locale", "timezone"}

COMPLETE: dict[Any, dict[str, Any]] = {
    Identify: {"external_id": "e", "anonymous_id": "a"},
    Alias: {"external_id": "e", "anonymous_id": "a"},
    Device: {"device_id": "d", "external_id": "e", "anonymous_id": "a", **REQUIRED},
    Track: {"name": "n", "external_id": "e", "anonymous_id": "a"},
}
TEXTS = [
    pytest.param(make, field, most, id=f"{make.__name__}.{field}")
    for make, fields in {
        Identify: IDENTIFY_TEXTS, Alias: ALIAS_TEXTS, Device: DEVICE_TEXTS, Track: TRACK_TEXTS,
    }.items()
    for field, most in fields.items()
]  # fmt: skip


def with_field(make: Any, field: str, value: object) -> Any:
    return make(**{**COMPLETE[make], field: value})


def test_every_field_is_tested_here():
    for make, texts in (
        (Identify, {*IDENTIFY_TEXTS, "timezone", "data"}),
        (Alias, ALIAS_TEXTS),
        (Device, DEVICE_TEXTS),
        (Track, {*TRACK_TEXTS, "data", "occurred_at"}),
    ):
        assert set(texts) == {field.name for field in attrs.fields(make)}


@pytest.mark.parametrize(("make", "field", "most"), TEXTS)
@pytest.mark.parametrize(("value", "reason"), [*NO_TEXTS, *BLANK], ids=ascii)
def test_a_text_must_be_a_string_with_something_in_it(make, field, most, value, reason):
    if value == "" and field in MAY_BE_EMPTY:
        assert "" == getattr(with_field(make, field, ""), field)
    elif value == "" and field in MAY_BE_CLEARED:
        assert (field, f"{reason}: CLEAR takes an earlier one back") == refusal(with_field, make, field, value)
    else:
        assert (field, reason) == refusal(with_field, make, field, value)


@pytest.mark.parametrize(("make", "field", "most"), TEXTS)
def test_a_text_is_as_long_as_the_servers_column_and_no_longer(make, field, most):
    """The server answers 204 before it stores: what is too long would be lost without a word."""
    assert "é" * most == getattr(with_field(make, field, "é" * most), field)
    assert (field, f"has {most + 1} characters; the limit is {most}") == refusal(
        with_field, make, field, "x" * (most + 1)
    )


@pytest.mark.parametrize(("make", "field", "most"), TEXTS)
@pytest.mark.parametrize("value", ["\x00", "\U0001f600", "مستخدم \u202e", "u\r\n1", " padded ", "../..", "null", "1"])
def test_a_text_may_look_like_anything(make, field, most, value):
    assert value == getattr(with_field(make, field, value), field)


@pytest.mark.parametrize(("make", "field", "most"), TEXTS)
@pytest.mark.parametrize("value", [Shouted("u1"), UserId.FIRST], ids=["a subclass of str", "an enum of texts"])
def test_a_text_of_a_str_subclass_counts_as_its_text(make, field, most, value):
    call, of_text = with_field(make, field, value), with_field(make, field, "u1")

    assert of_text == call == from_line(line_of(call))
    assert line_of(of_text) == line_of(call) == json.dumps(call.as_dict(), separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Identify("e", "a"),
        lambda: Device("d", "e", **REQUIRED),
        lambda: Track("n", "e"),
    ],
    ids=["Identify", "Device", "Track"],
)
def test_only_the_first_field_goes_without_its_name(make):
    """As with the client's methods: a second id in the wrong place would be somebody else."""
    with pytest.raises(TypeError, match="positional argument"):
        make()


# ── whose a call is ──

NOBODYS = ("external_id", "is missing, and so is anonymous_id: one of them must say whose this is")


@pytest.mark.parametrize(
    ("make", "fields"),
    [(Identify, {}), (Identify, {"email": "a@b.c"}), (Track, {"name": "n"}), (Device, {"device_id": "d", **REQUIRED})],
)
def test_one_of_the_two_ids_is_required_and_either_will_do(make, fields):
    assert NOBODYS == refusal(make, **fields)
    assert NOBODYS == refusal(make, **fields, external_id=None, anonymous_id=None)
    assert "e" == make(**fields, external_id="e").external_id
    assert "a" == make(**fields, anonymous_id="a").anonymous_id


def test_an_empty_id_is_not_excused_by_the_other_one():
    assert ("anonymous_id", "must not be empty or blank") == refusal(Identify, "e", anonymous_id="")


@pytest.mark.parametrize("missing", ["external_id", "anonymous_id"])
def test_an_alias_needs_both_ids(missing):
    assert (missing, "must be str, not NoneType") == refusal(with_field, Alias, missing, None)


@pytest.mark.parametrize("missing", ["device_id", *REQUIRED])
def test_a_device_needs_what_the_server_needs(missing):
    assert (missing, "must be str, not NoneType") == refusal(with_field, Device, missing, None)


@pytest.mark.parametrize("optional", ["token", "os_version"])
def test_a_device_may_have_a_token_and_a_version(optional):
    assert None is getattr(Device(**COMPLETE[Device]), optional)
    assert "given" == getattr(with_field(Device, optional, "given"), optional)


def test_an_event_needs_a_name_although_the_document_calls_it_optional():
    assert ("name", "must be str, not NoneType") == refusal(Track, None, external_id="e")


# ── time zones ──


def is_file_of_the_database(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except ZoneInfoNotFoundError:
        return False


NAMES = available_timezones() - {"localtime", "Factory"}  # a file that Debian has among them, and a zone of no place


def test_every_time_zone_that_this_machine_knows_is_taken():
    names = sorted(NAMES)

    assert {"Europe/Berlin", "UTC", "America/Argentina/Ushuaia"} <= set(names)
    assert names == [Identify("e", timezone=name).timezone for name in names]


@pytest.mark.parametrize(
    "name",
    [
        "Mars/Olympus", "europe/berlin", "EUROPE/BERLIN", "Europe", "Europe/", "/Europe/Berlin", "./Europe/Berlin",
        "Europe/../Europe/Berlin", "Europe//Berlin", "../etc/passwd", "/etc/passwd", "posix/UTC", "right/UTC",
        "zone.tab", "localtime", "Europe/Berlin\x00", "Europe/Berlin ", "Europe\\Berlin", "+02:00", "UTC+2", "Zürich",
        "x" * 255,
    ],
)  # fmt: skip
def test_what_is_no_time_zone_is_refused(name):
    what = "must be the IANA name of a time zone, like 'Europe/London'"
    assert ("timezone", what) == refusal(Identify, "e", timezone=name)


@pytest.mark.skipif(not is_file_of_the_database("posixrules"), reason="this machine has no such file")
def test_a_file_of_the_database_that_is_no_time_zone_is_refused():
    """The server answers 422: the person's whole identify would be lost."""
    assert "timezone" == refusal(Identify, "e", timezone="posixrules")[0]


@given(st.text(max_size=30))
def test_a_text_is_a_time_zone_or_refused(name):
    if name in NAMES:
        assert name == Identify("e", timezone=name).timezone
    else:
        assert "timezone" == refusal(Identify, "e", timezone=name)[0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "must not be empty or blank"),
        (" ", "must not be empty or blank"),
        ("x" * 256, "has 256 characters; the limit is 255"),
        ("Europe/Berlin\ud800", "has a lone surrogate, which UTF-8 cannot carry"),
        (1, "must be str, not int"),
        (UTC, "must be str, not timezone"),
        (["Europe/Berlin"], "must be str, not list"),
    ],
    ids=lambda given: ascii(given)[:20],
)
def test_a_time_zone_is_a_text_like_the_others(value, reason):
    assert ("timezone", reason) == refusal(Identify, "e", timezone=value)


# ── data and times ──

DATA_TAKERS = pytest.mark.parametrize(
    "make",
    [lambda data: Identify("e", data=data), lambda data: Track("n", external_id="e", data=data)],
    ids=["Identify", "Track"],
)


@DATA_TAKERS
def test_data_may_be_nested_and_is_copied(make):
    lines = [{"sku": "A", "on": date(2026, 1, 2)}, {"sku": None}]
    call = make({"cart": {"lines": lines}})
    lines.clear()

    assert {"cart": {"lines": [{"sku": "A", "on": "2026-01-02"}, {"sku": None}]}} == call.data


@DATA_TAKERS
def test_data_is_refused_with_the_way_to_what_is_wrong(make):
    assert ("data['a'][3]['b']", "is a float that is not finite; JSON has no NaN or Infinity") == refusal(
        make, {"a": [0, 1, 2, {"b": float("nan")}]}
    )
    assert ("data", "must be a mapping, not list") == refusal(make, [("plan", 1)])


def test_no_data_is_an_empty_object():
    assert {} == Identify("e").data == Track("n", external_id="e").data


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (datetime(2026, 1, 2), "must be an aware datetime: this one has no time zone"),
        (date(2026, 1, 2), "must be an aware datetime, not date"),
        ("2026-01-02T03:04:05Z", "must be an aware datetime, not str"),
        (1_600_854_660, "must be an aware datetime, not int"),
        (datetime.max.replace(tzinfo=FAR_WEST), "is a datetime outside the years 1 to 9999 in UTC"),
    ],
    ids=repr,
)  # fmt: skip
def test_the_time_of_an_event_is_aware(value, reason):
    assert ("occurred_at", reason) == refusal(Track, "n", external_id="e", occurred_at=value)


@given(moments)
def test_the_time_of_an_event_is_kept_in_utc(moment):
    kept = Track("n", external_id="e", occurred_at=moment).occurred_at

    assert (moment, UTC) == (kept, kept.tzinfo)


@pytest.mark.parametrize("make", COMPLETE)
def test_a_call_cannot_be_changed(make):
    call = make(**COMPLETE[make])
    for field in attrs.fields(make):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(call, field.name, "other")


def test_a_refusal_is_a_userpilot_error_all_the_same():
    """All destinations share one tree of errors."""
    with pytest.raises(UserpilotError):
        Track("n")


# ── lines of a file ──

short = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64).filter(lambda one: not one.isspace())
maybe = st.none() | st.just("") | short
nested_values = st.recursive(
    values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)
data = st.none() | st.dictionaries(text, nested_values, max_size=4)
zones = st.none() | st.sampled_from(["Europe/Berlin", "UTC", "America/Argentina/Ushuaia"])
one_id = st.fixed_dictionaries({"external_id": short}) | st.fixed_dictionaries({"anonymous_id": short})
ids = one_id | st.fixed_dictionaries({"external_id": short, "anonymous_id": short})


def built(make: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(lambda whose, rest: make(**whose, **rest), ids, st.fixed_dictionaries(fields))


field = st.none() | st.just(CLEAR) | short
identifies = built(Identify, email=field, phone=field, timezone=zones | st.just(CLEAR), locale=field, data=data)
aliases = st.builds(Alias, short, short)
devices = built(Device, device_id=short, token=maybe, os_version=maybe, **dict.fromkeys(REQUIRED, short))
tracks = built(Track, name=short, data=data, occurred_at=st.none() | moments)
calls = identifies | aliases | devices | tracks


@given(calls)
def test_a_call_comes_back_as_it_was_written(call):
    line = line_of(call)

    assert call == from_line(line) == from_line(line.decode())
    assert repr(call.as_dict()) == repr(from_line(line).as_dict())
    assert b"\n" not in line


@given(calls)
def test_what_as_dict_gives_is_json_as_it_is(call):
    """A user writes a file with `json.dumps`, not with ours."""
    assert call == from_line(json.dumps(call.as_dict()))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (Identify("e"), {"type": "identify", "external_id": "e", "data": {}}),
        (
            Identify("e", anonymous_id="a", email="m@x", phone="+1", timezone="UTC", locale="en", data={"x": [None]}),
            {"type": "identify", "external_id": "e", "anonymous_id": "a", "email": "m@x", "phone": "+1",
             "timezone": "UTC", "locale": "en", "data": {"x": [None]}},
        ),
        (Alias("a", "e"), {"type": "alias", "anonymous_id": "a", "external_id": "e"}),
        (
            Device("d", external_id="e", token="t", os_version="16", **REQUIRED),
            {"type": "device", "device_id": "d", "external_id": "e", "token": "t", "os_version": "16", **REQUIRED},
        ),
        (Track("n", anonymous_id="a"), {"type": "track", "name": "n", "anonymous_id": "a", "data": {}}),
        (
            Track("n", external_id="e", data={"x": {"y": 1}}, occurred_at=AT),
            {"type": "track", "name": "n", "external_id": "e", "data": {"x": {"y": 1}},
             "occurred_at": "2026-01-02T03:04:05Z"},
        ),
    ],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_a_call_is_written_as_one_json_object(call, line):
    assert line == call.as_dict() == json.loads(line_of(call))


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        (b"[]", "line", "must be a JSON object, not list"),
        (b"nonsense", "line", "is not JSON"),
        (b"{}", "type", 'must be "identify", "alias", "device" or "track"'),
        (b'{"type": "identify_company"}', "type", 'must be "identify", "alias", "device" or "track"'),
        (b'{"type": "identify"}', *NOBODYS),
        (b'{"type": "track", "external_id": "e"}', "name", "is missing"),
        (b'{"type": "track", "name": "n"}', *NOBODYS),
        (b'{"type": "alias", "external_id": "e"}', "anonymous_id", "is missing"),
        (b'{"type": "alias", "anonymous_id": "a"}', "external_id", "is missing"),
        (b'{"type": "device", "external_id": "e"}', "device_id", "is missing"),
        (b'{"type": "device", "external_id": "e", "device_id": "d"}', "os", "is missing"),
        (b'{"type": "identify", "user_id": "e"}', "'user_id'", "is no field of identify"),
        (b'{"type": "track", "external_id": "e", "name": "n", "created_at": "2026"}', "'created_at'",
         "is no field of track"),
        (b'{"type": "track", "external_id": "e", "name": "n", "occurred_at": "soon"}', "occurred_at",
         "must be ISO 8601"),
        (b'{"type": "identify", "external_id": "e", "timezone": "Mars/Olympus"}', "timezone",
         "must be the IANA name of a time zone, like 'Europe/London'"),
        (b'{"type": "identify", "external_id": "e", "data": {"a": [NaN]}}', "data['a'][0]",
         "is a float that is not finite; JSON has no NaN or Infinity"),
        (b'{"type": "identify", "external_id": "e", "data": {"a": "\\ud800"}}', "data['a']",
         "has a lone surrogate, which UTF-8 cannot carry"),
        (b'{"type": "identify", "external_id": "\\ud800"}', "external_id",
         "has a lone surrogate, which UTF-8 cannot carry"),
        (b'{"type": "identify", "external_id": "e", "data": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}",
         "data['a']" + "[0]" * 17 + "...", "is nested deeper than 100 levels, or holds itself"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_call_says_where(line, field, reason):
    assert (field, reason) == refusal(from_line, line)


FIELDS = ["external_id", "anonymous_id", "email", "phone", "timezone", "locale", "data", "device_id", "os", "name",
          "occurred_at", "token"]  # fmt: skip


@given(
    kind=st.sampled_from(["identify", "alias", "device", "track"]),
    fields=st.dictionaries(st.sampled_from(FIELDS), json_values | plain_values | moments.map(str), max_size=5),
)
def test_a_line_with_the_right_names_and_any_values_is_a_call_or_invalid(kind, fields):
    try:
        call = from_line(json.dumps({"type": kind, **fields}))
    except InvalidCall as error:
        assert error.field
        assert error.reason
    else:
        assert call == from_line(line_of(call))


@pytest.mark.parametrize("field", sorted(MAY_BE_CLEARED))
def test_a_field_that_is_cleared_goes_over_the_wire_as_null(field):
    call = Identify("e", **{field: CLEAR})

    kind, _, payload, _ = checked_call(call)
    assert {"external_id": "e", field: None} == call.fields()
    assert call == call_of(kind, "e:e", payload)


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_what_cannot_be_in_one_body_is_refused_at_the_call(size):
    """The server answers 400 to a larger one, which looks as if anything had gone wrong inside it."""
    event = {"name": "n", "external_id": "e", "data": {"text": ""}}
    spare = 1_048_576 - len(json.dumps([event], separators=(",", ":")))
    full = Track("n", external_id="e", data={"text": "x" * (spare + size)})
    person = {"external_id": "e", "data": {"text": ""}}
    rest = 1_048_576 - len(json.dumps(person, separators=(",", ":")))
    identify = Identify("e", data={"text": "x" * (rest + size)})

    for call in (full, identify):
        if size > 0:
            assert ("data", "makes a body of 1,048,577 bytes; the server takes 1,048,576 at most") == refusal(
                checked_call, call
            )
        else:
            assert checked_call(call)


def test_when_it_happened_goes_into_data_where_the_settings_name_a_key():
    at = datetime(2026, 10, 1, 8, tzinfo=UTC)
    call = Track("n", external_id="e", data={"a": 1}, occurred_at=at)

    bodies = [json.loads(checked_call(call, key)[2]) for key in (None, "happened_at", "a")]

    assert [{"a": 1}, {"happened_at": "2026-10-01T08:00:00Z", "a": 1}, {"a": 1}] == [one["data"] for one in bodies]
    assert ["2026-10-01T08:00:00Z"] * 3 == [one["created_at"] for one in bodies]
