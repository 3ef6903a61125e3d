"""The life of a deletion by what the job list shows: which job is ours, and what becomes of it."""

from __future__ import annotations

import pytest

from userpilot_async._protocol.deletion_job import LOOKS, MISSES, MOST_PAGES, DeletionJob, DeletionState, ListWalk
from userpilot_async._protocol.job_list import Pages
from userpilot_async._protocol.verdict import Meaning, Verdict

TIMEOUT = 86_400.0


def listed(*jobs: tuple[str, str], kind: str = "delete_users") -> Verdict:
    """An answer with these jobs: an id and a status each."""
    body = [{"job_id": job_id, "status": status, "type": kind} for job_id, status in jobs]
    return Verdict(Meaning.ACCEPTED, status=200, body=body)


class Life:
    """A deletion, the walk through the list, and the clock that they are told."""

    def __init__(self, before: Verdict | None = None) -> None:
        self.job = DeletionJob(TIMEOUT)
        self.walk = ListWalk(Pages)
        self.now = 0.0
        if before is not None:
            self.look(before)
            assert self.job.state is DeletionState.SUBMITTING
            self.job.taken(self.now)

    def look(self, answer: Verdict) -> str | None:
        """What became of it with this answer to a request for the list, at the moment when one is due."""
        self.now = max(self.now, self.job.due)
        deletions = self.walk.listed(answer, lambda: self.job.awaited)
        if deletions is not None:
            self.job.looked(deletions, self.now)
        return self.job.end


@pytest.mark.parametrize("kind", ["delete_users", "UserDeletion", "bulk_remove", "right_to_be_forgotten", "gdpr"])
def test_a_new_job_that_deletes_is_ours_and_is_waited_for(kind: str) -> None:
    life = Life(listed(("old", "completed"), kind=kind))

    assert life.look(listed(("new", "processing"), ("old", "completed"), kind=kind)) is None
    assert life.look(listed(("new", "pending_refresh"), ("old", "completed"), kind=kind)) is None
    assert life.look(listed(("new", "completed"), ("old", "completed"), kind=kind)) == "completed"
    assert life.job.due == float("inf")


def test_a_job_of_an_earlier_try_that_runs_on_is_waited_for_too() -> None:
    life = Life(listed(("earlier", "processing")))

    assert life.look(listed(("new", "completed"), ("earlier", "processing"))) is None
    assert life.look(listed(("new", "completed"), ("earlier", "completed"))) == "completed"


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
    assert life.job.state is DeletionState.SUBMITTING
    life.job.taken(life.now)

    assert [life.look(missing) for _ in range(LOOKS)] == [None] * (LOOKS - 1) + ["completed"]


@pytest.mark.parametrize("meaning", [Meaning.LOST, Meaning.UNSENT, Meaning.AGAIN, Meaning.LIMITED, Meaning.DENIED])
def test_a_list_that_cannot_be_had_at_present_is_no_word(meaning: Meaning) -> None:
    life = Life(listed())

    for _ in range(50):
        assert life.look(Verdict(meaning, status=None)) is None
    assert life.look(listed(("new", "completed"))) == "completed"


@pytest.mark.parametrize("kind", ["bulk_users", "import", "data_export", "identify_users"])
def test_a_new_job_of_another_kind_is_not_waited_for(kind: str) -> None:
    life = Life(listed())

    ends = [life.look(listed(("new", "processing"), kind=kind)) for _ in range(LOOKS)]

    assert ends[-1] == "completed"


def test_a_day_costs_some_hundred_looks() -> None:
    """The server deletes once a day: looks at its list come out of the budget that identifies share."""
    life, looks = Life(listed()), 0

    while life.now < TIMEOUT - 400.0 and life.look(listed(("new", "queued"))) is None:
        looks += 1

    assert 100 < looks < 400


def test_a_job_that_never_ends_is_given_up_after_its_time() -> None:
    life = Life(listed())

    while life.look(listed(("new", "processing"))) is None:
        assert life.now < TIMEOUT + 301.0

    assert life.job.end == "overdue"
    assert life.now >= TIMEOUT


def test_a_job_that_never_ends_is_not_waited_for_again() -> None:
    life = Life(listed())
    while life.look(listed(("stuck", "processing"))) is None:
        pass
    assert life.job.waits_for == {"stuck"}

    later = Life()
    later.job = DeletionJob(TIMEOUT, life.job.waits_for)
    later.look(listed(("stuck", "processing")))
    later.job.taken(later.now)

    assert later.look(listed(("new", "completed"), ("stuck", "processing"))) == "completed"


def test_the_first_pages_of_a_long_list_are_read_and_no_more() -> None:
    """The newest jobs come first: 1,000 older ones are not asked for at each look."""
    walk, deletions, pages = ListWalk(Pages), None, 0
    while deletions is None:
        jobs = [{"job_id": f"job {pages}.{number}", "status": "completed", "type": "erase"} for number in range(100)]
        deletions = walk.listed(Verdict(Meaning.ACCEPTED, status=200, body=jobs))
        pages += 1

    assert pages == MOST_PAGES
    assert len(deletions) == 100 * MOST_PAGES
    assert walk.query == ""


def test_a_page_of_something_else_is_no_list_after_a_few() -> None:
    walk = ListWalk(Pages)
    page = Verdict(Meaning.AGAIN, status=200, foreign=True)

    assert [walk.listed(page) for _ in range(MISSES)] == [None] * (MISSES - 1) + ["unreadable"]


def test_a_job_that_leaves_the_list_is_not_waited_for_without_end() -> None:
    life = Life(listed())
    life.look(listed(("new", "processing")))

    ends = [life.look(listed()) for _ in range(LOOKS)]

    assert ends == [None] * (LOOKS - 1) + ["completed"]


def test_jobs_that_come_after_ours_are_not_waited_for() -> None:
    """Or under a stream of deletions none would ever end."""
    life = Life(listed())
    life.look(listed(("ours", "processing")))

    assert life.look(listed(("later", "processing"), ("ours", "completed"))) == "completed"


def test_a_job_that_others_have_pushed_to_a_later_page_is_still_under_way() -> None:
    """10,000 deletions are 100 jobs: on pages of ten, those of the first people are beyond the newest pages."""
    life = Life(listed())
    life.look(listed(("ours", "processing")))
    names = [f"later {number}" for number in range(10 * MOST_PAGES)] + ["ours"]
    pages = [listed(*((name, "processing") for name in names[at : at + 10])) for at in range(0, len(names), 10)]

    for _ in range(LOOKS + 1):
        for page in pages:
            life.look(page)

    assert life.job.end is None
    assert life.walk.query == ""
