"""What the answers to the questions of a live check mean, and that no question costs more than it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click import Abort
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async._protocol.verdict import of_answer, of_failure
from userpilot_async.cli.live._live import _look
from userpilot_async.cli.live._questions import QUESTIONS
from userpilot_async.cli.live._shapes import answer_text, shape
from userpilot_async.cli.live._terms import Answered, Ask, Ended, Look, Question, Session

PREFIX, DATE = "test-1", "2026-11-30T12:00:00"
JOB = {"job_id": "j:1", "status": "queued", "type": "bulk_users"}
Server = Callable[[Ask], Answered]


def answer(status: int = 202, body: Any = None, **headers: str) -> Answered:
    content = b"" if body is None else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    names |= {"content-type": "application/json"} if content else {}
    verdict = of_answer(status, names, content)
    return Answered(meaning=verdict.meaning, status=status, headers=names, body=verdict.body, size=len(content),
                error_code=verdict.error_code, foreign=verdict.foreign)  # fmt: skip


def page() -> Answered:
    verdict = of_answer(200, {"content-type": "text/html"}, b"<html>")
    return Answered(meaning=verdict.meaning, status=200, headers={"content-type": "text/html"}, size=6, foreign=True)


def silence() -> Answered:
    verdict = of_failure("ReadError", sent=True)
    return Answered(meaning=verdict.meaning, detail="ReadError")


def question(name: str) -> Question:
    return next(one for one in QUESTIONS if one.name == name)


def asked(name: str, server: Server) -> tuple[list[Ask], Session, Answered | None]:
    """The requests that a question makes of a server, what it finds, and the answer that has stopped it."""
    session, asks = Session(PREFIX, DATE), list[Ask]()
    steps = question(name).steps(session)
    try:
        ask = next(steps)
        while True:
            asks.append(ask)
            ask = steps.send(server(ask))
    except StopIteration:
        return asks, session, None
    except Ended as ended:
        return asks, session, ended.seen


def scripted(*answers: Answered) -> Server:
    """A server that answers so, one request after the other, and the last one for ever."""
    waiting = list(answers)
    return lambda ask: waiting.pop(0) if len(waiting) > 1 else waiting[0]


def lists(*pages: Any) -> Server:
    return scripted(*(answer(200, one) for one in pages))


def jobs(first: int, count: int) -> list[dict[str, Any]]:
    return [{"job_id": f"j{n}", "status": "completed"} for n in range(first, first + count)]


# ── the price ──

ENDLESS = {"job_id": "j", "status": "processing", "type": "deletion"}
SERVERS: dict[str, Server] = {
    "nothing in the body": lambda ask: answer(),
    "a job that never ends": lambda ask: answer(200, [ENDLESS] if ask.what == "job list" else ENDLESS),
    "401": lambda ask: answer(401),
    "429": lambda ask: answer(429),
    "400 but for identify": lambda ask: answer(202 if ask.path == "/v1/identify" else 400),
    "409": lambda ask: answer(409),
    "a page": lambda ask: page(),
    "silence": lambda ask: silence(),
    "500": lambda ask: answer(500),
    "a list": lambda ask: answer(200, [1, None, "x"]),
}


@pytest.mark.parametrize("server", SERVERS.values(), ids=list(SERVERS))
@pytest.mark.parametrize("name", [one.name for one in QUESTIONS])
def test_no_question_costs_more_than_it_says(name, server):
    asks, _, _ = asked(name, server)
    cost = question(name).cost

    assert cost.requests >= len(asks)
    assert cost.users >= len({user for ask in asks for user in ask.users})
    assert cost.companies >= len({company for ask in asks for company in ask.companies})
    assert cost.jobs >= sum(server(ask).ok for ask in asks if ask.filename or ask.method == "DELETE")


def test_each_price_is_reached_so_that_none_is_made_up():
    most = {
        name: max(len(asked(name, server)[0]) for server in [*SERVERS.values(), missing_version])
        for name in (one.name for one in QUESTIONS)
    }

    assert {one.name: one.cost.requests for one in QUESTIONS} == most


def missing_version(ask: Ask) -> Answered:
    return answer(400) if not ask.versioned else answer(200, ENDLESS)


@pytest.mark.parametrize("server", SERVERS.values(), ids=list(SERVERS))
@pytest.mark.parametrize("name", [one.name for one in QUESTIONS])
def test_all_ids_are_of_this_run_and_none_is_in_a_finding(name, server):
    asks, session, _ = asked(name, server)

    assert all(id.startswith(PREFIX) for ask in asks for id in (*ask.users, *ask.companies, *ask.deletes))
    assert all(PREFIX not in finding for finding in session.findings)


# ── what the answers mean ──


def test_a_job_list_that_ignores_the_page_is_told_from_one_that_has_others():
    _, ignored, _ = asked("paging", lists(jobs(0, 3)))
    _, followed, _ = asked("paging", lists(jobs(0, 3), jobs(3, 2), jobs(0, 1), jobs(0, 3)))

    assert "?page=2: 200, the same 3 jobs" in ignored.findings
    assert {
        "?page=2: 200, 2 other jobs", "?per_page=1: 200, 1 jobs, 1 of them on the first page, too",
        "?limit=1: 200, the same 3 jobs",
    } <= set(followed.findings)  # fmt: skip


def test_an_object_around_the_list_and_a_link_are_told():
    first = answer(200, {"jobs": jobs(0, 1), "meta": {"next": 2}}, link="<https://x.test/?page=2>; rel=next")
    _, session, _ = asked("paging", scripted(first))

    assert "the list is an object with jobs, meta; 1 jobs on the first page" in session.findings
    assert "a header Link comes with it" in session.findings


def test_what_shares_a_budget_is_counted():
    left = iter(["599", "599", "598", "597", "596"])
    _, session, _ = asked("rate_limits", lambda ask: answer(x_ratelimit_limit="600", x_ratelimit_remaining=next(left)))

    assert "identify: 202, limit 600, 1 used" in session.findings
    assert "of track, company and job list (3 requests), 2 came off the budget of identify" in session.findings


def test_a_window_that_ends_between_the_requests_is_no_word_about_budgets():
    left = iter(["3", "2", "2", "1", "599"])
    _, session, _ = asked("rate_limits", lambda ask: answer(x_ratelimit_remaining=next(left)))

    assert "a new window began meanwhile: what shares a budget cannot be told" in session.findings


def test_no_rate_headers_are_a_finding_too():
    _, session, _ = asked("rate_limits", lambda ask: answer())

    assert "job list: 202, no headers of a rate limit" in session.findings


def test_bulk_that_needs_the_version_is_sent_again_with_it():
    done = answer(200, {**JOB, "status": "completed"})
    asks, session, stopped = asked("version", scripted(answer(400), answer(202, JOB), done))

    assert [False, True] == [ask.versioned for ask in asks[:2]]
    assert "without X-API-Version: 400, no body" in session.findings
    assert "with X-API-Version: taken" in session.findings
    assert stopped is None


def test_bulk_that_does_not_is_sent_once():
    asks, session, _ = asked("version", scripted(answer(202, JOB), answer(200, {**JOB, "status": "completed"})))

    assert 1 == sum(ask.filename is not None for ask in asks)
    assert "bulk is taken without X-API-Version" in session.findings
    assert "statuses seen: queued, completed; ended after 0 to 0 s" in session.findings


def test_an_import_is_looked_at_in_the_dashboard_only_if_it_has_completed():
    taken, done = answer(200, JOB), answer(200, {**JOB, "status": "completed"})
    _, completed, _ = asked("import", scripted(answer(), taken, done))
    _, failed, _ = asked("import", scripted(answer(), taken, answer(200, {**JOB, "status": "failed"})))
    _, refused, stopped = asked("import", scripted(answer(), answer(402)))

    assert (1, 0, 0) == tuple(len(session.looks) for session in (completed, failed, refused))
    assert "import: 402, no body" in refused.findings
    assert stopped is not None
    assert "the plan, does not allow it" in stopped.outcome


def test_a_deletion_without_a_job_id_is_found_by_what_its_job_calls_itself():
    others, mine = jobs(0, 2), {"job_id": "new", "type": "user_deletion", "status": "queued"}
    _, session, _ = asked(
        "deletion",
        scripted(answer(), answer(200, others), answer(202, {"message": "1 users scheduled"}),
                 answer(200, [*jobs(5, 1), *others]), answer(200, [mine, *others]),
                 answer(200, [{**mine, "status": "completed"}, *others])),
    )  # fmt: skip

    assert "deletion of a user: 202, {message: string of 3 words}" in session.findings
    assert "the answer has no id of a job" in session.findings
    assert 'it shows in the job list: {job_id: string, type: "user_deletion", status: "queued"}' in session.findings
    assert any(finding.startswith("its job was completed after") for finding in session.findings)


def test_a_deletion_that_never_shows_is_a_finding():
    _, session, stopped = asked("deletion", scripted(answer(), answer(200, []), answer(202), answer(200, [])))

    assert "no job of it showed in the job list after 0 s" in session.findings
    assert stopped is None


@pytest.mark.parametrize("name", ["version", "import"])
def test_a_user_in_a_job_that_was_not_seen_to_end_is_remembered(name):
    running = scripted(*[answer()] * (name == "import"), answer(200, JOB))
    ended = scripted(*[answer()] * (name == "import"), answer(200, JOB), answer(200, {**JOB, "status": "failed"}))

    assert 1 == len(asked(name, running)[1].in_jobs)
    assert [] == asked(name, ended)[1].in_jobs


def test_what_a_person_has_said_before_an_interrupt_is_kept():
    session, looked = Session(PREFIX, DATE), dict[str, str]()
    session.looks += [Look(name, "Is it there?", f"{PREFIX}-{name}") for name in ("a", "b", "c")]
    with CliRunner().isolation(input="y\nn\n"), pytest.raises(Abort):
        _look(session, looked)

    assert {"a": "yes", "b": "no"} == looked


# ── shapes ──

MARK = "MARKED"
marked = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text().map(MARK.__add__)
    | st.sampled_from([f"https://{MARK}.test", f"{MARK}@x.test", f"{MARK}-1 {MARK}"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "name", "message", f"{MARK}-123"]), inner),
)  # fmt: skip


@given(marked)
def test_a_shape_has_names_and_types_and_no_values(value):
    assert MARK not in shape(value)


def test_the_vendors_own_words_are_shown_where_they_are_expected():
    job = {"job_id": "a:b", "status": "queued", "total_rows": "12", "end_time": None, "links": {"self": "/v1/x"}}

    assert (
        '{job_id: string, status: "queued", total_rows: string of digits, end_time: null, '
        "links: {self: string with a path or URL}}"
    ) == shape(job)
    assert "{status: string of 2 words}" == shape({"status": "for anna@example.com"})


def test_depth_and_width_are_bounded():
    deep: Any = 1
    for _ in range(1_000):
        deep = [deep]

    assert 200 > len(shape(deep))
    assert 2_001 >= len(shape({f"{'x' * (n + 1)}": {f"{'y' * (m + 1)}": 1 for m in range(39)} for n in range(39)}))


def each_answer() -> Iterator[tuple[Answered, str]]:
    yield silence(), "no answer (ReadError)"
    yield page(), "200, text/html that is no JSON"
    yield answer(202), "202, no body"
    yield (
        answer(400, {"errors": [{"error_code": "missing_user_id"}]}),
        ('400 "missing_user_id", {errors: [1 × {error_code: "missing_user_id"}]}'),
    )


@pytest.mark.parametrize(("seen", "text"), list(each_answer()))
def test_an_answer_is_told_by_status_code_and_shape(seen, text):
    assert text == answer_text(seen)
