"""Whom a server has met: keys of calls that were delivered, up to a number."""

from __future__ import annotations

import pytest

from userpilot_async._calls.outcome import DELIVERED
from userpilot_async._schedule import dedup, met_keys
from userpilot_async._schedule.dedup import Dedup
from userpilot_async._schedule.met_keys import MetKeys
from userpilot_async._schedule.posts import Post


def test_a_key_is_met_when_a_call_by_it_was_delivered() -> None:
    met = MetKeys()
    met.watch(7, "a")
    before = "a" in met
    met.ended([6, 7], delivered=True)

    assert (False, True, False) == (before, "a" in met, met.are_awaited)


def test_a_key_whose_call_was_lost_is_not_met_and_the_next_call_is_watched() -> None:
    met = MetKeys()
    met.watch(7, "a")
    met.ended([7], delivered=False)
    met.watch(8, "a")
    met.ended([8], delivered=True)

    assert "a" in met


def test_one_call_of_a_key_is_watched_and_none_of_a_key_that_is_met() -> None:
    met = MetKeys()
    for call_id in range(1_000):
        met.watch(call_id, "a")
    watched = len(met._watched)
    met.ended([0], delivered=True)
    met.watch(1_000, "a")

    assert (1, 0) == (watched, len(met._watched))


def test_of_too_many_keys_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(met_keys, "MAX_REMEMBERED", 10)
    met = MetKeys()
    for n in range(12):
        met.watch(n, f"a{n}")
        met.ended([n], delivered=True)

    assert [False, False, True] == [f"a{n}" in met for n in range(3)]


def test_what_came_too_early_does_not_count_on_its_way_or_delivered() -> None:
    for is_delivered in (False, True):
        once, early = Dedup(), Post("alias", [0], 0.0, b"alias")
        once.came_in(early, "a")
        if is_delivered:
            once.left(early, DELIVERED)
        once.came_too_early("a")
        counts = (once.waiting(b"alias"), once.was_delivered(b"alias"))
        again = Post("alias", [1], 0.0, b"alias")
        once.came_in(again)
        once.left(early, DELIVERED)  # which changes nothing of the one that counts

        assert (None, False) == counts
        assert (again, False) == (once.waiting(b"alias"), once.was_delivered(b"alias"))


def test_of_too_many_that_may_be_too_early_the_oldest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "MAX_REMEMBERED", 10)
    once = Dedup()
    for n in range(12):
        once.came_in(Post("alias", [n], 0.0, b"%d" % n), f"a{n}")
    for n in range(12):
        once.came_too_early(f"a{n}")

    assert [True, True, False] == [once.waiting(b"%d" % n) is not None for n in range(3)]
