"""An uploaded file, and a server that says anything at any time: what the file's life answers with, and when."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from userpilot_async._protocol.backoff import BUSY_LONGEST, Pace
from userpilot_async._protocol.file_job import (
    LATE_SEARCH,
    LONGEST_JOB,
    MISSES,
    PACE,
    SEARCHES,
    TRANSITIONS,
    FileJob,
    JobRules,
    JobState,
)
from userpilot_async._protocol.job_effects import (
    Busy,
    Completed,
    Effect,
    Failed,
    Forgotten,
    Found,
    InDoubt,
    JobStep,
    Missing,
    NotFound,
    Overdue,
    Postponed,
    Refused,
    Submitted,
)
from userpilot_async._protocol.jobs import LONGEST_PAUSE
from userpilot_async._protocol.learned_limit import LearnedLimit
from userpilot_async._protocol.verdict import Promise, Verdict, as_promised, of_answer, of_failure

NAME = "mine.ndjson"
MINUTE, HOUR = 60.0, 3_600.0
LOST = of_failure("ReadError", sent=True)
UNSENT = of_failure("ConnectError", sent=False)
ROWS = 300


def answered(status: int, body: object = None, promise: Promise = Promise.RECEIPT, **headers: str) -> Verdict:
    content = b"" if body is None else json.dumps(body).encode()
    return as_promised(of_answer(status, headers, content), promise)


def taken(job_id: str = "j1", **fields: Any) -> Verdict:
    return answered(202, {"job_id": job_id, "status": "queued", **fields}, Promise.NEW_JOB)


def looked(status: str, **fields: Any) -> Verdict:
    return answered(200, {"job_id": "j1", "status": status, **fields}, Promise.JOB)


def listed(*jobs: dict[str, Any], **around: Any) -> Verdict:
    return answered(200, {"jobs": list(jobs), **around}, Promise.JOBS)


def mine(status: str = "processing", job_id: str = "j1") -> dict[str, Any]:
    return {"job_id": job_id, "status": status, "filename": NAME}


# A page of a list that says that more follows, and brings the same page when it is asked for it.
UNREAD = listed(mine() | {"filename": "theirs", "job_id": "j0"}, next_cursor="more")


def new_file(rules: JobRules | None = None, rows: int = ROWS) -> FileJob:
    return FileJob(NAME, rows, rules or JobRules(), Pace(lambda: 0.5))


class Story:
    """A file that is answered by hand, each time when it asks."""

    def __init__(self, file: FileJob) -> None:
        self.file = file
        self.now = 0.0
        self.asked: list[tuple[float, str]] = []

    def step(self) -> JobStep:
        while not isinstance(step := self.file.next(self.now), JobStep):
            assert step < math.inf, "it waits for nothing"
            self.now = step
        return step

    def answer(self, *verdicts: Verdict) -> list[Effect]:
        effects: list[Effect] = []
        for verdict in verdicts:
            step = self.step()
            self.asked.append((self.now, step.what))
            effects = self.file.done(step, verdict, self.now)
        return effects

    def kinds(self, *verdicts: Verdict) -> list[type[Effect]]:
        return [type(effect) for effect in self.answer(*verdicts)]


# ── the table ──


def test_the_table_has_every_state_and_every_effect():
    effects = {effect for ways in TRANSITIONS.values() for effect in ways}

    assert set(JobState) == set(TRANSITIONS)
    assert set(get_args(Effect)) == effects
    assert {} == TRANSITIONS[JobState.OVER]


# ── one thing after the other ──


def test_a_file_is_submitted_and_watched_to_its_end():
    story = Story(new_file())
    effects = [
        story.kinds(taken()),
        story.kinds(looked("processing", completed_rows=150)),
        story.kinds(looked("completed")),
    ]

    assert [[Submitted], [], [Completed]] == effects
    assert [(0.0, "submit"), (10.0, "poll"), (20.0, "poll")] == story.asked
    assert math.inf == story.file.next(HOUR)


def test_a_failed_job_is_one():
    assert [Failed] == Story(new_file()).kinds(taken(), looked("failed"))


@pytest.mark.parametrize(("thorough", "pauses"), [(False, SEARCHES), (True, (*SEARCHES, LATE_SEARCH))])
def test_a_file_whose_answer_got_lost_is_searched_for_before_it_may_go_again(thorough, pauses):
    story = Story(new_file(JobRules(thorough=thorough)))
    effects = [story.answer(LOST), *(story.answer(listed()) for _ in pauses)]

    assert [[InDoubt()], *([] for _ in pauses[1:]), [NotFound(lost=True)]] == effects
    assert [sum(pauses[:n]) for n in range(1, len(pauses) + 1)] == [when for when, _ in story.asked[1:]]
    assert "submit" == story.step().what


def test_a_lost_file_that_the_list_shows_was_submitted():
    story = Story(new_file())

    assert [Submitted] == story.kinds(LOST, listed(mine()))
    assert JobStep("poll", "j1") == story.step()


def test_a_lost_file_that_the_list_shows_at_its_end_is_two_things_at_once():
    assert [Submitted, Completed] == Story(new_file()).kinds(LOST, listed(mine("completed")))


def test_of_two_jobs_under_one_name_a_failed_one_says_nothing_of_the_other():
    story = Story(new_file())

    assert [Submitted] == story.kinds(LOST, listed(mine("failed", "j1"), mine("processing", "j2")))
    assert "j2" == story.step().job_id


def test_a_409_after_a_loss_may_speak_of_the_file_itself():
    story = Story(new_file())
    story.answer(LOST, listed(), listed())

    assert [InDoubt] == story.kinds(answered(409))


def test_a_409_is_waited_out_and_longer_each_time():
    story = Story(new_file())
    waits = []
    for _ in range(5):
        busy = story.answer(answered(409))[0]
        assert isinstance(busy, Busy)
        waits.append(busy.until - story.now)

    assert [5.0, 10.0, 20.0, 30.0, 30.0] == waits


def test_thousands_of_409s_in_a_row_are_waited_out_like_the_first_ones():
    """Another job may hold the slot for a day; the doubled pause grew beyond any float after eight hours."""
    pace = Pace(lambda: 0.5)

    assert {BUSY_LONGEST} == {pace.conflicted(0.0, 0.0) for _ in range(3_000)} - {5.0, 10.0, 20.0}


@pytest.mark.parametrize("status", [409, 500, 503])
def test_alone_an_answer_that_may_hide_a_success_is_checked_against_the_list_once(status):
    found, not_found = (Story(new_file(JobRules(alone=True))) for _ in range(2))
    first = found.kinds(answered(status))

    assert InDoubt is first[-1]
    assert [Submitted] == found.kinds(listed(mine()))
    assert [NotFound(lost=False)] == not_found.answer(answered(status), listed())
    assert [NotFound(lost=False)] == not_found.answer(answered(status), UNREAD, UNREAD), (
        "it is no loss that is looked for"
    )
    assert "submit" == not_found.step().what


@pytest.mark.parametrize("status", [401, 404, 429])
def test_refusals_of_the_key_and_limits_are_the_gates_matter_if_there_is_one(status):
    story = Story(new_file())
    postponed = story.answer(answered(status))[0]

    assert Postponed(until=0.0) == postponed
    assert [Postponed(until=1.0)] == Story(new_file(JobRules(alone=True))).answer(answered(429))


@pytest.mark.parametrize(("status", "too_large"), [(400, False), (422, False), (413, True)])
def test_a_refusal_says_whether_the_size_is_the_reason(status, too_large):
    refused = Story(new_file()).answer(answered(status, {"errors": [{"message": "no"}]}))[0]

    assert isinstance(refused, Refused)
    assert (too_large, "no") == (refused.too_large, refused.words.detail)


def test_an_array_whose_answer_got_lost_cannot_be_searched_for():
    story = Story(new_file())
    story.file.named = False

    assert [NotFound(lost=True)] == story.answer(LOST)
    assert "submit" == story.step().what


def test_a_job_that_its_id_does_not_know_is_searched_for_by_name():
    story = Story(new_file())
    story.answer(taken())

    assert [[]] * (MISSES - 1) + [[Missing]] == [story.kinds(answered(404)) for _ in range(MISSES)]
    assert [Found] == story.kinds(listed(mine()))
    assert "poll" == story.step().what


def test_a_job_that_neither_its_id_nor_the_list_knows_is_forgotten():
    story = Story(new_file())
    story.answer(taken(), *[answered(404)] * MISSES, listed())

    assert [Forgotten] == story.kinds(listed())


def test_a_job_without_an_id_is_watched_by_its_filename():
    story = Story(new_file())
    story.answer(answered(202, {"status": "queued"}, Promise.NEW_JOB))

    assert "search" == story.step().what
    assert [Completed] == story.kinds(listed(mine("processing", "")), listed(mine("completed", "")))


def test_a_list_that_is_not_read_to_its_end_is_no_word_for_an_hour():
    story = Story(new_file())
    story.answer(LOST)
    while not (effects := story.answer(UNREAD, UNREAD)):
        assert story.now < 2 * HOUR

    assert [Overdue(outage=False)] == effects
    assert HOUR == pytest.approx(story.now, abs=LONGEST_PAUSE + PACE)
    assert [Overdue(outage=False)] == story.answer(UNREAD, UNREAD), "and again, until the owner gives it up"


def test_an_outage_is_told_from_a_list_that_cannot_be_read():
    story = Story(new_file())
    story.answer(LOST)
    while not (effects := story.answer(UNSENT)):
        continue

    assert [Overdue(outage=True)] == effects


def test_a_missing_list_counts_as_an_empty_one_only_where_doubles_do_no_harm():
    optional, needed = Story(new_file(JobRules(list_optional=True))), Story(new_file())
    for story in (optional, needed):
        story.answer(LOST, *[answered(404)] * (MISSES + 1))

    assert [JobState.SUBMITTING, JobState.SEARCHING] == [optional.file.state, needed.file.state]


def test_a_file_that_another_process_submitted_is_searched_for_first():
    soon, later = Story(new_file()), Story(new_file())
    soon.file.search(0.0)
    later.file.search(0.0, 30.0)

    assert ["search"] * 2 == [soon.step().what, later.step().what]
    assert (SEARCHES[0], 30.0) == (soon.now, later.now)


@pytest.mark.parametrize(("fresh", "looks"), [(False, [0.0, 1.0, 3.0, 7.0]), (True, [1.0, 3.0, 7.0, 15.0])])
def test_a_job_is_watched_at_once_if_it_may_have_ended_long_ago(fresh, looks):
    story = Story(new_file())
    story.file.watch("j1", 0.0, fresh=fresh)
    story.answer(*[looked("processing")] * 4)

    assert looks == [when for when, _ in story.asked]


def test_a_watched_job_is_believed_in_for_as_long_as_the_server_knows_it():
    story = Story(new_file())
    story.file.watch("j1", 0.0)
    while story.now < 24 * HOUR:
        assert [] == story.answer(looked("processing"))


def test_a_watched_job_without_an_id_is_believed_in_while_a_list_shows_it_and_for_an_hour_without():
    story = Story(new_file())
    story.file.watch("", 0.0)
    while story.now < 24 * HOUR:
        assert [] == story.answer(listed(mine("processing", "")))
    last_seen = story.now
    while not (effects := story.answer(UNREAD, UNREAD)):
        assert story.now < 48 * HOUR

    assert [Overdue(outage=False)] == effects
    assert HOUR == pytest.approx(story.now - last_seen, abs=2 * LONGEST_PAUSE + PACE)


# ── whatever the server says ──

ANSWERS = {
    "submit": [
        taken(), answered(202, {"status": "queued"}, Promise.NEW_JOB), LOST, UNSENT,
        *(answered(status) for status in (400, 401, 404, 408, 409, 413, 429, 500, 502, 503)),
    ],
    "poll": [
        *(looked(status) for status in ("queued", "processing", "dreaming", "completed", "failed")), LOST, UNSENT,
        *(answered(status) for status in (400, 401, 404, 404, 404, 429, 503)),
    ],
}  # fmt: skip
LISTS = ["whole", "unread", "two pages", "no list", "lost", "unsent", "400", "401", "404", "429", "503"]
# What a file may be told to wait for at most: a minute that the server asks for, or a list of a hundred pages.
LONGEST_WAIT = max(MINUTE, 100 * PACE)


class Life(RuleBasedStateMachine):
    """A file and a server that may have it or not, and whose list, where it can be read whole, does not lie."""

    @initialize(
        thorough=st.booleans(), list_optional=st.booleans(), alone=st.booleans(), named=st.booleans(),
        begins=st.sampled_from(["new", "lost", "running"]),
    )  # fmt: skip
    def begin(self, thorough: bool, list_optional: bool, alone: bool, named: bool, begins: str) -> None:
        self.job_rules = JobRules(thorough=thorough, list_optional=list_optional, alone=alone)
        self.file = new_file(self.job_rules)
        self.file.named = named or begins != "new"
        self.now = 0.0
        self.has = begins == "running"  # the server has the file
        self.denials = 0  # whole lists without the file, since the last submission
        self.accepted = begins == "running"
        self.effects: list[Effect] = []
        if begins == "lost":
            self.file.search(0.0)
        elif begins == "running":
            self.file.watch("j1", 0.0)

    @property
    def step(self) -> JobStep | None:
        step = self.file.next(self.now)
        return step if isinstance(step, JobStep) else None

    @precondition(lambda self: self.file.state is not JobState.OVER and self.step is None)
    @rule()
    def wait(self) -> None:
        due = self.file.next(self.now)
        assert isinstance(due, float)
        assert self.now < due <= self.now + LONGEST_WAIT
        self.now = due

    @precondition(lambda self: self.step is not None and self.step.what == "submit")
    @rule(verdict=st.sampled_from(ANSWERS["submit"]), applied=st.booleans())
    def submit(self, verdict: Verdict, applied: bool) -> None:
        assert not self.accepted, "the server has said that it has taken it"
        self.has = verdict.meaning.value == "accepted" or (self.has or (applied and verdict.ambiguous))
        self.denials = 0
        self.done(verdict)

    @precondition(lambda self: self.step is not None and self.step.what == "poll")
    @rule(verdict=st.sampled_from(ANSWERS["poll"]))
    def poll(self, verdict: Verdict) -> None:
        self.done(verdict)

    @precondition(lambda self: self.step is not None and self.step.what == "search")
    @rule(what=st.sampled_from(LISTS), status=st.sampled_from(["queued", "processing", "completed", "failed"]))
    def search(self, what: str, status: str) -> None:
        ours = [mine(status)] if self.has else []
        if what == "whole" or (what == "two pages" and self.step is not None and self.step.query):
            self.denials += not self.has
            self.done(listed(*ours))
        elif what == "two pages":
            self.done(listed(*(mine() | {"filename": f"theirs-{n}", "job_id": f"t{n}"} for n in range(10))))
        elif what in ("unread", "no list"):
            self.done(UNREAD if what == "unread" else answered(200, {"message": "ok"}, Promise.JOBS))
        else:
            self.done({"lost": LOST, "unsent": UNSENT}.get(what) or answered(int(what)))

    @precondition(lambda self: self.file.state is JobState.OVER)
    @rule()
    def nothing_more(self) -> None:
        assert math.inf == self.file.next(math.inf)

    @precondition(lambda self: self.file.state in (JobState.SEARCHING, JobState.RUNNING))
    @rule(last_taken=st.floats(0.0, 1.0))
    def nothing_gets_through(self, last_taken: float) -> None:
        self.file.outlast(last_taken * self.now, self.now, 24 * HOUR)

    def done(self, verdict: Verdict) -> None:
        step, before = self.step, self.file.state
        assert step is not None
        effects = self.file.done(step, verdict, self.now)
        for effect in effects:
            before = TRANSITIONS[before][type(effect)]
            self.judge(effect)
        assert before is self.file.state, "each change of state is said"

    def judge(self, effect: Effect) -> None:
        if isinstance(effect, Submitted):
            assert not self.accepted, "it is said once"
            self.accepted = True
        elif isinstance(effect, NotFound):
            assert not self.accepted
            if effect.lost and self.file.named and not self.job_rules.list_optional:
                assert self.denials >= len(self.job_rules.searches), "no word but a whole list counts"
                assert not self.has
        elif isinstance(effect, (Completed, Failed, Forgotten, Found, Missing)):
            assert self.accepted
        elif isinstance(effect, Overdue):
            assert self.now >= LONGEST_JOB
        elif isinstance(effect, (Busy, Postponed)):
            assert self.now <= effect.until <= self.now + MINUTE

    @invariant()
    def it_is_over_or_waits_for_something(self) -> None:
        if hasattr(self, "file"):
            assert (self.file.state is JobState.OVER) == (self.file.next(self.now) == math.inf)


TestLife = Life.TestCase
TestLife.settings = settings(stateful_step_count=40, deadline=None)


# ── a limit that is learned ──


@given(st.integers(1, 10_000), st.integers(1, 10), st.lists(st.none() | st.integers(0, 20_000), max_size=50))
def test_a_learned_limit_is_never_above_what_is_documented_nor_below_one(most, tries, told):
    limit = LearnedLimit(most, tries)
    for size in told:
        before = limit.value
        if size is None:
            limit.fitted()
            assert before <= limit.value <= 2 * before
        else:
            limit.refused(size)
            assert limit.value == max(1, min(before, size // 2))
        assert 1 <= limit.value <= most


def test_a_learned_limit_grows_again_after_so_many_that_fitted():
    limit = LearnedLimit(100, 3)
    limit.refused(80)
    values = []
    for _ in range(7):
        limit.fitted()
        values.append(limit.value)

    assert [40, 40, 80, 80, 80, 100, 100] == values
