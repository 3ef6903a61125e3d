"""The machine's clocks are read as of one moment, whatever happens to the process in between."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from userpilot_async._runtime import clocks


class Stopped:
    """A process that is stopped, for so long, before each of these readings of a clock; each takes a millisecond."""

    def __init__(self, seconds: float, readings: Iterable[int]) -> None:
        self.seconds, self.readings = seconds, list(readings)
        self.now, self.read = 100.0, 0

    def __call__(self) -> float:
        self.now += 0.001 + (self.seconds if self.read in self.readings else 0.0)
        self.read += 1
        return self.now


@pytest.mark.parametrize("reading", [0, 1, 2, 3, 4])
def test_a_process_that_was_stopped_between_two_clocks_reads_them_again(reading: int) -> None:
    """Or the calendar would seem to have been set by an hour."""
    clock = Stopped(3_600.0, [reading])

    assert 0.0 == pytest.approx(clocks.offset(clock, clock), abs=0.01)


def test_a_machine_that_is_too_busy_for_that_is_not_waited_for() -> None:
    clock = Stopped(1.0, range(1_000))

    assert -1.0 == pytest.approx(clocks.offset(clock, clock), abs=0.01)
    assert clock.read < 100


def test_who_sets_the_calendar_of_a_test_sets_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = clocks.offset()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 7_200.0)

    assert 7_200.0 == pytest.approx(clocks.offset() - before, abs=0.5)
    assert 7_200.0 == pytest.approx(clocks.read().wall - real(), abs=0.5)


def test_a_boot_has_a_name_and_the_kernels_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    first, second = clocks.boot_here(), clocks.boot_here()

    assert first is not None
    assert second is not None
    assert first.id == second.id
    assert first.offset == pytest.approx(second.offset, abs=0.5)
    assert 0.0 < first.offset  # the machine was started after 1970


def test_where_a_boot_has_no_name_nothing_is_said_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clocks, "BOOT_ID", tmp_path / "nothing")

    assert clocks.boot_here() is None
