"""The rows of an import: what is taken, in which form it goes out, and what is refused by which rule."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.harness.examples.strategies import (
    BLANK,
    NO_TEXTS,
    SENT_AS,
    anything,
    ids,
    json_values,
    moments,
    names,
    plain_values,
)
from tests.harness.examples.strategies import properties as convertible
from userpilot_async._calls.values import encode_json
from userpilot_async._errors.tree import InvalidCall
from userpilot_async.emulator._import_rows import import_row_errors, moment
from userpilot_async.imports._fields import SOURCES
from userpilot_async.imports._rows import (
    FIELDS,
    IdentifyCompany,
    IdentifyUser,
    PageView,
    Row,
    TrackEvent,
    checked,
)

AT = "2024-12-01T08:55:43.220396"
USER = {"event_type": "identify_user", "user_id": "u1", "inserted_at": AT}
COMPANY = {"event_type": "identify_company", "company_id": "c1", "inserted_at": AT}
VIEW = {"event_type": "page_view", "user_id": "u1", "hostname": "example.com", "pathname": "/", "inserted_at": AT}
TRACK = {"event_type": "track", "user_id": "u1", "event_name": "opened", "inserted_at": AT}
ROWS = [USER, COMPANY, VIEW, TRACK]
OF_USERS = [USER, VIEW, TRACK]

# The payloads of "Import event schema", one of each type.
DOCUMENTED = [
    {
        "event_type": "identify_user",
        "event_name": "",
        "source": "web-client",
        "user_id": "user_id",
        "company_id": "company_id",
        "hostname": "example.com",
        "pathname": "/users/list",
        "country_code": "UK",
        "screen_width": 859,
        "screen_height": 746,
        "operating_system": "Mac",
        "browser": "Chrome",
        "browser_language": "en-US",
        "user_agent": "Mozilla/5.0 (Macintosh)",
        "device_type": "Desktop",
        "inserted_at": "2024-07-28 08:55:35.874555",
        "metadata": {"name": "John Doe", "total_logins": 28, "sign_up_date": "2023-11-01 14:35:36.173103"},
    },
    {
        "event_type": "identify_company",
        "source": "web-client",
        "company_id": "company_id",
        "inserted_at": "2024-07-28 08:55:35.874555",
        "metadata": {"name": "Acme Labs Inc.", "branches_count": 3},
    },
    {
        "event_type": "page_view",
        "event_name": "",
        "source": "web-client",
        "user_id": "user_id_10",
        "company_id": "company_id_60",
        "hostname": "example.com",
        "pathname": "/dashboard/",
        "operating_system": "",
        "browser": "",
        "user_agent": "Mozilla/5.0 (Macintosh)",
        "inserted_at": "2024-07-28 08:55:34.229738",
    },
    {
        "event_type": "track",
        "event_name": "account_upgraded",
        "source": "web-client",
        "user_id": "user_id_123",
        "company_id": "",
        "hostname": "example.com",
        "pathname": "/subscription/plans",
        "user_agent": "Mozilla/5.0 (Macintosh)",
        "inserted_at": "2024-12-01T08:55:43.220396",
        "metadata": {"old_plan": "Basic", "upgrade_date": "2024-12-01T08:55:43.220396"},
    },
]


def refusal(fields):
    """The field and the reason for which a row is refused."""
    with pytest.raises(InvalidCall) as caught:
        checked(fields)
    return caught.value.field, caught.value.reason


# ── what is taken ──


@pytest.mark.parametrize("row", DOCUMENTED, ids=lambda row: row["event_type"])
def test_a_documented_payload_goes_out_without_its_empty_fields(row):
    whole = {name: value for name, value in row.items() if value != ""}

    assert {"metadata": {}, **whole} == checked(row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["event_type"])
def test_source_and_metadata_have_defaults(row):
    assert {**row, "source": "backend-http-import", "metadata": {}} == checked(row)
    assert checked(row) == checked({**row, "source": "", "metadata": None})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["event_type"])
def test_a_row_is_left_as_it_was(row):
    given = {**row, "metadata": {"a": 1}}
    result = checked(given)
    result["metadata"]["b"] = 2
    result["source"] = "backend-http"

    assert {**row, "metadata": {"a": 1}} == given


@pytest.mark.parametrize("row", [USER, VIEW], ids=lambda row: row["event_type"])
def test_an_event_name_where_none_applies_is_passed_on(row):
    assert "opened" == checked({**row, "event_name": "opened"})["event_name"]


def test_of_a_company_row_only_its_own_fields_are_kept():
    assert checked(COMPANY) == checked({**COMPANY, "hostname": 7, "anything": ["else"], "user_id": ""})


def test_a_url_stands_for_hostname_and_pathname():
    row = checked({**VIEW, "url": "https://example.com/a"})

    assert "https://example.com/a" == row["url"]
    assert {"hostname", "pathname"}.isdisjoint(row)


def test_a_url_is_enough_of_a_page():
    assert "url" in checked({"event_type": "page_view", "user_id": "u1", "inserted_at": AT, "url": "https://e.com/a"})


@pytest.mark.parametrize("size", ["0", "1080", 1080])
def test_a_size_may_be_written_in_digits(size):
    assert int(size) == checked({**TRACK, "screen_width": size})["screen_width"]


@pytest.mark.parametrize(("given", "sent"), SENT_AS)
def test_what_has_one_obvious_form_is_sent_in_it(given, sent):
    assert {"a": sent} == checked({**USER, "metadata": {"a": given}})["metadata"]


def test_null_removes_a_property():
    assert {"plan": None} == checked({**USER, "metadata": {"plan": None}})["metadata"]


@pytest.mark.parametrize("row", OF_USERS, ids=lambda row: row["event_type"])
@pytest.mark.parametrize("name", sorted({*FIELDS} - {*USER, "metadata", "event_name"}))
def test_an_optional_field_may_be_null_or_empty(row, name):
    if name in row:
        return

    assert checked(row) == checked({**row, name: None}) == checked({**row, name: ""})


# ── when it happened ──


@pytest.mark.parametrize(
    "text",
    ["2024-12-01T08:55:43", "2024-12-01 08:55:43.2", "2024-12-01T08:55:43.220396Z", "2024-02-29 23:59:59.999999"],
)
def test_a_time_in_utc_stays_as_it_is_written(text):
    assert text == checked({**TRACK, "inserted_at": text})["inserted_at"]


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("2024-12-01T09:55:43.220396+01:00", "2024-12-01T08:55:43.220396Z"),
        ("2024-12-01 08:55:43.22+00:00", "2024-12-01 08:55:43.22Z"),
        ("2024-12-01T08:55:43-00:00", "2024-12-01T08:55:43Z"),
        ("2024-12-01 09:55:43+0100", "2024-12-01T08:55:43Z"),
        ("2024-12-01T00:25:43-08:30", "2024-12-01T08:55:43Z"),
        ("2024-12-01T09:55:43+01", "2024-12-01T08:55:43Z"),
        ("2024-12-01t08:55:43z", "2024-12-01T08:55:43Z"),
        ("2024-12-01T08:55:43.220396789Z", "2024-12-01T08:55:43.220396Z"),
        ("2024-12-01T08:55:43.1234567", "2024-12-01T08:55:43.123456Z"),
        ("2024-12-01T08:55:43,5", "2024-12-01T08:55:43.500000Z"),
        ("2024-12-01T08:55", "2024-12-01T08:55:00Z"),
        ("20241201T085543Z", "2024-12-01T08:55:43Z"),
        ("2024-12-01 08:55:43.220396 UTC", "2024-12-01T08:55:43.220396Z"),
        (" 2024-12-01T08:55:43Z\n", "2024-12-01T08:55:43Z"),
        (datetime(2024, 12, 1, 9, 55, 43, tzinfo=timezone(timedelta(hours=1))), "2024-12-01T08:55:43Z"),
    ],
)
def test_any_other_time_is_turned_into_utc(text, sent):
    assert sent == checked({**TRACK, "inserted_at": text})["inserted_at"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", "must be an ISO 8601 time, such as 2024-12-01T08:55:43.220396Z"),
        ("2024-12-01", "must be an ISO 8601 time, such as 2024-12-01T08:55:43.220396Z"),
        ("2024-1201T08:55:43", "must be an ISO 8601 time, such as 2024-12-01T08:55:43.220396Z"),
        ("2024-12-01T08:55:43.2203967891", "must be an ISO 8601 time, such as 2024-12-01T08:55:43.220396Z"),
        ("２０２４-12-01T08:55:43", "must be an ISO 8601 time, such as 2024-12-01T08:55:43.220396Z"),
        (
            "2023-02-29T08:55:43+00:00",
            "names a time that does not exist: check its month, day, hour, minute and second",
        ),
        ("2023-02-29T08:55:43", "names a time that does not exist: check its month, day, hour, minute and second"),
        ("2024-12-01T24:00:00Z", "names a time that does not exist: check its month, day, hour, minute and second"),
        (
            "2024-13-01T08:55:43+01:00",
            "names a time that does not exist: check its month, day, hour, minute and second",
        ),
        ("2024-12-01T08:61", "names a time that does not exist: check its month, day, hour, minute and second"),
        ("0000-12-01T08:55:43", "names a time that does not exist: check its month, day, hour, minute and second"),
        ("2024-12-01T08:55:43+25:00", "must be an ISO 8601 time, such as 2024-12-01T08:55:43.220396Z"),
        ("2024-12-01T08:55:43+05:99", "must be an ISO 8601 time, such as 2024-12-01T08:55:43.220396Z"),
        ("0001-01-01T00:00:00+01:00", "lies outside the years 1 to 9999 in UTC"),
        ("9999-12-31T23:59:59-01:00", "lies outside the years 1 to 9999 in UTC"),
        (datetime(2024, 12, 1), "is a naive datetime: give it a time zone"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "lies outside the years 1 to 9999 in UTC"),
        (1733043343, "must be an aware datetime, or a str with an ISO 8601 time, not int"),
        (None, "is missing"),
        ("", "is missing"),
    ],
)
def test_what_is_no_time_is_refused(value, reason):
    assert ("inserted_at", reason) == refusal({**TRACK, "inserted_at": value})


@given(
    moments,
    st.sampled_from("T "),
    st.sampled_from(["auto", "milliseconds", "microseconds"]),
    st.booleans(),
)
def test_a_time_is_the_same_moment_before_and_after(at, between, precision, short_offset):
    """For the emulator's own reader, too, however it was written."""
    text = at.isoformat(between, precision)
    if short_offset:
        text = text[:-3] + text[-2:]
    sent = checked({**TRACK, "inserted_at": text})["inserted_at"]
    cut = timedelta(milliseconds=1 if precision == "milliseconds" else 0)

    assert abs(moment(sent) - at.timestamp()) <= cut.total_seconds() + 1e-6 * max(1, abs(at.timestamp()) / 1e9)


@given(st.text(st.sampled_from("0123456789-:.TZ+ "), max_size=32))
def test_a_time_is_taken_or_refused_and_nothing_else(text):
    try:
        sent = checked({**TRACK, "inserted_at": text})["inserted_at"]
    except InvalidCall as error:
        assert "inserted_at" == error.field
    else:
        assert moment(sent) is not None


# ── what is refused ──


@pytest.mark.parametrize("kind", [None, "", "identify", "Track", 7, ["track"], {"track": 1}])
def test_a_row_says_which_it_is(kind):
    assert ("event_type", "must be one of identify_user, identify_company, page_view, track") == refusal(
        {**TRACK, "event_type": kind}
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["event_type"])
def test_required_fields_are_missed(row):
    for name in {*row} - {"event_type", "hostname", "pathname"}:
        rest = {given: value for given, value in row.items() if given != name}

        assert (name, "is missing") == refusal(rest) == refusal({**row, name: None}) == refusal({**row, name: ""})


@pytest.mark.parametrize("name", ["hostname", "pathname"])
def test_a_page_view_needs_its_page(name):
    reason = "is missing: a page_view row needs hostname and pathname, or url"

    assert (name, reason) == refusal({**VIEW, name: ""})


@pytest.mark.parametrize("row", [USER, TRACK], ids=lambda row: row["event_type"])
def test_a_row_of_the_browser_needs_its_page_and_the_user_agent(row):
    row = {**row, "source": "web-client"}
    reason = "is missing: a row of web-client needs hostname and pathname, or url"

    assert ("hostname", reason) == refusal(row)
    assert ("pathname", reason) == refusal({**row, "hostname": "example.com"})
    assert ("user_agent", "is missing: a row of web-client needs it") == refusal({**row, "url": "https://e.com"})
    assert checked({**row, "url": "https://e.com", "user_agent": "Mozilla/5.0"})


@pytest.mark.parametrize("row", OF_USERS, ids=lambda row: row["event_type"])
def test_a_field_that_no_row_has_is_refused_because_it_would_be_lost(row):
    assert ("'userid'", "is no field of an import row") == refusal({**row, "userid": "u1"})
    assert ("'" + "a" * 37 + "...'", "is no field of an import row") == refusal({**row, "a" * 300: "u1"})
    assert ("row", "is no field of an import row") == refusal({**row, 7: "u1"})


def test_a_source_is_one_of_six():
    assert 6 == len(SOURCES)
    assert ("source", f"must be one of {', '.join(SOURCES)}") == refusal({**TRACK, "source": "segment"})
    assert ("source", "must be str, not list") == refusal({**TRACK, "source": ["backend-http"]})


@pytest.mark.parametrize("field", ["user_id", "company_id", "event_name"])
@pytest.mark.parametrize(("value", "reason"), [*NO_TEXTS, *BLANK[1:]])
def test_ids_and_names_are_texts_with_something_in_them(field, value, reason):
    assert (field, reason) == refusal({**TRACK, field: value})


@pytest.mark.parametrize("field", ["hostname", "url", "browser", "user_agent"])
@pytest.mark.parametrize(("value", "reason"), NO_TEXTS)
def test_other_texts_are_texts(field, value, reason):
    assert (field, reason) == refusal({**TRACK, field: value})


@pytest.mark.parametrize(
    ("field", "length", "limit"),
    [("user_id", 65_536, "65,535"), ("browser", 65_536, "65,535"), ("event_name", 256, 255)],
)
def test_texts_are_not_endless(field, length, limit):
    assert (field, f"has {length:,} characters; the limit is {limit}") == refusal({**TRACK, field: "a" * length})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (True, "must be int, or a str of digits, not bool"),
        (859.5, "must be int, or a str of digits, not float"),
        (-1, "must be from 0 to 9007199254740991"),
        (2**53, "must be from 0 to 9007199254740991"),
        ("wide", "must be a whole number of pixels"),
        ("-1", "must be a whole number of pixels"),
        ("１０", "must be a whole number of pixels"),
        ("9" * 5_000, "must be a whole number of pixels"),
    ],
)
def test_a_size_is_a_number_of_pixels(value, reason):
    assert ("screen_height", reason) == refusal({**TRACK, "screen_height": value})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["event_type"])
@pytest.mark.parametrize(
    ("metadata", "field", "reason"),
    [
        (["a"], "metadata", "must be a mapping of properties, not list"),
        (
            {"a": [1]},
            "metadata['a']",
            "must be str, int, float, bool, None, datetime, date, Decimal, UUID or Enum, not list",
        ),
        ({"a": float("nan")}, "metadata['a']", "is a float that is not finite; JSON has no NaN or Infinity"),
        ({"a": 2**53}, "metadata['a']", "is an int beyond ±(2**53 - 1), which JSON readers round; send it as str"),
        ({"a": "\ud800"}, "metadata['a']", "has a lone surrogate, which UTF-8 cannot carry"),
        ({"": 1}, "metadata", "has an empty name"),
        ({"a" * 256: 1}, "metadata", "has a name of 256 characters; the limit is 255"),
        ({"a": "b" * 65_536}, "metadata['a']", "has 65,536 characters; the limit is 65,535"),
        ({str(n): n for n in range(501)}, "metadata", "has 501 properties; the limit is 500"),
    ],
)
def test_metadata_keeps_to_the_rules_of_the_realtime_endpoints(row, metadata, field, reason):
    assert (field, reason) == refusal({**row, "metadata": metadata})


@pytest.mark.parametrize("character", ["a", "\0", "ü", "\U0001f600"])
@pytest.mark.parametrize("row", [VIEW, TRACK], ids=lambda row: row["event_type"])
def test_an_events_metadata_is_at_most_10_kb_of_json(row, character):
    each = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    room = 10 * 1024 - len(b'{"a":""}')
    fits = {"a": character * (room // each) + "a" * (room % each)}

    assert fits == checked({**row, "metadata": fits})["metadata"]
    assert ("metadata", "is 10,241 bytes of JSON; the limit for an event is 10,240") == refusal(
        {**row, "metadata": {"a": fits["a"] + "a"}}
    )


def test_a_user_may_have_more_than_10_kb():
    big = {str(n): "a" * 1_000 for n in range(100)}

    assert big == checked({**USER, "metadata": big})["metadata"]


def test_a_refusal_never_holds_the_value():
    for name in FIELDS:
        for value in ("canary\ud800", ["canary"], {"a": ["canary"]}, {"a": "canary\ud800"}):
            with pytest.raises(InvalidCall) as caught:
                checked({**TRACK, name: value})

            assert "canary" not in str(caught.value)


plain_properties = st.dictionaries(names, plain_values, max_size=8)


@given(
    st.sampled_from(ROWS),
    plain_properties,
    st.fixed_dictionaries(
        {},
        optional={
            "source": st.sampled_from(SOURCES),
            "company_id": ids,
            "url": ids,
            "user_agent": ids,
            "screen_width": st.integers(0, 10_000),
            "browser": st.text(st.characters(codec="utf-8"), max_size=9) | st.none(),
        },
    ),
)
def test_what_is_taken_is_taken_by_the_server_too_and_goes_over_the_wire(row, metadata, more):
    try:
        result = checked({**row, "metadata": metadata, **more})
    except InvalidCall:
        assume(False)
    line = encode_json(result).encode()

    assert result == json.loads(line) == checked(result)
    assert [] == import_row_errors(json.loads(line))


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), anything, max_size=6), st.sampled_from(ROWS))
@example({"metadata": {"a": {"b": 1}}}, USER)
def test_anything_else_is_refused_as_such(fields, row):
    """Whatever a file holds: a row that can be sent, or an `InvalidCall`."""
    try:
        result = checked({**row, **fields})
    except InvalidCall as error:
        assert error.field
        assert error.reason
    else:
        encode_json(result).encode()


@given(json_values)
def test_no_kind_of_metadata_breaks_it(value):
    try:
        result = checked({**TRACK, "metadata": value})
    except InvalidCall as error:
        assert error.field.startswith(("metadata", "a name in metadata"))
    else:
        assert (value or {}) == result["metadata"]


# ── rows written in Python ──


def test_each_type_says_what_it_is():
    at = datetime(2024, 12, 1, 8, 55, 43, tzinfo=UTC)
    rows = [
        IdentifyUser(user_id="u1", inserted_at=at),
        IdentifyCompany(company_id="c1", inserted_at=at),
        PageView(user_id="u1", inserted_at=at, url="https://example.com/a"),
        TrackEvent(user_id="u1", event_name="opened", inserted_at=at),
    ]
    common = {"source": "backend-http-import", "inserted_at": "2024-12-01T08:55:43Z", "metadata": {}}

    assert [
        {"event_type": "identify_user", "user_id": "u1", **common},
        {"event_type": "identify_company", "company_id": "c1", **common},
        {"event_type": "page_view", "user_id": "u1", "url": "https://example.com/a", **common},
        {"event_type": "track", "user_id": "u1", "event_name": "opened", **common},
    ] == [row.as_dict() for row in rows]


@pytest.mark.parametrize("row", DOCUMENTED, ids=lambda row: row["event_type"])
def test_a_row_out_of_a_file_and_one_written_in_python_are_the_same(row):
    made = as_written(checked(row))

    assert checked(row) == made.as_dict() == checked(made.as_dict())


def as_written(fields) -> Row:
    types = {made.event_type: made for made in (IdentifyUser, IdentifyCompany, PageView, TrackEvent)}
    return types[fields["event_type"]](**{name: value for name, value in fields.items() if name != "event_type"})


def test_every_documented_field_can_be_written():
    written = {
        field.name for made in (IdentifyUser, IdentifyCompany, PageView, TrackEvent) for field in attrs.fields(made)
    }

    assert {*FIELDS} == {"event_type", *written}


@given(convertible)
def test_a_row_keeps_a_copy_of_what_it_was_given(metadata):
    before = dict(metadata)
    row = IdentifyUser(user_id="u1", inserted_at=AT, metadata=metadata)
    metadata["later"] = 1
    row.as_dict()["metadata"]["later"] = 1

    assert checked({**USER, "metadata": before}) == row.as_dict()


def test_a_row_that_could_not_be_sent_is_not_made():
    with pytest.raises(InvalidCall, match="user_agent is missing"):
        TrackEvent(user_id="u1", event_name="x", inserted_at=AT, source="web-client", url="https://e.com")
    with pytest.raises(InvalidCall, match="inserted_at is a naive datetime"):
        IdentifyUser(user_id="u1", inserted_at=datetime(2024, 12, 1))


def test_a_row_cannot_be_changed():
    row = TrackEvent(user_id="u1", event_name="x", inserted_at=AT)

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        row.user_id = "u2"
