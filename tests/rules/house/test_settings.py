"""Settings: a wrong value is refused at once, by the name of its setting, and nothing changes afterwards."""

from __future__ import annotations

import attrs
import pytest

from userpilot_async import Settings

COUNTS = [
    "track_per_minute", "identify_per_minute", "burst", "max_queue_calls", "max_queue_bytes", "concurrency",
]  # fmt: skip
ABOVE_0 = ["max_age", "dedupe_for", "late_after", "request_timeout", "upload_timeout", "job_timeout"]
FROM_0 = ["flush_interval", "bulk_threshold"]
OR_NONE = ["max_wait", "close_timeout"]
CHOICES = {
    "when_full": ["wait", "drop_newest", "drop_oldest", "raise"],
    "on_invalid": ["raise", "dead"],
    "on_ambiguous": ["send", "drop"],
    "imports": [None, "when_late"],
}
NOT_COUNTS = [0, -1, 1.0, 1.5, True, "1", None, float("inf"), float("nan")]
NOT_NUMBERS = [-1, -0.1, float("inf"), float("-inf"), float("nan"), True, "1", [1]]

WRONG = [
    *((name, value) for name in COUNTS for value in NOT_COUNTS),
    *((name, value) for name in ABOVE_0 for value in [0, 0.0, None, *NOT_NUMBERS]),
    *((name, value) for name in FROM_0 for value in [None, *NOT_NUMBERS]),
    *((name, value) for name in OR_NONE for value in NOT_NUMBERS),
    *((name, value) for name in CHOICES for value in ["", "WAIT", 1, ["raise"]]),
    *((name, None) for name in CHOICES if name != "imports"),
    ("bulk_threshold", 0.5),
]


def test_every_setting_is_tested_here():
    tested = {*COUNTS, *ABOVE_0, *FROM_0, *OR_NONE, *CHOICES}

    assert tested == {field.name for field in attrs.fields(Settings)}


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_setting(name, value):
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize("name", OR_NONE)
def test_who_asks_for_an_infinite_time_is_told_how_to_have_it(name):
    with pytest.raises(ValueError, match="must be a finite number, 0 or more, or None for no limit"):
        Settings(**{name: float("inf")})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in CHOICES for value in CHOICES[name]])
def test_each_choice_is_taken(name, value):
    assert value == getattr(Settings(**{name: value}), name)


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_may_be_1(name):
    assert 1 == getattr(Settings(**{name: 1}), name)


@pytest.mark.parametrize("name", FROM_0 + OR_NONE)
def test_some_durations_may_be_0(name):
    assert 0 == getattr(Settings(**{name: 0}), name)


def test_a_script_may_wait_for_room_for_ever():
    assert None is Settings(max_wait=None).max_wait


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("track_per_minute", 600),
        ("identify_per_minute", 600),
        ("flush_interval", 1.0),
        ("bulk_threshold", 50),
        ("max_queue_calls", 100_000),
        ("max_queue_bytes", 64 * 1024 * 1024),
        ("when_full", "wait"),
        ("burst", 100),
        ("max_wait", 10.0),
        ("close_timeout", 10.0),
        ("request_timeout", 15.0),
        ("concurrency", 8),
        ("dedupe_for", 7 * 86_400.0),
        ("on_invalid", "raise"),
        ("on_ambiguous", "send"),
    ],
)
def test_the_default_is_the_one_in_the_contract(name, value):
    assert value == getattr(Settings(), name)


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(Settings)])
def test_a_setting_cannot_be_changed(name):
    settings = Settings()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(settings, name, 1)


def test_settings_are_given_by_name():
    with pytest.raises(TypeError):
        Settings(600)


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(TypeError):
        Settings(timeout=1)
