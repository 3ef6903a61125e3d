"""What a server takes once is remembered: while it is on its way, and when it was delivered, up to a number."""

from __future__ import annotations

import pytest

from userpilot_async._calls.outcome import DELIVERED, Outcome
from userpilot_async._schedule.dedup import MAX_REMEMBERED, Dedup
from userpilot_async._schedule.posts import Post


def post(body: bytes = b"alias") -> Post:
    return Post("alias", [0], 0.0, body)


def test_what_is_on_its_way_is_found_by_what_it_says() -> None:
    once, one = Dedup(), post()
    once.came_in(one)

    assert (one, None) == (once.waiting(b"alias"), once.waiting(b"another"))
    assert not once.was_delivered(b"alias")


def test_what_was_delivered_is_remembered_and_waits_no_more() -> None:
    once, one = Dedup(), post()
    once.came_in(one)
    once.left(one, DELIVERED)

    assert (None, True) == (once.waiting(b"alias"), once.was_delivered(b"alias"))


@pytest.mark.parametrize("outcome", [Outcome("dead", "invalid"), Outcome("dropped", "closed")])
def test_what_was_lost_is_forgotten_and_may_be_said_again(outcome: Outcome) -> None:
    once, one = Dedup(), post()
    once.came_in(one)
    once.left(one, outcome)

    assert (None, False) == (once.waiting(b"alias"), once.was_delivered(b"alias"))


def test_a_post_of_another_kind_that_never_came_in_may_leave() -> None:
    once, waiting = Dedup(), post()
    once.came_in(waiting)
    once.left(Post("device", [1], 0.0, b"device"), Outcome("dead", "expired"))

    assert waiting is once.waiting(b"alias")


def test_of_too_many_delivered_ones_the_oldest_is_forgotten() -> None:
    once = Dedup()
    for n in range(MAX_REMEMBERED + 2):
        one = post(b"%d" % n)
        once.came_in(one)
        once.left(one, DELIVERED)

    assert [False, False, True] == [once.was_delivered(b"%d" % n) for n in range(3)]
    assert once.was_delivered(b"%d" % (MAX_REMEMBERED + 1))


def test_any_number_may_be_on_its_way() -> None:
    once = Dedup()
    for n in range(MAX_REMEMBERED + 2):
        once.came_in(post(b"%d" % n))

    assert once.waiting(b"0") is not None
