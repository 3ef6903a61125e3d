"""The three calls as values: there and back as a line of a file, and the body of an event."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import anything, calls, event_names, ids, json_values, properties
from userpilot_async import Identify, IdentifyCompany, InvalidCall, Track
from userpilot_async._userpilot.calls import Call, from_bytes, from_dict, to_bytes, track_body, track_from_body

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def refusal(line: bytes | str) -> InvalidCall:
    with pytest.raises(InvalidCall) as caught:
        from_bytes(line)
    return caught.value


def call_or_refusal(line: bytes | str) -> Call | InvalidCall:
    try:
        return from_bytes(line)
    except InvalidCall as error:
        return error


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            Track("u1", "exported", {"rows": 3}, AT),
            {"type": "track", "user_id": "u1", "event_name": "exported", "metadata": {"rows": 3},
             "occurred_at": "2026-01-02T03:04:05Z"},
        ),
        (Track("u1", "exported"), {"type": "track", "user_id": "u1", "event_name": "exported", "metadata": {}}),
        (
            Identify("u1", {"plan": None}, {"company_id": "acme", "name": "Acme"}),
            {"type": "identify", "user_id": "u1", "metadata": {"plan": None},
             "company": {"id": "acme", "name": "Acme"}},
        ),
        (Identify("u1"), {"type": "identify", "user_id": "u1", "metadata": {}}),
        (IdentifyCompany("acme", {"a": 1}), {"type": "identify_company", "company_id": "acme", "metadata": {"a": 1}}),
    ],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_a_call_is_written_as_one_json_object(call, line):
    assert line == json.loads(to_bytes(call))


@given(calls)
def test_a_call_comes_back_as_it_was_written(call):
    assert call == from_bytes(to_bytes(call))


@given(calls)
def test_a_call_is_written_on_one_line(call):
    assert b"\n" not in to_bytes(call)


@given(calls)
def test_a_line_may_be_str_as_well_as_bytes(call):
    assert call == from_bytes(to_bytes(call).decode())


@pytest.mark.parametrize("name", ["user_id", "event_name", "metadata", "occurred_at"])
def test_a_call_cannot_be_changed(name):
    call = Track("u1", "exported")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(call, name, "other")


@given(st.one_of(st.binary(), st.text(), json_values.map(json.dumps)))
def test_a_line_is_a_call_or_invalid_and_nothing_else(line):
    result = call_or_refusal(line)

    assert isinstance(result, (Track, Identify, IdentifyCompany)) or (result.field and result.reason)


FIELDS = ["user_id", "company_id", "event_name", "metadata", "company", "occurred_at"]


@given(
    kind=st.sampled_from(["track", "identify", "identify_company"]),
    given_fields=st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4),
)
def test_a_line_with_the_right_names_and_any_values_is_a_call_or_invalid(kind, given_fields):
    result = call_or_refusal(json.dumps({"type": kind, **given_fields}))

    assert isinstance(result, InvalidCall) or result == from_bytes(to_bytes(result))


KINDS = 'must be "track", "identify", "identify_company", "delete_user" or "delete_company"'


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        (b"", "line", "is not JSON"),
        (b"{", "line", "is not JSON"),
        (b"\xff\xfe\xfd", "line", "is not JSON"),
        (b"[" * 100_000, "line", "is not JSON"),
        (b"[]", "line", "must be a JSON object, not list"),
        (b"null", "line", "must be a JSON object, not NoneType"),
        (b"{}", "type", KINDS),
        (b'{"type": "alias"}', "type", KINDS),
        (b'{"type": ["track"]}', "type", KINDS),
        (b'{"type": "track"}', "user_id", "is missing"),
        (b'{"type": "track", "user_id": "u"}', "event_name", "is missing"),
        (b'{"type": "identify"}', "user_id", "is missing"),
        (b'{"type": "identify_company"}', "company_id", "is missing"),
        (b'{"type": "identify", "user_id": "u", "event_name": "e"}', "'event_name'", "is no field of identify"),
        (b'{"type": "identify", "user_id": "u", "l\\nog": 1}', r"'l\nog'", "is no field of identify"),
        (b'{"type": "identify", "user_id": "u", "metadata": 0}', "metadata",
         "must be a mapping of properties, not int"),
        (b'{"type": "identify", "user_id": "u", "metadata": {"a": NaN}}', "metadata['a']",
         "is a float that is not finite; JSON has no NaN or Infinity"),
        (b'{"type": "identify", "user_id": "u", "metadata": {"a": "\\ud800"}}', "metadata['a']",
         "has a lone surrogate, which UTF-8 cannot carry"),
        (b'{"type": "track", "user_id": "u", "event_name": "e", "occurred_at": "soon"}', "occurred_at",
         "must be ISO 8601"),
        (b'{"type": "track", "user_id": "u", "event_name": "e", "occurred_at": ""}', "occurred_at",
         "must be ISO 8601"),
        (b'{"type": "track", "user_id": "u", "event_name": "e", "occurred_at": 1600854660}', "occurred_at",
         "must be an aware datetime, not int"),
        (b'{"type": "track", "user_id": "u", "event_name": "e", "occurred_at": "2026-01-02T03:04:05"}', "occurred_at",
         "must be an aware datetime: this one has no time zone"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_call_says_where(line, field, reason):
    error = refusal(line)

    assert (field, reason) == (error.field, error.reason)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05z",
        "2026-01-02 03:04:05+00:00",
        "2026-01-02T04:04:05+01:00",
        "2026-01-02T03:04:05.000+00:00",
    ],
)
def test_the_time_on_a_line_may_be_any_iso_8601_with_a_zone(text):
    line = json.dumps({"type": "track", "user_id": "u", "event_name": "e", "occurred_at": text})

    assert Track("u", "e", None, AT) == from_bytes(line)


def test_a_fact_given_as_a_dict_is_not_changed():
    fields = {"type": "track", "user_id": "u", "event_name": "e", "occurred_at": "2026-01-02T03:04:05Z"}
    before = dict(fields)
    from_dict(fields)

    assert before == fields


@pytest.mark.parametrize(
    "make_line",
    [
        lambda secret: f'{{"type": "{secret}',
        lambda secret: f'"{secret}'.encode() + b"\xff",
        lambda secret: json.dumps(secret),
        lambda secret: json.dumps({"type": secret}),
        lambda secret: json.dumps({"type": "identify", "user_id": [secret]}),
        lambda secret: json.dumps({"type": "identify", "user_id": "u", "metadata": [secret]}),
        lambda secret: json.dumps({"type": "identify", "user_id": "u", "metadata": {"a": [secret]}}),
        lambda secret: json.dumps({"type": "identify", "user_id": secret + "\ud800"}),
        lambda secret: json.dumps({"type": "track", "user_id": "u", "event_name": "e", "occurred_at": secret}),
    ],
)
def test_an_error_about_a_line_never_holds_what_the_line_says(make_line):
    secret = "hjk" + "mnp"
    error = refusal(make_line(secret))

    assert secret not in "".join([str(error), repr(error), *traceback.format_exception(error)])


# ── the body of an event ──


@given(ids, event_names, properties)
def test_the_body_of_an_event_says_what_the_call_says(user_id, event_name, metadata):
    call = Track(user_id, event_name, metadata)
    body = json.loads(track_body(user_id, event_name, metadata))

    assert {"user_id": call.user_id, "event_name": call.event_name, "metadata": call.metadata} == body


@given(ids, event_names, properties)
def test_the_call_is_found_again_in_its_body(user_id, event_name, metadata):
    assert Track(user_id, event_name, metadata) == track_from_body(track_body(user_id, event_name, metadata))


@given(anything | ids, anything | event_names, anything | properties | st.dictionaries(anything.filter(
    lambda name: isinstance(name, (str, int, bytes))), anything, max_size=3))  # fmt: skip
def test_the_fast_way_and_the_slow_way_refuse_the_same_events(user_id, event_name, metadata):
    assert accepts(Track, user_id, event_name, metadata) == accepts(track_body, user_id, event_name, metadata)


@given(anything | ids, anything | properties, anything | properties)
def test_nothing_but_invalid_call_is_raised_whatever_is_given(user_id, metadata, company):
    accepts(Identify, user_id, metadata, company)
    accepts(IdentifyCompany, user_id, metadata)


def accepts(make, *given):
    try:
        make(*given)
    except InvalidCall:
        return False
    return True
