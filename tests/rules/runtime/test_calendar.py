"""Dates are right though the calendar is set and the machine sleeps, and nothing grows old by that."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.machine import NOON, Machine
from userpilot_async._schedule.calendar import EARLIEST, MOST_SLEEPS, Calendar, Clocks, age, never_set

HOUR, DAY, YEAR = 3_600.0, 86_400.0, 31_536_000.0
SETTINGS = [2 * HOUR, -2 * HOUR, 3 * YEAR, -56 * YEAR, 0.6]


@attrs.define
class Program:
    """A program with a client on a machine, whose loop's clock goes on while the machine runs; it accepts calls."""

    machine: Machine
    calendar: Calendar = attrs.field(init=False)
    accepted: list[tuple[float, float]] = attrs.field(factory=list)
    """When, by the schedule's clock; and in truth."""

    def __attrs_post_init__(self) -> None:
        self.calendar = Calendar(self.machine.clocks, self.now())

    def now(self) -> float:
        """The schedule's clock: asyncio's does not begin at 0."""
        return self.machine.running() + 12_345.0

    def read(self) -> None:
        self.calendar.read(self.now())

    def accept(self) -> float:
        """A call, after a moment of work, as before any call; the sender, which it wakes, reads the clocks at once."""
        self.machine.work(0.001)
        self.accepted.append((self.now(), self.machine.truth))
        self.read()
        return self.now()

    def off(self) -> list[float]:
        """By how many seconds each accepted call is dated wrongly."""
        return [abs(self.calendar.date(moment) - truth) for moment, truth in self.accepted]


@pytest.mark.parametrize("wrong", SETTINGS)
def test_a_calendar_that_was_wrong_at_the_opening_is_right_for_all_calls_once_it_is_set(wrong: float) -> None:
    machine = Machine(wrong)
    program = Program(machine)
    program.accept()
    machine.work(90.0)
    program.accept()
    machine.set()
    machine.work(90.0)
    program.accept()

    assert [0.0] * 3 == pytest.approx(program.off(), abs=1e-3)


@pytest.mark.parametrize("wrong", SETTINGS)
def test_a_calendar_that_is_made_wrong_dates_calls_as_it_would_itself(wrong: float) -> None:
    """Nothing shows that the calendar is wrong: all calls are wrong by as much, and keep their distances."""
    machine = Machine()
    program = Program(machine)
    program.accept()
    machine.set(wrong)
    machine.work(60.0)
    program.accept()

    assert [abs(wrong)] * 2 == pytest.approx(program.off(), abs=1e-3)


def test_what_was_accepted_before_the_machine_slept_keeps_its_date() -> None:
    machine = Machine()
    program = Program(machine)
    before = program.accept()
    machine.sleep(8 * HOUR)
    machine.work(1.0)
    after = program.accept()

    assert [0.0] * 2 == pytest.approx(program.off(), abs=1e-3)
    assert 1.0 == pytest.approx(after - before, abs=0.01)
    assert 8 * HOUR + 1.0 == pytest.approx(program.calendar.date(after) - program.calendar.date(before), abs=0.01)


def test_a_machine_that_sleeps_with_a_wrong_calendar_and_sets_it_when_it_wakes() -> None:
    machine = Machine(-2 * HOUR)
    program = Program(machine)
    program.accept()
    machine.sleep(DAY)
    machine.set()
    program.accept()

    assert [0.0] * 2 == pytest.approx(program.off(), abs=1e-3)


def test_a_calendar_that_is_slewed_is_followed() -> None:
    machine = Machine(0.4)
    program = Program(machine)
    program.accept()
    for left in (0.3, 0.2, 0.1, 0.0):
        machine.set(left)
        machine.work(100.0)
        program.read()

    assert [0.0] == pytest.approx(program.off(), abs=1e-3)


def test_clocks_that_were_not_read_quite_together_make_no_sleep() -> None:
    machine, late = Machine(), iter([0.0, 0.02, 0.0, 0.02, 0.0])
    calendar = Calendar(lambda: attrs.evolve(machine.clocks(), running=machine.running() - next(late)), 0.0)
    for now in (1.0, 2.0, 3.0, 4.0):
        machine.work(1.0)
        calendar.read(now)

    assert NOON + 4.0 == pytest.approx(calendar.date(4.0), abs=1e-6)
    assert NOON == pytest.approx(calendar.date(0.0), abs=1e-6)


def test_a_laptop_that_sleeps_every_night_for_years_is_not_remembered_for_ever() -> None:
    machine = Machine()
    program = Program(machine)
    for _ in range(MOST_SLEEPS + 500):
        program.read()
        machine.sleep(8 * HOUR)
        machine.work(HOUR)
    program.accept()

    assert MOST_SLEEPS == len(program.calendar._sleeps)
    assert [0.0] == pytest.approx(program.off(), abs=1e-3)


DOINGS = st.lists(
    st.tuples(st.just("work"), st.floats(0.0, 2 * DAY))
    | st.tuples(st.just("sleep"), st.floats(1.0, 30 * DAY))
    | st.tuples(st.just("set"), st.sampled_from([0.0, *SETTINGS]))
    | st.tuples(st.sampled_from(["accept", "read"]), st.just(0.0)),
    max_size=60,
)


@given(wrong=st.sampled_from([0.0, *SETTINGS]), doings=DOINGS)
def test_whatever_happens_dates_are_right_once_the_calendar_is(wrong: float, doings: list[tuple[str, float]]) -> None:
    machine = Machine(wrong)
    program = Program(machine)
    for doing, seconds in doings:
        {
            "work": machine.work, "sleep": machine.sleep, "set": machine.set,
            "accept": lambda _: program.accept(), "read": lambda _: program.read(),
        }[doing](seconds)  # fmt: skip
    machine.set()
    program.read()

    assert [0.0] * len(program.accepted) == pytest.approx(program.off(), abs=0.01)
    dates = [program.calendar.date(moment) for moment, _ in program.accepted]
    assert sorted(dates) == dates
    # And the other way round: what a file has by its date is as old as it is here, and never of tomorrow.
    for (moment, truth), date in zip(program.accepted, dates, strict=True):
        assert moment == pytest.approx(program.calendar.moment(truth), abs=0.01)
        assert date == pytest.approx(program.calendar.date(program.calendar.moment(date)), abs=0.01)
        assert program.calendar.moment(truth) <= program.now() + 0.01


def test_a_date_of_just_before_a_sleep_shows_how_long_the_machine_was_awake() -> None:
    """Where another process sends, the clocks are not read here for hours."""
    machine = Machine()
    program = Program(machine)
    machine.work(HOUR)
    accepted, truth = program.now(), machine.truth
    machine.work(60.0)
    machine.sleep(8 * HOUR)
    machine.work(60.0)
    program.read()

    assert accepted == pytest.approx(program.calendar.moment(truth), abs=1e-3)
    assert truth == pytest.approx(program.calendar.date(accepted), abs=1e-3)
    assert machine.truth - 30.0 == pytest.approx(program.calendar.date(program.now() - 30.0), abs=1e-3)


@pytest.mark.parametrize("hours", [1, 7])
def test_a_date_within_a_sleep_is_that_of_its_nearer_end(hours: int) -> None:
    """No call is accepted then; a date is a little off, or a calendar was."""
    machine = Machine()
    program = Program(machine)
    program.read()
    asleep = machine.truth
    machine.sleep(8 * HOUR)
    program.read()
    calendar = program.calendar

    end = asleep if hours == 1 else asleep + 8 * HOUR
    assert end == pytest.approx(calendar.date(calendar.moment(asleep + hours * HOUR)), abs=1e-3)


# ── clocks of tests ──


@pytest.mark.parametrize("follows", [False, True], ids=["time.time goes on for real", "time.time jumps along"])
@pytest.mark.parametrize("step", SETTINGS)
def test_a_loop_whose_clock_jumps_keeps_the_calendar_it_opened_with_until_that_is_set(
    step: float, follows: bool
) -> None:
    """As in tests of our users' and in ours: a day passes in a moment of the machine's time."""
    loop, wrong = 0.0, 0.0
    calendar = Calendar(lambda: Clocks(NOON + wrong + (loop if follows else 0.0), 50.0, 40.0), loop)
    for _ in range(20):
        loop += HOUR
        calendar.read(loop)
    before = calendar.date(1_000.0)
    wrong = step
    loop += 0.2
    calendar.read(loop)

    assert NOON + 1_000.0 == pytest.approx(before, abs=1e-3)
    assert NOON + 1_000.0 + step == pytest.approx(calendar.date(1_000.0), abs=1e-3)
    assert NOON + loop + step == pytest.approx(calendar.date(loop), abs=1e-3)


def test_without_a_calendar_the_schedules_clock_is_one() -> None:
    calendar = never_set(1_000.0)
    calendar.read(5_000.0)

    assert (1_000.0, 7_000.0) == (calendar.date(1_000.0), calendar.date(7_000.0))
    assert NOON + 10.0 == never_set(1_000.0, NOON).date(1_010.0)


# ── ages ──


def test_an_age_is_what_has_passed_since_and_never_negative() -> None:
    assert (10.0, 0.0) == (age(NOON - 10.0, NOON), age(NOON + 3 * YEAR, NOON))


@pytest.mark.parametrize("date", [0.0, 86_400.0, EARLIEST - 1.0, -1e12])
def test_a_date_before_this_library_was_there_is_no_age(date: float) -> None:
    """A device without a battery starts in 1970, or on the day its firmware was built."""
    assert 0.0 == age(date, NOON)
    assert 5.0 == age(date, date + 5.0) or date + 5.0 > EARLIEST


@given(date=st.floats(-1e13, 1e13), today=st.floats(-1e13, 1e13), calendar_is=st.none() | st.just(NOON))
def test_no_date_makes_a_negative_age(date: float, today: float, calendar_is: Any) -> None:
    assert 0.0 <= age(date, today if calendar_is is None else calendar_is)
