"""What the log says of losses: the numbers, why, and the ways out; never a value of a user's."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async import Settings
from userpilot_async._account.losses import (
    REMEDIES,
    Close,
    Losses,
    Rest,
    close_line,
    closing_line,
    counted,
    loss_line,
    refused_words,
    time_text,
    unknown_budget_words,
    why_lost,
)

REST = Rest(seconds=20.1, pace="600 a minute", requests=201)
TOO_SHORT = Close(
    accepted=400, limit="close_timeout=10", took=10.0, ran_out=True, ended=None, paused=None, failure=None, silent=None,
    rest=REST,
)  # fmt: skip


def test_one_call_is_no_calls():
    assert ["1 call", "2 calls", "0 calls"] == [counted(number) for number in (1, 2, 0)]


def test_a_line_says_how_many_why_and_what_to_do():
    assert (
        "1 call lost, reason invalid: user_id is empty; mend the code that makes such calls; on_dead gets each of them"
    ) == loss_line("invalid", "user_id is empty", Losses(1, in_all=1))


def test_a_later_line_says_how_many_there_have_been_in_all():
    assert "4 calls lost, reason expired: too old; 5 in all; " in loss_line("expired", "too old", Losses(4, in_all=5))


@pytest.mark.parametrize(("calls", "whom"), [(1, "it"), (2, "them")])
def test_a_line_says_how_many_had_been_merged_into_what_was_lost(calls, whom):
    assert f"; 3 more had been merged into {whom};" in loss_line("expired", "too old", Losses(calls, 3, calls))


def test_a_reason_that_nobody_knows_is_a_line_all_the_same():
    assert "2 calls lost, reason purged: on_dead gets them" == loss_line("purged", "", Losses(2, in_all=2))


@pytest.mark.parametrize("reason", ["expired", "queue_full", "ambiguous", "job_failed", "closed"])
def test_each_reason_has_its_why_and_a_way_out(reason):
    assert why_lost(reason, Settings())
    assert REMEDIES[reason]


def test_what_expired_says_what_the_last_request_failed_of():
    assert "max_age=60; the last request failed: 503 on track" in why_lost(
        "expired", Settings(max_age=60), "503 on track"
    )


# ── the close ──


def test_a_close_that_was_too_short_says_how_long_the_rest_would_have_taken_and_the_ways_out():
    assert (
        "201 of 400 calls dropped on close: close_timeout=10 was too short, the rest needs 21 s at 600 a minute;"
        " flush first, raise close_timeout (None: until all is sent), or use an outbox, which keeps calls for the next"
        " start"
    ) == close_line(TOO_SHORT, Losses(201, in_all=201))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"failure": "URL: ConnectError on track"},
            "close_timeout=10 was over, and the last request failed: URL: Conn",
        ),
        (
            {"paused": "URL refuses the API key"},
            "nothing could be sent: URL refuses the API key; correct that, or use an",
        ),
        ({"silent": "URL"}, "close_timeout=10 was too short, URL has not answered since the close began; raise close"),
        ({"ran_out": False, "took": 3.21}, "the close was cancelled after 3.2 s, the rest needs 21 s at 600 a minute;"),
        ({"ended": "its tasks had been cancelled"}, "dropped on close: its tasks had been cancelled; use an outbox"),
        ({"rest": attrs.evolve(REST, pace="", requests=1)}, "was too short, the rest needs 1 request; flush first"),
    ],
)
def test_a_close_says_what_it_was_that_kept_calls_from_going(changes, words):
    line = close_line(attrs.evolve(TOO_SHORT, **changes), Losses(201, in_all=201))

    assert line.startswith("201 of 400 calls dropped on close: ")
    assert words in line
    assert "use an outbox, which keeps calls" in line


def test_one_call_of_one_is_said_in_the_singular():
    line = close_line(attrs.evolve(TOO_SHORT, accepted=1), Losses(1, 2, 1))

    assert line.startswith("1 of 1 call dropped on close: ")
    assert "2 more had been merged into it" in line


@pytest.mark.parametrize(("seconds", "text"), [(20.0, "20 s"), (20.0000000001, "20 s"), (20.2, "21 s"), (0.0, "1 s")])
def test_seconds_are_rounded_up(seconds, text):
    assert f"the rest needs {text} at 600 a minute" == time_text(attrs.evolve(REST, seconds=seconds))


def test_a_close_without_limit_says_how_much_is_left_and_what_keeps_it():
    close = attrs.evolve(TOO_SHORT, limit="close_timeout=None")

    assert (
        "closing: 201 calls left to send, the rest needs 21 s at 600 a minute;"
        " close_timeout=None waits until all is sent, Ctrl-C ends that"
    ) == closing_line(201, close)
    assert "; the last request failed: 503 on track; " in closing_line(1, attrs.evolve(close, failure="503 on track"))
    assert "; nothing is sent: a wrong key; " in closing_line(1, attrs.evolve(close, paused="a wrong key", failure="x"))


# ── the server's words ──

CALL = {
    "type": "track",
    "user_id": "anna.kowalska@example.org",
    "event_name": "report exported",
    "metadata": {
        "plan": "pro",
        "seats": 42,
        "team": {"names": ["Ben Ode", ["deep value"]]},
        "flag": True,
        "gone": None,
    },
}


@pytest.mark.parametrize("words", ["event_name is missing", "metadata has too many keys", "not allowed: true", "plan?"])
def test_words_of_the_servers_own_are_said(words):
    assert words == refused_words(words, CALL)


@pytest.mark.parametrize(
    "words",
    [
        "user_id anna.kowalska@example.org is unknown",
        "user_id ANNA.KOWALSKA@EXAMPLE.ORG is unknown",
        "user_id 'anna.kowalska@exam",  # the words were cut there
        'the event "report exported" is not planned',
        "plan must not be 'pro'",
        "seats=42: 42 is too many",
        "Ben Ode is nobody",
        "no 'deep value' here",
        "the key up-canary-3f1c-77a2b1 is not allowed to do that",
        "see 5e356e66-01aa-4c1b-9a2f-000000000001",
    ],
)
def test_words_that_quote_the_call_or_hold_a_key_or_an_id_are_not(words):
    assert "" == refused_words(words, CALL)


@given(st.text(min_size=1, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_no_value_is_ever_said(value, before, after):
    words = f"{before} {value} {after}"
    call = {"type": "track", "user_id": value}

    said = refused_words(words, call)

    assert value.casefold() not in said.casefold() or len(value) <= 2 or not said


@pytest.mark.parametrize(
    ("waits", "words"),
    [
        ({"track": 60.0, "identify": 60.0}, "nothing is sent for 60 s: "),
        ({"track": 59.01}, "nothing is sent for 60 s: "),
        ({"track": 90.0, "identify": 12.5}, "nothing is sent for 13 s (90 s for track, 13 s for identify): "),
        ({"track": 0.0, "identify": 12.5}, "some requests wait: 13 s for identify: "),
    ],
)
def test_an_unknown_budget_is_said_with_the_true_wait_and_the_server_that_does_not_know_it(waits, words):
    said = unknown_budget_words(waits, "redis://host/0")

    assert said is not None
    assert said.startswith(f"{words}redis://host/0 was started again, emptied, or set back")


@pytest.mark.parametrize("waits", [{}, {"requests": 0.0}])
def test_where_no_request_has_to_wait_none_is_said_to(waits):
    assert unknown_budget_words(waits, "redis://host/0") is None
