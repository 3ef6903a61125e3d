"""Ids that are one to the database of a Parcelvoy server, and none to the server."""

from __future__ import annotations

import pytest

from userpilot_async.parcelvoy._like_ids import REMEMBERED, LikeIds


def warnings(*calls: tuple[str | None, str | None]) -> int:
    """The number of warnings that calls with these external and anonymous ids cause."""
    warned: list[None] = []
    ids = LikeIds(lambda: warned.append(None))
    for external_id, anonymous_id in calls:
        ids.see(external_id, anonymous_id)
    return len(warned)


@pytest.mark.parametrize(
    ("one", "other"),
    [("u1", "U1"), ("jose", "jose\u0301"), ("jos\u00e9", "jose"), ("a\u200bb", "ab"), ("Stra\u00dfe", "STRASSE")],
)
def test_two_that_differ_by_case_accents_or_what_is_invisible_are_warned_of_once(one, other):
    assert 1 == warnings((one, None), (other, None), (one, None), (other.upper(), None))
    assert 1 == warnings((None, one), (None, other))


@pytest.mark.parametrize(("one", "other"), [("u1", "u2"), ("u", "u "), ("a-b", "ab"), ("ø", "oo")])
def test_others_are_not(one, other):
    assert 0 == warnings((one, None), (other, None))


def test_the_same_id_again_is_no_other_and_the_two_kinds_are_not_compared():
    assert 0 == warnings(("u1", None), ("u1", "U1"), ("u1", None))


def test_what_is_remembered_is_bounded():
    ids = LikeIds(lambda: None)
    for number in range(3 * REMEMBERED):
        ids.see(f"user-{number}", None)

    assert REMEMBERED >= len(ids._ids)
    assert REMEMBERED >= len(ids._seen)
