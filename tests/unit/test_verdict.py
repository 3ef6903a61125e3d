"""What each answer means, row by row, and that every answer there can be means something."""

from __future__ import annotations

import json
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from userpilot_async._verdict import Meaning, Rate, of_answer, of_failure, rate_of, retry_after

# 09:50:00 UTC on 2020-09-23: the minute whose end is the reset of the vendor's sample, 1600854660000.
NOW = 1_600_854_600.0
DATE = formatdate(NOW, usegmt=True)


# ── the table ──


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (200, Meaning.ACCEPTED),
        (201, Meaning.ACCEPTED),
        (202, Meaning.ACCEPTED),
        (204, Meaning.ACCEPTED),
        (400, Meaning.INVALID),
        (422, Meaning.INVALID),
        (401, Meaning.DENIED),
        (402, Meaning.DENIED),
        (403, Meaning.DENIED),
        (404, Meaning.MISCONFIGURED),
        (405, Meaning.MISCONFIGURED),
        (301, Meaning.MISCONFIGURED),
        (302, Meaning.MISCONFIGURED),
        (304, Meaning.MISCONFIGURED),
        (307, Meaning.MISCONFIGURED),
        (308, Meaning.MISCONFIGURED),
        (408, Meaning.AGAIN),
        (425, Meaning.AGAIN),
        (500, Meaning.AGAIN),
        (503, Meaning.AGAIN),
        (520, Meaning.AGAIN),
        (599, Meaning.AGAIN),
        # A gateway speaks for a server that may have applied the request: again too, but counted as ambiguous.
        (502, Meaning.LOST),
        (504, Meaning.LOST),
        (409, Meaning.BUSY),
        (413, Meaning.TOO_LARGE),
        (429, Meaning.LIMITED),
        # In no table: a request that will never do is given up, a status that does not exist is tried again.
        (406, Meaning.INVALID),
        (415, Meaning.INVALID),
        (418, Meaning.INVALID),
        (100, Meaning.LOST),
        (0, Meaning.LOST),
        (999, Meaning.LOST),
    ],
)
def test_a_status_means(status, meaning):
    verdict = of_answer(status, {}, b"")

    assert (meaning, status) == (verdict.meaning, verdict.status)


@pytest.mark.parametrize(
    ("sent", "certificate", "meaning", "detail"),
    [
        (False, False, Meaning.UNSENT, "ConnectError"),
        (True, False, Meaning.LOST, "ConnectError"),
        (False, True, Meaning.MISCONFIGURED, "the server's certificate is not trusted"),
    ],
)
def test_no_answer_means(sent, certificate, meaning, detail):
    verdict = of_failure("ConnectError", sent=sent, certificate=certificate)

    assert (meaning, None, detail) == (verdict.meaning, verdict.status, verdict.detail)


# ── how long the server asks to be left alone ──


@pytest.mark.parametrize(
    ("text", "date", "seconds"),
    [
        ("0", DATE, 0.0),
        ("5", DATE, 5.0),
        ("5", None, 5.0),
        (" 5 ", DATE, 5.0),
        ("1.5", DATE, 1.5),
        ("1e9", DATE, 60.0),
        ("-1", DATE, 0.0),
        ("soon", DATE, None),
        ("", DATE, None),
        ("nan", DATE, None),
        ("inf", DATE, None),
        ("9" * 400, DATE, None),
        (formatdate(NOW - 3600, usegmt=True), DATE, 0.0),
        (formatdate(NOW + 7, usegmt=True), DATE, 7.0),
        (formatdate(NOW + 3600, usegmt=True), DATE, 60.0),
        # Our own clock would be a guess about theirs.
        (formatdate(NOW + 7, usegmt=True), None, None),
        (formatdate(NOW + 7, usegmt=True), "yesterday", None),
    ],
)
def test_retry_after(text, date, seconds):
    headers = {"retry-after": text} if date is None else {"retry-after": text, "date": date}

    assert seconds == retry_after(headers)


@pytest.mark.parametrize("status", [429, 503, 408, 409])
def test_retry_after_counts_for_every_answer_that_means_later(status):
    assert 7.0 == of_answer(status, {"retry-after": "7"}, b"").delay


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({}, 1.0),
        ({"retry-after": "0"}, 1.0),
        ({"retry-after": "5"}, 5.0),
        ({"x-ratelimit-reset": "1600854660000", "date": DATE}, 60.0),
        ({"x-ratelimit-reset": "1600854612000", "date": DATE, "retry-after": "30"}, 30.0),
        ({"x-ratelimit-reset": "1600854612000", "date": DATE, "retry-after": "3"}, 12.0),
    ],
)
def test_a_429_waits_for_the_longest_of_reset_and_retry_after_and_a_second(headers, delay):
    assert delay == of_answer(429, headers, b"").delay


# ── the rate headers, true and false ──


@pytest.mark.parametrize(
    ("text", "whole"),
    [("600", 600), ("0", 0), ("300", 300), ("1e9", None), ("-5", None), ("NaN", None), ("", None), ("many", None)],
)
def test_limit_and_remaining_are_whole_numbers_that_make_sense_or_nothing(text, whole):
    rate = rate_of({"x-ratelimit-limit": text, "x-ratelimit-remaining": text})

    assert Rate(limit=whole, remaining=whole) == rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("1600854660000", 60.0, id="milliseconds, as documented"),
        pytest.param("1600854660", 60.0, id="seconds"),
        pytest.param("1600854612500", 12.5, id="within the minute"),
        pytest.param("1600854000000", 0.0, id="past"),
        pytest.param("0", 0.0, id="1970"),
        pytest.param("4102444800000", 60.0, id="the year 2100 in milliseconds"),
        pytest.param("4102444800", 60.0, id="the year 2100 in seconds"),
        pytest.param("1e300", 60.0, id="never"),
        pytest.param("-1", 0.0, id="before 1970"),
        pytest.param("NaN", None, id="NaN"),
        pytest.param("soon", None, id="a word"),
    ],
)
def test_the_reset_is_a_delay_by_the_servers_own_clock(text, seconds):
    assert seconds == rate_of({"x-ratelimit-reset": text, "date": DATE}).reset


def test_without_a_date_there_is_no_reset():
    assert None is rate_of({"x-ratelimit-reset": "1600854660000"}).reset


def test_missing_rate_headers_say_nothing():
    assert Rate() == rate_of({})


# ── the server's words ──


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", ""),
        (b"<html>502</html>", ""),
        (b'{"errors": [{"message": "user_id is required", "error": "Bad Request"}]}', "user_id is required"),
        (b'{"errors": [{"error": "Bad Request", "details": "row 3"}]}', "Bad Request"),
        (b'{"errors": [{"details": "row 3"}]}', "row 3"),
        (b'{"errors": [{"message": null, "error": "Bad Request"}]}', "Bad Request"),
        (b'{"errors": []}', ""),
        (b'{"errors": "no"}', ""),
        (b'{"message": "no"}', "no"),
        (b'{"errors": ["no"]}', ""),
        (b"[1, 2]", ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
        (b'{"message": "a\\u0000b\\nc\\u202ed\\ud800e"}', "a b c d e"),
    ],
)
def test_the_detail_is_the_servers_own_message_if_there_is_one(body, detail):
    assert detail == of_answer(400, {}, body).detail


def test_the_detail_is_short():
    assert "x" * 200 == of_answer(400, {}, json.dumps({"message": "x" * 100_000}).encode()).detail


def test_an_accepted_answer_brings_its_json():
    assert {"job_id": "j"} == of_answer(202, {}, b'{"job_id": "j"}').body


# ── whatever comes ──

numbers = st.one_of(st.integers(), st.floats()).map(str)
dates = st.floats(0, 4e9).map(lambda moment: formatdate(moment, usegmt=True))
date_like = st.from_regex(
    r"([A-Z][a-z]{2}, ?)?\d{0,3} ?[A-Za-z]{0,4} \d{0,5} ?\d{0,3}[:.]\d{0,3}([:.]\d{0,3})? ?[+-]?\w{0,6}"
)
header_texts = st.one_of(st.text(), numbers, dates, date_like)
headers = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ["retry-after", "date", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"], header_texts
    ),
)
statuses = st.integers() | st.integers(100, 599)
json_like = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["errors", "error", "message", "details"]), inner, max_size=3)
    ),
).map(lambda value: json.dumps(value).encode())


@given(statuses, headers, st.binary() | json_like)
@example(429, {"retry-after": "1 Jan 99999 99:99:99 +9999", "date": DATE}, b"")
@example(429, {"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359", "date": DATE}, b"")
def test_every_answer_means_something_and_every_number_in_it_is_clamped(status, headers, body):
    verdict = of_answer(status, headers, body)

    assert isinstance(verdict.meaning, Meaning)
    assert 0 <= verdict.delay <= 60
    assert 0 <= (verdict.rate.reset or 0) <= 60
    assert 0 <= (verdict.rate.limit or 0) < 1e9
    assert 0 <= (verdict.rate.remaining or 0) < 1e9


@given(statuses, headers, st.binary() | json_like)
def test_the_detail_is_always_short_and_printable(status, headers, body):
    detail = of_answer(status, headers, body).detail

    assert 200 >= len(detail)
    assert detail.isprintable()


@given(st.integers(200, 299), headers, st.binary())
def test_no_header_and_no_body_makes_a_success_a_failure(status, headers, body):
    assert Meaning.ACCEPTED is of_answer(status, headers, body).meaning
