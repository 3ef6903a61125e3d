"""While a key or a URL seems wrong: who may look, and which answers say that it is right again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async._protocol.backoff import HOLD_PROBE, Gate
from userpilot_async._protocol.hold import Hold


def closed(newest: int = 5) -> Hold:
    """At 100, by the answer to request 3, when so many had begun."""
    hold = Hold()
    hold.close("why", "", 3, newest, 100.0)
    return hold


def test_nothing_is_held_at_first():
    hold = Hold()

    assert (None, 7.0) == (hold.why, hold.opens_at(7.0))


def test_one_request_looks_after_a_minute():
    hold = closed()

    assert 100.0 + HOLD_PROBE == hold.opens_at(100.0)
    hold.began(6, 160.0)
    assert math.inf == hold.opens_at(160.0)


def test_who_looks_and_gets_no_answer_is_followed_a_minute_later():
    hold = closed()
    hold.began(6, 160.0)
    hold.ended(6)

    assert ("why", 160.0 + HOLD_PROBE) == (hold.why, hold.opens_at(161.0))


@pytest.mark.parametrize("number", [1, 5])
def test_an_older_request_says_nothing_new(number):
    """A 503 to a request that was under way says nothing about a key that was refused since."""
    hold = closed()
    hold.lift(number, taken=False)

    assert ("why", 160.0) == (hold.why, hold.opens_at(101.0))


def test_nor_does_its_end_let_a_second_one_look():
    hold = closed()
    hold.began(6, 160.0)
    hold.ended(4)

    assert math.inf == hold.opens_at(161.0)


def test_an_older_refusal_neither_prolongs_it_nor_gives_another_reason():
    hold = closed()
    hold.close("another", "", 4, 5, 130.0)

    assert ("why", 160.0) == (hold.why, hold.opens_at(130.0))


@pytest.mark.parametrize(("number", "taken"), [(6, False), (6, True), (1, True)])
def test_who_looked_or_a_yes_lifts_it(number, taken):
    hold = closed()
    hold.lift(number, taken=taken)

    assert (None, 101.0) == (hold.why, hold.opens_at(101.0))


def test_who_looked_before_a_hold_that_was_lifted_meanwhile_says_nothing_of_the_next():
    hold = closed()
    hold.began(6, 160.0)
    hold.lift(2, taken=True)
    hold.close("again", "", 7, 8, 161.0)
    hold.lift(6, taken=False)

    assert "again" == hold.why


def test_the_same_reason_with_another_id_keeps_its_words():
    """Each answer has an id of its own: a new text would be a new line in the log, each minute."""
    hold = Hold()
    hold.close("why", "(request a)", 1, 1, 0.0)
    hold.close("why", "(request b)", 2, 2, 60.0)

    assert "why (request a)" == hold.why


@given(st.lists(st.tuples(st.sampled_from(["refused", "later", "taken"]), st.integers(0, 30)), max_size=30))
def test_in_whatever_order_answers_come_a_hold_ends_by_a_yes_or_a_later_request(answers):
    hold, newest, since, now = Hold(), 30, None, 0.0
    for what, number in answers:
        now += 1.0
        held = hold.why
        if what == "refused":
            hold.close("why", "", number, newest, now)
            since = newest if held is None else since
        else:
            hold.lift(number, taken=what == "taken")
            if held is not None and hold.why is None:
                assert what == "taken" or number > since


@pytest.mark.parametrize(("number", "past"), [(4, True), (5, False), (6, False)])
def test_what_is_said_of_a_request_that_a_taken_one_has_overtaken_is_past(number, past):
    gate = Gate()
    gate.succeeded(0.0, 5)
    gate.succeeded(1.0, 2)

    assert past == gate.is_past(number)
