from __future__ import annotations

import base64
import random
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import Event, Model, judge, same_events, same_state


def account(**counts: int) -> Any:
    return SimpleNamespace(
        **{"accepted": 0, "delivered": 0, "dead": 0, "dropped": 0, "merged": 0, "pending": 0, **counts}
    )


# ── I1 ──


def test_conservation_holds_when_the_sum_is_right() -> None:
    assert 15 == judge.conservation(account(accepted=15, delivered=1, dead=2, dropped=3, merged=4, pending=5))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"accepted": 10, "delivered": 9}, "10 accepted, but 9 delivered .* = 9: 1 vanished"),
        ({"accepted": 10, "delivered": 9, "dead": 2}, "= 11: 1 too many"),
        ({"accepted": 10, "delivered": 11, "pending": -1}, "a count below zero"),
    ],
)
def test_conservation_refuses(counts: dict[str, int], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        judge.conservation(account(**counts))


def test_conservation_by_id_holds_when_each_id_has_one_outcome() -> None:
    assert 4 == judge.conservation_by_id("abcd", {"delivered": "ac", "dead": "b", "pending": "d"})


@pytest.mark.parametrize(
    ("accepted", "outcomes", "message"),
    [
        ("abc", {"delivered": "ab"}, "1 accepted, but without an outcome: 'c'"),
        ("ab", {"delivered": "abz"}, "1 with an outcome, but never accepted: 'z'"),
        ("ab", {"delivered": "ab", "dead": "b"}, r"more than one outcome: \('b', \['delivered', 'dead'\]\)"),
        ("ab", {"delivered": "aab"}, "more than one outcome"),
        ("aab", {"delivered": "ab"}, "accepted twice: 'a'"),
    ],
)
def test_conservation_by_id_refuses(accepted: str, outcomes: dict[str, str], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        judge.conservation_by_id(accepted, outcomes)


def test_nothing_lost_compares_with_what_the_server_has() -> None:
    assert 2 == judge.nothing_lost("ab", "abc")
    with pytest.raises(AssertionError, match="1 of 2 delivered calls never reached the server: 'b'"):
        judge.nothing_lost("ab", "ac")


# ── I2 ──


def test_duplicates_are_counted_and_allowed_once_per_ambiguous_attempt() -> None:
    assert 0 == judge.duplicates("abc", 0)
    assert 3 == judge.duplicates("abcaab", 3)


def test_duplicates_beyond_the_ambiguous_attempts_are_refused() -> None:
    with pytest.raises(AssertionError, match=r"3 duplicates, but only 2 answers were lost.*\('a', 2\), \('b', 1\)"):
        judge.duplicates("abcaab", 2)
    with pytest.raises(AssertionError, match="only 0 answers were lost"):
        judge.duplicates("aa", 0)


# ── I3 ──


def test_a_steady_600_a_minute_is_in_order() -> None:
    assert 600 == judge.requests_in_any_minute([0.1 + n / 10 for n in range(3000)]).count


def test_a_burst_and_its_exact_return_a_minute_later_is_in_order() -> None:
    assert 600 == judge.requests_in_any_minute([0.3] * 600 + [0.3 + 60.0] * 600).count


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        ([5.0] * 601, r"601 requests in 60 s from 5\.000 on; the limit is 600"),
        ([59.9] * 400 + [60.1] * 201, r"601 requests in 60 s from 59\.900"),
        ([0.0] * 600 + [59.99], "601 requests"),
        # What a token bucket with a burst of 600 and 10 a second does.
        ([0.0] * 600 + [n / 10 for n in range(1, 600)], "1199 requests"),
    ],
)
def test_more_than_600_in_some_minute_is_refused(stamps: list[float], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        judge.requests_in_any_minute(stamps)


@given(st.lists(st.integers(0, 300), max_size=60))
def test_the_worst_minute_agrees_with_counting_by_hand(stamps: list[int]) -> None:
    by_hand = max((sum(start <= other < start + 60 for other in stamps) for start in stamps), default=0)

    assert by_hand == judge.requests_in_any_minute(map(float, stamps)).count


def test_a_day_of_stamps_is_judged_quickly() -> None:
    chance = random.Random(7)
    stamps = [chance.uniform(0, 864_000) for _ in range(864_000)]
    began = time.perf_counter()
    judge.requests_in_any_minute(stamps)

    assert 10 > time.perf_counter() - began


# ── I4 ──


def test_each_user_has_an_order_of_their_own() -> None:
    assert 5 == judge.per_user_order([("a", 1), ("b", 9), ("a", 2), ("b", 10), ("a", 7)])


def test_repeats_do_not_count_as_first_applications() -> None:
    assert 2 == judge.per_user_order([("a", 1), ("a", 2), ("a", 1)])


def test_calls_out_of_order_are_refused() -> None:
    with pytest.raises(AssertionError, match="user 'a': call 2 was first applied after call 3"):
        judge.per_user_order([("a", 1), ("a", 3), ("b", 1), ("a", 2)])


def movable(user: object, sequence: int) -> bool:
    """Identifies have the even numbers here."""
    return sequence % 2 == 0


def test_a_movable_identify_may_overtake_a_track() -> None:
    assert 4 == judge.per_user_order([("a", 2), ("a", 4), ("a", 3), ("a", 5)], movable)


@pytest.mark.parametrize(
    "applied",
    [
        pytest.param([("a", 4), ("a", 2)], id="an identify overtakes an identify"),
        pytest.param([("a", 3), ("a", 2)], id="a track overtakes an identify"),
        pytest.param([("a", 3), ("a", 1)], id="a track overtakes a track"),
        pytest.param([("a", 3), ("a", 4), ("a", 1)], id="a track overtakes a track behind an identify"),
    ],
)
def test_nothing_else_may_overtake(applied: list[tuple[str, int]]) -> None:
    with pytest.raises(AssertionError, match="was first applied after"):
        judge.per_user_order(applied, movable)


def test_identify_comes_before_track() -> None:
    assert 2 == judge.identify_before_track([("a", "identify"), ("b", "identify"), ("b", "track"), ("a", "track")])
    with pytest.raises(AssertionError, match="user 'b': a track was applied before any identify"):
        judge.identify_before_track([("a", "identify"), ("b", "track"), ("b", "identify")])
    with pytest.raises(AssertionError, match="'page_view' is neither"):
        judge.identify_before_track([("a", "page_view")])


# ── I5 ──


@pytest.fixture
def model() -> Model:
    """A user who loses a property, is moved, and does something on either side of the move."""
    model = Model()
    model.identify("u1", {"plan": "pro", "seats": 1}, company={"id": "acme", "name": "Acme", "size": 5})
    model.track("u1", "opened", {"n": 1})
    model.identify("u1", {"plan": None, "seats": 2}, company={"company_id": "bolt"})
    model.identify_company("acme", {"size": None})
    model.track("u1", "opened", {"n": 2})
    return model


def test_the_model_merges_removes_and_moves(model: Model) -> None:
    assert {"u1": {"seats": 2}} == model.users
    assert {"acme": {"name": "Acme"}, "bolt": {}} == model.companies
    assert {"u1": "bolt"} == model.company_of
    assert ["acme", "bolt"] == [event.company_id for event in model.events]


def test_a_null_for_a_property_that_is_not_there_changes_nothing() -> None:
    model = Model()
    model.identify("u1", {"gone": None})

    assert {"u1": {}} == model.users


def test_an_identify_without_a_company_moves_nobody(model: Model) -> None:
    model.identify("u1", {"seats": 3})

    assert "bolt" == model.company_of["u1"]


def test_the_same_state_is_accepted(model: Model) -> None:
    users, companies = {"u1": {"seats": 2}}, {"acme": {"name": "Acme"}, "bolt": {}}

    assert 4 == same_state(model, users, companies, {"u1": "bolt"})


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ({}, "user 'u1' is missing"),
        ({"u1": {"seats": 1}}, "user 'u1' is {'seats': 1}, not {'seats': 2}"),
        ({"u1": {"seats": 2.0}}, "is {'seats': 2.0}"),
        ({"u1": {"seats": "2"}}, "is {'seats': '2'}"),
        ({"u1": {"seats": 2, "plan": None}}, "'plan': None"),
        ({"u1": {"seats": 2}, "u2": {}}, "user 'u2' was never asked for"),
    ],
)
def test_another_state_is_refused(model: Model, users: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        same_state(model, users)


def test_a_user_in_the_wrong_company_is_refused(model: Model) -> None:
    with pytest.raises(AssertionError, match="company of user 'u1' is 'acme', not 'bolt'"):
        same_state(model, model.users, model.companies, {"u1": "acme"})
    with pytest.raises(AssertionError, match="company of user 'u1' is missing"):
        same_state(model, model.users, model.companies, {"u1": None})


def test_true_and_one_are_not_the_same() -> None:
    model = Model()
    model.identify("u1", {"admin": True})

    with pytest.raises(AssertionError):
        same_state(model, {"u1": {"admin": 1}})


def test_events_may_repeat_once_per_ambiguous_attempt(model: Model) -> None:
    repeated = Event("u1", "opened", {"n": 1}, "bolt")

    assert 0 == same_events(model, model.events)
    assert 1 == same_events(model, [*model.events, repeated], ambiguous_attempts=1)
    with pytest.raises(AssertionError, match="1 repeated events, but only 0 answers were lost"):
        same_events(model, [*model.events, repeated])


def test_events_missing_invented_or_misbooked_are_refused(model: Model) -> None:
    first, second = model.events
    with pytest.raises(AssertionError, match="1 events are missing"):
        same_events(model, [first])
    with pytest.raises(AssertionError, match="1 events that nobody tracked"):
        same_events(model, [first, second, Event("u1", "closed")], ambiguous_attempts=9)
    with pytest.raises(AssertionError, match="1 events are missing"):
        same_events(model, [Event("u1", "opened", {"n": 1}, "bolt"), second], ambiguous_attempts=9)


# ── I6, I8 ──


def test_bounds_have_a_grace_of_a_second() -> None:
    assert 10.9 == judge.within_bound(10.9, 10)
    with pytest.raises(AssertionError, match=r"took 11\.100 s; its bound is 10 s \+ 1 s"):
        judge.within_bound(11.1, 10)


def test_alive_again_measures_from_the_last_fault() -> None:
    assert 5.0 == judge.alive_again(100, [50, 105, 300])
    with pytest.raises(AssertionError, match=r"first applied 91\.0 s after"):
        judge.alive_again(100, [50, 191])
    with pytest.raises(AssertionError, match="nothing was applied any more"):
        judge.alive_again(100, [50, 99])


# ── I9 ──

KEY = "canary/key+7f3a é"


def test_clean_texts_are_counted() -> None:
    assert 2 == judge.no_canary({"log": "nothing here", "file": b"\xff\x00 nor here"}, [KEY])


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Token {KEY}",
        repr(KEY.encode())[2:-1] if KEY.isascii() else KEY,
        KEY[::-1],
        "canary%2Fkey%2B7f3a%20%C3%A9",
        r"canary/key+7f3a \u00e9",
        KEY.encode().hex(),
        *(base64.b64encode(b"x" * shift + KEY.encode() + b"more").decode() for shift in range(6)),
    ],
)
def test_a_canary_is_found_in_every_disguise(text: str) -> None:
    with pytest.raises(AssertionError, match="log holds a canary") as caught:
        judge.no_canary({"log": f"before {text} after"}, [KEY])

    assert text not in str(caught.value)
    assert "before" in str(caught.value)


def test_a_canary_is_found_in_bytes() -> None:
    with pytest.raises(AssertionError, match=r"spool\.db holds a canary \(plain\)"):
        judge.no_canary({"spool.db": b"\x00\xff" + KEY.encode() + b"\xfe"}, [KEY])


def test_a_search_that_searches_nothing_is_refused() -> None:
    with pytest.raises(AssertionError, match="no text was searched"):
        judge.no_canary({}, [KEY])
    with pytest.raises(AssertionError, match="no canary was looked for"):
        judge.no_canary({"log": ""}, [])
    with pytest.raises(AssertionError, match="turns up by chance"):
        judge.no_canary({"log": ""}, ["key"])


# ── I10 ──


def test_jobs_one_after_the_other_are_in_order() -> None:
    assert 1 == judge.one_job_at_a_time([(5, 9), (0, 5), (9, None)])
    assert 0 == judge.one_job_at_a_time([])


@pytest.mark.parametrize("jobs", [[(0, 5), (4, 9)], [(0, None), (100, 101)], [(0, 9), (1, 2)]])
def test_jobs_at_once_are_refused(jobs: list[tuple[float, float | None]]) -> None:
    with pytest.raises(AssertionError, match="2 bulk jobs at once at"):
        judge.one_job_at_a_time(jobs)


def test_a_job_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(AssertionError, match="before it starts"):
        judge.one_job_at_a_time([(5, 4)])


def test_one_conflict_in_five_seconds_is_allowed() -> None:
    assert 1 == judge.conflicts([0, 5, 10])
    with pytest.raises(AssertionError, match="2 answers 409 within 5 s from 5"):
        judge.conflicts([0, 5, 9.9])


# ── I12 and the promises ──


def test_one_log_line_per_reason_in_thirty_seconds() -> None:
    assert 1 == judge.one_line_per_reason([(0, "queue_full"), (1, "expired"), (30, "queue_full")])
    with pytest.raises(AssertionError, match="2 log lines of reason 'queue_full' within 30 s"):
        judge.one_line_per_reason([(0, "queue_full"), (29, "queue_full")])


def test_every_loss_has_a_reason() -> None:
    assert 3 == judge.losses_have_reasons(3, {"invalid": 2, "expired": 1})
    with pytest.raises(AssertionError, match="3 lost, but 2 have a reason"):
        judge.losses_have_reasons(3, {"invalid": 2})


def test_a_promised_fault_that_never_happened_fails_the_run() -> None:
    assert 2 == judge.happened({"429": 7, "split": 2}, "429", "split")
    with pytest.raises(AssertionError, match="never happened: takeover"):
        judge.happened({"429": 7, "split": 0, "takeover": 0}, "429", "takeover")
