"""One line in 30 seconds for each reason, and numbers that add up all the same."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import judge
from userpilot_async._notices import QUIET, Notices

REASONS = ["invalid", "expired", "queue_full", "closed"]


class Listener(logging.Handler):
    def __init__(self, now) -> None:
        super().__init__()
        self.now = now
        self.lines: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((self.now(), record.getMessage()))

    def sums(self) -> Counter[str]:
        found = [re.match(r"userpilot: (\d+) calls? lost, reason (\w+): ", line) for _, line in self.lines]
        sums: Counter[str] = Counter()
        for one in found:
            assert one is not None, self.lines
            sums[one[2]] += int(one[1])
        return sums


class Stage:
    """Notices on a clock that the test sets, and what they log."""

    def __init__(self) -> None:
        self.now = 0.0
        self.notices = Notices(lambda: self.now)
        self.log = Listener(lambda: self.now)

    def __enter__(self) -> Stage:
        logging.getLogger("userpilot_async").addHandler(self.log)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("userpilot_async").removeHandler(self.log)

    def lose(self, reason: str, calls: int = 1) -> None:
        self.notices.lost(reason, calls, why=lambda: f"at {self.now:g}")

    @property
    def said(self) -> list[str]:
        return [line for _, line in self.log.lines]


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def test_a_burst_followed_by_silence_adds_up_when_the_quiet_time_is_over(stage):
    for _ in range(1_000):
        stage.lose("invalid")
    due = stage.notices.due()
    stage.now = due
    stage.notices.say_due()

    assert QUIET == due
    assert [1, 999] == [int(line.split()[1]) for line in stage.said]
    assert math.inf == stage.notices.due()
    assert "999 calls lost, reason invalid: at 0; 1000 in all" in stage.said[1]


def test_what_was_not_said_is_said_at_the_close_at_the_latest(stage):
    for _ in range(10):
        stage.lose("invalid")
        stage.lose("expired", 2)
    stage.notices.close()

    assert {"invalid": 10, "expired": 20} == stage.log.sums()


def test_what_is_lost_after_the_close_is_said_at_once(stage):
    stage.lose("invalid")
    stage.notices.close()
    stage.lose("invalid", 3)
    stage.lose("closed", 2)

    assert {"invalid": 4, "closed": 2} == stage.log.sums()


def test_calls_that_a_close_drops_are_one_line_with_its_words(stage):
    stage.lose("closed", 2)
    stage.lose("closed", 3)

    assert [] == stage.said
    stage.notices.close(lambda lost: f"{lost.calls} of 9 calls dropped on close")
    assert ["userpilot: 5 of 9 calls dropped on close"] == stage.said


def test_why_is_asked_of_the_first_one_only(stage):
    asked: list[int] = []
    for n in range(5):
        stage.notices.lost("invalid", 1, why=lambda n=n: str(asked.append(n)))

    assert [0, 1] == asked, "the first one of each line"


def test_a_logging_handler_that_raises_is_counted_and_hurts_nobody(stage):
    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError

    handler = Raises()
    logging.getLogger("userpilot_async").addHandler(handler)
    try:
        stage.lose("invalid")
        stage.notices.state(logging.ERROR, "held", "nothing is sent")
        stage.notices.close()
    finally:
        logging.getLogger("userpilot_async").removeHandler(handler)

    assert 2 == stage.notices.failures


def test_a_logging_handler_that_loses_a_call_with_each_line_does_not_go_round_in_circles(stage):
    class Loses(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stage.lose("invalid")

    handler = Loses()
    logging.getLogger("userpilot_async").addHandler(handler)
    try:
        stage.lose("invalid")
    finally:
        logging.getLogger("userpilot_async").removeHandler(handler)

    assert 1 == len(stage.said)


def test_losses_in_threads_add_up(stage):
    threads = [threading.Thread(target=lambda: [stage.lose("queue_full") for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stage.notices.close()

    assert {"queue_full": 4_000} == stage.log.sums()


def test_a_clock_that_cannot_be_asked_here_loses_no_line():
    def trios() -> float:
        raise RuntimeError("must be called from async context")

    notices, log = Notices(trios), Listener(lambda: 0.0)
    logging.getLogger("userpilot_async").addHandler(log)
    try:
        for _ in range(3):
            notices.lost("queue_full", 1, why=lambda: "")
    finally:
        logging.getLogger("userpilot_async").removeHandler(log)

    assert {"queue_full": 3} == log.sums()


# ── what is so now ──


def test_a_state_that_lasts_is_said_when_the_quiet_time_is_over(stage):
    """Down, up, and down again within seconds: the last word of the log must not be that all is well."""
    for now, state in ((0.0, "outage"), (5.0, "resumed"), (10.0, "outage")):
        stage.now = now
        stage.notices.state(logging.WARNING, state, state)
    stage.now = stage.notices.due()
    stage.notices.say_due()

    assert 30.0 == stage.now
    assert ["userpilot: outage", "userpilot: resumed", "userpilot: outage"] == stage.said


def test_a_state_that_is_over_before_it_could_be_said_is_not_said(stage):
    for now, state in ((0.0, "outage"), (5.0, "resumed"), (10.0, "outage"), (12.0, "resumed")):
        stage.now = now
        stage.notices.state(logging.WARNING, state, state)
    stage.now = 100.0
    stage.notices.say_due()
    stage.notices.close()

    assert ["userpilot: outage", "userpilot: resumed"] == stage.said


# ── whatever happens ──

happenings = st.lists(
    st.one_of(
        st.tuples(st.just("lose"), st.sampled_from(REASONS), st.integers(1, 1_000)),
        st.tuples(st.just("wait"), st.floats(0.0, 100.0)),
        st.tuples(st.just("sender looks")),
    ),
    max_size=60,
)


@given(happenings, happenings)
def test_the_numbers_add_up_to_the_losses_and_no_reason_speaks_twice_in_thirty_seconds(before, after):
    lost: Counter[str] = Counter()
    with Stage() as stage:
        for happening in [*before, None, *after]:
            if happening is None:
                by_reason = defaultdict(list)
                for at, line in stage.log.lines:
                    by_reason[line.partition("reason ")[2].partition(":")[0]].append(at)
                judge.one_line_per_reason((at, reason) for reason, stamps in by_reason.items() for at in stamps)
                stage.notices.close()
                assert +lost == stage.log.sums()
            elif happening[0] == "lose":
                stage.lose(happening[1], happening[2])
                lost[happening[1]] += happening[2]
            elif happening[0] == "wait":
                stage.now += happening[1]
            elif stage.notices.due() <= stage.now:
                stage.notices.say_due()
                assert stage.notices.due() > stage.now

    assert +lost == stage.log.sums()
