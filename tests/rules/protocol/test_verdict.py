"""What each answer means, row by row, and that every answer there can be means something."""

from __future__ import annotations

import json
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from userpilot_async._calls.outcome import Words
from userpilot_async._protocol.headers import Rate, rate_of, retry_after
from userpilot_async._protocol.verdict import (
    Meaning,
    Promise,
    as_promised,
    of_answer,
    of_failure,
)

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


# ── a yes, and what only looks like one ──

PAGES = ["text/html", "text/html; charset=utf-8", "TEXT/HTML", "application/xhtml+xml"]
JSON = ["application/json", "application/json; charset=utf-8", "application/vnd.api+json", "text/json"]
ERRORS = b'{"errors": [{"message": "user_id is required", "error_code": "missing"}]}'


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("promise", [Promise.RECEIPT, Promise.NEW_JOB, Promise.JOB, Promise.JOBS])
def test_a_page_is_no_yes_whatever_was_asked(kind, promise):
    """A maintenance page, a captive portal and a sign-in page say 200 to everything."""
    verdict = as_promised(of_answer(200, {"content-type": kind}, b"<!doctype html><title>Sorry</title>"), promise)

    meanings = {Promise.RECEIPT: Meaning.MISCONFIGURED, Promise.NEW_JOB: Meaning.LOST}
    assert meanings.get(promise, Meaning.AGAIN) is verdict.meaning
    assert "a web page: is a proxy or a sign-in page in between?" in verdict.detail
    assert (promise is Promise.NEW_JOB) == verdict.ambiguous


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"  \r\n\t<!DOCTYPE html>",
        b"\xef\xbb\xbf<html>",
        "<html>".encode("utf-16"),
        b'<?xml version="1.0"?><html/>',
        b"\n" * 5_000 + b"<html>",  # templates leave blank lines where their conditions were
    ],
)
@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/octet-stream"])
def test_a_body_that_begins_like_markup_is_a_page_whatever_it_is_called(body, kind):
    assert Meaning.MISCONFIGURED is of_answer(200, {"content-type": kind}, body).meaning


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("", b""),
        ("text/html", b""),
        ("text/html", b" \r\n"),
        ("application/json", b""),
        ("application/json", b"{}"),
        ("application/json", b"null"),
        ("application/json", b'"accepted"'),
        ("application/json", b"Accepted"),
        ("application/json", b'{"message": "1 user was scheduled for deletion"}'),
        ("application/json", b'{"errors": []}'),
        ("application/json", b'{"errors": null}'),
        ("application/json", "{}".encode("utf-16")),
        ("text/plain", b"OK"),
        ("", b"OK"),
        ("text/plain", b'{"cut": '),
    ],
)
@pytest.mark.parametrize("status", [200, 202])
def test_a_realtime_call_may_be_answered_with_nothing_or_with_words(kind, body, status):
    verdict = as_promised(of_answer(status, {"content-type": kind}, body), Promise.RECEIPT)

    assert (Meaning.ACCEPTED, "", False) == (verdict.meaning, verdict.detail, verdict.foreign)


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("body", [b"OK", b'{"status": "acce', b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_called_json_and_is_none_is_not_from_this_api(kind, body):
    """Somebody has changed the answer on its way; the request may have arrived."""
    verdict = of_answer(202, {"content-type": kind}, body)

    assert (Meaning.MISCONFIGURED, True, True) == (verdict.meaning, verdict.foreign, verdict.ambiguous)


def test_an_answer_that_nobody_unpacked_is_believed_but_for_a_page():
    """Requests ask for no compression; a body in gzip all the same is thrown away unread."""
    packed = {"content-encoding": "gzip"}

    assert Meaning.ACCEPTED is of_answer(202, {"content-type": "application/json", **packed}, b"").meaning
    assert Meaning.MISCONFIGURED is of_answer(200, {"content-type": "text/html", **packed}, b"").meaning


@pytest.mark.parametrize("errors", [b'[{"message": "no"}]', b'["no"]', b'{"user_id": "missing"}', b'"no"'])
def test_a_success_that_lists_errors_is_none(errors):
    verdict = of_answer(200, {"content-type": "application/json"}, b'{"errors": ' + errors + b"}")

    assert (Meaning.MISCONFIGURED, False) == (verdict.meaning, verdict.ambiguous)
    assert "a list of errors" in verdict.detail


def test_the_servers_words_about_them_are_kept_beside_ours():
    """Ours go into the log, and theirs may quote an id."""
    verdict = of_answer(200, {}, ERRORS)

    assert "answered 200 with a list of errors" == verdict.detail
    assert "user_id is required" == verdict.server_words
    assert "missing" == verdict.error_code


@pytest.mark.parametrize("body", [b"", b'{"job_id": "x", "sta', b'{"job_id": "x"}'])
@pytest.mark.parametrize("promise", [Promise.RECEIPT, Promise.NEW_JOB])
def test_a_success_that_broke_off_may_have_been_carried_out(body, promise):
    verdict = as_promised(of_answer(202, {}, body, broken_off=True), promise)

    expected = Meaning.LOST if promise is Promise.NEW_JOB else Meaning.MISCONFIGURED
    assert (expected, True, 202) == (verdict.meaning, verdict.ambiguous, verdict.status)


@pytest.mark.parametrize("promise", [Promise.JOB, Promise.JOBS])
def test_a_look_that_broke_off_is_made_again(promise):
    verdict = as_promised(of_answer(200, {}, b'[{"job_id": "x"}]', broken_off=True), promise)

    assert (Meaning.AGAIN, False) == (verdict.meaning, verdict.ambiguous)


def test_a_page_that_broke_off_is_a_page():
    verdict = of_answer(200, {"content-type": "text/html"}, b"<html><bo", broken_off=True)

    assert (Meaning.MISCONFIGURED, False) == (verdict.meaning, verdict.ambiguous)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 503])
def test_any_other_status_is_a_status_even_if_its_body_broke_off(status):
    assert of_answer(status, {}, b"", broken_off=True) == of_answer(status, {}, b"")


@pytest.mark.parametrize(
    ("promise", "body", "kept"),
    [
        (Promise.NEW_JOB, b'{"job_id": "j", "status": "queued"}', True),
        (Promise.NEW_JOB, b'{"status": "queued"}', True),
        (Promise.NEW_JOB, b'{"job_id": "j", "errors": [{"message": "row 3"}]}', True),
        (Promise.NEW_JOB, b"", False),
        (Promise.NEW_JOB, b"{}", False),
        (Promise.NEW_JOB, b'{"message": "ok"}', False),
        (Promise.NEW_JOB, b"OK", False),
        (Promise.NEW_JOB, b'[{"job_id": "j"}]', False),
        (Promise.NEW_JOB, ERRORS, False),
        (Promise.JOB, b'{"job_id": "j", "status": "queued"}', True),
        (Promise.JOB, b"", False),
        (Promise.JOBS, b"[]", True),
        (Promise.JOBS, b'{"jobs": []}', True),
        (Promise.JOBS, b"", False),
        (Promise.JOBS, b"{}", False),
        (Promise.JOBS, b"null", False),
        (Promise.JOBS, ERRORS, False),
    ],
)
def test_what_promises_jobs_has_to_give_them(promise, body, kept):
    verdict = as_promised(of_answer(200, {}, body), promise)

    otherwise = Meaning.LOST if promise is Promise.NEW_JOB else Meaning.AGAIN
    assert (Meaning.ACCEPTED if kept else otherwise) is verdict.meaning


def test_no_answer_is_judged_by_no_promise():
    verdict = of_failure("ReadError", sent=True)

    assert verdict == as_promised(verdict, Promise.JOBS)


# ── what the vendor's support asks for ──


@pytest.mark.parametrize(
    ("code", "read"),
    [
        (b'"invalid_key"', "invalid_key"),
        (b"1234", "1234"),
        (b'"a\\u0000b"', "a b"),
        (b'"' + b"x" * 5_000 + b'"', "x" * 100),
        (b'" "', None),
        (b"null", None),
        (b"true", None),
        (b'["a"]', None),
        (b"1" + b"0" * 400, None),
    ],
)
def test_the_error_code_is_short_and_printable(code, read):
    assert read == of_answer(401, {}, b'{"errors": [{"error_code": ' + code + b"}]}").error_code


@pytest.mark.parametrize("status", [200, 400, 401, 429, 503])
def test_every_answer_has_the_servers_id_of_the_request(status):
    assert "FxZ1" == of_answer(status, {"x-request-id": " FxZ1 "}, b"").request_id


def test_words_are_one_text_with_the_ids_behind():
    assert "no (error_code e1, request r1)" == str(Words("no", "e1", "r1"))
    assert "(request r1)" == str(Words("", None, "r1"))
    assert "" == str(Words())


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
        | st.dictionaries(st.sampled_from(["errors", "error", "error_code", "message", "details"]), inner, max_size=3)
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


@given(statuses.filter(lambda status: not 200 <= status < 300), headers, st.binary() | json_like)
def test_the_detail_is_always_short_and_printable(status, headers, body):
    detail = of_answer(status, headers, body).detail

    assert 200 >= len(detail)
    assert detail.isprintable()


@given(
    st.integers(200, 299),
    headers | st.fixed_dictionaries({"content-type": st.sampled_from([*PAGES, *JSON, "text/plain", ""]) | st.text()}),
    st.binary() | json_like | st.sampled_from([b"<html>", b"{", b""]),
    st.booleans(),
    st.sampled_from(Promise),
)
def test_a_success_is_a_yes_or_says_what_came_instead(status, headers, body, broken_off, promise):
    verdict = as_promised(of_answer(status, headers, body, broken_off=broken_off), promise)

    assert (verdict.meaning is not Meaning.ACCEPTED) == verdict.foreign
    assert verdict.detail.startswith(f"answered {status} ") == verdict.foreign
    assert 400 >= len(verdict.detail)
    assert not verdict.foreign or verdict.meaning in (Meaning.MISCONFIGURED, Meaning.LOST, Meaning.AGAIN)


@given(statuses.filter(lambda status: not 200 <= status < 300), headers, st.binary(), st.sampled_from(Promise))
def test_what_an_endpoint_promises_changes_nothing_about_other_answers(status, headers, body, promise):
    verdict = of_answer(status, headers, body)

    assert verdict == as_promised(verdict, promise)
    assert not verdict.foreign


@given(headers, json_like)
def test_whatever_ids_come_are_short_and_printable_or_none(headers, body):
    verdict = of_answer(400, {"x-request-id": headers.get("date", ""), **headers}, body)

    for one in (verdict.error_code, verdict.request_id):
        assert one is None or (0 < len(one) <= 100 and one.isprintable() and one.strip() == one)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ('<https://api.test/jobs?page=2>; rel="next"', "https://api.test/jobs?page=2"),
        ('</jobs?page=1>; rel="prev", </jobs?page=3>; title="x"; rel=next, </jobs?page=9>; rel=last', "/jobs?page=3"),
        ('</jobs?page=3>; REL = "last next"', "/jobs?page=3"),
        ('</jobs?page=1>; rel="prev"', ""),
        ('</jobs?page=1>; rel="nextish"', ""),
        ("<next>", ""),
        ("", ""),
    ],
)
def test_the_header_link_names_the_next_page(link, target):
    assert target == of_answer(200, {"link": link}, b"[]").next_page
