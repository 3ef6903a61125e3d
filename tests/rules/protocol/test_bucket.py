"""The promise of the bucket: at most 600 requests in any 60 seconds, as the server stamps them."""

from __future__ import annotations

import heapq
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.judge import requests_in_any_minute
from userpilot_async._protocol.rate_limit import LOST, PERIOD, Bucket


def drain(bucket: Bucket, seconds: float, delay, lost=lambda: False, concurrency: int = 8) -> list[float]:
    """Send as fast as the bucket lets us; ``delay()`` draws (until the server's stamp, until the response)."""
    return drain_from(0.0, bucket, seconds, delay, lost, concurrency)[0]


def drain_from(
    now: float, bucket: Bucket, seconds: float, delay, lost=lambda: False, concurrency: int = 8
) -> tuple[list[float], list[float], int]:
    """The same from ``now`` on; with when each token comes back, and how many are still under way in the end."""
    stamps, answers, back = [], [], []
    while now < seconds:
        while answers and answers[0][0] <= now:
            _, was_lost = heapq.heappop(answers)
            (bucket.lost if was_lost else bucket.answered)(now)
            back.append(now + (PERIOD + LOST if was_lost else PERIOD))
        if len(answers) < concurrency and bucket.take(now):
            to_stamp, to_answer = delay()
            was_lost = lost()
            # The sender gives up on a lost answer after its deadline; the server may stamp a little later still.
            stamps.append(now + to_stamp)
            heapq.heappush(answers, (now + (min(to_stamp, 15.0) if was_lost else to_stamp + to_answer), was_lost))
            continue
        ready = bucket.ready_at(now) if len(answers) < concurrency else math.inf
        now = max(now, min(ready, answers[0][0] if answers else math.inf, seconds))
    return stamps, back, len(answers)


@given(seed=st.integers(), longest=st.sampled_from([0.0, 0.1, 1.0, 8.0, 20.0]), burst=st.integers(1, 600))
def test_never_more_than_600_in_any_minute_under_any_network_delay(seed: int, longest: float, burst: int) -> None:
    chance = random.Random(seed)
    bucket = Bucket(600, burst, 0.0)

    stamps = drain(bucket, 200.0, lambda: (chance.random() * longest, chance.random() * longest), concurrency=50)

    requests_in_any_minute(stamps)


@given(requests=st.integers(0, 500), burst=st.integers(1, 100), before=st.integers(0, 100))
def test_how_long_requests_will_take_is_known_before(requests: int, burst: int, before: int) -> None:
    """Up to a minute's worth: what the server does to them later is not."""
    bucket = Bucket(600, burst, 0.0)
    for _ in range(min(before, burst)):
        bucket.take(0.0)
        bucket.answered(0.0)
    expected, now = bucket.time_for(requests, 0.0), 0.0
    for _ in range(min(requests, 600 - before)):
        now = bucket.ready_at(now)
        assert bucket.take(now)
        bucket.answered(now)

    if requests <= 600 - before:
        assert expected == pytest.approx(now, abs=0.2)
    assert expected <= requests / 10 + 1e-6


def test_a_lost_answer_keeps_the_bound_though_the_server_stamps_after_our_deadline() -> None:
    """Given up after 15 s, stamped after 44: the next stamp is still more than a minute away."""
    delays, losses = iter([44.0, 0.0]), iter([True, False])

    stamps = drain(Bucket(1, 1, 0.0), 150.0, lambda: (next(delays), 0.0), lost=lambda: next(losses))

    assert len(stamps) == 2
    requests_in_any_minute(stamps, limit=1)


def test_a_backlog_uses_more_than_99_percent_of_the_budget() -> None:
    stamps = drain(Bucket(600, 100, 0.0), 600.0, lambda: (0.05, 0.05))

    assert 5_940 <= len(stamps) <= 6_000


def test_a_burst_goes_at_once_and_the_rest_is_spaced_evenly() -> None:
    stamps = drain(Bucket(600, 100, 0.0), 30.0, lambda: (0.0, 0.0))

    assert sum(stamp == 0.0 for stamp in stamps) == 100
    assert pytest.approx(stamps[150] - stamps[149]) == 0.1


def test_the_server_may_lower_the_limit_and_raise_it_again_but_not_above_ours() -> None:
    bucket = Bucket(600, 600, 0.0)

    bucket.heard(300, None, None, 0.0)
    lowered = bucket.left(0.0)
    bucket.heard(10_000, None, None, 1.0)

    assert (lowered, bucket.left(1.0)) == (300, 600)


def test_foreign_traffic_in_the_window_is_respected() -> None:
    bucket = Bucket(600, 600, 0.0)

    bucket.heard(600, 2, 30.0, 0.0)
    took = [bucket.take(0.0) for _ in range(3)]

    assert took == [True, True, False]
    assert bucket.ready_at(0.0) == 30.0
    assert bucket.take(30.0)


def test_the_next_window_is_not_judged_by_the_last_one() -> None:
    bucket = Bucket(600, 600, 0.0)

    bucket.heard(600, 0, 1.0, 0.0)
    bucket.heard(600, 599, 60.0, 0.5)  # our clock still says the old window; the server is in the new one

    assert bucket.take(0.5)


@pytest.mark.parametrize(
    ("limit", "remaining", "reset"),
    [(0, None, None), (-5, None, None), (None, -5, 10.0), (None, 0, None), (None, None, 1e9)],
)
def test_headers_without_sense_change_nothing(limit: int | None, remaining: int | None, reset: float | None) -> None:
    bucket = Bucket(600, 600, 0.0)

    bucket.heard(limit, remaining, reset, 0.0)

    assert bucket.left(0.0) == 600


def test_a_reset_in_a_hundred_years_costs_a_minute() -> None:
    bucket = Bucket(600, 600, 0.0)

    bucket.heard(600, 0, 3e9, 0.0)

    assert bucket.ready_at(0.0) == PERIOD


def test_a_request_that_never_left_gives_its_token_back() -> None:
    bucket = Bucket(1, 1, 0.0)
    bucket.take(0.0)

    bucket.unsent()

    assert bucket.take(0.0)


# ── another sender goes on ──


@given(
    seed=st.integers(),
    limit=st.sampled_from([1, 7, 600]),
    burst=st.integers(1, 600),
    longest=st.sampled_from([0.0, 1.0, 8.0]),
    ends=st.lists(st.sampled_from([0.5, 10.0, 59.0, 100.0]), min_size=1, max_size=3),
    pause=st.sampled_from([0.0, 2.0]),
)
def test_no_minute_holds_more_than_the_limit_whoever_sends(
    seed: int, limit: int, burst: int, longest: float, ends: list[float], pause: float
) -> None:
    """What an heir is told: when each token comes back, and half a minute more for those that were under way."""
    chance = random.Random(seed)
    now, stamps, back = 0.0, list[float](), list[float]()
    for seconds in [*ends, 150.0]:
        bucket = Bucket(limit, burst, now)
        bucket.inherit([at - now for at in back if at > now], now)
        more, returning, under_way = drain_from(
            now, bucket, now + seconds, lambda: (chance.random() * longest, chance.random() * longest), concurrency=50
        )
        stamps += more
        now += seconds + pause
        back += returning + [now + PERIOD + LOST] * under_way

    requests_in_any_minute(sorted(stamps), limit)


def test_a_heir_waits_for_the_tokens_of_the_one_before() -> None:
    bucket = Bucket(2, 2, 0.0)
    bucket.inherit([30.0, 45.0], 0.0)

    assert (0, 30.0) == (bucket.left(0.0), bucket.ready_at(0.0))
    assert (1, 2) == (bucket.left(30.0), bucket.left(45.0))


def test_a_heir_does_not_burst_again() -> None:
    bucket = Bucket(600, 100, 0.0)
    bucket.inherit([59.0] * 100, 0.0)

    assert 0.0 < bucket.ready_at(0.0) <= 0.1


def test_of_what_nobody_knows_all_is_taken_for_spent_until_the_time_is_up() -> None:
    bucket = Bucket(600, 100, 0.0)
    bucket.inherit([20.0] * 50, 0.0)

    bucket.inherit_nothing(70.0, 0.0)

    assert [0, 50, 600] == [bucket.left(now) for now in (0.0, 21.0, 71.0)]


def test_without_a_limit_there_is_nothing_to_inherit() -> None:
    bucket = Bucket(None, 10, 0.0)
    bucket.inherit([60.0] * 5_000, 0.0)

    assert bucket.take(0.0)


def test_a_request_that_never_left_takes_nothing_from_the_servers_window() -> None:
    bucket = Bucket(600, 10, 0.0)
    bucket.heard(600, 1, 30.0, 0.0)
    taken = bucket.take(0.0)
    bucket.unsent()

    assert (True, 1, True) == (taken, bucket.left(0.0), bucket.take(0.0))


def test_requests_in_flight_may_not_be_counted_in_what_the_server_says_remains() -> None:
    bucket = Bucket(600, 10, 0.0)
    for _ in range(3):
        bucket.take(0.0)
    bucket.heard(600, 4, 30.0, 0.0)

    assert 1 == bucket.left(0.0)
