"""What comes too late goes as an import, dated with its own time; everything else as before, and in the same order."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import judge, length
from tests.harness.model import same_events, same_state
from tests.rules.schedule.simulation import Simulation
from tests.rules.schedule.test_schedule_model import calls
from userpilot_async import Identify, IdentifyCompany, Settings, Track
from userpilot_async._calls.outcome import Outcome
from userpilot_async._userpilot.calls import Call

START = 1_000.0  # where a simulation's clock begins


class Late(Simulation):
    """With imports; it remembers when each event was accepted."""

    def __init__(self, seed: int = 1, trouble: float = 0.0, latency: float = 0.3, **rest: Any) -> None:
        rest = {"imports": "when_late", **rest}
        super().__init__(seed, Settings(**rest), trouble, latency)
        self.happened: dict[int, float] = {}

    def put(self, call: Call) -> int:
        """Accept a call at this moment."""
        if isinstance(call, Track):
            at = self.now if call.occurred_at is None else call.occurred_at.timestamp()
            self.happened[call.metadata["n"]] = at  # type: ignore[index]  # an int
        return super().put(call)

    def many(self, count: int, users: int = 50, first: int = 0) -> None:
        """So many events of so many users."""
        for n in range(first, first + count):
            self.put(Track(f"u{n % users}", "event", {"n": n}))

    @property
    def files(self) -> list[int]:
        """How many rows each import had that the server took."""
        return [len(job.rows) for job in self.server.jobs if job.kind == "imports"]

    @property
    def routes(self) -> Counter[str]:
        """Delivered calls by the way they went."""
        return Counter(dict(self.outbox.ledger.routes()))

    @property
    def wrongly_dated(self) -> int:
        """Events that the server has dated more than `Settings.late_after` off."""
        off = (abs(at - self.happened[n]) for n, at in self.server.dated.items())
        return sum(seconds > 300.0 for seconds in off)

    def check(self) -> None:
        """I1 to I5 and I10; of events, possibly some twice."""
        ledger, server = self.outbox.ledger, self.server
        assert (0, 0, 0) == (ledger.pending, self.outbox.waiting_calls, self.outbox.waiting_bytes)
        assert ledger.accepted == ledger.delivered + ledger.merged == len(self.accepted)
        assert self.schedule.possible_duplicates >= server.lost_tracks
        same_events(self.model, server.events, self.schedule.possible_duplicates)
        same_state(self.model, {**{e.user_id: {} for e in self.model.events if e.user_id in self.model.users},
                                **server.users}, None, server.company_of)  # fmt: skip
        for company, properties in self.model.companies.items():
            assert properties == server.companies.get(company, {})
        judge.per_user_order(server.tracked)
        judge.conflicts(server.conflicts)
        for family in server.stamps.values():
            judge.requests_in_any_minute(family)


@settings(max_examples=length.of(300))
@given(
    made=calls(),
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    bulk_threshold=st.sampled_from([0, 1, 50]),
    flush_interval=st.sampled_from([0.0, 1.0]),
    late_after=st.sampled_from([0.1, 0.5, 5.0]),
    track_per_minute=st.sampled_from([3, 30, 600]),
)
def test_whatever_happens_the_server_ends_up_where_sequential_calls_would_have_put_it(
    made: list[tuple[Call, float]],
    seed: int,
    trouble: float,
    bulk_threshold: int,
    flush_interval: float,
    late_after: float,
    track_per_minute: int,
) -> None:
    run = Late(
        seed, trouble, bulk_threshold=bulk_threshold, flush_interval=flush_interval, late_after=late_after,
        track_per_minute=track_per_minute, burst=2,
    )  # fmt: skip

    for call, pause in made:
        run.run(pause)
        run.put(call)
    run.run(100.0)
    run.drain()

    run.check()


# ── what is late ──


def test_a_backlog_goes_as_one_import_dated_when_it_was_accepted_and_what_is_fresh_goes_on_in_realtime() -> None:
    run = Late()
    run.many(20_000, users=500)
    run.run(30.0)
    assert len(run.files) == 1
    for n in range(20_000, 20_030):
        run.put(Track(f"fresh{n}", "event", {"n": n}))
        run.run(1.0)
    fresh = [n for _, n in run.server.tracked if n >= 20_000]
    run.drain()

    run.check()
    assert list(range(20_000, 20_030)) == fresh
    assert 0 == run.wrongly_dated
    assert {"realtime", "import"} == set(run.routes)
    assert run.routes["import"] > 19_000


def test_nothing_goes_as_an_import_without_the_setting() -> None:
    run = Late(imports=None)
    run.many(5_000)
    run.run(400.0)
    run.put(Track("u1", "event", {"n": 5_000}, occurred_at=datetime(2020, 1, 1, tzinfo=UTC)))
    run.drain()

    assert [] == run.files
    assert {"realtime": 5_001} == run.routes


def test_what_the_realtime_endpoint_takes_in_time_goes_there() -> None:
    run = Late()
    run.many(2_900)
    run.drain()

    run.check()
    assert ([], {"realtime": 2_900}) == (run.files, run.routes)


def test_events_that_waited_through_an_outage_are_imported_and_those_of_its_last_minutes_are_not() -> None:
    run = Late()
    run.server.down = {"track", "imports"}
    run.many(100)
    run.run(600.0)
    for n in range(100, 200):
        run.put(Track(f"v{n}", "event", {"n": n}))
    run.run(100.0)
    run.server.down.clear()
    run.drain()

    run.check()
    assert (None, [100]) == (run.schedule.outage, run.files)
    assert set(range(100)) == {row["metadata"]["n"] for row in run.server.imported}


def test_an_outage_is_over_though_everything_went_as_an_import() -> None:
    run = Late()
    run.server.down = {"track"}
    run.many(100)
    run.run(200.0)
    during = run.schedule.outage
    run.run(400.0)

    assert during is not None
    assert (None, {"import": 100}) == (run.schedule.outage, run.routes)


def test_an_event_that_happened_long_ago_is_imported_at_once_and_one_of_just_now_is_not() -> None:
    run = Late()
    wall = datetime.fromtimestamp(run.now, UTC)
    run.put(Track("u1", "event", {"n": 0}, occurred_at=wall - timedelta(hours=30)))
    run.put(Track("u2", "event", {"n": 1}, occurred_at=wall - timedelta(seconds=299)))
    run.put(Track("u1", "event", {"n": 2}))
    run.run(5.0)
    at_the_server = {n for _, n in run.server.tracked}
    run.drain()

    run.check()
    assert {0, 1, 2} == at_the_server
    assert START - 30 * 3600 == run.server.dated[0]
    assert [0, 2] == [row["metadata"]["n"] for row in run.server.imported]  # what came behind it shares the file


# ── people who are not identified yet ──


def test_a_pending_identify_goes_in_the_same_file_before_the_events_with_all_that_is_known() -> None:
    run = Late()
    run.put(Identify("u0", {"name": "Ann", "plan": "free", "gone": 1}))
    run.run(5.0)
    run.server.down = {"track", "identify", "identify_company"}
    run.run(1.0)
    run.put(Identify("u0", {"plan": "pro", "gone": None}, {"id": "acme"}))
    run.many(5, users=1)
    run.run(400.0)
    run.server.down.clear()
    run.drain()

    run.check()
    assert ["identify_user", *["track"] * 5] == [row["event_type"] for row in run.server.imported]
    first = run.server.imported[0]
    assert {"name": "Ann", "plan": "pro", "gone": None} == first["metadata"]
    assert ("acme", "1970-01-01T00:16:46.000000") == (first["company_id"], first["inserted_at"])
    assert {"backend-http-import"} == {row["source"] for row in run.server.imported}


def test_events_behind_a_change_of_company_wait_for_the_file_before_it() -> None:
    run = Late(late_after=1.0, track_per_minute=1, burst=1)
    run.put(Identify("u0", {}, {"id": "acme"}))
    run.many(5, users=1)
    run.put(Identify("u0", {}, {"id": "beta"}))
    run.many(5, users=1, first=5)
    run.drain()

    run.check()
    rows = [(row["event_type"], row.get("company_id")) for row in run.server.imported]
    assert 2 == len(run.files)
    assert [("identify_user", "beta")] == [row for row in rows[run.files[0] :] if row[0] != "track"]


def test_a_later_identify_waits_for_the_end_of_the_job_and_a_later_event_does_not() -> None:
    run = Late()
    run.put(Identify("u0", {"plan": "old"}))
    run.many(4_000, users=20)
    run.run(30.0)
    run.put(Track("u0", "event", {"n": 4_000}))
    run.put(Identify("u0", {"plan": "new"}))
    run.put(Track("u1", "event", {"n": 4_001}))
    run.run(10.0)
    early = [n for _, n in run.server.tracked if n >= 4_000]
    running = [job.over for job in run.server.jobs if job.kind == "imports"]
    run.drain()

    run.check()
    assert ([4_000, 4_001], [False]) == (sorted(early), running)
    assert {"plan": "new"} == run.server.users["u0"]


# ── answers ──


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_an_account_without_imports_drains_the_slow_way_and_says_why(status: int) -> None:
    run = Late()
    run.server.refuses_imports = status
    run.many(4_000)
    run.put(Track("u1", "event", {"n": 4_000}, occurred_at=datetime(1960, 1, 1, tzinfo=UTC)))
    run.drain()

    run.check()
    assert ({"realtime": 4_001}, None) == (run.routes, run.schedule.paused)
    assert f"answers {status} on imports" in (run.schedule.imports_closed or "")
    assert 1 == run.server.stamps["identify"].count(run.server.stamps["identify"][0])


def test_an_account_that_got_imports_after_all_is_found_out_within_the_hour() -> None:
    run = Late()
    run.server.refuses_imports = 403
    run.many(4_000)
    run.run(3_000.0)
    tried = run.schedule.imports_closed
    run.server.refuses_imports = 0
    run.run(700.0)
    run.many(4_000, first=4_000)
    run.drain()

    run.check()
    assert tried is not None
    assert run.schedule.imports_closed is None
    assert 1 == len(run.files)


def test_429s_without_end_let_late_events_go_the_slow_way() -> None:
    run = Late()
    run.server.refuses_imports = 429
    run.many(1_200)
    run.server.down = {"track"}
    run.run(400.0)
    run.server.down.clear()
    run.run(1_500 * 60.0)

    assert (0, {"realtime": 1_200}) == (run.outbox.ledger.pending, run.routes)


def test_uploads_that_always_get_lost_are_given_up_and_nobody_waits_for_them_for_ever() -> None:
    run = Late()
    run.server.swallows = {"imports"}
    run.many(4_000)
    run.run(3_600.0)
    uploads = run.server.swallowed

    assert 0 == run.outbox.ledger.pending
    assert 3 <= uploads <= 20
    assert run.schedule.possible_duplicates <= 4_000 * uploads


def test_what_only_waits_in_a_job_of_the_server_leaves_room_for_others() -> None:
    run = Late()
    run.outbox._max_calls = 4_000
    run.many(4_000)
    full = run.outbox.has_room(1)
    run.run(5.0)

    assert (False, True) == (full, run.outbox.has_room(1))
    run.drain()
    run.check()


def test_an_identify_that_nothing_in_the_file_could_overwrite_does_not_wait_for_the_job() -> None:
    run = Late()
    run.many(6_000)
    run.run(10.0)
    assert run.files
    run.put(Identify("u1", {"plan": "pro"}))
    run.put(Track("u1", "event", {"n": 6_000}))
    run.put(Identify("u2", {}, {"id": "acme"}))
    run.run(5.0)
    known = dict(run.server.users)
    run.drain()

    assert {"u1": {"plan": "pro"}} == known
    run.check()


@pytest.mark.parametrize("users", [1, 20])
def test_one_event_that_imports_refuse_goes_in_realtime_and_few_others_with_it(users: int) -> None:
    run = Late()
    run.server.poison = 1_234
    run.many(4_000, users=users)
    run.drain()

    run.check()
    assert run.wrongly_dated <= 1
    assert 1_500 < run.routes["import"]
    assert len(run.files) <= 10
    assert 1_234 not in {row["metadata"]["n"] for row in run.server.imported}


def test_a_key_that_is_refused_everywhere_says_nothing_of_imports() -> None:
    run = Late()
    run.server.refuses_imports = 401
    run.server.refuses_all = True
    run.many(4_000)
    run.run(30.0)
    paused = run.schedule.paused
    run.server.refuses_imports, run.server.refuses_all = 0, False
    run.run(120.0)
    run.drain()

    run.check()
    assert paused is not None
    assert run.schedule.imports_closed is None
    assert run.files


def test_somebody_elses_import_lets_the_backlog_drain_the_slow_way_until_it_is_over() -> None:
    run = Late()
    run.server.foreign_until = run.now + 120.0
    run.many(6_000)
    run.run(110.0)
    slowly = len(run.server.tracked)
    run.drain()

    run.check()
    assert 900 <= slowly <= 1_200
    assert run.files


def test_an_upload_whose_answer_got_lost_is_found_by_its_name_and_not_sent_again() -> None:
    run = Late()
    run.server.loses = {"imports"}
    run.many(5_000)
    run.run(60.0)
    run.server.loses = set()
    run.drain()

    run.check()
    assert 1 == len(run.files)
    assert 0 == run.schedule.possible_duplicates


@pytest.mark.parametrize("on_ambiguous", ["send", "drop"])
def test_a_server_that_goes_down_with_an_upload_is_asked_for_it_when_it_comes_back(on_ambiguous: str) -> None:
    """However long that takes: while nobody answers, no hour goes by after which the file would be sent again."""
    run = Late(on_ambiguous=on_ambiguous)
    run.server.loses, run.server.down = {"imports"}, {"jobs", "job"}
    run.many(5_000)
    run.run(10.0)
    run.server.down.add("track")
    run.run(3 * 3_600.0)
    run.server.loses, run.server.down = set(), set()
    run.drain()

    run.check()
    assert (1, 0) == (len(run.files), run.schedule.possible_duplicates)


@pytest.mark.parametrize("on_ambiguous", ["send", "drop"])
def test_a_server_that_goes_down_with_a_job_is_asked_for_it_when_it_comes_back(on_ambiguous: str) -> None:
    """The server had answered that it has the file."""
    run = Late(on_ambiguous=on_ambiguous)
    run.many(5_000)
    run.run(90.0)
    uploads = run.files
    run.server.down = {"track", "imports", "jobs", "job"}
    run.run(3 * 3_600.0)
    run.server.down = set()
    run.drain()

    run.check()
    assert (1, uploads, 0) == (len(uploads), run.files, run.schedule.possible_duplicates)


@pytest.mark.parametrize("on_ambiguous", ["send", "drop"])
def test_after_a_job_that_failed_its_events_go_again_or_are_given_up_as_the_settings_say(on_ambiguous: str) -> None:
    run = Late(on_ambiguous=on_ambiguous)
    run.many(5_000)
    run.run(20.0)
    run.server.jobs[0].fails = True
    rows = len(run.server.jobs[0].rows)
    run.run(300.0)
    run.drain()

    ledger = run.outbox.ledger
    if on_ambiguous == "send":
        run.check()
        assert rows == run.schedule.possible_duplicates
    else:
        assert ({"ambiguous": rows}, 5_000 - rows) == (ledger.dropped, ledger.delivered)
        assert 1 == len(run.files)


# ── leaving ──


def test_on_leaving_what_the_realtime_endpoint_cannot_take_in_time_is_uploaded() -> None:
    run = Late()
    run.many(1_000)
    run.run(0.5)
    run.schedule.expedited += 1
    run.schedule.leave_by(run.now + 10.0)
    run.run(10.0)
    list(run.schedule.abandon(Outcome("dropped", "closed")))
    run.carry_on()

    ledger = run.outbox.ledger
    assert 1 == len(run.files)
    assert 1_000 == ledger.delivered + ledger.submitted
    assert ledger.submitted == ledger.pending == run.files[0]


def test_on_leaving_with_little_to_send_nothing_is_uploaded() -> None:
    run = Late()
    run.many(150)
    run.schedule.expedited += 1
    run.schedule.leave_by(run.now + 10.0)
    run.run(10.0)

    assert ([], 150) == (run.files, run.outbox.ledger.delivered)


def test_what_no_job_has_at_the_end_is_dropped_and_accounted_for() -> None:
    run = Late(latency=20.0)
    run.put(Identify("u1", {"plan": "pro"}))
    run.put(IdentifyCompany("acme", {"size": 1}))
    run.many(5_000)
    while run.schedule._late.slot.batch is None:
        run.run(0.5)
    list(run.schedule.abandon(Outcome("dropped", "closed")))
    run.carry_on()

    ledger = run.outbox.ledger
    assert 0 == ledger.pending
    assert ledger.accepted == ledger.delivered + ledger.merged + ledger.dropped["closed"]
