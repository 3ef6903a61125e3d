"""ParcelvoySettings: what is its own, and that a wrong value is refused by the name of its setting."""

from __future__ import annotations

import attrs
import pytest

from userpilot_async import ConfigurationError, Settings
from userpilot_async._settings import DeliverySettings
from userpilot_async.parcelvoy import ParcelvoySettings

NOT_COUNTS = [0, -1, 1.0, 1.5, True, "1", float("inf"), float("nan")]
OWN = {"requests_per_minute": None, "burst": 100, "max_events": 500, "max_bytes": 512 * 1024}
NAMES = {"occurred_at_key": None}
DURATIONS = {"settle_pause": 0.0}
SHARED = {field.name for field in attrs.fields(DeliverySettings)}


def test_it_has_these_settings_and_those_of_every_destination():
    assert {*OWN, *NAMES, *DURATIONS, *SHARED} == {field.name for field in attrs.fields(ParcelvoySettings)}


@pytest.mark.parametrize(("name", "value"), {**OWN, **NAMES, **DURATIONS}.items())
def test_the_default_is_the_one_in_the_contract(name, value):
    assert value == getattr(ParcelvoySettings(), name)


@pytest.mark.parametrize("name", sorted(SHARED))
def test_what_is_shared_has_the_same_default_as_for_userpilot(name):
    assert getattr(Settings(), name) == getattr(ParcelvoySettings(), name)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("value", NOT_COUNTS)
def test_what_is_no_count_is_refused_by_the_name_of_its_setting(name, value):
    with pytest.raises(ValueError, match=rf"^ParcelvoySettings\.{name} must be an int, 1 or more$"):
        ParcelvoySettings(**{name: value})


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), True, "1", None])
def test_what_is_no_duration_is_refused_by_the_name_of_its_setting(value):
    with pytest.raises(ValueError, match=r"^ParcelvoySettings\.settle_pause must be a finite number, 0 or more$"):
        ParcelvoySettings(settle_pause=value)


@pytest.mark.parametrize("name", [name for name in OWN if name != "requests_per_minute"])
def test_only_the_budget_may_be_none(name):
    with pytest.raises(ValueError, match=name):
        ParcelvoySettings(**{name: None})


WRONG = {
    "flush_interval": -1, "max_queue_calls": 0, "max_queue_bytes": 0, "when_full": "block", "max_wait": -1,
    "max_age": 0, "close_timeout": -1, "request_timeout": 0, "concurrency": 0,
    "on_invalid": "ignore", "on_ambiguous": "retry", "dedupe_for": 0,
}  # fmt: skip


def test_every_shared_setting_is_tested_here():
    assert set(WRONG) == SHARED


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_wrong_value_of_a_shared_setting_is_refused_as_parcelvoys(name, value):
    with pytest.raises(ValueError, match=rf"^ParcelvoySettings\.{name} must be "):
        ParcelvoySettings(**{name: value})


@pytest.mark.parametrize("name", OWN)
def test_a_count_may_be_1(name):
    assert 1 == getattr(ParcelvoySettings(**{name: 1}), name)


@pytest.mark.parametrize("name", sorted({*OWN, *NAMES, *SHARED}))
def test_a_setting_cannot_be_changed(name):
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(ParcelvoySettings(), name, 1)


@pytest.mark.parametrize("name", ["track_per_minute", "bulk_threshold", "upload_timeout", "job_timeout", "timeout"])
def test_a_setting_of_userpilots_is_refused(name):
    with pytest.raises(TypeError, match=name):
        ParcelvoySettings(**{name: 1})


def test_settings_are_given_by_name():
    with pytest.raises(TypeError):
        ParcelvoySettings(600)


def test_no_request_is_larger_than_the_server_takes():
    assert 1_048_576 == ParcelvoySettings(max_bytes=1_048_576).max_bytes
    with pytest.raises(ConfigurationError, match="max_bytes must be at most 1,048,576"):
        ParcelvoySettings(max_bytes=1_048_577)


@pytest.mark.parametrize("value", ["", 1, b"at", "x" * 256])
def test_what_is_no_name_of_a_property_is_refused(value):
    with pytest.raises(ConfigurationError, match="occurred_at_key must be a name"):
        ParcelvoySettings(occurred_at_key=value)
