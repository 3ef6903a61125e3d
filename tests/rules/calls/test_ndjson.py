"""Lines of NDJSON for calls of any destination: there and back, and what is said of a line that is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import json_values, moments, text
from userpilot_async import InvalidCall
from userpilot_async._calls.ndjson import call_of, line_of, object_on
from userpilot_async._calls.values import checked_time, iso_utc

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def text_of(value: object) -> str:
    if isinstance(value, str):
        return value
    raise InvalidCall("name", "must be str")


@attrs.frozen
class Call:
    """What a destination's call has to have: fields, a converter that refuses, and `as_dict`."""

    name: str = attrs.field(converter=text_of)
    note: str | None = None
    occurred_at: datetime | None = attrs.field(default=None, converter=checked_time)

    def as_dict(self) -> dict[str, Any]:
        line = {"type": "call", "name": self.name, "note": self.note}
        return line if self.occurred_at is None else line | {"occurred_at": iso_utc(self.occurred_at)}


TYPES: dict[str, Any] = {"call": Call, "cry": Call, "whisper": Call}


def refusal(fields: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(InvalidCall) as caught:
        call_of(fields, TYPES)
    return caught.value.field, caught.value.reason


@given(st.builds(Call, text, st.none() | text, st.none() | moments))
def test_a_call_comes_back_from_its_line(call):
    line = line_of(call)

    assert b"\n" not in line
    assert call == call_of(object_on(line), TYPES) == call_of(object_on(line.decode()), TYPES)


def test_the_line_is_json_without_white_space_and_without_escapes():
    assert '{"type":"call","name":"é","note":null}'.encode() == line_of(Call("é"))


@pytest.mark.parametrize("written", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05z", "2026-01-02T04:04:05+01:00"])
def test_a_time_may_be_written_in_any_zone(written):
    assert AT == call_of({"type": "call", "name": "n", "occurred_at": written}, TYPES).occurred_at


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({}, "type", 'must be "call", "cry" or "whisper"'),
        ({"type": "shout"}, "type", 'must be "call", "cry" or "whisper"'),
        ({"type": None}, "type", 'must be "call", "cry" or "whisper"'),
        ({"type": ["call"]}, "type", 'must be "call", "cry" or "whisper"'),
        ({"type": "call"}, "name", "is missing"),
        ({"type": "call", "name": None}, "name", "must be str"),
        ({"type": "call", "name": "n", "noise": 1}, "'noise'", "is no field of call"),
        ({"type": "cry", "name": "n", "l\nog": 1}, r"'l\nog'", "is no field of cry"),
        ({"type": "call", "name": "n", "x" * 50: 1}, f"'{'x' * 37}...'", "is no field of call"),
        ({"type": "call", "name": "n", "occurred_at": "soon"}, "occurred_at", "must be ISO 8601"),
        ({"type": "call", "name": "n", "occurred_at": ""}, "occurred_at", "must be ISO 8601"),
        ({"type": "call", "name": "n", "occurred_at": 0}, "occurred_at", "must be an aware datetime, not int"),
        ({"type": "call", "name": "n", "occurred_at": "2026-01-02"}, "occurred_at",
         "must be an aware datetime: this one has no time zone"),
    ],
)  # fmt: skip
def test_fields_that_are_no_call_are_refused_by_name(fields, field, reason):
    assert (field, reason) == refusal(fields)


def test_the_callers_fields_are_left_as_they_are():
    fields = {"type": "call", "name": "n", "occurred_at": iso_utc(AT)}
    call_of(fields, TYPES)

    assert {"type": "call", "name": "n", "occurred_at": "2026-01-02T03:04:05Z"} == fields


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "is not JSON"),
        ("", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"a": 1} {"b": 2}', "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"\x80abc", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"n":' + b"9" * 5_000 + b"}", "is not JSON"),
        (b"[]", "must be a JSON object, not list"),
        ("null", "must be a JSON object, not NoneType"),
        (b'"call"', "must be a JSON object, not str"),
        (b"1", "must be a JSON object, not int"),
    ],
    ids=lambda given: repr(given)[:20],
)
def test_a_line_without_an_object_is_refused_as_a_line(line, reason):
    with pytest.raises(InvalidCall) as caught:
        object_on(line)

    assert ("line", reason) == (caught.value.field, caught.value.reason)


@given(json_values.map(json.dumps) | st.text() | st.binary())
def test_a_line_is_an_object_or_invalid_and_nothing_else(line):
    try:
        assert isinstance(object_on(line), dict)
    except InvalidCall as error:
        assert "line" == error.field
