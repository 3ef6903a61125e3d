"""When the log says that requests fail: soon, once, and not of every hiccup."""

from __future__ import annotations

import logging
import math

import pytest

from userpilot_async._delivery.health import DESERTED, ServerHealth
from userpilot_async._runtime.outage import LASTING, Complaint, Line, Outage

URL = "https://example.com"
FAILURE = f"{URL}: ConnectError on track"


class Trouble:
    """How a server is found to be, and what the log makes of it, without a log."""

    def __init__(self) -> None:
        self.health = ServerHealth(URL)
        self.outage = Outage()
        self.answered, self.failed = self.health.answered, self.health.failed
        self.due = self.outage.due

    def poll(self, now: float, paused: str | None, failures: int, failure: str | None, waiting: int) -> str | None:
        """As `Reporting.poll`: the line that is logged now."""
        found = self.health.poll(now, paused, failures, failure, waiting)
        line = Line(logging.WARNING, found.message)
        if found.state == "unproven":
            self.outage.lull()
            said = None
        elif found.state == "well":
            said = self.outage.over(now, line, LASTING)
        else:
            said = self.outage.wrong(now, Complaint(line, found.state, found.about), sure=found.sure)
        return said and said.message

    def leave(self) -> str | None:
        said = self.outage.last_end()
        return said and said.message


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


OUTAGE, HELD, RESUMED = "requests fail", "nothing is sent", f"{URL} answers again, and takes calls"


def test_nothing_is_said_while_all_is_well(trouble):
    assert trouble.poll(0.0, None, 0, None, 5) is None
    assert math.inf == trouble.due()


def test_the_first_failure_of_all_is_said_at_once(trouble):
    line = trouble.poll(0.0, None, 1, FAILURE, 1)

    assert line.startswith(f"requests fail, 1 call waits and is sent again: {FAILURE}")


def test_where_requests_have_been_answered_one_failure_is_not_said_before_it_lasts(trouble):
    trouble.answered(0.0)

    assert trouble.poll(5.0, None, 1, FAILURE, 2) is None
    assert 5.0 + LASTING == trouble.due()
    assert trouble.poll(trouble.due() - 0.01, None, 1, FAILURE, 2) is None
    assert "2 calls wait and are sent again" in trouble.poll(trouble.due(), None, 1, FAILURE, 2)
    assert math.inf == trouble.due()


def test_the_second_failure_in_a_row_is_said_at_once(trouble):
    trouble.answered(0.0)

    assert trouble.poll(5.0, None, 1, FAILURE, 2) is None
    assert OUTAGE in trouble.poll(5.1, None, 2, FAILURE, 2)


def test_a_failure_that_is_over_soon_is_not_said_at_all(trouble):
    trouble.answered(0.0)
    trouble.poll(5.0, None, 1, FAILURE, 2)

    assert trouble.poll(5.5, None, 0, None, 2) is None
    assert math.inf == trouble.due()
    assert trouble.poll(60.0, None, 1, FAILURE, 2) is None, "counted from the first one"


def test_an_outage_is_said_once_and_its_end_once(trouble):
    said = []
    for n, failures in enumerate([1, 2, 3, 9, 0, 0]):
        if not failures:
            trouble.answered(float(n))
        said.append(trouble.poll(float(n), None, failures, FAILURE if failures else None, 3))

    assert [None, None, None, RESUMED, None] == said[1:]
    assert OUTAGE in said[0]


def test_another_route_that_works_does_not_make_it_over(trouble):
    trouble.poll(0.0, None, 2, FAILURE, 3)

    assert trouble.poll(1.0, None, 3, None, 3) is None


def test_requests_that_we_broke_off_ourselves_are_no_failure(trouble):
    assert trouble.poll(0.0, None, 3, None, 3) is None


def test_what_is_held_is_said_with_what_to_do_and_again_only_if_it_is_something_else(trouble):
    refused = "it refuses the API key (401 on track); is it the browser's App Token?"
    first, again, other = (trouble.poll(0.0, paused, 0, paused, 1) for paused in (refused, refused, "answers 404"))

    said = f"nothing is sent, and nothing is lost: {refused}; 1 call waits; correct that (a key or a URL where the"
    assert first.startswith(said)
    assert again is None
    assert other is None, "two lines of a kind within seconds would fill the log"
    assert "answers 404" in trouble.outage.next_line(trouble.due()).message
    trouble.answered(8.0)
    assert f"{URL} takes calls again" == trouble.poll(8.0, None, 0, None, 0)


def test_a_hold_that_becomes_an_outage_is_said(trouble):
    trouble.poll(0.0, "a wrong key", 0, "a wrong key", 1)

    assert OUTAGE in trouble.poll(1.0, None, 1, FAILURE, 1)


def test_an_end_that_nobody_has_seen_is_not_said(trouble):
    """The sender begins anew when another process had the lease meanwhile: it knows of no failure, and of no answer."""
    trouble.poll(0.0, None, 2, FAILURE, 3)

    assert trouble.poll(60.0, None, 0, None, 3) is None
    assert math.inf == trouble.due()
    assert trouble.poll(61.0, None, 1, FAILURE, 3) is None, "it is the same outage"
    trouble.answered(90.0)
    assert RESUMED == trouble.poll(91.0, None, 0, None, 3)


def test_an_answer_among_failures_is_not_the_end(trouble):
    """A server that fails every second request does not answer again with each of the others."""
    trouble.poll(0.0, None, 2, FAILURE, 3)
    for n in range(1, 20):
        trouble.answered(n / 2)
        assert trouble.poll(n / 2, None, 0, None, 3) is None
        assert trouble.poll(n / 2 + 0.1, None, 1, FAILURE, 3) is None

    trouble.answered(10.0)
    assert trouble.poll(10.0, None, 0, None, 3) is None
    assert 10.6 == pytest.approx(trouble.due())
    assert RESUMED == trouble.poll(10.6, None, 0, None, 3)


def test_a_client_that_is_left_soon_after_the_end_says_it_all_the_same(trouble):
    trouble.poll(0.0, None, 2, FAILURE, 3)
    trouble.answered(0.5)
    trouble.poll(0.5, None, 0, None, 3)

    assert RESUMED == trouble.leave()
    assert trouble.leave() is None


def test_a_client_that_is_left_while_requests_fail_says_no_end(trouble):
    trouble.answered(0.0)
    trouble.poll(1.0, None, 2, FAILURE, 3)

    assert trouble.leave() is None


def test_a_route_that_nobody_asks_any_more_keeps_no_outage_open(trouble):
    """The route's calls died of age; for hours all others are answered, and the next outage must be news again."""
    trouble.failed(0.0)
    trouble.poll(0.0, None, 6, FAILURE, 3)
    trouble.answered(DESERTED - 1.0)
    assert trouble.poll(DESERTED - 1.0, None, 6, None, 3) is None

    trouble.answered(DESERTED)
    assert RESUMED == trouble.poll(DESERTED, None, 6, None, 3)
    trouble.failed(DESERTED + 9.0)
    assert OUTAGE in trouble.poll(DESERTED + 9.0, None, 7, FAILURE, 3)


def test_a_hiccup_is_said_when_it_has_lasted_even_if_the_sender_has_nothing_to_do(trouble):
    trouble.answered(0.0)
    trouble.poll(5.0, None, 1, FAILURE, 2)

    assert trouble.outage.next_line(5.0 + LASTING - 0.01) is None
    assert OUTAGE in trouble.outage.next_line(5.0 + LASTING).message
    assert math.inf == trouble.due()
