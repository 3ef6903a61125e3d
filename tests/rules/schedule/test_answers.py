"""Answers in any order and of any kind, to the schedule alone: holds, lost submissions, forms of a file."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.schedule.simulation import Simulation
from userpilot_async import Identify, Settings, Track
from userpilot_async._calls.outcome import Outcome, Words
from userpilot_async._calls.rows import Row, RowState
from userpilot_async._protocol.job_list import Pages
from userpilot_async._protocol.verdict import Verdict, as_promised, of_answer, of_failure
from userpilot_async._schedule.job_batch import SlotState, Step
from userpilot_async._schedule.job_slot import JobSlot
from userpilot_async._schedule.routes.route import Request
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import Takeover
from userpilot_async._userpilot.destination import BULK_USERS, IDENTIFY, JOBS, TRACK

PAGE = (200, {"content-type": "text/html"}, b"<html>We will be back soon</html>")


def answer(status: int = 202, body: bytes = b"", headers: dict[str, str] | None = None, **more: Any) -> Verdict:
    return of_answer(status, headers or {}, body, **more)


class Bench:
    """The schedule of a simulation, whose requests are answered by hand."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.run = Simulation(1, settings or Settings(flush_interval=0))
        self.schedule = self.run.schedule
        self.now = self.run.now

    def tracks(self, users: int) -> None:
        for n in range(users):
            self.run.put(Track(f"u{n}", "opened", {"n": n}))
        self.run.take_in()

    def begin(self) -> Request | float:
        """The next request, if there is one now; else the time of it."""
        found = self.schedule.next(self.now)
        self.run.carry_on()
        return found

    def begins(self) -> Request:
        for _ in range(10):
            found = self.begin()
            if isinstance(found, Request):
                return found
        raise AssertionError(f"there is no request at {self.now}, but at {found}")

    def next_request(self) -> float:
        """When the next one begins, if nothing else happens."""
        found = self.begin()
        while not isinstance(found, Request):
            self.now = max(self.now, found)
            found = self.begin()
        return self.now

    def done(self, work: Request, verdict: Verdict) -> None:
        self.schedule.done(work, verdict, self.now)
        self.run.carry_on()


# ── holds ──


@pytest.mark.parametrize("status", [503, 500, 502, 429, 408, 400, 409])
def test_an_answer_to_an_older_request_does_not_lift_a_hold(status):
    """The next request went at once then, with a key that had just been refused."""
    bench = Bench()
    bench.tracks(5)
    older, refused = bench.begins(), bench.begins()
    bench.done(refused, answer(401))
    bench.done(older, answer(status))

    assert bench.schedule.paused is not None
    assert bench.now + 59 <= bench.next_request()


@pytest.mark.parametrize("refusal", [(401, {}, b""), (404, {}, b""), PAGE], ids=["401", "404", "page"])
def test_a_success_lifts_a_hold_whenever_it_was_asked_for(refusal):
    bench = Bench()
    bench.tracks(5)
    older, refused = bench.begins(), bench.begins()
    bench.done(refused, of_answer(*refusal))
    bench.done(older, answer(202))

    assert bench.schedule.paused is None
    assert isinstance(bench.begin(), Request)


def test_a_refusal_that_a_success_has_overtaken_holds_nothing():
    """The key was changed while the first request was on its way; the second one had the right one already."""
    bench = Bench()
    bench.tracks(5)
    older, newer = bench.begins(), bench.begins()
    bench.done(newer, answer(202))
    bench.done(older, answer(401))

    assert bench.schedule.paused is None


def test_the_one_that_looks_lifts_the_hold_also_by_a_503():
    bench = Bench()
    bench.tracks(5)
    bench.done(bench.begins(), answer(401))
    bench.now += 60.0
    probe = bench.begins()
    alone = bench.begin()
    bench.done(probe, answer(503))

    assert not isinstance(alone, Request)
    assert bench.schedule.paused is None


def test_the_end_of_an_older_request_lets_no_second_one_look():
    bench = Bench()
    bench.tracks(5)
    older, refused = bench.begins(), bench.begins()
    bench.done(refused, answer(401))
    bench.now += 60.0
    bench.begins()
    bench.done(older, of_failure("ReadError", sent=True))

    assert not isinstance(bench.begin(), Request)


def test_a_page_to_the_one_that_looks_lifts_nothing():
    bench = Bench()
    bench.tracks(5)
    bench.done(bench.begins(), answer(401))
    bench.now += 60.0
    bench.done(bench.begins(), of_answer(*PAGE))

    assert "web page" in (bench.schedule.paused or "")


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
@pytest.mark.parametrize("others", [(503, 429, 500), (202, 503, 503), (503, 401, 202), (401, 401, 503)], ids=str)
def test_in_any_order_of_answers_a_hold_is_lifted_by_a_success_only(order, others):
    bench = Bench()
    bench.tracks(8)
    works = [bench.begins() for _ in range(4)]
    statuses = [401, *others]
    paused = False
    for n in order:
        bench.done(works[n], answer(statuses[n]))
        overtaken = any(statuses[m] == 202 and m > n for m in order[: order.index(n)])
        paused = (paused or (statuses[n] == 401 and not overtaken)) and statuses[n] != 202

        assert paused == (bench.schedule.paused is not None)


# ── a page, a half, a list of errors ──


def test_a_page_is_held_with_one_line_that_says_what_came():
    bench = Bench()
    bench.tracks(2)
    bench.done(bench.begins(), of_answer(*PAGE))

    assert "asked for track, answered 200 with a web page: is a proxy or a sign-in page" in (
        bench.schedule.paused or ""
    )
    assert (0, 2, 0) == (
        bench.run.outbox.ledger.delivered, bench.run.outbox.ledger.pending, bench.schedule.possible_duplicates,
    )  # fmt: skip


QUOTING = (200, {"content-type": "application/json"}, b'{"errors": [{"message": "anna@example.com is unknown"}]}')


@pytest.mark.parametrize("verdict", [of_answer(*PAGE), answer(401), answer(404)], ids=["a page", "401", "404"])
def test_what_goes_on_is_the_same_news_whichever_route_looks(verdict):
    """Each minute another one does: a hold of an hour was sixty lines, first of identify, then of track."""
    bench = Bench()
    bench.run.put(Identify("anna", {"n": 1}))
    bench.tracks(3)
    said, routes = set(), set()
    for _ in range(8):
        work = bench.begin()
        while not isinstance(work, Request):
            bench.now = max(bench.now, work)
            work = bench.begin()
        bench.done(work, verdict)
        said.add(bench.schedule.paused)
        routes.add(work.endpoint)

    assert {TRACK, IDENTIFY} == routes
    assert 1 == len(said)


@pytest.mark.parametrize("file", [False, True], ids=["an event", "a file"])
def test_what_the_server_quotes_of_a_call_is_in_no_line_of_the_log(file):
    bench = Bench(Settings(flush_interval=0, bulk_threshold=1))
    if file:
        for n in range(5):
            bench.run.put(Identify(f"u{n}", {"n": n}))
        bench.run.take_in()
    else:
        bench.tracks(1)
    bench.done(bench.begins(), of_answer(*QUOTING))

    lines = f"{bench.schedule.paused} {bench.schedule.failure}"
    assert "a list of errors" in lines
    assert "anna" not in lines


def test_one_odd_page_among_good_answers_concerns_one_request():
    bench = Bench()
    bench.tracks(5)
    bench.done(bench.begins(), answer(202))
    bench.done(bench.begins(), of_answer(*PAGE))

    assert bench.schedule.paused is None
    bench.done(bench.begins(), of_answer(*PAGE))
    assert bench.schedule.paused is not None


@pytest.mark.parametrize(
    "verdict",
    [
        answer(202, broken_off=True),
        answer(200, b'{"status": "acce', {"content-type": "application/json"}),
    ],
    ids=["broken off", "half a body"],
)
@pytest.mark.parametrize("on_ambiguous", ["send", "drop"])
def test_a_success_that_cannot_be_read_may_have_been_one(verdict, on_ambiguous):
    bench = Bench(Settings(on_ambiguous=on_ambiguous))
    bench.tracks(1)
    bench.done(bench.begins(), verdict)
    ledger = bench.run.outbox.ledger

    if on_ambiguous == "send":
        assert (1, 1) == (bench.schedule.possible_duplicates, ledger.pending)
    else:
        assert {"ambiguous": 1} == ledger.dropped
    assert 0 == ledger.delivered


def test_a_page_drops_nothing_where_doubles_are_not_wanted():
    bench = Bench(Settings(on_ambiguous="drop"))
    bench.tracks(1)
    bench.done(bench.begins(), of_answer(*PAGE))

    assert (1, 0) == (bench.run.outbox.ledger.pending, bench.schedule.possible_duplicates)


def test_the_outage_says_the_ids_that_the_vendors_support_asks_for():
    bench = Bench()
    bench.tracks(1)
    for _ in range(5):
        bench.now += 60.0
        body = b'{"errors": [{"error_code": "down"}]}'
        bench.done(bench.begins(), answer(503, body, {"x-request-id": "FxZ1"}))

    assert "the server: 503 on track (error_code down, request FxZ1)" == bench.schedule.outage == bench.schedule.failure


def test_what_an_outbox_keeps_of_a_refusal_holds_the_ids():
    dead = Settlement((1,), (), Outcome("dead", "invalid"), 2, b"{}", Words("no such event", "unknown", "FxZ1"))

    assert "no such event (error_code unknown, request FxZ1)" == dead.detail


def test_a_row_that_its_file_was_refused_for_is_dead_with_the_servers_words():
    slot = slot_with(Pages)
    del slot._queue[0].rows[1:]
    slot._queue[0].rows[0].state = RowState.BATCHED
    body = b'{"errors": [{"message": "user_id is too long", "error_code": "long"}]}'
    change = slot.done(file_step(slot, 0.0), answer(400, body), 0.0)

    assert ("invalid", Words("user_id is too long", "long")) == (change.dead, change.words)


# ── the slot: what the job list is a word about ──

NOT_THERE = 20


def slot_with(server: Any, **options: Any) -> JobSlot:
    names = itertools.count()
    chance = random.Random(1).random
    slot = JobSlot(lambda: f"mine-{next(names)}", chance, 3_600.0, new_pages=server, **options)
    slot.start("user", [Row("user", f"u{n}", {}, None, [n], 0.0, 10) for n in range(NOT_THERE)], NOT_THERE)
    return slot


def others(first: int, count: int) -> list[dict[str, Any]]:
    return [{"job_id": f"j{n}", "status": "completed", "filename": f"theirs-{n}"} for n in range(first, first + count)]


# Each is one page of a list, or what came in its place; the file is on none of them.
WORDLESS: dict[str, Any] = {
    "a page": PAGE,
    "half a body": (200, {"content-type": "application/json"}, b'[{"job_id": "j1", "sta'),
    "errors": (200, {}, b'{"errors": [{"message": "try later"}]}'),
    "nothing": (200, {}, b""),
    "no list": (200, {}, b'{"message": "ok"}'),
    "garbage among jobs": (200, {}, json.dumps([*others(0, 3), None]).encode()),
    "a full page that comes again": (200, {}, json.dumps(others(0, 20)).encode()),
    "a cursor": (200, {}, json.dumps({"jobs": others(0, 5), "next_cursor": "x"}).encode()),
    "a total": (200, {}, json.dumps({"jobs": others(0, 5), "total": 9}).encode()),
    "a link to elsewhere": (200, {}, json.dumps({"jobs": others(0, 5), "next": "https://x.test/?page=2"}).encode()),
    "503": (503, {}, b""),
    "401": (401, {}, b""),
    "404": (404, {}, b""),
    "405": (405, {}, b""),
    "400": (400, {}, b""),
}


def listed(what: str, query: str) -> Verdict:
    return as_promised(of_answer(*WORDLESS[what]), JOBS.promises)


@pytest.mark.parametrize("what", WORDLESS)
def test_a_file_of_events_that_no_whole_list_has_denied_is_not_sent_again_for_an_hour(what):
    slot = slot_with(Pages, idempotent=False)
    now, submissions, looks = 0.0, 0, 0
    while now < 3_500.0:
        step = slot.next(now)
        if not isinstance(step, Step):
            now = max(now, step)
            continue
        slot.asked()
        submissions += step.what == "submit"
        looks += step.what == "search"
        slot.done(step, of_failure("ReadError", sent=True) if step.what == "submit" else listed(what, step.query), now)

    assert (1, SlotState.SEARCHING) == (submissions, slot.state)
    assert 10 <= looks <= 600  # it goes on looking, and spends little of the budget on it


@pytest.mark.parametrize(("last_taken", "hours"), [(-1.0, 24), (30.0, 24), (300.0, 1)])
def test_a_file_is_looked_for_as_long_as_nothing_gets_through_and_calls_may_wait(last_taken, hours):
    slot = slot_with(Pages, idempotent=False)
    now, submissions = 0.0, 0
    while not submissions or slot.state is SlotState.SEARCHING:
        step = slot.next(now)
        if not isinstance(step, Step):
            now = max(now, step)
            continue
        slot.asked()
        submissions += step.what == "submit"
        slot.outlast(last_taken, now, 24 * 3_600.0)
        slot.done(step, of_failure("ReadError", sent=True) if step.what == "submit" else listed("503", ""), now)

    assert hours * 3_600.0 == pytest.approx(now, abs=90.0)


def test_a_whole_list_that_does_not_show_a_file_sends_it_again_soon():
    slot = slot_with(Pages, idempotent=False)
    now, submissions = 0.0, 0
    while submissions < 2:
        step = slot.next(now)
        if not isinstance(step, Step):
            now = max(now, step)
            continue
        slot.asked()
        submissions += step.what == "submit"
        body = json.dumps(others(0, 7)).encode()
        slot.done(step, of_failure("ReadError", sent=True) if step.what == "submit" else answer(200, body), now)

    assert now < 60.0


def test_each_page_is_a_step_of_its_own_and_the_file_is_found_on_the_last():
    have = [*others(0, 25), {"job_id": "ours", "status": "processing", "filename": "mine-0"}]
    slot = slot_with(Pages)
    step = slot.next(0.0)
    assert isinstance(step, Step)
    slot.asked()
    slot.done(step, of_failure("ReadError", sent=True), 0.0)
    asked = []
    while slot.state is not SlotState.RUNNING:
        step = slot.next(2.0)
        assert isinstance(step, Step)
        asked.append(step.query)
        slot.asked()
        page = int(step.query.partition("=")[2] or 1)
        slot.done(step, answer(200, json.dumps(have[10 * page - 10 : 10 * page]).encode()), 2.0)

    assert ["", "page=2", "page=3"] == asked
    assert "ours" == (slot.job and slot.job.job_id)


@pytest.mark.parametrize(
    "second", [answer(500), as_promised(answer(200, b"{}"), JOBS.promises), of_failure("ReadTimeout", sent=True)],
    ids=["500", "no list", "no answer"],
)  # fmt: skip
def test_a_file_that_shows_late_is_found_although_the_second_page_never_comes(second):
    """The walk asked for that page again and again, never saw the first one anew, and sent the file twice."""
    slot = slot_with(Pages, idempotent=False)
    now, submissions = 0.0, 0
    while slot.state is not SlotState.RUNNING and now < 7_200.0:
        step = slot.next(now)
        if not isinstance(step, Step):
            now = max(now, step)
            continue
        slot.asked()
        mine = [{"job_id": "ours", "status": "processing", "filename": "mine-0"}] if now > 60.0 else []
        submissions += step.what == "submit"
        if step.what == "submit":
            verdict = of_failure("ReadError", sent=True)
        else:
            verdict = second if step.query else answer(200, json.dumps([*mine, *others(0, 10 - len(mine))]).encode())
        slot.done(step, verdict, now)

    assert 1 == submissions
    assert now < 180.0


pages = st.sampled_from(["two pages", "whole without", *WORDLESS])


@given(
    st.lists(pages, max_size=40),
    st.booleans(),
    st.sampled_from(["lost", "page", "nothing", "broken off", "502"]),
)
def test_whatever_the_list_answers_a_file_that_the_server_has_goes_again_only_after_a_whole_list_without_it(
    answers, shows, submitted
):
    """`shows`: the server has the file on the second page of ten; else it is late, and never on the list."""
    slot = slot_with(Pages, idempotent=False)
    script, now, denied, submissions = iter(answers), 0.0, 0, 0
    whole = json.dumps(others(0, 7)).encode()
    mine = {"job_id": "ours", "status": "processing", "filename": "mine-0"}
    first_of_two = json.dumps(others(0, 10)).encode()
    second = json.dumps([mine] if shows else []).encode()
    lost = {
        "lost": of_failure("ReadTimeout", sent=True),
        "page": as_promised(of_answer(*PAGE), BULK_USERS.promises),
        "nothing": as_promised(answer(202), BULK_USERS.promises),
        "broken off": as_promised(answer(202, broken_off=True), BULK_USERS.promises),
        "502": answer(502),
    }[submitted]
    while slot.state is not SlotState.RUNNING and now < 3_000.0:
        step = slot.next(now)
        if not isinstance(step, Step):
            now = max(now, step)
            continue
        slot.asked()
        if step.what == "submit":
            submissions += 1
            assert submissions == 1 or denied >= 1, "it was sent again, and no whole list was without it"
            slot.done(step, lost, now)
            continue
        what = next(script, "two pages")
        if what == "two pages":
            verdict = answer(200, second if step.query == "page=2" else first_of_two)
            denied += step.query == "page=2" and not shows
        elif what == "whole without":
            verdict = answer(200, whole)
            denied += 1
        else:
            verdict = listed(what, step.query)
        slot.done(step, verdict, now)
        if submissions > 1:
            break


# ── the form of a file ──


def file_step(slot: JobSlot, now: float) -> Step:
    for _ in range(100):
        step = slot.next(now)
        if isinstance(step, Step):
            slot.asked()
            return step
        now = step
    raise AssertionError("nothing is to be done")


@pytest.mark.parametrize("status", [400, 415])
def test_a_refused_file_goes_as_an_array_before_its_rows_go_alone(status):
    slot = slot_with(Pages, takes_arrays=True)
    first = file_step(slot, 0.0)
    refused = slot.done(first, answer(status), 0.0)
    second = file_step(slot, 0.0)

    assert ("file", "array") == (first.form, second.form)
    assert (first.batch, [], None) == (second.batch, refused.ended, refused.dead)


def test_the_form_that_works_is_remembered():
    slot = slot_with(Pages, takes_arrays=True)
    slot.done(file_step(slot, 0.0), answer(415), 0.0)
    slot.done(file_step(slot, 0.0), answer(202, b'{"job_id": "j", "status": "queued"}'), 0.0)
    slot.done(file_step(slot, 0.0), answer(200, b'{"job_id": "j", "status": "completed"}'), 20.0)
    slot.start("user", [Row("user", "later", {}, None, [99], 0.0, 10)] * 2, 2)

    assert "array" == file_step(slot, 20.0).form


def test_an_array_that_is_refused_too_is_about_rows():
    slot = slot_with(Pages, takes_arrays=True)
    for row in slot._queue[0].rows:
        row.state = RowState.BATCHED
    slot.done(file_step(slot, 0.0), answer(400), 0.0)
    slot.done(file_step(slot, 0.0), answer(400), 0.0)
    half = file_step(slot, 0.0)

    assert ("file", NOT_THERE // 2) == (half.form, len(half.batch.rows))


def test_a_400_of_a_server_that_has_taken_a_file_is_about_rows():
    slot = slot_with(Pages, takes_arrays=True)
    slot.done(file_step(slot, 0.0), answer(202, b'{"job_id": "j", "status": "queued"}'), 0.0)
    slot.done(file_step(slot, 0.0), answer(200, b'{"job_id": "j", "status": "completed"}'), 20.0)
    rows = [Row("user", f"v{n}", {}, None, [100 + n], 0.0, 10) for n in range(NOT_THERE)]
    for row in rows:
        row.state = RowState.BATCHED
    slot.start("user", rows, len(rows))
    slot.done(file_step(slot, 20.0), answer(400), 20.0)

    assert ("file", NOT_THERE // 2) == (file_step(slot, 20.0).form, len(slot.batch.rows if slot.batch else []))


def test_an_array_whose_answer_got_lost_goes_again_since_it_has_no_name_to_look_for():
    slot = slot_with(Pages, takes_arrays=True)
    slot.done(file_step(slot, 0.0), answer(415), 0.0)
    slot.done(file_step(slot, 0.0), of_failure("ReadError", sent=True), 0.0)
    again = file_step(slot, 0.0)

    assert ("submit", "array") == (again.what, again.form)


def test_files_of_events_have_one_form():
    slot = slot_with(Pages, idempotent=False)
    slot.done(file_step(slot, 0.0), answer(415), 0.0)

    assert SlotState.FREE is slot.state


def test_the_work_says_the_arrays_name():
    bench = Bench()
    for n in range(60):
        bench.run.put(Identify(f"u{n}", {"n": n}))
    bench.run.take_in()
    bench.schedule.expedited = 1
    first = bench.begins()
    lines = list(first.lines)
    bench.done(first, answer(415))
    second = bench.begins()

    assert (BULK_USERS, "", 60) == (first.endpoint, first.array, len(lines))
    assert (BULK_USERS, "users", lines) == (second.endpoint, second.array, list(second.lines))


def test_realtime_calls_promise_a_receipt_only():
    assert TRACK.promises is IDENTIFY.promises is not JOBS.promises


# ── a budget of which nothing is known ──


@given(
    track=st.integers(1, 60), identify=st.integers(1, 60), unknown=st.floats(0.1, 90.0),
    spent=st.lists(st.floats(0.1, 90.0), max_size=70),
)  # fmt: skip
def test_the_wait_of_each_budget_that_is_said_is_the_one_that_is_kept(
    track: int, identify: int, unknown: float, spent: list[float]
) -> None:
    """Tokens that are known to be spent may come back before those of which nothing is known."""
    settings = Settings(track_per_minute=track, identify_per_minute=identify, burst=5, flush_interval=0)
    for budget in ("track", "identify"):
        bench = Bench(settings)
        began = bench.now
        bench.schedule.inherit(Takeover({budget: spent}, unknown=unknown), began)
        wait = bench.schedule.budget_waits(bench.now)[budget]
        bench.run.put(Track("u", "opened", {}) if budget == "track" else Identify("u", {"n": 1}))
        bench.run.take_in()

        assert wait == pytest.approx(bench.next_request() - began)
