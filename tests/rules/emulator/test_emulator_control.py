"""The control routes: everything the store holds, as JSON, and faults from outside."""

from __future__ import annotations

import httpx
import pytest

from userpilot_async.emulator import Emulator

pytestmark = pytest.mark.anyio

ROUTE = "/__emulator__"


@pytest.fixture
def control(emulator):
    """A client without a key: these routes need none."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator")


@pytest.fixture
def populate(client):
    async def populate():
        await client.post("/v1/identify", json={"user_id": "a/b", "metadata": {"n": 1}, "company": {"id": "c1"}})
        await client.post("/v1/track", json={"user_id": "a/b", "event_name": "opened"})
        await client.post("/v1/users/bulk_identify", json={"users": [{"user_id": "u2"}]})

    return populate


async def test_profiles_are_shown_by_their_quoted_id(control, populate, clock):
    await populate()

    user = (await control.get(f"{ROUTE}/users/a%2Fb")).json()
    assert {
        "user_id": "a/b",
        "properties": {"n": 1},
        "company_id": "c1",
        "first_seen": clock.now,
        "last_seen": clock.now,
    } == user
    assert {} == (await control.get(f"{ROUTE}/companies/c1")).json()["properties"]
    assert 404 == (await control.get(f"{ROUTE}/users/nobody")).status_code


@pytest.mark.parametrize(
    ("listing", "total"),
    [
        ("users", 1),
        ("companies", 1),
        ("events", 1),
        ("page_views", 0),
        ("applied", 2),
        ("requests", 3),
        ("jobs", 1),
    ],
)
async def test_every_list_comes_in_pages(control, populate, listing, total):
    await populate()
    whole = (await control.get(f"{ROUTE}/{listing}")).json()
    rest = (await control.get(f"{ROUTE}/{listing}?offset=1&limit=1")).json()

    assert (total, 0, 100, total) == (whole["total"], whole["offset"], whole["limit"], len(whole["items"]))
    assert (total, whole["items"][1:2]) == (rest["total"], rest["items"])


@pytest.mark.parametrize("query", ["limit=-1", "offset=x", "limit="])
async def test_a_page_that_makes_no_sense_is_refused(control, query):
    assert 400 == (await control.get(f"{ROUTE}/events?{query}")).status_code


async def test_looking_brings_the_jobs_up_to_now(control, populate, clock):
    await populate()
    clock.now += 60

    assert 200 == (await control.get(f"{ROUTE}/users/u2")).status_code
    (job,) = (await control.get(f"{ROUTE}/jobs")).json()["items"]
    assert ("completed", 1) == (job["status"], job["applied_rows"])


async def test_the_counters_sum_up(control, populate, client):
    await populate()
    await client.post("/v1/track", json={})

    assert {
        "requests": {"bulk": {"202": 1}, "identify": {"202": 1}, "track": {"202": 1, "400": 1}},
        "unique_users": 1,
        "companies": 1,
        "events": 1,
        "page_views": 0,
        "duplicate_events": 0,
        "unknown_user_events": 0,
        "rows": 0,
        "jobs": {"queued": 1},
        "event_name_bytes": 6,
        "events_over_name_limit": 0,
        "parcelvoy": {"users": 0, "events": 0, "devices": 0, "aliases": 0, "lost": 0},
    } == (await control.get(f"{ROUTE}/counters")).json()


async def test_health_tells_the_emulators_time(control, clock):
    assert {"status": "ok", "now": clock.now} == (await control.get(f"{ROUTE}/health")).json()


async def test_reset_forgets_everything(control, populate, client, emulator):
    await populate()
    await control.post(f"{ROUTE}/faults", json={"status": 500, "times": None})
    assert 204 == (await control.post(f"{ROUTE}/reset")).status_code

    assert 0 == (await control.get(f"{ROUTE}/applied")).json()["total"]
    assert {"faults": []} == (await control.get(f"{ROUTE}/faults")).json()
    answer = await client.post("/v1/track", json={"user_id": "u1", "event_name": "opened"})
    assert (202, "599") == (answer.status_code, answer.headers["x-ratelimit-remaining"])


async def test_faults_are_added_shown_and_removed(control, client):
    added = await control.post(f"{ROUTE}/faults", json=[{"name": "one", "status": 500}, {"cut": "after"}])
    await client.post("/v1/track", json={})
    shown = (await control.get(f"{ROUTE}/faults")).json()["faults"]
    await control.delete(f"{ROUTE}/faults?name=one")
    left = (await control.get(f"{ROUTE}/faults")).json()["faults"]
    await control.delete(f"{ROUTE}/faults")

    assert 201 == added.status_code
    assert ["one", "fault-2"] == [fault["name"] for fault in added.json()["faults"]]
    assert [("one", 1, 1), ("fault-2", 0, 0)] == [(fault["name"], fault["seen"], fault["fired"]) for fault in shown]
    assert ["fault-2"] == [fault["name"] for fault in left]
    assert {"faults": []} == (await control.get(f"{ROUTE}/faults")).json()


async def test_a_wrong_fault_is_refused_and_none_of_its_list_is_added(control):
    answer = await control.post(f"{ROUTE}/faults", json=[{"status": 500}, {"status": "x"}])

    assert (400, {"error": "status must be an integer from 200 to 599"}) == (answer.status_code, answer.json())
    assert {"faults": []} == (await control.get(f"{ROUTE}/faults")).json()


@pytest.mark.parametrize(
    "body", [b'{"name": "\\ud800"}', b'{"\\ud800": 1}', b'{"status": NaN}', b"[" * 10_000, b"\xff", b""]
)
async def test_a_fault_that_could_not_be_shown_again_is_refused(control, body):
    answer = await control.post(f"{ROUTE}/faults", content=body)

    assert (400, {"error": "the body is not valid JSON"}) == (answer.status_code, answer.json())
    assert {"faults": []} == (await control.get(f"{ROUTE}/faults")).json()


async def test_control_calls_are_neither_limited_nor_logged(clock):
    emulator = Emulator(clock=clock, rate_limit=1, api_keys=["KEY"])
    control = httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator")

    assert [200] * 3 == [(await control.get(f"{ROUTE}/health")).status_code for _ in range(3)]
    assert [] == emulator.store.requests


def test_one_key_is_not_taken_for_a_collection_of_its_letters():
    with pytest.raises(TypeError, match="api_keys"):
        Emulator(api_keys="KEY")


def test_a_speed_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="speed"):
        Emulator(speed=0)
