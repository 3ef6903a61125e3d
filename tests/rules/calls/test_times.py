"""ISO 8601 in text: what is taken does not depend on the version of Python that reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import moments
from userpilot_async import InvalidCall
from userpilot_async._calls.times import parsed_time
from userpilot_async._userpilot.calls import from_dict
from userpilot_async.imports._timestamps import _in_utc_already, moment_text

TRACK = {"type": "track", "user_id": "u", "event_name": "e"}
HOUR_24 = ["2024-12-01T24:00:00Z", "2024-12-01 24:00:00", "2024-12-01T24:00", "20241201T240000Z", "20241201T2400+0100"]


@pytest.mark.parametrize("text", HOUR_24)
def test_hour_24_is_refused_in_every_form(text):
    """From 3.14 on `datetime.fromisoformat` takes it; the vendor's reader may not."""
    said = "names a time that does not exist: check its month, day, hour, minute and second"

    for read in (parsed_time, moment_text):
        with pytest.raises(InvalidCall) as caught:
            read(text)
        assert said == caught.value.reason


@pytest.mark.parametrize("hour", [*range(24, 100)])
def test_the_way_past_the_conversion_is_for_hours_that_all_versions_know(hour):
    """On that way `datetime.fromisoformat` has the last word."""
    assert _in_utc_already("2024-12-01T23:00:00Z")
    assert not _in_utc_already(f"2024-12-01T{hour:02}:00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        "2024-12-01T08:55:43.Z",  # gh-152157
        "2024-12-01T08:55:43.+05:00",
        "20241201T08554322Z",  # gh-155175
        "2024-12-01T08:55:43:22Z",  # gh-127260
        "2024-12-01T08:55:43Z00:50",
        "20241201085543Z",  # gh-107779
        "2024-12-01_08:55:43Z",
        "2024-W48-7T08:55:43Z",
        "2024-336T08:55:43Z",
        "2024-12-01T08Z",
        "2024-12-01T08:55:43+24:00",
        "2024-12-01T08:55:43+05:30:15.5",
        "2024-12-01T08:55:43 +",
        "２０２４-12-01T08:55:43Z",
        "",
    ],
)
def test_what_some_versions_read_and_others_do_not_is_no_time(text):
    with pytest.raises(InvalidCall, match=r"^occurred_at must be ISO 8601$"):
        from_dict({**TRACK, "occurred_at": text})
    with pytest.raises(InvalidCall, match=r"^inserted_at must be an ISO 8601 time, such as "):
        moment_text(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-12-01T08:55:43Z", datetime(2024, 12, 1, 8, 55, 43)),
        ("2024-12-01t08:55z", datetime(2024, 12, 1, 8, 55)),
        ("2024-12-01 10:25:43,25+01:30", datetime(2024, 12, 1, 8, 55, 43, 250_000)),
        ("20241201T095543+01", datetime(2024, 12, 1, 8, 55, 43)),
        ("1890-01-01T00:53:28+00:53:28", datetime(1890, 1, 1)),
    ],
)
def test_a_time_with_an_offset_is_read_in_utc(text, moment):
    assert moment.replace(tzinfo=UTC) == parsed_time(text)


@pytest.mark.parametrize("text", ["2024-12-01", "20241201", "2024-12-01T08:55:43"])
def test_a_time_without_an_offset_is_naive(text):
    assert parsed_time(text).tzinfo is None


@given(moments, st.sampled_from("T "), st.sampled_from(["auto", "milliseconds", "microseconds"]))
def test_what_isoformat_writes_is_read_as_the_same_moment(at, between, precision):
    cut = timedelta(milliseconds=1 if precision == "milliseconds" else 0)

    assert timedelta() <= at - parsed_time(at.isoformat(between, precision)) <= cut


def test_a_time_that_has_no_utc_form_is_refused():
    text = datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))).isoformat()

    with pytest.raises(InvalidCall, match=r"^occurred_at lies outside the years 1 to 9999 in UTC$"):
        parsed_time(text)
