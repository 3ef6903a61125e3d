"""The gate before a route: who may ask a server that is not well, and whose refusal is believed."""

from __future__ import annotations

import math

from userpilot_async._protocol.backoff import HOLD_PROBE, PROBE_AFTER, Gate, backoff


def test_the_pause_is_anything_up_to_a_ceiling_that_doubles():
    ceilings = [backoff(attempts, 1.0) for attempts in range(4)]

    assert [2 * one for one in ceilings[:-1]] == ceilings[1:]
    assert [0.0, ceilings[3] / 4] == [backoff(3, 0.0), backoff(3, 0.25)]


def test_after_some_failures_one_request_at_a_time_may_pass():
    gate = Gate()
    for _ in range(PROBE_AFTER):
        gate.enter()
        gate.leave()
        gate.failed(0.0, 0.0, chance=0.0)
    before = gate.opens_at(1.0)
    gate.enter()

    assert (1.0, math.inf) == (before, gate.opens_at(1.0))


def test_one_refused_request_among_accepted_ones_is_about_itself_and_two_are_not():
    gate = Gate()
    gate.succeeded(0.0, number=1)

    assert [False, True] == [gate.refused(1.0), gate.refused(2.0)]


def test_a_refusal_is_believed_at_once_where_nothing_was_accepted_lately():
    gate = Gate()
    gate.succeeded(0.0, number=1)

    assert gate.refused(HOLD_PROBE + 1.0)


def test_requests_in_flight_that_are_limited_at_once_count_as_one():
    gate = Gate()
    for _ in range(10):
        gate.limited(0.0, asked=0.0)
    first = gate.until
    gate.limited(first, asked=0.0)

    assert (1.0, 2.0) == (first, gate.until - first)
