"""Deletions: an answer without a job, and a job in the list that forgets profiles and events when it completes."""

from __future__ import annotations

import pytest

from userpilot_async.emulator import Fault

pytestmark = pytest.mark.anyio


async def delete(client, field, ids):
    return await client.request("DELETE", f"/v1/{field}", json={field: ids})


async def listed(client):
    return (await client.get("/v1/background_jobs")).json()


async def two_users(client):
    for user_id in ("u1", "u2"):
        await client.post("/v1/identify", json={"user_id": user_id, "company": {"id": "c1"}})
        await client.post("/v1/track", json={"user_id": user_id, "event_name": "opened"})


@pytest.mark.parametrize(
    ("field", "ids", "message"),
    [
        ("users", ["u1"], "1 user is scheduled for deletion"),
        ("users", ["u1", "unknown"], "2 users are scheduled for deletion"),
        ("companies", ["c1"], "1 company is scheduled for deletion"),
        ("companies", ["c1", "c2", "c3"], "3 companies are scheduled for deletion"),
    ],
)
async def test_a_deletion_is_answered_202_with_how_many_are_scheduled_and_no_job(client, field, ids, message):
    answer = await delete(client, field, ids)

    assert (202, {"message": message}) == (answer.status_code, answer.json())


@pytest.mark.parametrize(("field", "kind"), [("users", "delete_users"), ("companies", "delete_companies")])
async def test_the_list_shows_the_job_of_a_deletion_through_its_stages(client, clock, field, kind):
    await delete(client, field, ["a", "b"])
    life = []
    for _ in range(6):
        (job,) = await listed(client)
        life.append(job["status"])
        clock.now += 1

    assert (kind, 2) == (job["type"], job["total_rows"])
    assert ["queued", "validating", "processing", "pending_refresh", "pending_refresh", "completed"] == life


async def test_a_deletion_removes_users_and_their_events_when_it_completes(client, emulator, clock):
    await two_users(client)
    await delete(client, "users", ["u1", "unknown"])
    clock.now += 4
    emulator.advance()
    before = set(emulator.store.users)
    clock.now += 1
    emulator.advance()

    assert {"u1", "u2"} == before
    assert {"u2"} == set(emulator.store.users)
    assert ["u2"] == [event.user_id for event in emulator.store.events]
    assert ["completed"] == [job["status"] for job in await listed(client)]
    assert ["u1", "unknown"] == [e.id for e in emulator.store.applied if e.kind == "delete_user"]


@pytest.mark.parametrize("job", ["failed", "stuck", {"status_sequence": ["queued", "validating", "failed"]}])
async def test_a_deletion_whose_job_does_not_complete_removes_nothing(client, emulator, clock, job):
    emulator.faults.add(Fault(family="deletions", job=job))
    await two_users(client)
    answer = await delete(client, "users", ["u1"])
    clock.now += 3600
    emulator.advance()

    assert 202 == answer.status_code
    assert ["processing" if job == "stuck" else "failed"] == [job["status"] for job in await listed(client)]
    assert {"u1", "u2"} == set(emulator.store.users)
    assert 2 == len(emulator.store.events)


async def test_a_deleted_company_leaves_its_users_without_one(client, emulator, clock):
    await two_users(client)
    await delete(client, "companies", ["c1"])
    clock.now += 60
    emulator.advance()

    assert {} == emulator.store.companies
    assert emulator.store.users["u1"].company_id is None


async def test_deletions_hold_no_slot_and_wait_for_none(client):
    bulk = {"users": [{"user_id": f"u{number}"} for number in range(30)]}
    await client.post("/v1/users/bulk_identify", json=bulk)
    for _ in range(2):
        assert 202 == (await delete(client, "users", ["u1"])).status_code


async def test_a_deletion_keeps_no_bulk_job_waiting(client):
    await delete(client, "users", ["u1"])

    assert 202 == (await client.post("/v1/users/bulk_identify", json={"users": [{"user_id": "u1"}]})).status_code


@pytest.mark.parametrize("payload", [{}, {"users": []}, {"users": "u1"}, {"users": [7]}, {"users": [""]}])
async def test_a_deletion_needs_ids(client, payload):
    assert 400 == (await client.request("DELETE", "/v1/users", json=payload)).status_code
