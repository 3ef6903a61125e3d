"""Calls in a file are dated rightly, and grow no older than they are, though the machine's calendar is set meanwhile.

Several processes of one machine use the file; one sends. `Machine` knows the truth.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.inline import Client, InlineOutbox, at_once, bury_the_dead, open_now
from tests.harness.machine import Machine
from userpilot_async._calls.outcome import Outcome
from userpilot_async._calls.payload import Ticket
from userpilot_async._calls.stored import sealed, unsealed
from userpilot_async._outbox.owner import Claim
from userpilot_async._outbox.window import Reading
from userpilot_async._schedule.calendar import Calendar
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.sqlite._admin import SQLiteAdmin
from userpilot_async.sqlite._dates import MOST_CHANGES, Dates
from userpilot_async.sqlite._tables import Tables

HOUR, DAY, YEAR = 3_600.0, 86_400.0, 31_536_000.0
# 1970, years and hours behind, minutes; and ahead.
WRONG = [-56.7 * YEAR, -2.5 * YEAR, -2 * HOUR, -90.0, 90.0, 2 * HOUR, 10 * YEAR]


class OutboxOf(InlineOutbox):
    """An outbox on a machine; what is taken from it was read from the file."""

    passes_on = False

    def __init__(self, machine: Machine, path: Path, *, sender: bool = True) -> None:
        super().__init__(path, durability="process", sender=sender)
        self.wall, self.steady, self.boot = machine.wall, machine.steady, machine.boot  # type: ignore[method-assign]
        self.machine = machine
        self.client = Client(clocks=machine.clocks)

    @property
    def calendar(self) -> Calendar:
        return self._session.opening.calendar

    def now(self) -> float:
        """The clock of the schedule, in seconds."""
        self.client.time = self.machine.running() + 777.0
        return self.client.time


@attrs.define
class Host:
    """The machine, its file, and who uses it."""

    path: Path
    machine: Machine
    made: list[OutboxOf] = attrs.field(factory=list)
    truth: dict[int, float] = attrs.field(factory=dict)
    """When each call was put."""

    def starts(self, *, sender: bool = True) -> OutboxOf:
        """Start a process with the outbox open."""
        outbox = OutboxOf(self.machine, self.path, sender=sender)
        outbox.now()
        open_now(outbox, outbox.client.opening())
        self.made.append(outbox)
        return outbox

    def put(self, outbox: OutboxOf) -> int:
        """Put a call at this moment."""
        self.machine.work(0.01)
        receipt = outbox.put("track", "u1", b"{}", 2, outbox.now())
        self.truth[receipt.id] = self.machine.truth
        return receipt.id

    def taken(self, sender: OutboxOf) -> list[Ticket]:
        """The calls that the sender gets after a poll."""
        sender.now()
        sender.poll()
        sender.calendar.read(sender.now())
        return list(sender.take(1_000))

    def dated_wrongly(self, sender: OutboxOf) -> list[float]:
        """By how much each call that is taken is."""
        taken = self.taken(sender)
        return [sender.calendar.date(moment) - self.truth[call_id] for call_id, moment, *_ in taken]

    def ages(self, sender: OutboxOf) -> list[float]:
        """How old the calls that are taken are on the schedule's clock, by which they die."""
        return [sender.now() - moment for _, moment, *_ in self.taken(sender)]

    def end(self) -> None:
        for outbox in self.made:
            at_once(outbox.aclose())


NewHost = Callable[..., Host]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[NewHost]:
    made: list[Host] = []

    def host(wrong: float = 0.0) -> Host:
        made.append(Host(tmp_path / "events.db", Machine(wrong)))
        return made[-1]

    yield host
    for one in made:
        one.end()


# ── while processes run ──


@pytest.mark.parametrize("wrong", WRONG)
def test_calls_are_dated_rightly_whoever_put_them_before_and_after_the_calendar_was_set(
    host: NewHost, wrong: float
) -> None:
    here = host(wrong)
    web = here.starts(sender=False)
    here.put(web)
    here.machine.work(40.0)
    here.put(web)
    here.machine.set()
    here.put(web)  # and the sender has not looked yet
    here.machine.work(10.0)
    sender = here.starts()
    here.put(web)

    assert [0.0] * 4 == pytest.approx(here.dated_wrongly(sender), abs=0.6)


@pytest.mark.parametrize("wrong", WRONG)
def test_no_call_grows_older_by_a_calendar_that_is_set_nor_younger(host: NewHost, wrong: float) -> None:
    here = host(wrong)
    web = here.starts(sender=False)
    for _ in range(3):
        here.put(web)
        here.machine.work(20.0)
    here.machine.set()

    assert [60.0, 40.0, 20.0] == pytest.approx(here.ages(here.starts()), abs=1.0)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_sender_that_runs_all_the_time_notices_as_well(host: NewHost, wrong: float) -> None:
    here = host(wrong)
    sender, web = here.starts(), here.starts(sender=False)
    here.put(web)
    here.machine.work(30.0)
    here.machine.set()
    here.put(web)
    here.machine.work(30.0)

    assert [0.0] * 2 == pytest.approx(here.dated_wrongly(sender), abs=0.6)


@pytest.mark.parametrize("wrong", WRONG)
def test_calls_that_were_read_before_and_come_after_the_calendar_was_set_are_as_old_as_they_are(
    host: NewHost, wrong: float
) -> None:
    here = host(wrong)
    web = here.starts(sender=False)
    here.put(web)
    here.machine.work(30.0)
    sender = here.starts()
    sender.take(10)
    here.put(web)
    late = attrs.evolve(sender.store.read(Reading(1, 2, 10)))
    here.machine.set()
    here.machine.work(5.0)
    sender._session.window.reading = Reading(1, 2, 10)
    sender.now()
    sender._session.arrived(sender._session.window.reading, late)
    ((call_id, moment, *_),) = sender.take(10)

    assert (1, 5.0) == (call_id, pytest.approx(sender.now() - moment, abs=0.1))


def test_two_processes_note_one_setting_once(host: NewHost) -> None:
    here = host(-2 * HOUR)
    first, second = here.starts(), here.starts(sender=False)
    here.put(second)
    here.machine.set()
    for _ in range(3):
        here.put(first)
        here.put(second)
        first.poll()
        second.poll()

    assert 1 == len(dates_of(here).changes)


def test_a_calendar_that_is_set_again_and_again_is_followed(host: NewHost) -> None:
    here = host()
    web = here.starts(sender=False)
    for wrong in (7.0, -DAY, 3 * YEAR, -400.0, 0.0):
        here.put(web)
        here.machine.work(100.0)
        here.machine.set(wrong)
    here.put(web)

    assert [0.0] * 6 == pytest.approx(here.dated_wrongly(here.starts()), abs=0.6)


def test_the_note_of_a_calendar_that_is_set_all_the_time_does_not_grow_for_ever(host: NewHost) -> None:
    here = host()
    web = here.starts(sender=False)
    for n in range(MOST_CHANGES + 20):
        here.machine.set(float(n % 7))
        here.put(web)

    assert MOST_CHANGES == len(dates_of(here).changes)


def test_an_age_in_the_file_is_without_the_time_that_the_machine_slept_and_the_date_is_right(host: NewHost) -> None:
    here = host()
    web, sender = here.starts(sender=False), here.starts()
    here.put(web)
    sender.calendar.read(sender.now())
    here.machine.sleep(8 * HOUR)
    here.machine.work(1.0)
    here.put(web)
    sender.calendar.read(sender.now())
    sender._session.window.begin(0)
    tickets = here.taken(sender)

    assert [1.0, 0.0] == pytest.approx([sender.now() - moment for _, moment, *_ in tickets], abs=0.1)
    dates = [sender.calendar.date(moment) for _, moment, *_ in tickets]
    assert [here.truth[0], here.truth[1]] == pytest.approx(dates, abs=0.1)


# ── across processes and starts of the machine ──


@pytest.mark.parametrize("wrong", WRONG)
def test_a_calendar_that_was_set_while_no_process_ran_is_noticed_if_the_machine_was_not_started_since(
    host: NewHost, wrong: float
) -> None:
    here = host(wrong)
    here.put(here.starts(sender=False))
    here.end()
    here.machine.work(60.0)
    here.machine.set()
    sender = here.starts()

    assert [60.0] == pytest.approx(here.ages(sender), abs=1.0)


def test_after_honest_days_a_call_is_as_old_as_that_whether_the_machine_was_off_or_not(host: NewHost) -> None:
    """The age limit `max_age` holds across restarts."""
    here = host()
    here.put(here.starts(sender=False))
    here.end()
    here.machine.work(DAY)
    here.put(here.starts(sender=False))
    here.end()
    here.machine.start_again(after=2 * DAY)

    assert [3 * DAY, 2 * DAY] == pytest.approx(here.ages(here.starts()), abs=1.0)


@pytest.mark.parametrize("wrong", [-56.7 * YEAR, -20 * YEAR])
def test_calls_of_a_device_that_did_not_know_the_time_are_of_when_they_are_first_seen(
    host: NewHost, wrong: float
) -> None:
    """The device was in 1970, and was started again before it heard the time."""
    here = host(wrong)
    web = here.starts(sender=False)
    here.put(web)
    here.machine.work(3 * HOUR)
    here.put(web)
    here.end()
    here.machine.start_again(after=60.0)
    ages = here.ages(here.starts())
    here.end()
    here.machine.start_again(after=2 * DAY)
    here.put(here.starts(sender=False))

    assert [0.0, 0.0] == ages
    assert [2 * DAY, 2 * DAY, 0.0] == pytest.approx(here.ages(here.starts()), abs=1.0)


def test_a_device_that_never_learns_the_time_counts_in_its_own(host: NewHost) -> None:
    here = host(-56.7 * YEAR)
    here.put(here.starts(sender=False))
    here.end()
    here.machine.work(HOUR)

    assert [HOUR] == pytest.approx(here.ages(here.starts()), abs=1.0)


def test_a_call_of_tomorrow_is_of_now(host: NewHost) -> None:
    """The machine was ahead by years, and nobody knows since when."""
    here = host(10 * YEAR)
    here.put(here.starts(sender=False))
    here.end()
    here.machine.start_again()
    sender = here.starts()
    ((_, moment, *_),) = here.taken(sender)

    assert sender.now() == moment
    assert here.machine.truth == pytest.approx(sender.calendar.date(moment), abs=0.1)


@pytest.mark.parametrize("wrong", [-2 * HOUR, 2 * HOUR, -56.7 * YEAR])
def test_a_call_that_is_put_back_has_its_right_date(host: NewHost, wrong: float) -> None:
    here = host(wrong)
    sender = here.starts()
    call_id = here.put(sender)
    sender.take(1)
    sender.settle(Settlement((call_id,), (), Outcome("dead", "invalid"), 2, b"{}"))
    here.machine.set()
    sender.poll()
    lost = SQLiteAdmin(here.path).dead_letters().kept
    SQLiteAdmin(here.path).retry()
    here.truth[call_id + 1] = here.truth[call_id]

    assert [here.truth[call_id]] == pytest.approx([one.at for one in lost], abs=0.6)
    assert [0.0] == pytest.approx(here.dated_wrongly(sender), abs=0.6)


@pytest.mark.parametrize("wrong", [-2 * HOUR, 2 * HOUR, -56.7 * YEAR])
@pytest.mark.parametrize("restarts", [False, True])
def test_tokens_come_back_after_a_minute_though_the_calendar_is_set(
    host: NewHost, wrong: float, restarts: bool
) -> None:
    """Or the next sender would spend them at once, and 1,200 requests were made in a minute; or never."""
    here = host(wrong)
    sender = here.starts()
    request = RequestNote("track")
    assert at_once(sender.send_log.sending(request))
    sender.send_log.landed(request, answered=True, lost=False)
    here.machine.work(20.0)
    if restarts:
        sender.die()
        here.machine.set()
    else:
        here.machine.set()
        here.put(sender)
        sender.die()
    left = here.starts().send_log.inherited()

    assert left is not None
    assert {"track": [40.0]} == {name: pytest.approx(back, abs=1.0) for name, back in left.spent.items()}


# ── the note itself ──


def dates_of(here: Host) -> Dates:
    return here.made[0].store.file.tables.read_dates()


@pytest.mark.parametrize("noted", [None, 7, {}, {"boot": 1}, {"boot": "", "machine": 0, "offset": 0, "changes": [0]}])
def test_a_file_with_no_note_or_a_damaged_one_loses_no_call_and_goes_on(host: NewHost, noted: object) -> None:
    """The file was written before there were such notes."""
    here = host()
    here.put(here.starts(sender=False))
    here.end()
    with closing(sqlite3.connect(here.path)) as db, db:
        for table in ("about", "about_again"):
            (said,) = db.execute(f"SELECT said FROM {table}").fetchone()
            about = {**unsealed(said), "dates": noted}
            db.execute(f"UPDATE {table} SET said = ?", (sealed(about),))
    web = here.starts(sender=False)
    here.machine.set(2 * HOUR)
    here.put(web)
    here.machine.set()

    assert [0.0, 0.0] == pytest.approx(here.dated_wrongly(here.starts()), abs=0.6)


def test_a_file_that_is_given_to_another_account_keeps_its_note(host: NewHost) -> None:
    here = host(-2 * HOUR)
    web = here.starts(sender=False)
    here.put(web)
    here.machine.set()
    web.poll()
    here.end()
    SQLiteAdmin(here.path).rebind(Claim("a server", lambda salt: f"KEY {salt.hex()}"))

    assert [0.0] == pytest.approx(here.dated_wrongly(here.starts()), abs=0.6)


def test_what_one_process_has_noted_is_known_to_one_whose_own_calendar_looks_as_before(host: NewHost) -> None:
    """Wrong and right again between two polls of it, while another one has put calls."""
    here = host()
    first, second = here.starts(sender=False), here.starts(sender=False)
    here.machine.set(-56.7 * YEAR)
    here.put(first)
    here.machine.set()
    here.put(second)

    assert [0.0, 0.0] == pytest.approx(here.dated_wrongly(here.starts()), abs=0.6)


def test_on_a_full_disk_the_file_opens_and_the_calendar_is_noted_later(
    host: NewHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = host(-2 * HOUR)
    here.put(here.starts(sender=False))
    here.end()
    here.machine.set()
    with monkeypatch.context() as full:
        full.setattr(Tables, "write_dates", _has_no_room)
        web = here.starts(sender=False)
    here.put(web)
    sender = here.starts()

    assert [0.0, 0.0] == pytest.approx(here.dated_wrongly(sender), abs=0.6)


def test_a_machine_that_is_started_again_with_a_full_disk_has_not_set_its_calendar(
    host: NewHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steady clock began anew, and calls of the day before were taken for ones of today."""
    here = host()
    here.put(here.starts(sender=False))
    here.end()
    here.machine.start_again(after=DAY)
    with monkeypatch.context() as full:
        full.setattr(Tables, "write_dates", _has_no_room)
        web = here.starts(sender=False)
    here.put(web)
    sender = here.starts()

    assert [0.0, 0.0] == pytest.approx(here.dated_wrongly(sender), abs=0.6)


def _has_no_room(tables: Tables, step: float) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_people_see_when_the_oldest_call_was_accepted(host: NewHost) -> None:
    here = host(-2 * HOUR)
    web = here.starts(sender=False)
    here.put(web)
    here.machine.set()
    web.poll()
    seen = SQLiteAdmin(here.path).inspect()

    assert here.truth[0] == pytest.approx(seen.oldest, abs=0.6)


# ── whatever happens ──

DOINGS = st.lists(
    st.sampled_from(["put 0", "put 1", "take", "poll 0", "poll 1", "end 0", "end 1", "sleep", "short", "long"])
    | st.sampled_from([0.0, *WRONG]),
    max_size=40,
)


@given(wrong=st.sampled_from([0.0, *WRONG]), doings=DOINGS)
def test_whatever_happens_in_one_run_of_the_machine_dates_and_ages_are_true(
    tmp_path_factory: pytest.TempPathFactory, wrong: float, doings: list[str | float]
) -> None:
    """A sender and another process, each of which ends now and then."""
    here = Host(tmp_path_factory.mktemp("host") / "events.db", Machine(wrong))
    here.path.with_name("events.db.ballast").touch()  # or each new one would cost a megabyte
    processes = [here.starts(), here.starts(sender=False)]
    gone: set[int] = set()
    for doing in doings:
        match doing if isinstance(doing, float) else doing.split():
            case float(wrongly):
                here.machine.set(wrongly)
            case ["put", who]:
                here.put(processes[int(who)])
            case ["take"]:
                for ticket in here.taken(processes[0]):
                    processes[0].settle(Settlement((ticket[0],), (), Outcome("delivered"), 2, None))
                    gone.add(ticket[0])
            case ["poll", who]:
                processes[int(who)].now()
                processes[int(who)].poll()
            case ["end", who]:
                at_once(processes[int(who)].aclose())
                processes[int(who)] = here.starts(sender=who == "0")
            case ["sleep"]:
                for process in processes:
                    process.calendar.read(process.now())  # as senders do
                here.machine.sleep(8 * HOUR)
            case [how]:
                here.machine.work({"short": 0.1, "long": 90 * 60.0}[str(how)])
    here.machine.set()
    at_once(processes[0].aclose())
    sender = here.starts()
    tickets = here.taken(sender)
    here.end()
    bury_the_dead()

    assert sorted(set(here.truth) - gone) == [ticket[0] for ticket in tickets]
    for call_id, moment, *_ in tickets:
        assert here.truth[call_id] == pytest.approx(sender.calendar.date(moment), abs=0.6)
        assert moment <= sender.now() + 1e-6
        assert here.machine.truth - here.truth[call_id] == pytest.approx(sender.now() - moment, abs=0.6)
