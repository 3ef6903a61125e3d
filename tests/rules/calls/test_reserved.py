"""Properties of users that Userpilot keeps itself."""

from __future__ import annotations

import pytest

from userpilot_async._userpilot.reserved import KEPT, ReservedProperties


def warnings(*calls: dict[str, object]) -> list[str]:
    """The warnings that identifies with these properties cause."""
    warned: list[str] = []
    reserved = ReservedProperties(warned.append)
    for properties in calls:
        reserved.check(properties)
    return warned


@pytest.mark.parametrize("name", list(KEPT))
def test_each_is_warned_of_once_by_its_name_and_never_by_its_value(name):
    warned = warnings({"plan": "pro"}, {name: "MARKED-1"}, {"plan": "pro", name: None}, {name: "MARKED-2"})

    assert 1 == len(warned)
    assert f"'{name}'" in warned[0]
    assert "MARKED" not in warned[0]


def test_several_in_one_call_are_several_warnings():
    assert 3 == len(warnings(dict.fromkeys(KEPT, 1), dict.fromkeys(KEPT, 2)))


def test_the_time_of_the_signup_has_a_property_that_may_be_set():
    assert "set that one instead" in warnings({"signed_up_at": 1})[0]
    assert "'created_at'" in warnings({"signed_up_at": 1})[0]


def test_what_is_the_callers_to_set_is_not_warned_of():
    assert [] == warnings({"name": "A", "email": "a@b.c", "created_at": "2026-01-01"}, {})
