"""Deletions through a real client: under load, against a server that fails, at the end of the client, in every form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from tests.harness.stage.calls import Log, person
from tests.harness.stage.scenes import Rehearsal, rehearsal
from userpilot_async import DeleteCompany, DeleteUser, InvalidCall, Receipt, Settings, UserpilotClient
from userpilot_async._userpilot.destination import DAY

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

USERS = 12
DELETIONS, JOBS = "/v1/users", "/v1/background_jobs"


async def deleted(scene: Rehearsal, *users: str) -> list[Receipt]:
    """Delete users, and tell the model."""
    for user in users:
        scene.model.delete_user(user)
    receipts: list[Receipt] = await scene.client.delete_users(users)
    return receipts


async def load(scene: Rehearsal, rounds: int = 6, pause: float = 2.0) -> list[Receipt]:
    """Identifies, tracks and moves of many, round after round; in each some of them are deleted, and others return."""
    deletions: list[Receipt] = []
    for turn in range(rounds):
        for number in range(USERS):
            await scene.identify(person(number), company={"id": f"c{number % 3}", "size": turn} if turn % 2 else None)
            await scene.track(person(number))
            await scene.track(person(number))
        gone = [person((3 * turn + step) % USERS) for step in (0, 1, 5)]
        deletions += await deleted(scene, *gone)
        await scene.identify(gone[0], {"plan": "new"})
        await scene.track(gone[0])
        await anyio.sleep(pause)
    return deletions


def account_for_dropped(scene: Rehearsal) -> int:
    """What deletions have dropped: the judge asks for each loss by its reason."""
    dropped = scene.statistics.lost_by_reason.get("deleted", 0)
    if dropped:
        scene.losses["deleted"] = dropped
    return dropped


FAULTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "limited": [{"path": "*", "status": 429, "probability": 0.2, "times": 40}],
    "unavailable": [{"path": "*", "status": 503, "probability": 0.2, "times": 40}],
    "deletions cut off": [{"path": DELETIONS, "method": "DELETE", "cut": "after", "apply": True, "times": 3}],
    "deletions unheard": [{"path": DELETIONS, "method": "DELETE", "cut": "before", "times": 3}],
    "jobs fail": [{"path": DELETIONS, "method": "DELETE", "job": "failed", "times": 3}],
    "job list down": [{"path": JOBS, "status": 500, "times": 6}],
}


@pytest.mark.parametrize("threshold", [0, 3], ids=["realtime", "bulk"])
@pytest.mark.parametrize("name", FAULTS)
async def test_who_is_deleted_under_load_stays_deleted_and_all_others_are_complete(name: str, threshold: int) -> None:
    settings = Settings(bulk_threshold=threshold or 50, flush_interval=0.5)
    async with rehearsal(settings, jobs_per_page=3) as scene:
        for number, fault in enumerate(FAULTS[name]):
            scene.goes_wrong(f"{name} {number}", **fault)
        deletions = await load(scene)
        await scene.drained(3_600)

        assert {"delivered", "merged"} >= {receipt.status for receipt in deletions}
        assert deletions[0].status == "delivered"
        assert account_for_dropped(scene) > 0
        assert scene.requests(path=DELETIONS, status=202)


async def test_a_deletion_whose_job_hangs_is_waited_for_and_then_goes_again() -> None:
    """The server carries deletions out once a day: so long, and for as long as any job is believed in."""
    async with rehearsal(Settings(job_timeout=300.0, max_age=200_000.0)) as scene:
        scene.goes_wrong("stuck", path=DELETIONS, method="DELETE", times=1, job="stuck")
        [deletion] = await deleted(scene, person(1))
        later = await scene.track(person(1))
        await anyio.sleep(DAY + 250)
        statuses = [deletion.status, later.status]
        await scene.drained(900)

        assert ["submitted", "pending"] == statuses
        assert 2 == len(scene.requests(path=DELETIONS))


async def test_flush_waits_for_the_job_and_reports_what_is_left() -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("slow", path=DELETIONS, times=1, job={"status_sequence": [["processing", 100], "completed"]})
        [deletion] = await deleted(scene, person(1))
        later = await scene.identify(person(1), {"plan": "new"})
        early = await scene.client.flush(20)
        statuses = (deletion.status, later.status, scene.statistics.submitted)
        whole = await scene.client.flush(300)

        assert (False, 2) == (early.complete, early.remaining)
        assert ("submitted", "pending", 1) == statuses
        assert (True, 0) == (whole.complete, whole.remaining)
        assert {"plan": "new"}.items() <= scene.emulator.store.users[person(1)].properties.items()


async def test_leaving_while_the_job_runs_reports_the_deletion_as_submitted_and_drops_what_waits_behind_it() -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("slow", path=DELETIONS, times=1, job={"status_sequence": [["processing", 100], "completed"]})
        await scene.identify(person(1))
        await anyio.sleep(5)
        [deletion] = await deleted(scene, person(1))
        later: Receipt = await scene.client.track(person(1), "too late", {"mail": person(1)})
        await anyio.sleep(5)
        report = await scene.leaves(10)
        await anyio.sleep(100)

        assert (False, 1, 1) == (report.complete, report.remaining, report.statistics.submitted)
        assert ("submitted", "dropped", "closed") == (deletion.status, later.status, later.reason)
        scene.losses["closed"] = 1


async def test_a_deletion_past_the_queue_warns_of_calls_that_wait() -> None:
    async with rehearsal(Settings(flush_interval=10.0)) as scene:
        await scene.identify(person(1))
        await anyio.sleep(1)
        await scene.client.api.delete_users([person(1), person(2)])
        await scene.client.api.delete_companies(["acme"])

        assert 1 == len(scene.log.said("api.delete_users: calls of 1 user wait in the queue"))
        assert [] == scene.log.said("api.delete_companies")
        await anyio.sleep(60)


# ── every form ──


async def by_value(client: UserpilotClient) -> list[Receipt]:
    return [await client.enqueue(DeleteUser("u1")), await client.enqueue(DeleteCompany("acme"))]


async def at_once(client: UserpilotClient) -> list[Receipt]:
    return [*client.delete_users_nowait(["u1"]), *client.delete_companies_nowait(iter(["acme"]))]


async def awaited(client: UserpilotClient) -> list[Receipt]:
    return [*await client.delete_users(["u1"]), *await client.delete_companies(["acme"])]


@pytest.mark.parametrize("form", [by_value, at_once, awaited])
async def test_every_form_of_a_deletion_deletes(new_client: Callable[..., Any], emulator: Any, form: Any) -> None:
    async with new_client() as client:
        await client.identify("u1", {"plan": "pro"}, company={"id": "acme", "size": 1})
        await client.identify_company("beta", {"size": 2})
        await client.flush()
        there = (list(emulator.store.users), sorted(emulator.store.companies))
        receipts = await form(client)
        report = await client.flush(120)
        emulator.advance()

    assert (["u1"], ["acme", "beta"]) == there
    assert ["delivered"] * 2 == [receipt.status for receipt in receipts]
    assert report.complete
    assert ({}, ["beta"]) == (emulator.store.users, list(emulator.store.companies))


async def test_ids_that_are_none_are_refused_before_any_is_accepted(new_client: Callable[..., Any]) -> None:
    async with new_client() as client:
        for wrong in ("u1", ["u1", ""], ["u1", None], 7):
            with pytest.raises(InvalidCall):
                await client.delete_users(wrong)
            with pytest.raises(InvalidCall):
                client.delete_companies_nowait(wrong)
        assert 0 == client.statistics().accepted


async def test_on_invalid_dead_gives_the_callback_what_is_no_id(new_client: Callable[..., Any]) -> None:
    letters: list[Any] = []
    with Log():
        async with new_client(settings=Settings(on_invalid="dead"), on_dead=letters.append) as client:
            receipts = await client.delete_users(["u1", ""])
            await client.flush(60)

    assert [("delivered", None), ("dead", "invalid")] == [(receipt.status, receipt.reason) for receipt in receipts]
    assert [("invalid", None)] == [(letter.reason, letter.call) for letter in letters]


async def test_a_client_that_is_switched_off_counts_deletions_and_makes_no_request() -> None:
    def unreachable(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"a request was made: {request.url.path}")

    async with UserpilotClient(disabled=True, transport=httpx.MockTransport(unreachable)) as client:
        receipts = [*await client.delete_users(["u1", "u2"]), *client.delete_companies_nowait(["acme"])]

    assert [("dropped", "disabled")] * 3 == [(receipt.status, receipt.reason) for receipt in receipts]
    assert 3 == client.statistics().dropped


@pytest.fixture
def new_client(cable: Any) -> Callable[..., UserpilotClient]:
    """Make a client, not open yet, that talks to the emulator."""
    return lambda **options: UserpilotClient("KEY", base_url="https://emulator", transport=cable, **options)
