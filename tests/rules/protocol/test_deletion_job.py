"""The life of a deletion by what the job list shows: which job is ours, and what becomes of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from userpilot_async._protocol.deletion_job import LOOKS, MOST_PAGES, DeletionJob
from userpilot_async._protocol.job_list import Pages
from userpilot_async._protocol.verdict import Meaning, Verdict

TIMEOUT = 3_600.0


def listed(*jobs: tuple[str, str], kind: str = "delete_users") -> Verdict:
    """An answer with these jobs: an id and a status each."""
    body = [{"job_id": job_id, "status": status, "type": kind} for job_id, status in jobs]
    return Verdict(Meaning.ACCEPTED, status=200, body=body)


class Life:
    """A deletion, and the clock that it is told."""

    def __init__(self, before: Verdict | None = None, hung: Collection[str] = ()) -> None:
        self.job = DeletionJob(Pages, TIMEOUT, hung)
        self.now = 0.0
        if before is not None:
            self.look(before)
            assert self.step() == "submit"
            self.job.taken(self.now)

    def step(self) -> Any:
        """The next step, for which the clock is set to its moment."""
        step = self.job.next(self.now)
        if isinstance(step, float) and step < float("inf"):
            self.now = step
            step = self.job.next(self.now)
        return step

    def look(self, answer: Verdict) -> str | None:
        """What became of it with this page of the list."""
        assert self.step() == "list"
        self.job.listed(answer, self.now)
        return self.job.end


@pytest.mark.parametrize("kind", ["delete_users", "UserDeletion", "erase", "bulk_remove", "right_to_be_forgotten"])
def test_a_new_job_that_deletes_is_ours_and_is_waited_for(kind: str) -> None:
    life = Life(listed(("old", "completed"), kind=kind))

    assert life.look(listed(("new", "processing"), ("old", "completed"), kind=kind)) is None
    assert life.look(listed(("new", "pending_refresh"), ("old", "completed"), kind=kind)) is None
    assert life.look(listed(("new", "completed"), ("old", "completed"), kind=kind)) == "completed"
    assert life.step() == float("inf")


def test_a_job_of_an_earlier_try_that_runs_on_is_waited_for_too() -> None:
    life = Life(listed(("earlier", "processing")))

    assert life.look(listed(("new", "completed"), ("earlier", "processing"))) is None
    assert life.look(listed(("new", "completed"), ("earlier", "completed"))) == "completed"


def test_the_end_of_an_earlier_try_is_not_that_of_a_job_which_is_about_to_be_listed() -> None:
    life = Life(listed(("earlier", "processing")))

    assert life.look(listed(("earlier", "completed"))) is None
    assert life.look(listed(("new", "processing"), ("earlier", "completed"))) is None
    assert life.look(listed(("new", "completed"), ("earlier", "completed"))) == "completed"


def test_an_earlier_job_that_carries_out_both_is_enough_after_some_looks() -> None:
    life = Life(listed(("earlier", "processing")))

    ends = [life.look(listed(("earlier", "completed"))) for _ in range(LOOKS)]

    assert ends == [None] * (LOOKS - 1) + ["completed"]


def test_a_job_that_never_ends_is_waited_for_once() -> None:
    life = Life(listed(("theirs", "processing")))
    end = None
    while end is None:
        end = life.look(listed(("ours", "completed"), ("theirs", "processing")))

    again = Life(listed(("ours", "completed"), ("theirs", "processing")), hung=life.job.hung)

    assert (end, life.job.hung) == ("overdue", {"theirs"})
    assert again.look(listed(("new", "completed"), ("ours", "completed"), ("theirs", "processing"))) == "completed"


def test_one_that_failed_before_is_nobodys_and_one_that_fails_now_is_ours() -> None:
    life = Life(listed(("old", "failed")))

    assert life.look(listed(("new", "processing"), ("old", "failed"))) is None
    assert life.look(listed(("new", "failed"), ("old", "failed"))) == "failed"


def test_a_server_that_never_lists_deletions_is_believed_after_some_looks() -> None:
    life = Life(listed(("bulk", "processing"), kind="bulk_users"))

    ends = [life.look(listed(("bulk", "processing"), kind="bulk_users")) for _ in range(LOOKS)]

    assert ends == [None] * (LOOKS - 1) + ["completed"]
    assert life.now >= 3.0


def test_a_list_that_does_not_exist_leaves_the_servers_word() -> None:
    missing = Verdict(Meaning.MISCONFIGURED, status=404)
    life = Life()
    life.look(missing)
    assert life.step() == "submit"
    life.job.taken(life.now)

    assert [life.look(missing) for _ in range(LOOKS)] == [None] * (LOOKS - 1) + ["completed"]


@pytest.mark.parametrize("meaning", [Meaning.LOST, Meaning.UNSENT, Meaning.AGAIN, Meaning.LIMITED, Meaning.DENIED])
def test_a_list_that_cannot_be_had_at_present_is_no_word(meaning: Meaning) -> None:
    life = Life(listed())

    for _ in range(50):
        assert life.look(Verdict(meaning, status=None)) is None
    assert life.look(listed(("new", "completed"))) == "completed"


def test_a_job_that_never_ends_is_given_up_after_its_time() -> None:
    life = Life(listed())

    while life.look(listed(("new", "processing"))) is None:
        assert life.now < TIMEOUT + 60.0

    assert life.job.end == "overdue"
    assert life.now >= TIMEOUT


def test_the_first_pages_of_a_long_list_are_read_and_no_more() -> None:
    """The newest jobs come first: 1,000 older ones are not asked for at each look."""
    life = Life()
    pages = 0
    while life.job.next(life.now) == "list":
        jobs = [{"job_id": f"job {pages}.{number}", "status": "completed", "type": "import"} for number in range(100)]
        life.job.listed(Verdict(Meaning.ACCEPTED, status=200, body=jobs), life.now)
        pages += 1

    assert pages == MOST_PAGES
    assert life.step() == "submit"
