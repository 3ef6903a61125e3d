"""Log lines: one in 30 seconds for each reason, and numbers that add up all the same."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import judge
from userpilot_async._runtime.log import RateLimitedLog
from userpilot_async._runtime.outage import MATTERS, QUIET

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
        self.notices = RateLimitedLog(lambda: self.now)
        self.log = Listener(lambda: self.now)

    def __enter__(self) -> Stage:
        logging.getLogger("userpilot_async").addHandler(self.log)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("userpilot_async").removeHandler(self.log)

    def lose(self, reason: str, calls: int = 1) -> None:
        self.notices.lost(reason, calls, why=lambda: f"at {self.now:g}")

    def outage(self, now: float, until: float | None = None) -> None:
        """Something is wrong; ``until`` then, if it is over."""
        self.now = now
        self.notices.state(logging.WARNING, "outage", "outage")
        if until is not None:
            self.now = until
            self.notices.over(logging.WARNING, "it answers again")

    def look(self, now: float) -> None:
        self.now = now
        self.notices.flush_due()

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
    stage.notices.flush_due()

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
        stage.notices.state(logging.ERROR, "paused", "nothing is sent")
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

    notices, log = RateLimitedLog(trios), Listener(lambda: 0.0)
    logging.getLogger("userpilot_async").addHandler(log)
    try:
        for _ in range(3):
            notices.lost("queue_full", 1, why=lambda: "")
    finally:
        logging.getLogger("userpilot_async").removeHandler(log)

    assert {"queue_full": 3} == log.sums()


# ── what is so now ──

OUTAGE, AGAIN = "userpilot: outage", "userpilot: it answers again"


def test_an_outage_that_follows_a_blip_is_said_as_soon_as_it_has_lasted(stage):
    """Down, up, and down again within seconds: the last word of the log must not be that all is well."""
    stage.outage(0.0, until=5.0)
    stage.outage(10.0)
    due = stage.notices.due()
    stage.look(due)

    assert 10.0 + MATTERS == due
    assert [OUTAGE, AGAIN, OUTAGE] == stage.said
    assert math.inf == stage.notices.due()


def test_an_outage_that_follows_a_blip_and_ends_before_the_quiet_time_does_is_said_with_its_end(stage):
    stage.outage(0.0, until=1.0)
    stage.outage(5.0)
    stage.look(stage.notices.due())
    stage.now = 20.0
    stage.notices.over(logging.WARNING, "it answers again")

    assert [OUTAGE, AGAIN] * 2 == stage.said


def test_a_blip_that_follows_a_blip_is_not_said(stage):
    stage.outage(0.0, until=5.0)
    stage.outage(10.0, until=12.0)
    stage.look(100.0)
    stage.notices.close()

    assert [OUTAGE, AGAIN] == stage.said


def test_what_lasts_is_counted_from_its_beginning_however_often_it_is_told(stage):
    stage.outage(0.0, until=1.0)
    for now in (5.0, 6.0, 7.0, 8.0, 9.0, 10.0):
        stage.outage(now)

    assert [OUTAGE, AGAIN, OUTAGE] == stage.said


def test_an_outage_that_goes_on_at_the_close_is_said_then(stage):
    stage.outage(0.0, until=1.0)
    stage.outage(5.0)
    stage.notices.close()

    assert [OUTAGE, AGAIN, OUTAGE] == stage.said


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
                stage.notices.flush_due()
                assert stage.notices.due() > stage.now

    assert +lost == stage.log.sums()


changes = st.lists(
    st.tuples(
        st.sampled_from([0.01, 0.5, 1.0, MATTERS, MATTERS + 0.1, 10.0, QUIET, 100.0]),
        st.sampled_from(["wrong", "wrong", "otherwise wrong", "well", "well"]),
    ),
    max_size=40,
)


@given(changes, st.booleans())
def test_whatever_is_wrong_for_long_is_said_with_its_end_and_no_blips_fill_the_log(changes, closes):
    """Outages are told apart by the times between which something was wrong, whatever it was."""
    with Stage() as stage:
        outages: list[list[float]] = []
        for pause, change in changes:
            end = stage.now + pause
            while stage.notices.due() <= end:  # as the sender wakes
                stage.look(stage.notices.due())
            stage.now = end
            if change == "well":
                stage.notices.over(logging.WARNING, "well")
                outages += [[end, end]] if not outages else []
                outages[-1][1:] = [outages[-1][1] if outages[-1][1] < math.inf else end]
            else:
                if not outages or outages[-1][1] < math.inf:
                    outages.append([end, math.inf])
                stage.notices.state(logging.WARNING, change, change)
        judge_pace([(at, line.removeprefix("userpilot: ")) for at, line in stage.log.lines])
        if closes:
            stage.notices.close()
        lines = [(at, line.removeprefix("userpilot: ")) for at, line in stage.log.lines]

    for began, ended in outages:
        within = [line for at, line in lines if began <= at <= min(ended, stage.now)]
        if min(ended, stage.now) - began > MATTERS or (closes and ended == math.inf):
            assert [line for line in within if line != "well"], (began, ended, lines)
        if ended < math.inf and [at for at, line in lines if line != "well" and began <= at <= ended]:
            assert (ended, "well") in lines
    ends = [at for at, line in lines if line == "well"]
    assert set(ends) <= {ended for _, ended in outages}, "an end was said that was none"


def judge_pace(lines: list[tuple[float, str]]) -> None:
    """Two beginnings of the same are `MATTERS` seconds apart at least, and no end comes without one."""
    for word in ("wrong", "otherwise wrong"):
        stamps = [at for at, line in lines if line == word]
        assert all(later - at >= MATTERS - 1e-9 for at, later in pairwise(stamps)), lines
    words = [line for _, line in lines]
    assert not words or words[0] != "well"
    assert ("well", "well") not in list(pairwise(words))
