from __future__ import annotations

import attrs
import pytest
from rich.console import Console

from userpilot_async import Job, JobStatus, Statistics
from userpilot_async.cli._client_text import line, table

SEEN = Statistics(
    accepted=20_550,
    delivered=425,
    dead=0,
    dropped=0,
    merged=17_939,
    pending=2_186,
    submitted=1_960,
    waiting_bytes=0,
    lost_by_reason={},
    job=Job(job_id="bulk:1", status=JobStatus.PROCESSING, total_rows=1_960, completed_rows=30),
    rate_limit_remaining={"track": 260, "identify": 464, "other": None},
)
LIMITS = {"track": 600, "identify": 600, "other": None}
NUMBERS = ["20,550", "17,939", "425", "2,186", "340", "136", "processing, 30 of 1,960 rows"]


def drawn(seen: Statistics) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table(seen, LIMITS, 4.2))
    return captured.get()


@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_is_in_the_plain_line_and_in_the_table(number: str) -> None:
    assert number in line(SEEN, LIMITS)
    assert number in drawn(SEEN)


def test_losses_and_a_hold_are_told_only_if_there_are_any() -> None:
    trouble = attrs.evolve(SEEN, dropped=7, lost_by_reason={"queue_full": 7}, paused="the [server] refuses the API key")

    assert "queue_full" in drawn(trouble)
    assert "the [server] refuses" in drawn(trouble)
    assert "the [server] refuses" in line(trouble, LIMITS)
    assert "lost" not in drawn(SEEN)


def test_where_there_are_no_jobs_none_is_talked_of() -> None:
    jobless = attrs.evolve(SEEN, job=None, submitted=0)

    assert "job" not in line(jobless, LIMITS) + drawn(jobless)
