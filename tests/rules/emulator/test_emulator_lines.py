"""What a request was about, in words: the line of the terminal, and what is kept to be looked at."""

from __future__ import annotations

import json
import os
import re
import time

import attrs
import pytest

from userpilot_async.emulator._printer import WAITING, LinePrinter
from userpilot_async.emulator._summary import request_line, summarize
from userpilot_async.emulator._traffic import KEPT, MINUTES, SHOWN, Exchange, Traffic

TRACK = {"user_id": "u1", "event_name": "report_exported", "metadata": {"format": "csv"}}
ERRORS = {"errors": [{"error": "Bad Request", "message": "the event name is missing", "details": "event_name"}, {}]}


def exchange(sent: object = TRACK, answered: object = None, **changes: object) -> Exchange:
    """A track call that was accepted, but for the changes."""
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    answer = b"" if answered is None else json.dumps(answered).encode()
    usual = Exchange(
        number=1, stamp=1_600_854_600.0, method="POST", path="/v1/track", query="", family="track", account="5ca24005",
        status=202, rows=1, filename=None, fault=None, applied=True, size=len(body), body=body[:SHOWN],
        answer_size=len(answer), answer=answer[:SHOWN],
    )  # fmt: skip
    return attrs.evolve(usual, **changes)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (exchange(), ("u1", "report_exported", "")),
        (exchange({"user_id": "u1"}), ("u1", "", "")),
        (exchange({"company_id": "acme", "metadata": {"name": "Acme"}}), ("acme", "", "")),
        (exchange([{"external_id": "p1", "name": "opened"}]), ("p1", "opened", "")),
        (exchange([{"name": "a"}, {"name": "b"}]), ("", "2 rows", "")),
        (exchange({"users": ["u1", "u2"]}), ("", "users: 2", "")),
        (exchange(b"--x\r\n", rows=1_200, filename="rows.ndjson"), ("", "1,200 rows in rows.ndjson", "")),
        (exchange(fault="html", status=503), ("u1", "report_exported", "fault html")),
        (exchange(fault="cut", status=None), ("u1", "report_exported", "fault cut: the connection was cut")),
        (exchange(fault="late"), ("u1", "report_exported", "fault late")),
    ],
)  # fmt: skip
def test_a_request_is_told_in_three_words(seen, words):
    assert words == attrs.astuple(summarize(seen))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"user_id": 7}', b"[[]]", b"null", b'{"users": 3}', b'{"a": NaN}'],
)
@pytest.mark.parametrize("status", [202, 400, None])
def test_a_body_without_sense_is_told_without_words(body, status):
    seen = exchange(body, status=status)

    assert "" == summarize(seen).who
    assert "/v1/track" in request_line(attrs.evolve(seen, answer=body, answer_size=len(body)))


@pytest.mark.parametrize(
    ("status", "answered", "why"),
    [
        (400, ERRORS, "the event name is missing: event_name (and 1 more)"),
        (403, {"status": "error", "error": "Access denied."}, "Access denied. (fault outage)"),
        (503, {"errors": [{"message": "scripted fault outage"}]}, "scripted fault outage"),
        (503, {"errors": []}, "fault outage"),
        (503, ["a proxy's own"], "fault outage"),
    ],
)
def test_the_reason_of_a_refusal_is_what_the_answer_says_and_the_fault(status, answered, why):
    fault = None if answered is ERRORS else "outage"

    assert why == summarize(exchange(answered=answered, status=status, fault=fault)).why


def test_a_line_has_time_status_call_and_subject():
    line = request_line(exchange())

    assert re.fullmatch(r"\d\d:\d\d:\d\d  202  POST   /v1/track +u1  report_exported", line), line


def test_a_refusal_says_in_its_line_why():
    assert request_line(exchange(answered=ERRORS, status=400)).endswith(
        "the event name is missing: event_name (and 1 more)"
    )


@pytest.mark.parametrize(("status", "colour"), [(202, 32), (429, 33), (404, 31), (503, 35), (None, 35)])
def test_colours_are_for_terminals_only_and_follow_the_outcome(status, colour):
    shown = "cut" if status is None else str(status)

    assert f"\x1b[{colour}m{shown}\x1b[0m" in request_line(exchange(status=status), colours=True)
    assert "\x1b" not in request_line(exchange(status=status))


def test_a_line_holds_nothing_that_a_terminal_obeys():
    hostile = {"user_id": "\x1b[2J\r\n\u202eu1", "event_name": "\x07\x9b31m\ud800"}
    line = request_line(exchange(hostile, path="/v1/\x1b[2J", method="GET\r"), colours=False)

    assert line.isprintable(), ascii(line)
    assert r"\x1b[2J\r\n\u202eu1" in line


def test_a_line_is_bounded_whatever_the_ids():
    assert 800 > len(
        request_line(exchange({"user_id": "u" * 10_000, "event_name": "e" * 5_000}, path="/" + "p" * 9_000))
    )


def test_the_last_requests_are_kept_and_no_more():
    traffic = Traffic()
    for number in range(1, KEPT + 101):
        traffic.add(exchange(number=number))

    assert (KEPT + 100, KEPT) == (traffic.total, len(traffic.kept))
    assert traffic.get(100) is None
    assert [101, KEPT + 100] == [found.number for one in (101, KEPT + 100) if (found := traffic.get(one))]
    assert traffic.get(KEPT + 101) is None


def test_minutes_are_counted_by_outcome_and_only_the_last_are_kept():
    traffic, begin = Traffic(), 1_600_854_600.0
    for minute in range(MINUTES + 10):
        for number, status in enumerate((202, 204, 429, 404, 503, None)):
            traffic.add(exchange(number=number, stamp=begin + 60 * minute, status=status))
    last = begin + 60 * (MINUTES + 9)
    minutes = traffic.minutes(last + 59)

    assert MINUTES == len(minutes)
    assert {"begins_at": last, "accepted": 2, "limited": 1, "refused": 1, "failed": 2} == minutes[-1]
    assert MINUTES * 6 == sum(sum(minute.values()) - minute["begins_at"] for minute in minutes)
    assert [0] * MINUTES == [minute["accepted"] for minute in traffic.minutes(last + 60 * MINUTES)]


def test_a_clock_that_was_set_back_harms_nothing():
    traffic = Traffic()
    for stamp in (1_600_854_600.0, 0.0, 1_600_854_600.0):
        traffic.add(exchange(stamp=stamp))

    assert 2 == traffic.minutes(1_600_854_600.0)[-1]["accepted"]


def lines_of(reader: int) -> list[str]:
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read().decode().splitlines()


def test_lines_are_printed_in_order_and_closing_waits_for_them():
    reader, writer = os.pipe()
    printer = LinePrinter(writer)
    for number in range(100):
        printer.print(f"line {number}")
    printer.close()
    os.close(writer)

    assert [f"line {number}" for number in range(100)] == lines_of(reader)


def test_a_reader_that_does_not_read_holds_up_nothing_and_hears_how_much_it_missed():
    reader, writer = os.pipe()
    printer, line = LinePrinter(writer), "x" * 1_000
    begun = time.monotonic()
    for _ in range(4 * WAITING):  # a pipe takes 64 KB
        printer.print(line)
    took = time.monotonic() - begun
    read = b""
    while b"lines were left out" not in read:
        read += os.read(reader, 65_536)
        printer.print("last")
    printer.close()
    os.close(writer)
    os.close(reader)

    assert took < 2
    assert 4 * WAITING * 1_000 > len(read)


def test_a_reader_that_has_gone_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    printer = LinePrinter(writer)
    for _ in range(3):
        printer.print("line")
    printer.close()
    os.close(writer)
